//! Finding processes that escaped their group, and killing them (reliability 9.5).
//!
//! Two ways to find them: as descendants of a guard, which as a subreaper inherits every orphan below it, and by
//! the marker in their environment, which holds when the guard itself is gone. A process id is no identity: whoever
//! is signalled is held by a pidfd while its start time is compared (reliability 9.7).
//!
//! Linux alone has `/proc`; elsewhere nothing is found here, and the group kill of the guard is all there is.

use std::collections::HashSet;
use std::ffi::CStr;

use rustix::process::{Pid, Signal};
use trunkline_telemetry::table;

/// The variable that every process of a tree carries: `<instance>.<server>.<generation>`.
pub(crate) const MARK: &str = "TRUNKLINE_MARK";

/// What `ps` shows of a guard in place of the name of the link that was executed.
pub(super) const GUARD_NAME: &CStr = c"trunkline-guard";

/// A running process, with an id that signals can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) group: i32,
    /// In ticks since boot; with the id it is an identity.
    pub(super) started: u64,
}

impl Process {
    /// Zombies are left out: they are dead, and their parent will hear of it.
    fn running(process: &table::Process) -> Option<Self> {
        let pid = Pid::from_raw(process.pid).filter(|_| !process.zombie)?;
        Some(Self { pid, group: process.group, started: process.started })
    }
}

/// Kills every process of this user whose marker is `mark` or begins with `mark` and a dot, until none is left or
/// `rounds` are over. Returns how many it found.
pub(super) fn sweep(mark: &str, rounds: u32) -> usize {
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

/// One look for what a dead daemon left: processes with its `instance` in their marker that began after it. Kills those
/// that no guard watches over, or all of them if not `patient`. Returns how many it killed, and whether it found any.
pub(super) fn dead(instance: &str, started: u64, patient: bool) -> (usize, bool) {
    let mut found = system::marked(instance);
    found.retain(|process| process.started >= started);
    let guards: Vec<Pid> = found.iter().map(|process| process.pid).filter(|pid| system::is_guard(*pid)).collect();
    let guarded: HashSet<Pid> = if patient && !guards.is_empty() {
        let all = table::Process::all();
        let below = guards.iter().flat_map(|guard| table::descendants(&all, guard.as_raw_pid()));
        below.filter_map(|process| Pid::from_raw(process.pid)).chain(guards.iter().copied()).collect()
    } else {
        HashSet::new()
    };
    let killed = found.iter().filter(|it| !guarded.contains(&it.pid) && signal(it, Signal::KILL)).count();
    (killed, !found.is_empty())
}

/// When the process began, in ticks since boot.
pub(super) fn started(pid: Pid) -> Option<u64> {
    table::Process::look_up(pid.as_raw_pid()).map(|process| process.started)
}

/// Returns the children of `root`, their children, and so on.
pub(super) fn descendants(root: Pid) -> Vec<Process> {
    let family = table::descendants(&table::Process::all(), root.as_raw_pid());
    family.iter().filter_map(Process::running).collect()
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

    use super::{GUARD_NAME, MARK, Process, table};

    pub(super) fn marked(mark: &str) -> Vec<Process> {
        let own = geteuid().as_raw();
        let is_marked = |pid: Pid| {
            let directory = format!("/proc/{}", pid.as_raw_pid());
            fs::metadata(&directory).is_ok_and(|data| data.uid() == own)
                && fs::read(format!("{directory}/environ")).is_ok_and(|environ| carries(&environ, mark))
        };
        // A daemon that is started out of another's child carries that one's mark.
        let myself = rustix::process::getpid();
        let running = table::Process::all().iter().filter_map(Process::running).collect::<Vec<_>>();
        running.into_iter().filter(|process| process.pid != myself && is_marked(process.pid)).collect()
    }

    pub(super) fn signal(process: &Process, signal: Signal) -> bool {
        let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else { return false };
        super::started(process.pid).is_some_and(|now| now == process.started)
            && pidfd_send_signal(handle, signal).is_ok()
    }

    /// Whether it is a guard, by the name that guards give themselves. Who imitates it gains a few seconds.
    pub(super) fn is_guard(pid: Pid) -> bool {
        let comm = fs::read(format!("/proc/{}/comm", pid.as_raw_pid())).unwrap_or_default();
        comm.trim_ascii() == GUARD_NAME.to_bytes()
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
    use rustix::process::{Pid, Signal};

    use super::Process;

    pub(super) fn marked(_mark: &str) -> Vec<Process> {
        Vec::new()
    }

    pub(super) fn signal(_process: &Process, _signal: Signal) -> bool {
        false
    }

    pub(super) fn is_guard(_pid: Pid) -> bool {
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
    fn the_one_who_asks_is_no_descendant_of_itself() {
        let own = rustix::process::getpid();
        assert!(descendants(own).iter().all(|process| process.pid != own));
    }
}
