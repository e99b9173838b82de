//! `[limits]`: the limits of the whole gateway. What nobody needs to change stands in each crate's own `limits.rs`.
//!
//! The defaults are those of reliability 7 but for the counts. A single-user daemon refuses other users at the
//! door (S-7), so connections, sessions and calls in flight only bound its own memory, and all buffered bytes are
//! charged to one budget anyway. They are therefore wide enough for 256 busy clients and a thousand open
//! streams of one person.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::findings::Findings;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;
/// How long the longest name of a tool may be.
pub(crate) const NAME_CHARS: RangeInclusive<usize> = 16..=128;

const DAY: Duration = Duration::from_hours(24);

/// Limits of the whole gateway, `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body from a client, in bytes (S-21).
    pub request_body_bytes: usize,
    /// Largest message from a server, stdio line included, in bytes.
    pub upstream_message_bytes: usize,
    /// The budget all buffered bytes together are charged to.
    pub buffer_bytes: usize,
    /// The memory that the daemon itself may have: at 80 % of it what is kept for clients that may resume shrinks, at
    /// 90 % new requests are refused while others are worked on.
    pub memory_bytes: usize,
    /// From accept, or from the first byte of a later request, to the end of the request's head (S-23).
    #[serde(rename = "head_read_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub head_read: Duration,
    /// From the end of a request's head to the end of its body (S-23).
    #[serde(rename = "body_read_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub body_read: Duration,
    /// How long a connection may rest between two requests (S-23). Longer than the pools of common HTTP clients keep
    /// theirs, so that it is the client who closes and no request meets a closing socket.
    #[serde(rename = "idle_connection_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub idle_connection: Duration,
    /// Progress of one call that is passed on per second; of more, the newest wins (mcp-protocol 2.7).
    pub progress_per_sec: usize,
    /// Open connections from clients.
    pub connections: usize,
    /// Requests being worked on for all clients together.
    pub in_flight: usize,
    /// Live MCP sessions; beyond it the longest idle one goes.
    pub sessions: usize,
    /// New sessions accepted at once; refilled at `sessions_per_sec` (S-24).
    pub sessions_burst: usize,
    /// New sessions accepted per second, over time.
    pub sessions_per_sec: usize,
    /// After how long without a request or an open stream a session ends.
    #[serde(rename = "session_idle_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub session_idle: Duration,
    /// Longest name of a tool or prompt toward clients (S-14).
    pub name_chars: usize,
    /// Entries per page of a list. Without it a list is one page, since not every client asks for a second.
    pub page_size: Option<usize>,
    /// How long the first list waits for servers that were never ready.
    #[serde(rename = "first_list_wait_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub first_list_wait: Duration,
    /// How long calls may go on after the daemon was told to stop.
    #[serde(rename = "drain_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body_bytes: 16 * MIB,
            upstream_message_bytes: 64 * MIB,
            buffer_bytes: 256 * MIB,
            memory_bytes: 512 * MIB,
            head_read: Duration::from_secs(10),
            body_read: Duration::from_secs(30),
            idle_connection: Duration::from_secs(75),
            progress_per_sec: 10,
            connections: 4096,
            in_flight: 1024,
            sessions: 4096,
            sessions_burst: 2048,
            sessions_per_sec: 200,
            session_idle: Duration::from_hours(7 * 24),
            name_chars: 48,
            page_size: None,
            first_list_wait: Duration::from_millis(800),
            drain: Duration::from_secs(20),
        }
    }
}

impl Limits {
    pub(crate) fn check(&self, findings: &mut Findings<'_>) {
        let mut counted = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                findings.error(&["limits", key], format!("must be from {least} to {most}"));
            }
        };
        counted("request_body_bytes", self.request_body_bytes, 64 * KIB, 128 * MIB);
        counted("upstream_message_bytes", self.upstream_message_bytes, 64 * KIB, 128 * MIB);
        counted("buffer_bytes", self.buffer_bytes, 64 * MIB, 16 * 1024 * MIB);
        counted("memory_bytes", self.memory_bytes, 64 * MIB, 1024 * 1024 * MIB);
        counted("progress_per_sec", self.progress_per_sec, 1, 100);
        // Each address that is listened on holds one for the next that comes.
        counted("connections", self.connections, 8, 65_536);
        counted("in_flight", self.in_flight, 1, 65_536);
        counted("sessions", self.sessions, 1, 65_536);
        counted("sessions_burst", self.sessions_burst, 1, 65_536);
        counted("sessions_per_sec", self.sessions_per_sec, 1, 65_536);
        counted("name_chars", self.name_chars, *NAME_CHARS.start(), *NAME_CHARS.end());
        if let Some(size) = self.page_size {
            counted("page_size", size, 1, 100_000);
        }
        let largest = self.request_body_bytes.max(self.upstream_message_bytes);
        if self.buffer_bytes < largest {
            findings.error(&["limits", "buffer_bytes"], "must hold at least one message of the largest size allowed");
        }
        let mut timed = |key: &str, value: Duration, least: Duration, most: Duration| {
            if !(least..=most).contains(&value) {
                let (least, most) = (least.as_secs(), most.as_secs());
                findings.error(&["limits", key], format!("must be from {least} to {most} seconds"));
            }
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_mins(5));
        timed("head_read_sec", self.head_read, short, long);
        timed("body_read_sec", self.body_read, short, long);
        timed("idle_connection_sec", self.idle_connection, short, long);
        timed("session_idle_sec", self.session_idle, Duration::from_mins(1), 365 * DAY);
        timed("first_list_wait_sec", self.first_list_wait, Duration::ZERO, Duration::from_secs(30));
        timed("drain_sec", self.drain, Duration::ZERO, Duration::from_mins(5));
    }
}

/// A duration written as a number of seconds, whole or not.
mod seconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(value).map_err(|_| D::Error::custom("must be a number of seconds, zero or more"))
    }
}
