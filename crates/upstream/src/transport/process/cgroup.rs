//! One control group per child, where the daemon's own is delegated to it (reliability 9.3).
//!
//! A group bounds what a tree may take, memory and number of processes, and ends all of it with one write, whatever
//! its processes did to leave their parents. It adds to what guard and marker do and replaces none of it: without a
//! delegation, which only the service manager gives, everything works as it does elsewhere.
//!
//! A group that holds processes cannot hand controllers down, so the daemon moves itself into a leaf of its own first.
//! Only a group marked as delegated is touched, and only if the daemon is alone in it: it may well be able to write to
//! another, of a terminal, of a session or of the whole machine as root, but then it is somebody else's to divide. And of
//! what it finds there, it ends what bears the name of a tree.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use trunkline_config::Caps;

/// Where cgroup v2 is mounted, on systems of today and on those that still have v1 beside it.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// How the service manager marks what it delegates.
const DELEGATED: &str = "user.delegate";

/// The leaf of the daemon itself.
const OWN_LEAF: &str = "daemon";

/// Looks at a group that was told to die, and the pause between two: processes that hang in the kernel may keep it.
const REMOVE_ROUNDS: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// The delegated group, from which those of the children are cut.
#[derive(Debug)]
pub(crate) struct Groups(PathBuf);

/// The group of one tree. It stays until [`Group::end`].
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Groups {
    /// Finds the group delegated to this process and moves the process into a leaf of it. `None` without one.
    pub(crate) fn take() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let groups = Self::find(&MOUNTS.map(Path::new), &own, std::process::id(), is_delegated)?;
        match groups.prepare() {
            Ok(()) => Some(groups),
            Err(error) => {
                tracing::warn!(%error, group = %groups.0.display(), "children get no control groups of their own");
                None
            }
        }
    }

    /// `own` is what `/proc/self/cgroup` says of the process `pid`.
    fn find(mounts: &[&Path], own: &str, pid: u32, is_delegated: impl Fn(&Path) -> bool) -> Option<Self> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mount = mounts.iter().find(|mount| mount.join("cgroup.controllers").exists())?;
        let group = mount.join(path);
        // Who else is here, a shell or another unit's process, was there first.
        let procs = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        if procs.split_whitespace().any(|other| other != pid.to_string()) {
            return None;
        }
        // Once moved, the process is in a leaf of the delegated group.
        let parent = group.parent().filter(|_| group.ends_with(OWN_LEAF));
        let candidates = [parent, Some(group.as_path())].into_iter().flatten();
        candidates.filter(|it| it != mount).find(|it| is_delegated(it)).map(|it| Self(it.to_owned()))
    }

    fn prepare(&self) -> io::Result<()> {
        let leaf = self.0.join(OWN_LEAF);
        create(&leaf)?;
        for pid in fs::read_to_string(self.0.join("cgroup.procs"))?.lines() {
            write(&leaf, "cgroup.procs", pid)?;
        }
        // Each for itself: a system may lack one, and then its limit.
        for controller in ["+memory", "+pids"] {
            if let Err(error) = write(&self.0, "cgroup.subtree_control", controller) {
                tracing::warn!(%error, controller, "this limit of children is not enforced");
            }
        }
        Ok(())
    }

    /// Ends what predecessors left here and returns how many processes that were. Blocks. To be called before a tree is
    /// made, since names come again, and once their guards are gone, which end a tree more gently.
    pub(crate) fn clear(&self) -> usize {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let trees =
            entries.filter(|entry| is_a_trees(&entry.file_name()) && entry.file_type().is_ok_and(|kind| kind.is_dir()));
        trees.map(|tree| Group(tree.path()).end()).sum()
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the group of a tree. What cannot be limited is not: a child runs all the same.
    pub(super) fn make(&self, name: &str, caps: &Caps) -> io::Result<Group> {
        let path = self.0.join(name);
        create(&path)?;
        let memory = caps.memory_bytes.map(|bytes| ("memory.max", bytes.to_string()));
        let processes = ("pids.max", caps.processes.to_string());
        for (file, limit) in memory.into_iter().chain([processes]) {
            if let Err(error) = write(&path, file, &limit) {
                tracing::debug!(%error, file, "a limit of a control group was not set");
            }
        }
        Ok(Group(path))
    }
}

impl Group {
    /// Moves a process in, with all that it will start.
    pub(super) fn admit(&self, pid: u32) -> io::Result<()> {
        write(&self.0, "cgroup.procs", &pid.to_string())
    }

    /// Whether the kernel killed a process of it for its memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }

    /// Kills whoever is still in it and removes it. Returns how many there were. Blocks.
    pub(super) fn end(self) -> usize {
        let found = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines().count();
        // With nobody in it too: a process may be in a group below.
        if let Err(error) = write(&self.0, "cgroup.kill", "1") {
            tracing::debug!(%error, group = %self.0.display(), "a control group cannot be killed");
        }
        for round in 0..REMOVE_ROUNDS {
            match remove(&self.0) {
                Ok(()) => return found,
                Err(error) if round + 1 == REMOVE_ROUNDS => {
                    tracing::warn!(%error, group = %self.0.display(), "a control group cannot be removed");
                }
                Err(_) => sleep(REMOVE_PAUSE),
            }
        }
        found
    }
}

/// Whether a group has the name of a tree: its server's and its generation.
fn is_a_trees(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(server, number)| !server.is_empty() && number.parse::<u64>().is_ok())
}

fn is_delegated(group: &Path) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::getxattr(group, DELEGATED, &mut value), Ok(1) if value == *b"1")
}

fn create(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Writes to one of the kernel's files, which are there or not.
fn write(group: &Path, file: &str, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    io::Write::write_all(&mut options.write(true).open(group.join(file))?, text.as_bytes())
}

/// Removes a group and those below, which a child may have made. The kernel's files go with their directory.
fn remove(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const FILES: [&str; 6] =
        ["cgroup.controllers", "cgroup.procs", "cgroup.subtree_control", "cgroup.kill", "memory.max", "pids.max"];

    /// A directory with the files of a group. Real ones make them by themselves.
    pub(crate) fn group(path: &Path) {
        fs::create_dir_all(path).expect("made");
        for file in FILES {
            fs::write(path.join(file), "").expect("written");
        }
    }

    fn text(path: &Path, file: &str) -> String {
        fs::read_to_string(path.join(file)).expect("readable")
    }

    #[test]
    fn only_a_group_that_is_marked_is_taken() {
        let mount = tempfile::tempdir().expect("a directory");
        let root = mount.path();
        group(root);
        let unit = root.join("user.slice/trunkline.service");
        group(&unit);
        group(&unit.join(OWN_LEAF));
        let find = |own: &str, marked: &[&Path]| {
            let found = Groups::find(&[Path::new("/nowhere"), root], own, 42, |path| marked.contains(&path));
            found.map(|groups| groups.0)
        };
        let own = "4:memory:/x\n0::/user.slice/trunkline.service\n";
        assert_eq!(find(own, &[&unit]), Some(unit.clone()));
        assert_eq!(find("0::/user.slice/trunkline.service/daemon\n", &[&unit]), Some(unit.clone()));
        assert_eq!(find(own, &[]), None, "writable is not delegated");
        assert_eq!(find("0::/\n", &[root]), None, "the root of all is nobody's to divide");
        assert_eq!(find("4:memory:/x\n", &[&unit]), None, "v1 alone");
        group(&unit.join("shell"));
        assert_eq!(find("0::/user.slice/trunkline.service/shell\n", &[&unit]), None, "a leaf that others made");
        fs::write(unit.join("cgroup.procs"), "42\n").expect("written");
        assert_eq!(find(own, &[&unit]), Some(unit.clone()));
        fs::write(unit.join("cgroup.procs"), "41\n42\n").expect("written");
        assert_eq!(find(own, &[&unit]), None, "somebody else is in it");
    }

    #[test]
    fn the_daemon_moves_aside_and_hands_controllers_down() {
        let unit = tempfile::tempdir().expect("a directory");
        group(unit.path());
        group(&unit.path().join(OWN_LEAF));
        fs::write(unit.path().join("cgroup.procs"), "42\n").expect("written");
        group(&unit.path().join("app.slice"));
        group(&unit.path().join("git.7"));
        let groups = Groups(unit.path().to_owned());
        groups.prepare().expect("prepared");
        assert_eq!(text(&unit.path().join("git.7"), "cgroup.kill"), "", "its guard ends it more gently");
        groups.clear();
        assert_eq!(text(&unit.path().join("git.7"), "cgroup.kill"), "1", "a predecessor's tree");
        assert_eq!(text(&unit.path().join("app.slice"), "cgroup.kill"), "", "not one of ours");
        assert_eq!(text(&unit.path().join(OWN_LEAF), "cgroup.procs"), "42");
        assert!(text(unit.path(), "cgroup.subtree_control").contains("+pids"));
    }

    #[test]
    fn a_child_gets_its_limits_and_is_told_to_die_as_one() {
        let unit = tempfile::tempdir().expect("a directory");
        let path = unit.path().join("git.7");
        group(&path);
        let groups = Groups(unit.path().to_owned());
        let caps = Caps { memory_bytes: Some(1 << 30), ..Caps::default() };
        let made = groups.make("git.7", &caps).expect("made");
        made.admit(99).expect("admitted");
        assert_eq!(
            ["memory.max", "pids.max", "cgroup.procs"].map(|file| text(&path, file)),
            ["1073741824", "512", "99"]
        );
        assert!(!made.ran_out_of_memory());
        fs::write(path.join("memory.events"), "low 0\noom 3\noom_kill 1\n").expect("written");
        assert!(made.ran_out_of_memory());
        // These directories do not go with their files in them, so what is seen is the word.
        assert_eq!(made.end(), 1);
        assert_eq!(text(&path, "cgroup.kill"), "1");
    }

    /// By hand, as root on a machine with cgroup v2: `cargo test -p trunkline-upstream cgroup -- --ignored`.
    #[test]
    #[ignore = "needs a cgroup v2 that this user may divide"]
    fn a_real_group_ends_whoever_left_its_parents() {
        let mount = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.controllers").exists());
        let unit = mount.expect("cgroup v2").join(format!("trunkline-test-{}", std::process::id()));
        fs::create_dir(&unit).expect("may divide it");
        let groups = Groups(unit.clone());
        let group = groups.make("git.1", &Caps::default()).expect("made");
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line; trap '' TERM; (setsid sh -c \"trap '' TERM; sleep 60 & sleep 60\" &); sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        group.admit(child.id()).expect("admitted");
        drop(child.stdin.take());
        while text(&group.0, "cgroup.procs").lines().count() < 4 {
            sleep(Duration::from_millis(5));
        }
        let path = group.0.clone();
        assert!(group.end() >= 4);
        child.wait().expect("killed");
        assert!(!path.exists());
        fs::remove_dir(&unit).expect("empty");
    }
}
