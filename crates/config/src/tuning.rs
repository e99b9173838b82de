//! What can be changed without a new connection: `[limits]` for the whole gateway and the timeouts and limits
//! of one server.
//!
//! The defaults are those of reliability 7 but for the counts. A single-user daemon refuses other users at the
//! door (S-7), so connections, sessions and calls in flight only bound its own memory, and all buffered bytes are
//! charged to one budget anyway. They are therefore wide enough for 256 busy clients and a thousand open
//! streams of one person.

use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// Limits of the whole gateway, `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body from a client, in bytes (S-21).
    pub request_body_bytes: usize,
    /// Largest message from a server, stdio line included, in bytes.
    pub upstream_message_bytes: usize,
    /// The budget all buffered bytes together are charged to.
    pub buffer_bytes: usize,
    /// Open connections from clients.
    pub connections: usize,
    /// Requests being worked on for all clients together.
    pub in_flight: usize,
    /// Live MCP sessions; beyond it the longest idle one goes.
    pub sessions: usize,
    /// New sessions accepted at once; refilled at [`Limits::sessions_per_sec`] (S-24).
    pub sessions_burst: usize,
    /// New sessions accepted per second, over time.
    pub sessions_per_sec: usize,
    /// After how long without a request or an open stream a session ends.
    pub session_idle: Duration,
    /// Longest name of a tool or prompt toward clients (S-14).
    pub name_chars: usize,
    /// Entries per page of a list. `None`: one page, since not every client asks for a second.
    pub page_size: Option<usize>,
    /// How long the first list waits for servers that were never ready.
    pub first_list_wait: Duration,
    /// How long calls may go on after the daemon was told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_body_bytes: 16 * MIB,
            upstream_message_bytes: 64 * MIB,
            buffer_bytes: 256 * MIB,
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

/// Timeouts and limits of one server. A change takes effect with the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// From spawn or connect to the answered handshake (`startup_timeout_sec`). `None`: 120 s the first time,
    /// when a launcher may still download, 30 s later.
    pub startup_timeout: Option<Duration>,
    /// How long a tool call may go without bytes or progress (`tool_timeout_sec`, R-7). Just under Codex's own
    /// 300 s, so that the caller hears from us and not from its own timer.
    pub tool_timeout: Duration,
    /// How long a tool call may take in all, progress or not.
    pub tool_total: Duration,
    /// How long a list may take.
    pub list_timeout: Duration,
    /// How long `prompts/get`, `resources/read`, completion and other small requests may take.
    pub read_timeout: Duration,
    /// Requests at the server at the same time.
    pub in_flight_max: usize,
    /// Requests waiting for one of those places.
    pub queue_max: usize,
    /// How long a request waits for a place.
    pub queue_wait: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            startup_timeout: None,
            tool_timeout: Duration::from_secs(270),
            tool_total: Duration::from_hours(1),
            list_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            in_flight_max: 64,
            queue_max: 512,
            queue_wait: Duration::from_secs(5),
        }
    }
}
