//! What can be changed without a new connection: `[limits]` for the whole gateway and the timeouts and limits
//! of one server.
//!
//! The defaults are those of reliability 7 but for the counts. A single-user daemon refuses other users at the
//! door (S-7), so connections, sessions and calls in flight only bound its own memory, and all buffered bytes are
//! charged to one budget anyway. They are therefore wide enough for 256 busy clients and a thousand open
//! streams of one person.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::ServerFile;
use crate::findings::Findings;
use crate::server::Caps;

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Longest time any setting can name.
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
    #[serde(rename = "session_idle_sec", with = "seconds")]
    #[schemars(with = "f64")]
    pub session_idle: Duration,
    /// Longest name of a tool or prompt toward clients (S-14).
    pub name_chars: usize,
    /// Entries per page of a list. `None`: one page, since not every client asks for a second.
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
        counted("connections", self.connections, 1, 65_536);
        counted("in_flight", self.in_flight, 1, 65_536);
        counted("sessions", self.sessions, 1, 65_536);
        counted("sessions_burst", self.sessions_burst, 1, 65_536);
        counted("sessions_per_sec", self.sessions_per_sec, 1, 65_536);
        counted("name_chars", self.name_chars, 16, 128);
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
        timed("session_idle_sec", self.session_idle, Duration::from_mins(1), 365 * DAY);
        timed("first_list_wait_sec", self.first_list_wait, Duration::ZERO, Duration::from_secs(30));
        timed("drain_sec", self.drain, Duration::ZERO, Duration::from_mins(5));
    }
}

/// When a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the daemon.
    #[default]
    Eager,
    /// With the first call. What it offered last is listed meanwhile; one that was never seen is started once to know.
    Lazy,
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
    /// When it is started.
    pub start: Start,
    /// After how long without a request it is stopped, to be started again by the next one. `None`: never, since a
    /// start costs its caller seconds.
    pub idle_stop: Option<Duration>,
    /// How long the entries of the server stay listed while it fails (`stale_keep_sec`, R-22). `None`: without end, since
    /// a list that changes makes every client's prompt a new one.
    pub stale_keep: Option<Duration>,
    /// Whether its hints about tools are believed: a tool that says that it only reads, or that to call it twice is to call
    /// it once, is then called again after a failure (reliability 5). Off by default: hints are text from outside.
    pub trust_annotations: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            startup_timeout: None,
            tool_timeout: Duration::from_secs(270),
            tool_total: Duration::from_hours(1),
            list_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_mins(1),
            in_flight_max: 64,
            queue_max: 512,
            queue_wait: Duration::from_secs(5),
            start: Start::Eager,
            idle_stop: None,
            stale_keep: None,
            trust_annotations: false,
        }
    }
}

/// `[mcp_servers.NAME.limits]`: what Codex has no key for.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerLimits {
    /// Requests at the server at the same time. Default 64.
    in_flight: Option<usize>,
    /// Requests waiting for one of those places. Default 512.
    queue: Option<usize>,
    /// How long a request waits for a place, in seconds. Default 5.
    queue_wait_sec: Option<f64>,
    /// How long a tool call may take in all, progress or not, in seconds. Default 3600.
    tool_total_sec: Option<f64>,
    /// How long a list may take, in seconds. Default 30.
    list_timeout_sec: Option<f64>,
    /// How long prompts/get, resources/read and completion may take, in seconds. Default 60.
    read_timeout_sec: Option<f64>,
    /// Memory that a child and all its descendants may take, in bytes; beyond it the kernel kills. Enforced on Linux
    /// where the daemon's control group is delegated to it, as the unit that comes along does. No limit by default.
    memory_bytes: Option<u64>,
    /// Processes and threads that a child and its descendants may be, enforced as `memory_bytes` is. Default 512.
    processes: Option<usize>,
}

impl ServerLimits {
    /// Whether it limits what a child may take.
    pub(crate) fn names_caps(&self) -> bool {
        self.memory_bytes.is_some() || self.processes.is_some()
    }
}

impl Caps {
    /// Reads what a child may take; what is wrong keeps its default and is reported.
    pub(crate) fn check(name: &str, limits: &ServerLimits, findings: &mut Findings<'_>) -> Self {
        let mut caps = Self::default();
        match limits.memory_bytes {
            Some(bytes) if bytes >= 16 * MIB as u64 => caps.memory_bytes = Some(bytes),
            Some(_) => {
                findings.error(&["mcp_servers", name, "limits", "memory_bytes"], "must be at least 16 MiB, 16777216");
            }
            None => {}
        }
        match limits.processes {
            Some(count) if (4..=65_536).contains(&count) => caps.processes = count,
            Some(_) => findings.error(&["mcp_servers", name, "limits", "processes"], "must be from 4 to 65536"),
            None => {}
        }
        caps
    }
}

impl Tuning {
    /// Reads a server's timeouts and limits; what is wrong keeps its default and is reported.
    pub(crate) fn check(name: &str, file: &ServerFile, findings: &mut Findings<'_>) -> Self {
        let mut tuning = Self::default();
        let startup = file.startup_timeout_sec.map(|value| ("startup_timeout_sec", value));
        // Codex, too, lets the seconds win where both are given.
        #[expect(clippy::cast_precision_loss, reason = "2^53 ms are far beyond the day that is allowed")]
        let startup = startup.or(file.startup_timeout_ms.map(|value| ("startup_timeout_ms", value as f64 / 1000.0)));
        if let Some((key, value)) = startup {
            tuning.startup_timeout = time(&["mcp_servers", name, key], value, findings);
        }
        if let Some(value) = file.stale_keep_sec {
            tuning.stale_keep = Duration::try_from_secs_f64(value).ok().filter(|keep| *keep <= 365 * DAY);
            if tuning.stale_keep.is_none() {
                findings.error(&["mcp_servers", name, "stale_keep_sec"], "must be from 0 seconds to 365 days");
            }
        }
        let mut set = |key: &[&str], value: Option<f64>, into: &mut Duration| {
            let key: Vec<&str> = ["mcp_servers", name].iter().chain(key).copied().collect();
            if let Some(value) = value.and_then(|value| time(&key, value, findings)) {
                *into = value;
            }
        };
        set(&["tool_timeout_sec"], file.tool_timeout_sec, &mut tuning.tool_timeout);
        let limits = &file.limits;
        // Who allows an idle time longer than the total wants the total to grow with it.
        tuning.tool_total = tuning.tool_total.max(tuning.tool_timeout);
        // One call at a time, each of which may wait for a person: the others wait as long as a call may.
        if file.serialize == Some(true) {
            tuning.in_flight_max = 1;
            tuning.queue_wait = tuning.queue_wait.max(tuning.tool_timeout);
        }
        tuning.start = file.start.unwrap_or_default();
        set(&["limits", "tool_total_sec"], limits.tool_total_sec, &mut tuning.tool_total);
        set(&["limits", "list_timeout_sec"], limits.list_timeout_sec, &mut tuning.list_timeout);
        set(&["limits", "read_timeout_sec"], limits.read_timeout_sec, &mut tuning.read_timeout);
        set(&["limits", "queue_wait_sec"], limits.queue_wait_sec, &mut tuning.queue_wait);

        if let Some(value) = file.idle_stop_sec {
            match Duration::try_from_secs_f64(value).ok().filter(|wait| *wait <= DAY) {
                Some(wait) => tuning.idle_stop = Some(wait).filter(|wait| !wait.is_zero()),
                None => findings.error(
                    &["mcp_servers", name, "idle_stop_sec"],
                    "must be zero, which is never, or at most one day in seconds",
                ),
            }
        }
        tuning.trust_annotations = file.trust_annotations == Some(true);

        let mut count = |key: &str, value: Option<usize>, least: usize, into: &mut usize| match value {
            Some(value) if (least..=65_536).contains(&value) => *into = value,
            Some(_) => findings.error(&["mcp_servers", name, "limits", key], format!("must be from {least} to 65536")),
            None => {}
        };
        count("in_flight", limits.in_flight, 1, &mut tuning.in_flight_max);
        count("queue", limits.queue, 0, &mut tuning.queue_max);
        tuning
    }
}

/// A time that can be waited for: more than nothing, at most a day.
fn time(key: &[&str], value: f64, findings: &mut Findings<'_>) -> Option<Duration> {
    let time = Duration::try_from_secs_f64(value).ok().filter(|time| !time.is_zero() && *time <= DAY);
    if time.is_none() {
        findings.error(key, "must be more than zero and at most one day");
    }
    time
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
