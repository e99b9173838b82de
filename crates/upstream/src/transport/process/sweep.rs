//! Finding processes that escaped their group, and killing them (reliability 9.5).
//!
//! Two ways to find them: as descendants of a guard, which as a subreaper inherits every orphan below it, and by
//! the marker in their environment, which holds when the guard itself is gone. A process id is no identity: whoever
//! is signalled is held by a pidfd while its start time is compared (reliability 9.7).
//!
//! Linux alone has `/proc`; elsewhere nothing is found here, and the group kill of the guard is all there is.

use std::collections::HashSet;

use rustix::process::{Pid, Signal};

/// The variable that every process of a tree carries: `<instance>.<server>.<generation>`.
pub(crate) const MARK: &str = "TRUNKLINE_MARK";

/// A running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// In ticks since boot; with the id it is an identity.
    pub(super) started: u64,
}

/// Kills every process of this user whose marker is `mark` or begins with `mark` and a dot, until none is left or
/// `rounds` are over. Returns how many it found.
///
/// With the instance alone as `mark` it removes all that a dead daemon left behind.
pub fn sweep(mark: &str, rounds: u32) -> usize {
    let mut killed = HashSet::new();
    for round in 0..rounds {
        let found = system::marked(mark);
        if found.is_empty() {
            break;
        }
        if round > 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for process in found {
            if signal(&process, Signal::KILL) {
                killed.insert((process.pid, process.started));
            }
        }
    }
    killed.len()
}

/// Returns the children of `root`, their children, and so on.
pub(super) fn descendants(root: Pid) -> Vec<Process> {
    let all = system::processes();
    let mut family: HashSet<i32> = [root.as_raw_pid()].into();
    // A child may be listed before its parent, so look again until nobody joins.
    loop {
        let before = family.len();
        family.extend(
            all.iter().filter(|it| family.contains(&it.parent)).map(|it| it.pid.as_raw_pid()).collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    family.remove(&root.as_raw_pid());
    all.into_iter().filter(|it| family.contains(&it.pid.as_raw_pid())).collect()
}

/// Sends `signal` to `process`, if it still is the one that was seen.
pub(super) fn signal(process: &Process, signal: Signal) -> bool {
    system::signal(process, signal)
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

    use super::{MARK, Process};

    pub(super) fn processes() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw).filter_map(look_up).collect()
    }

    pub(super) fn marked(mark: &str) -> Vec<Process> {
        let own = geteuid().as_raw();
        let is_marked = |pid: Pid| {
            let directory = format!("/proc/{}", pid.as_raw_pid());
            fs::metadata(&directory).is_ok_and(|data| data.uid() == own)
                && fs::read(format!("{directory}/environ")).is_ok_and(|environ| carries(&environ, mark))
        };
        processes().into_iter().filter(|process| is_marked(process.pid)).collect()
    }

    pub(super) fn signal(process: &Process, signal: Signal) -> bool {
        let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else { return false };
        look_up(process.pid).is_some_and(|now| now.started == process.started)
            && pidfd_send_signal(handle, signal).is_ok()
    }

    fn look_up(pid: Pid) -> Option<Process> {
        parse_stat(pid, &fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?)
    }

    /// Zombies are left out: they are dead, and their parent will hear of it.
    pub(super) fn parse_stat(pid: Pid, stat: &str) -> Option<Process> {
        // The name before it may hold anything, brackets included.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        if fields.next()? == "Z" {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Process { pid, parent, group, started: fields.nth(16)?.parse().ok()? })
    }

    pub(super) fn carries(environ: &[u8], mark: &str) -> bool {
        environ.split(|byte| *byte == 0).any(|variable| {
            let value = variable.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            let rest = value.and_then(|value| value.strip_prefix(mark.as_bytes()));
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use rustix::process::Signal;

    use super::Process;

    pub(super) fn processes() -> Vec<Process> {
        Vec::new()
    }

    pub(super) fn marked(_mark: &str) -> Vec<Process> {
        Vec::new()
    }

    pub(super) fn signal(_process: &Process, _signal: Signal) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_covers_its_own_generations_and_no_others() {
        let environ = b"HOME=/root\0TRUNKLINE_MARK=ab12.git.3\0X=TRUNKLINE_MARK=zz\0";
        for covers in ["ab12", "ab12.git", "ab12.git.3"] {
            assert!(system::carries(environ, covers), "{covers}");
        }
        for misses in ["ab1", "ab12.git.", "ab12.git.31", "zz", "git"] {
            assert!(!system::carries(environ, misses), "{misses}");
        }
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let pid = Pid::from_raw(7).expect("not zero");
        let stat = "7 (a) R (b) S 4 5 6 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 8899 1000 2 18446744073709551615";
        assert_eq!(system::parse_stat(pid, stat), Some(Process { pid, parent: 4, group: 5, started: 8899 }));
        assert_eq!(system::parse_stat(pid, &stat.replace(") S", ") Z")), None);
    }

    #[test]
    fn the_one_who_asks_is_no_descendant_of_itself() {
        let own = rustix::process::getpid();
        assert!(descendants(own).iter().all(|process| process.pid != own));
        assert!(system::processes().iter().any(|process| process.pid == own));
    }
}
