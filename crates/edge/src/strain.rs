//! [`Strain`]: what the door could not do for want of something, or would not do for a client that may not know why.
//!
//! Each kind is told in the log at most once a minute, however many meet it, and stands in health while it lasts and for a
//! minute more. Nothing here decides: who is refused, waits or is let in is decided where it is noted.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;
use trunkline_telemetry::redact::printable;

use crate::limits::{AGENT_SHOWN_BYTES, STRAIN_EVERY};

/// What was short, and when.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    descriptors: Seen,
    connections: Seen,
    tokens: Seen,
}

#[derive(Debug, Default)]
struct Seen(Mutex<Option<Times>>);

#[derive(Debug, Clone, Copy)]
struct Times {
    last: Instant,
    told: Instant,
}

impl Strain {
    /// The process or the system has no descriptor left for a connection.
    pub(crate) fn no_descriptor(&self) {
        if self.descriptors.note() {
            let limit = descriptors();
            tracing::warn!(
                limit,
                "no file descriptor is left for another connection; new ones wait or are told to come again: raise the \
                 limit (`ulimit -n`, or LimitNOFILE= of the service)"
            );
        }
    }

    /// All connections that may be open are, `limit` of them.
    pub(crate) fn full(&self, limit: usize) {
        if self.connections.note() {
            tracing::warn!(
                limit,
                "all connections that may be open are (`limits.connections`); new ones wait for one to end"
            );
        }
    }

    /// A client that showed no good token was refused; `agent` is what it calls itself.
    pub(crate) fn no_token(&self, agent: Option<&[u8]>, reason: &'static str) {
        if self.tokens.note() {
            let client = printable(&String::from_utf8_lossy(agent.unwrap_or(b"one without a name")), AGENT_SHOWN_BYTES);
            tracing::warn!(
                client,
                reason,
                "a client was refused, because it showed none of `auth.tokens`; `trunkline connect CLIENT` writes its entry, \
                 and `trunkline doctor` says whose has no token"
            );
        }
    }

    /// What health says of it now. `full`: no connection is free at the moment.
    pub(crate) fn warnings(&self, full: bool, connections: usize) -> impl Iterator<Item = String> + use<> {
        let descriptors = self.descriptors.is_recent().then(|| {
            let limit = descriptors();
            format!(
                "no file descriptor is left for new connections (the limit is {limit}): raise it with `ulimit -n`, or \
                 LimitNOFILE= of the service"
            )
        });
        let full = (full || self.connections.is_recent()).then(|| {
            format!("all {connections} connections of `limits.connections` are taken: new clients wait for one to end")
        });
        descriptors.into_iter().chain(full)
    }
}

impl Seen {
    /// Notes that it happened; true if it is to be told now.
    fn note(&self) -> bool {
        let now = Instant::now();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = times.map(|times| times.told).filter(|told| now.saturating_duration_since(*told) < STRAIN_EVERY);
        *times = Some(Times { last: now, told: told.unwrap_or(now) });
        told.is_none()
    }

    fn is_recent(&self) -> bool {
        let times = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.is_some_and(|times| times.last.elapsed() < STRAIN_EVERY)
    }
}

/// Whether the process or the system had no descriptor left.
pub(crate) fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// How many descriptors this process may have, in words.
fn descriptors() -> String {
    getrlimit(Resource::Nofile).current.map_or_else(|| "that of the system".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_door_is_short_of_is_told_once_a_minute_and_stands_in_health_while_it_lasts() {
        let seen = Seen::default();
        assert!(!seen.is_recent());
        assert!(seen.note() && !seen.note());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!seen.note() && seen.is_recent());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(seen.note(), "it goes on");
        tokio::time::advance(STRAIN_EVERY).await;
        assert!(!seen.is_recent());
    }

    #[tokio::test(start_paused = true)]
    async fn health_names_the_limit_and_what_raises_it() {
        let strain = Strain::default();
        assert_eq!(strain.warnings(false, 7).count(), 0);
        strain.no_descriptor();
        let told: Vec<String> = strain.warnings(true, 7).collect();
        assert!(told[0].contains("LimitNOFILE") && told[1].contains("all 7 connections"), "{told:?}");
    }

    #[test]
    fn only_the_two_errors_of_descriptors_are_want_of_them() {
        for (errno, is) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::NOBUFS, false)] {
            assert_eq!(is_for_want_of_descriptors(&io::Error::from(errno)), is, "{errno:?}");
        }
        assert!(!is_for_want_of_descriptors(&io::Error::other("x")));
    }
}
