//! [`Journal`]: what happened to each server lately, for people who ask why.
//!
//! Supervisors record transitions, the readers of child stderr hand in what they read, `/health` and
//! `status` show both. Everything is bounded: the oldest goes first and is counted. What is shown
//! has passed the server's scrubber (reliability 10.5): here, and not on arrival, because a secret may be
//! split across two reads of a pipe.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use trunkline_wire::ServerName;

use crate::redact::Scrubber;

/// Transitions kept per server (reliability 6).
const HISTORY_MAX: usize = 32;

/// Bytes of stderr kept per server.
const STDERR_BYTES_MAX: usize = 64 * 1024;

/// The recent past of every server.
#[derive(Debug, Default)]
pub struct Journal {
    servers: Mutex<HashMap<ServerName, Past>>,
}

/// One change of a server's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// Milliseconds since 1970, wall clock.
    pub at_unix_ms: u64,
    /// State left.
    pub from: &'static str,
    /// State entered.
    pub to: &'static str,
    /// Why, for people.
    pub reason: String,
}

#[derive(Debug, Default)]
struct Past {
    history: VecDeque<Transition>,
    stderr: VecDeque<u8>,
    stderr_dropped: u64,
    scrubber: Arc<Scrubber>,
}

impl Journal {
    /// A journal without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the scrubber that the server's stderr and reasons pass from now on. Until then only the generic
    /// patterns are known.
    pub fn scrub_with(&self, server: &ServerName, scrubber: Arc<Scrubber>) {
        self.past(server, |past| past.scrubber = scrubber);
    }

    /// Records a change of state. `reason` is one sentence; it is scrubbed here.
    pub fn transition(&self, server: &ServerName, from: &'static str, to: &'static str, reason: &str) {
        let at_unix_ms = unix_ms();
        self.past(server, |past| {
            if past.history.len() == HISTORY_MAX {
                past.history.pop_front();
            }
            let reason = past.scrubber.scrub(reason);
            past.history.push_back(Transition { at_unix_ms, from, to, reason });
        });
    }

    /// Returns the last changes of state, oldest first.
    pub fn history(&self, server: &ServerName) -> Vec<Transition> {
        self.lock().get(server).map(|past| past.history.iter().cloned().collect()).unwrap_or_default()
    }

    /// Records what a child wrote to stderr, as read.
    pub fn stderr(&self, server: &ServerName, bytes: &[u8]) {
        self.past(server, |past| past.keep_stderr(bytes));
    }

    /// Returns the last lines of stderr, at most `max` bytes, scrubbed.
    pub fn stderr_tail(&self, server: &ServerName, max: usize) -> String {
        let (raw, cut, scrubber) = match self.lock().get(server) {
            Some(past) => {
                (past.stderr.iter().copied().collect::<Vec<u8>>(), past.stderr_dropped > 0, past.scrubber.clone())
            }
            None => return String::new(),
        };
        let mut text = &raw[..];
        if cut {
            // The first line lost its beginning, so the scrubber could miss a secret in it.
            let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
            text = &text[line_end..];
        }
        tail(&scrubber.scrub(&String::from_utf8_lossy(text)), max).to_owned()
    }

    /// Returns how many bytes of stderr were dropped to stay within the bound.
    pub fn stderr_dropped(&self, server: &ServerName) -> u64 {
        self.lock().get(server).map_or(0, |past| past.stderr_dropped)
    }

    /// Returns how many bytes of stderr were read in all: as long as it is the same, so is the tail.
    pub fn stderr_read(&self, server: &ServerName) -> u64 {
        self.lock().get(server).map_or(0, |past| past.stderr_dropped + past.stderr.len() as u64)
    }

    /// Drops all that is known of a server: it left the configuration.
    pub fn forget(&self, server: &ServerName) {
        self.lock().remove(server);
    }

    fn past(&self, server: &ServerName, change: impl FnOnce(&mut Past)) {
        let mut servers = self.lock();
        if let Some(past) = servers.get_mut(server) {
            return change(past);
        }
        change(servers.entry(server.clone()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName, Past>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn keep_stderr(&mut self, bytes: &[u8]) {
        let fits = &bytes[bytes.len().saturating_sub(STDERR_BYTES_MAX)..];
        let excess = (self.stderr.len() + fits.len()).saturating_sub(STDERR_BYTES_MAX);
        self.stderr.drain(..excess);
        self.stderr.extend(fits);
        self.stderr_dropped += (excess + bytes.len() - fits.len()) as u64;
    }
}

/// Returns the end of `text`, at most `max` bytes, from the start of a line if one begins there.
fn tail(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut from = text.len() - max;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    if text[..from].ends_with('\n') {
        return end;
    }
    match end.find('\n') {
        Some(at) if at + 1 < end.len() => &end[at + 1..],
        _ => end,
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "shown to people as a date, never compared")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerName {
        ServerName::new("git").expect("a name")
    }

    #[test]
    fn keeps_the_newest_transitions_only() {
        let journal = Journal::new();
        for number in 0..40 {
            journal.transition(&server(), "idle", "starting", &number.to_string());
        }
        let history = journal.history(&server());
        assert_eq!(history.len(), HISTORY_MAX);
        assert_eq!((history[0].reason.as_str(), history[31].reason.as_str()), ("8", "39"));
        journal.forget(&server());
        assert!(journal.history(&server()).is_empty());
    }

    #[test]
    fn counts_the_stderr_that_it_drops() {
        let journal = Journal::new();
        journal.stderr(&server(), b"first\n");
        journal.stderr(&server(), &vec![b'x'; STDERR_BYTES_MAX - 1]);
        assert_eq!(journal.stderr_dropped(&server()), 5);
        assert_eq!(journal.stderr_read(&server()), 5 + STDERR_BYTES_MAX as u64);
        journal.stderr(&server(), &vec![b'y'; STDERR_BYTES_MAX + 7]);
        assert_eq!(journal.stderr_dropped(&server()), 5 + STDERR_BYTES_MAX as u64 + 7);
    }

    #[test]
    fn a_secret_split_across_reads_is_hidden() {
        let journal = Journal::new();
        journal.scrub_with(&server(), Arc::new(Scrubber::new(["correct-horse".to_owned()])));
        journal.stderr(&server(), b"using correct-");
        journal.stderr(&server(), b"horse today\nlast line\n");
        assert_eq!(journal.stderr_tail(&server(), 1000), "using *** today\nlast line\n");
        assert_eq!(journal.stderr_tail(&server(), 15), "last line\n");
        assert_eq!(journal.stderr_tail(&server(), 10), "last line\n", "a line that begins where it is cut is whole");
    }

    #[test]
    fn a_secret_that_lost_its_beginning_is_hidden() {
        let journal = Journal::new();
        journal.scrub_with(&server(), Arc::new(Scrubber::new(["correct-horse".to_owned()])));
        journal.stderr(&server(), b"correct-horse\n");
        journal.stderr(&server(), &vec![b'x'; STDERR_BYTES_MAX - 8]);
        let shown = journal.stderr_tail(&server(), STDERR_BYTES_MAX);
        assert!(!shown.contains("horse"), "{shown}");
    }
}
