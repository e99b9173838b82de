//! [`Ledger`]: what the processes of each server cost, memory, processor time, descriptors and their number.
//!
//! Whoever starts a process tree opens an account for it by the pid of its guard, and closes it when nobody is left.
//! The figures are read from `/proc` in one pass over all processes, on a slow tick and when a person or a scraper
//! asks, and never by a call: reading them takes milliseconds. The guard itself is not counted, it is the gateway's.
//!
//! Processor time only grows: what a tree used when it was last seen stays in its server's account after it ended. A
//! tree that begins and ends between two readings leaves no trace of its time. Memory that processes share is counted
//! with each. Where there is no `/proc` there are no figures, rather than zeros.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::ServerName;

use crate::table::{Process, TICKS_PER_SECOND, descendants};

/// Younger figures are not read again for whoever asks.
const FRESH: Duration = Duration::from_secs(1);

/// What a server's processes cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Resident memory of all of them together.
    pub resident_bytes: u64,
    /// Processor time since the daemon started, of all that ever ran.
    pub cpu_seconds: f64,
    /// Open descriptors.
    pub open_fds: u64,
    /// Processes alive.
    pub processes: u64,
}

/// All accounts. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Accounts>>);

#[derive(Debug, Default)]
struct Accounts {
    trees: HashMap<u64, Tree>,
    servers: HashMap<ServerName, Account>,
    next: u64,
    measured: Option<Instant>,
}

#[derive(Debug)]
struct Tree {
    server: ServerName,
    guard: i32,
    /// Time used, when it was last looked at.
    ticks: u64,
    now: Usage,
}

#[derive(Debug, Default)]
struct Account {
    /// Of all its trees ever.
    ticks: u64,
    /// How its last tree ended, if one did.
    ended: Option<&'static str>,
    /// It was looked at, so its figures mean something.
    seen: bool,
}

/// The account of one tree, closed on drop.
#[derive(Debug)]
pub struct TreeAccount {
    id: u64,
    ledger: Weak<Mutex<Accounts>>,
    why: &'static str,
}

impl Ledger {
    /// Opens an account for a tree. Returns how the server's tree before it ended, if there was one.
    pub(crate) fn open(&self, server: &ServerName, guard: u32) -> (TreeAccount, Option<&'static str>) {
        let mut accounts = self.lock();
        let id = accounts.next;
        accounts.next += 1;
        let guard = i32::try_from(guard).unwrap_or_default();
        accounts.trees.insert(id, Tree { server: server.clone(), guard, ticks: 0, now: Usage::default() });
        let before = accounts.servers.entry(server.clone()).or_default().ended;
        (TreeAccount { id, ledger: Arc::downgrade(&self.0), why: "stopped" }, before)
    }

    /// Trees alive.
    pub(crate) fn trees(&self) -> usize {
        self.lock().trees.len()
    }

    /// Whether a reading would tell nothing new.
    pub(crate) fn is_fresh(&self) -> bool {
        let accounts = self.lock();
        accounts.trees.is_empty() || accounts.measured.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Reads all figures anew. Takes milliseconds of system calls: not for a thread that serves calls.
    pub(crate) fn measure(&self) {
        let guards: Vec<(u64, i32)> = self.lock().trees.iter().map(|(id, tree)| (*id, tree.guard)).collect();
        let all = if guards.is_empty() { Vec::new() } else { Process::all() };
        let read: Vec<(u64, u64, Usage)> = guards
            .into_iter()
            .map(|(id, guard)| {
                let family = descendants(&all, guard);
                (id, family.iter().map(|process| process.ticks).sum(), usage(&family))
            })
            .collect();
        let mut accounts = self.lock();
        accounts.measured = Some(Instant::now());
        if !all.is_empty() {
            for (id, ticks, now) in read {
                accounts.enter(id, ticks, now);
            }
        }
    }

    /// What a server's processes cost when they were last looked at; `None` if they never were.
    pub(crate) fn usage(&self, server: &ServerName) -> Option<Usage> {
        let accounts = self.lock();
        let account = accounts.servers.get(server).filter(|account| account.seen)?;
        let trees = accounts.trees.values().filter(|tree| tree.server == *server);
        let sum = trees.fold(Usage::default(), |sum, Tree { now, .. }| Usage {
            resident_bytes: sum.resident_bytes + now.resident_bytes,
            open_fds: sum.open_fds + now.open_fds,
            processes: sum.processes + now.processes,
            ..sum
        });
        #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
        let cpu_seconds = account.ticks as f64 / TICKS_PER_SECOND;
        Some(Usage { cpu_seconds, ..sum })
    }

    /// Servers whose processes were looked at.
    pub(crate) fn seen(&self) -> Vec<ServerName> {
        let accounts = self.lock();
        accounts.servers.iter().filter(|(_, account)| account.seen).map(|(server, _)| server.clone()).collect()
    }

    /// Drops what is known of a server that left the configuration.
    pub(crate) fn forget(&self, server: &ServerName) {
        self.lock().servers.remove(server);
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn enter(&mut self, id: u64, ticks: u64, now: Usage) {
        // It may have ended while it was looked at.
        let Some(tree) = self.trees.get_mut(&id) else { return };
        // Time goes backwards when a process ends whose parent does not wait for it.
        let used = ticks.saturating_sub(tree.ticks);
        tree.ticks = tree.ticks.max(ticks);
        tree.now = now;
        // One that was forgotten while its tree still ends is not brought back.
        let Some(account) = self.servers.get_mut(&tree.server) else { return };
        account.ticks += used;
        account.seen = true;
    }
}

impl TreeAccount {
    /// Notes that the tree ended for this reason, one of a fixed set, and not because it was stopped.
    pub fn ended(&mut self, why: &'static str) {
        self.why = why;
    }
}

impl Drop for TreeAccount {
    fn drop(&mut self) {
        let Some(ledger) = self.ledger.upgrade() else { return };
        let mut accounts = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = accounts.trees.remove(&self.id)
            && let Some(account) = accounts.servers.get_mut(&tree.server)
        {
            account.ended = Some(self.why);
        }
    }
}

/// What these processes hold now. A process that ended meanwhile holds nothing.
fn usage(family: &[Process]) -> Usage {
    let alive = family.iter().filter(|process| !process.zombie);
    alive.fold(Usage::default(), |sum, process| Usage {
        resident_bytes: sum.resident_bytes + resident_bytes(process.pid).unwrap_or_default(),
        open_fds: sum.open_fds + open_fds(process.pid).unwrap_or_default(),
        processes: sum.processes + 1,
        ..sum
    })
}

fn resident_bytes(pid: i32) -> Option<u64> {
    crate::process::resident_bytes_of(&pid.to_string())
}

fn open_fds(pid: i32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> ServerName {
        ServerName::new(name).expect("a name")
    }

    #[test]
    fn time_that_was_used_stays_when_its_tree_has_ended() {
        let ledger = Ledger::default();
        let (first, before) = ledger.open(&server("git"), 1);
        assert_eq!(before, None);
        let held = Usage { resident_bytes: 10, open_fds: 2, processes: 1, cpu_seconds: 0.0 };
        ledger.lock().enter(first.id, 150, held);
        ledger.lock().enter(first.id, 100, held);
        assert_eq!(ledger.usage(&server("git")), Some(Usage { cpu_seconds: 1.5, ..held }));
        drop(first);
        assert_eq!(ledger.usage(&server("git")), Some(Usage { cpu_seconds: 1.5, ..Usage::default() }));
        let (second, before) = ledger.open(&server("git"), 2);
        assert_eq!(before, Some("stopped"));
        ledger.lock().enter(second.id, 50, held);
        assert_eq!(ledger.usage(&server("git")), Some(Usage { cpu_seconds: 2.0, ..held }));
    }

    #[test]
    fn who_was_never_looked_at_has_no_figures() {
        let ledger = Ledger::default();
        let (mut tree, _) = ledger.open(&server("git"), 1);
        assert_eq!((ledger.usage(&server("git")), ledger.trees()), (None, 1));
        tree.ended("exited");
        drop(tree);
        assert_eq!((ledger.trees(), ledger.open(&server("git"), 1).1), (0, Some("exited")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_family_is_read_without_its_guard() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60 & read line; kill %1 %2"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        let ledger = Ledger::default();
        // The shell stands for the guard.
        let (_tree, _) = ledger.open(&server("git"), shell.id());
        let usage = loop {
            ledger.measure();
            let usage = ledger.usage(&server("git")).expect("looked at");
            if usage.processes == 2 {
                break usage;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(usage.resident_bytes > 0 && usage.open_fds >= 2, "{usage:?}");
        drop(shell.stdin.take());
        shell.wait().expect("it ends");
        ledger.measure();
        assert_eq!(ledger.usage(&server("git")).map(|usage| usage.processes), Some(0));
    }
}
