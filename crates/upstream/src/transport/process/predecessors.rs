//! Daemons that ran with the same state directory before, and what is left of them (reliability 9.5).
//!
//! Each daemon enters itself into a small file before it starts a child: its part of every marker, the boot it belongs
//! to, when it began. Whoever comes next, holding the lock of the directory, knows by it that the others are dead, and
//! looks for what carries their markers. A guard that still lives is left to end its tree in order, since it does that
//! by itself and more gently; what no guard watches over is killed. Until both are done no child is started, so that
//! two of a kind never share a lock or a port.
//!
//! An instance is struck out only once nobody was found, so one that dies while it sweeps loses nothing. A list that
//! cannot be read is an empty one, and so is a line; a start never fails for it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_config::{LoadError, StateDir};
use trunkline_telemetry::Metrics;

use super::{instance, sweep};

/// Inside the state directory.
const FILE: &str = "instances";

/// Instances remembered. Only those that were killed before they had swept are ever more than one.
const REMEMBERED_MAX: usize = 64;

/// Far more than that many lines.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// A guard's whole stop order: 2 s, 3 s, and a second of KILL. One that lives longer is killed with the rest.
const GUARDS_LIMIT: Duration = Duration::from_secs(6);

/// For those that were killed to be gone, which takes long only where the kernel holds them.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// One run of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    /// Its part of every marker.
    instance: String,
    /// The boot in which it ran: no process outlives that.
    boot: String,
    /// In ticks since that boot. None of its children began before.
    started: u64,
}

/// The daemons before this one.
#[derive(Debug)]
pub struct Predecessors {
    state: StateDir,
    own: Option<Run>,
    dead: Vec<Run>,
}

impl Predecessors {
    /// Enters this daemon into the list in `state`, whose lock it holds, and returns those before it.
    ///
    /// Fails if the list cannot be read at this moment, since it is not to be written over then, or not be written. The
    /// next start will not know of this daemon's children then, which is no reason not to serve.
    pub fn enter(state: &StateDir) -> io::Result<Self> {
        let own = Run::own();
        let mut runs = read(state)?;
        runs.retain(|run| Some(run) != own.as_ref());
        let excess = runs.len().saturating_sub(REMEMBERED_MAX - 1);
        runs.drain(..excess);
        write(state, runs.iter().chain(&own))?;
        let boot = own.as_ref().map(|own| own.boot.clone());
        runs.retain(|run| Some(&run.boot) == boot.as_ref());
        Ok(Self { state: state.clone(), own, dead: runs })
    }

    /// Ends what they left, strikes them out, and returns how many processes were killed.
    pub(crate) async fn sweep(self, metrics: &Metrics) -> usize {
        let begun = Instant::now();
        let (mut killed, mut left) = (0, self.dead);
        while !left.is_empty() && begun.elapsed() < GUARDS_LIMIT + KILL_LIMIT {
            let (patient, runs) = (begun.elapsed() < GUARDS_LIMIT, left.clone());
            let Ok((count, still)) = tokio::task::spawn_blocking(move || look(runs, patient)).await else { break };
            killed += count;
            left = still;
            if !left.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        if killed > 0 {
            metrics.orphans_swept(killed);
            tracing::warn!(killed, "killed processes that a dead daemon had left behind");
        }
        if !left.is_empty() {
            tracing::error!(instances = left.len(), "processes of a dead daemon cannot be ended");
        }
        let written = tokio::task::spawn_blocking(move || write(&self.state, left.iter().chain(&self.own)));
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "the list of instances cannot be written");
        }
        killed
    }
}

/// One look for what `runs` left. Returns how many processes it killed, and the runs that had any.
fn look(mut runs: Vec<Run>, patient: bool) -> (usize, Vec<Run>) {
    let mut count = 0;
    runs.retain(|run| {
        let (killed, found) = sweep::dead(&run.instance, run.started, patient);
        count += killed;
        found
    });
    (count, runs)
}

impl Run {
    /// This process; `None` where the system tells no start times, and nothing could be found either.
    fn own() -> Option<Self> {
        let started = sweep::started(rustix::process::getpid())?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { instance: instance().to_owned(), boot, started })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (instance, boot, started) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        // A short one would match the markers of others.
        let sound = instance.len() == 16 && is_hex(instance) && is_hex(boot) && words.next().is_none();
        sound.then(|| Self { instance: instance.to_owned(), boot: boot.to_owned(), started })
    }
}

fn read(state: &StateDir) -> io::Result<Vec<Run>> {
    let parse = |text: &[u8]| Some(String::from_utf8_lossy(text).lines().filter_map(Run::parse).collect());
    match state.load(FILE, FILE_BYTES_MAX, parse) {
        Ok(runs) => Ok(runs.unwrap_or_default()),
        Err(LoadError::Unread { error, .. }) => Err(error),
        Err(unusable) => {
            tracing::warn!("{unusable}");
            Ok(Vec::new())
        }
    }
}

fn write<'a>(state: &StateDir, runs: impl Iterator<Item = &'a Run>) -> io::Result<()> {
    let mut text = String::new();
    for Run { instance, boot, started } in runs {
        let _ = writeln!(text, "{instance} {boot} {started}");
    }
    state.write(FILE, text.as_bytes())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;
    use crate::environment::GuardProgram;
    use crate::transport::process::{Groups, MARK, cgroup};

    /// A list with `lines` before the own one, as [`Predecessors::enter`] finds it.
    fn entered(state: &StateDir, lines: &str) -> Predecessors {
        state.write(FILE, lines.as_bytes()).expect("written");
        Predecessors::enter(state).expect("entered")
    }

    fn directory() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(directory.path()).expect("ours");
        (directory, state)
    }

    fn line(instance: &str, started: u64) -> String {
        format!("{instance} {} {started}\n", Run::own().expect("Linux").boot)
    }

    fn random_instance() -> String {
        format!("{:016x}", fastrand::u64(..))
    }

    fn marked(instance: &str, name: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").env(MARK, format!("{instance}.{name}.1"));
        command.spawn().expect("it runs")
    }

    #[tokio::test]
    async fn r30_what_a_dead_daemon_left_is_killed_counted_and_forgotten() {
        let (_directory, state) = directory();
        let (dead, other) = (random_instance(), random_instance());
        let (mut left, mut foreign) = (marked(&dead, "git"), marked(&other, "git"));
        let predecessors = entered(&state, &line(&dead, 1));
        let metrics = Metrics::new();
        let waited = tokio::task::spawn_blocking(move || left.wait());
        assert_eq!(predecessors.sweep(&metrics).await, 1);
        waited.await.expect("no panic").expect("it ended");
        assert!(metrics.render().contains("trunkline_orphans_swept_total 1"));
        assert_eq!(foreign.try_wait().expect("our child"), None, "a marker that is not ours is left alone");
        foreign.kill().expect("our child");
        foreign.wait().expect("reaped");
        let own = Run::own().expect("Linux");
        assert_eq!(read(&state).expect("readable"), [own], "the dead one is struck out, this one stays");
    }

    #[tokio::test]
    async fn r30_a_dead_daemons_guard_ends_its_tree_before_its_control_group_is_cleared() {
        let (directory, state) = directory();
        let units = tempfile::tempdir().expect("a directory");
        let old = units.path().join("git.1");
        cgroup::tests::group(&old);
        let killed = || fs::read_to_string(old.join("cgroup.kill")).expect("readable");
        // What bears a guard's name, and takes its time.
        let program = directory.path().join("trunkline-guard");
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("linked");
        let dead = random_instance();
        let mut guard = Command::new(&program);
        guard.arg0("sleep").arg("60").env(MARK, format!("{dead}.git.1"));
        let mut guard = guard.spawn().expect("it runs");
        let predecessors = entered(&state, &line(&dead, 1));
        let next = GuardProgram::new("/nowhere", []).in_these(Groups::at(units.path()));
        let next = next.after(Some(predecessors), Metrics::new());
        tokio::time::timeout(Duration::from_millis(500), next.opened()).await.expect_err("one is at work");
        assert_eq!(killed(), "", "it is left to end its tree");
        guard.kill().expect("our child");
        guard.wait().expect("reaped");
        next.opened().await;
        assert_eq!(killed(), "1", "whoever is left is ended before a child starts");
    }

    #[tokio::test]
    async fn who_began_before_the_dead_daemon_is_not_its_child() {
        let (_directory, state) = directory();
        let dead = random_instance();
        let mut older = marked(&dead, "git");
        let predecessors = entered(&state, &line(&dead, u64::MAX));
        assert_eq!(predecessors.sweep(&Metrics::new()).await, 0);
        assert_eq!(older.try_wait().expect("our child"), None);
        older.kill().expect("our child");
        older.wait().expect("reaped");
    }

    #[test]
    fn r37_a_list_that_cannot_be_read_is_an_empty_one() {
        let (directory, state) = directory();
        let (good, boot) = (random_instance(), Run::own().expect("Linux").boot);
        let lines = format!(
            "\u{0}\u{1}garbage\nab {boot} 7\n{good} {boot}\n{good} {boot} x\n{good} {boot} 7 more\n{}{good}",
            line(&good, 7)
        );
        let found = entered(&state, &lines);
        assert_eq!(found.dead, [Run { instance: good.clone(), boot, started: 7 }]);
        let other_boot = format!("{good} 00000000-0000-0000-0000-000000000000 7\n");
        assert_eq!(entered(&state, &other_boot).dead, [], "nobody outlives a boot");
        fs::write(directory.path().join(FILE), "garbage").expect("written");
        assert_eq!(Predecessors::enter(&state).expect("entered").dead, [], "a start does not fail for it");
    }

    #[test]
    fn the_list_does_not_grow() {
        let (_directory, state) = directory();
        let lines: String = (0..200).map(|number| line(&format!("{number:016x}"), number)).collect();
        let entered = entered(&state, &lines);
        assert_eq!(entered.dead.len(), REMEMBERED_MAX - 1);
        assert_eq!(entered.dead.last().map(|run| run.started), Some(199), "the newest are kept");
        assert_eq!(read(&state).expect("readable").len(), REMEMBERED_MAX);
    }
}
