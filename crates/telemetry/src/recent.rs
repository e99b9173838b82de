//! [`RecentCalls`]: the last tool calls, for people who ask what just happened.
//!
//! Who called which tool of which server, when, how long it took, how it ended and how large request and answer were. What
//! was said is never kept: arguments and results hold what nobody meant to show. The ring is bounded, and noting a call
//! costs a lock and a few shared pointers. Where an audit file is wanted, each goes there, too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use trunkline_wire::{ExposedName, ServerName};

use crate::Audit;
use crate::journal::unix_ms;

/// Calls kept: what a person scrolls through.
const CALLS_MAX: usize = 200;

/// The last calls.
#[derive(Debug, Default)]
pub struct RecentCalls {
    ring: Mutex<Ring>,
    audit: OnceLock<Audit>,
}

#[derive(Debug, Default)]
struct Ring {
    noted: u64,
    calls: VecDeque<RecentCall>,
}

/// A tool call that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCall {
    /// Counts the calls of this process, from 1.
    pub number: u64,
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who called; `None` for the owner's own commands.
    pub client: Option<Arc<str>>,
    /// The name of the token that was shown, if one was asked for.
    pub token: Option<Arc<str>>,
    /// The server.
    pub server: ServerName,
    /// The tool as clients call it.
    pub tool: ExposedName,
    /// How it ended, one of a fixed set; success is `"ok"`.
    pub outcome: &'static str,
    /// How long it took.
    pub micros: u64,
    /// Size of the arguments.
    pub sent_bytes: usize,
    /// Size of the result or error.
    pub received_bytes: usize,
}

/// What is known of a call when it ends.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Who called.
    pub client: Option<Arc<str>>,
    /// The name of the token that was shown, if one was asked for.
    pub token: Option<Arc<str>>,
    /// The server.
    pub server: ServerName,
    /// The tool as clients call it.
    pub tool: ExposedName,
    /// How it ended.
    pub outcome: &'static str,
    /// How long it took.
    pub lasted: Duration,
    /// Size of the arguments.
    pub sent_bytes: usize,
    /// Size of the result or error.
    pub received_bytes: usize,
}

impl RecentCalls {
    /// No calls yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a call. The oldest gives way.
    pub fn note(&self, ended: Ended) {
        let Ended { client, token, server, tool, outcome, lasted, sent_bytes, received_bytes } = ended;
        let at_unix_ms = unix_ms();
        let micros = u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX);
        let mut ring = self.lock();
        ring.noted += 1;
        let number = ring.noted;
        let call =
            RecentCall { number, at_unix_ms, client, token, server, tool, outcome, micros, sent_bytes, received_bytes };
        let audited = self.audit.get().filter(|audit| audit.is_on()).map(|audit| (audit, call.clone()));
        let oldest = if ring.calls.len() == CALLS_MAX { ring.calls.pop_front() } else { None };
        ring.calls.push_back(call);
        drop(ring);
        drop(oldest);
        if let Some((audit, call)) = audited {
            audit.note(call);
        }
    }

    /// Has each call from now on written by `audit`, too. The first that is given stays.
    pub fn also_to(&self, audit: Audit) {
        let _ = self.audit.set(audit);
    }

    /// Who writes calls into a file.
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.get()
    }

    /// The number of the call that was noted last; 0 before the first.
    pub fn last(&self) -> u64 {
        self.lock().noted
    }

    /// The calls after the one with this number, oldest first, as far as they are kept.
    pub fn after(&self, number: u64) -> Vec<RecentCall> {
        let ring = self.lock();
        let from = ring.calls.partition_point(|call| call.number <= number);
        ring.calls.iter().skip(from).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: &'static str) -> Ended {
        Ended {
            client: Some("codex#1".into()),
            token: None,
            server: ServerName::new("git").expect("a name"),
            tool: ExposedName::new("git__log").expect("a name"),
            outcome,
            lasted: Duration::from_micros(1500),
            sent_bytes: 10,
            received_bytes: 2000,
        }
    }

    #[test]
    fn the_last_calls_are_kept_and_those_after_a_known_one_are_found() {
        let calls = RecentCalls::new();
        assert_eq!((calls.last(), calls.after(0).len()), (0, 0));
        for _ in 0..CALLS_MAX + 7 {
            calls.note(ended("ok"));
        }
        calls.note(ended("fault"));
        assert_eq!(calls.last(), 208);
        let all = calls.after(0);
        assert_eq!((all.len(), all[0].number), (CALLS_MAX, 9));
        let newest = calls.after(207);
        assert_eq!((newest.len(), newest[0].outcome, newest[0].micros), (1, "fault", 1500));
        assert!(calls.after(208).is_empty() && calls.after(900).is_empty());
    }
}
