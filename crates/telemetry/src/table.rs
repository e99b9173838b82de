//! The system's process table, as far as one file per process tells it: `/proc/<pid>/stat`.
//!
//! Read whenever somebody asks, never kept. Where there is no `/proc` nobody is found.

use std::fs;

/// Clock ticks per second of all times in `/proc`: 100 on every Linux that the gateway runs on.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The id of its parent, or of who adopted it.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// It has ended, and its parent has not heard of it.
    pub zombie: bool,
    /// Processor time in ticks: its own, and that of the children it waited for.
    pub ticks: u64,
    /// When it began, in ticks since boot. With the id it is an identity.
    pub started: u64,
}

impl Process {
    /// The process with this id, if there is one.
    pub fn look_up(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Every process there is; empty where the system has no such table.
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::look_up).collect()
    }

    /// Reads a line of `/proc/<pid>/stat`.
    fn parse(pid: i32, stat: &str) -> Option<Self> {
        // The name before it may hold anything, brackets included.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // User and system time, and both of the children that were waited for. The latter are signed, and never negative.
        let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            zombie: *fields.first()? == "Z",
            ticks,
            started: number(19)?,
        })
    }
}

/// Those of `all` that descend from `root`, which is not among them.
pub fn descendants(all: &[Process], root: i32) -> Vec<Process> {
    let mut family = vec![root];
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        // A table that changed while it was read may hold a circle.
        for child in all.iter().filter(|it| it.parent == parent) {
            if !family.contains(&child.pid) {
                family.push(child.pid);
                found.push(*child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) R (b) S 4 5 6 0 -1 4194560 1 0 0 0 2 3 10 20 20 0 1 0 8899 1000 2 18446744073709551615";
        let process = Process { pid: 7, parent: 4, group: 5, zombie: false, ticks: 35, started: 8899 };
        assert_eq!(Process::parse(7, stat), Some(process));
        let zombie = Process { zombie: true, ..process };
        assert_eq!(Process::parse(7, &stat.replace(") S", ") Z")), Some(zombie));
        assert_eq!(Process::parse(7, "7 (x) S 4"), None);
    }

    #[test]
    fn a_family_is_found_in_any_order_and_a_circle_ends() {
        let process = |pid, parent| Process { pid, parent, group: 0, zombie: false, ticks: 0, started: 0 };
        let all = [process(4, 3), process(3, 2), process(2, 1), process(9, 8), process(8, 9), process(5, 1)];
        let pids = |root| {
            let mut pids: Vec<i32> = descendants(&all, root).iter().map(|it| it.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!((pids(2), pids(1), pids(9), pids(7)), (vec![3, 4], vec![2, 3, 4, 5], vec![8], vec![]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_in_the_table() {
        let own = i32::try_from(std::process::id()).expect("an id");
        assert!(Process::all().iter().any(|process| process.pid == own && process.started > 0));
    }
}
