//! What of one server can be changed without a new connection: when it is started, its timeouts and its limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clients::ServerFile;
use crate::findings::Findings;
use crate::server::Caps;
use crate::tool::PER_MINUTE_MAX;

/// Longest time any setting of a server can name.
const DAY: Duration = Duration::from_hours(24);

/// Least memory that a server can be held to: below it no runtime starts.
const MEMORY_LEAST: u64 = 16 * 1024 * 1024;

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
    /// How long a request waits for a place, and for its turn.
    pub queue_wait: Duration,
    /// Connections at the same time where sessions or projects have their own.
    pub lanes_max: usize,
    /// Tool calls within a minute.
    pub per_minute: Option<u32>,
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
    /// How long a connection to it may take to stand, TLS included. Holds for connections made from then on.
    pub connect_timeout: Duration,
    /// How often a request that may be sent again is; 0 leaves every failure to its caller.
    pub retries_max: u32,
    /// How long it may be silent, while it has nothing to do, before it is asked whether it is there.
    pub silence: Duration,
    /// Exits of its process within a minute that make a crash loop.
    pub exits_max: usize,
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
            // As many as one machine bears of the heaviest kind, a browser each.
            lanes_max: 8,
            per_minute: None,
            start: Start::Eager,
            idle_stop: None,
            stale_keep: None,
            trust_annotations: false,
            connect_timeout: Duration::from_secs(10),
            retries_max: 2,
            silence: Duration::from_secs(30),
            exits_max: 5,
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
    /// Connections at the same time where `sharing` is not `shared`, from 1 to 64; one more takes the place of the one that
    /// was unused for the longest time. Default 8.
    lanes: Option<usize>,
    /// How long a request waits for a place, in seconds. Default 5.
    queue_wait_sec: Option<f64>,
    /// Tool calls within a minute. What is beyond waits for its turn as for a place, and is refused if it would be longer.
    /// Default: no limit.
    per_minute: Option<usize>,
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
    /// How long a connection to a server with `url` may take to stand, TLS included, in seconds from 1 to 60. Default 10.
    connect_timeout_sec: Option<f64>,
    /// How often a request is sent again that failed and can do no harm twice, from 0 to 5. Default 2.
    retries: Option<usize>,
    /// How long a server that has nothing to do may be silent before it is asked whether it is there, in seconds from 10
    /// to 600. Default 30.
    silence_sec: Option<f64>,
    /// Exits of a child within a minute after which it is left alone for a while, from 1 to 20. Default 5.
    exits: Option<usize>,
}

impl ServerLimits {
    /// The keys that mean something for a child alone.
    pub(crate) fn of_child(&self) -> [(&'static str, bool); 3] {
        [
            ("memory_bytes", self.memory_bytes.is_some()),
            ("processes", self.processes.is_some()),
            ("exits", self.exits.is_some()),
        ]
    }

    /// Whether it says how long a connection may take.
    pub(crate) fn names_connect(&self) -> bool {
        self.connect_timeout_sec.is_some()
    }
}

impl Caps {
    /// Reads what a child may take; what is wrong keeps its default and is reported.
    pub(crate) fn check(name: &str, limits: &ServerLimits, findings: &mut Findings<'_>) -> Self {
        let mut caps = Self::default();
        match limits.memory_bytes {
            Some(bytes) if bytes >= MEMORY_LEAST => caps.memory_bytes = Some(bytes),
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

        let mut count = |key: &str, value: Option<usize>, (least, most): (usize, usize), into: &mut usize| match value {
            Some(value) if (least..=most).contains(&value) => *into = value,
            Some(_) => findings.error(&["mcp_servers", name, "limits", key], format!("must be from {least} to {most}")),
            None => {}
        };
        count("in_flight", limits.in_flight, (1, 65_536), &mut tuning.in_flight_max);
        count("queue", limits.queue, (0, 65_536), &mut tuning.queue_max);
        count("lanes", limits.lanes, (1, 64), &mut tuning.lanes_max);
        let mut per_minute = 0;
        count("per_minute", limits.per_minute, (1, PER_MINUTE_MAX), &mut per_minute);
        tuning.per_minute = u32::try_from(per_minute).ok().filter(|count| *count > 0);
        count("exits", limits.exits, (1, 20), &mut tuning.exits_max);
        let mut retries = tuning.retries_max as usize;
        count("retries", limits.retries, (0, 5), &mut retries);
        tuning.retries_max = u32::try_from(retries).expect("five at most");
        let mut bounded = |key: &str, value: Option<f64>, (least, most): (u64, u64), into: &mut Duration| {
            let Some(value) = value else { return };
            let range = Duration::from_secs(least)..=Duration::from_secs(most);
            match Duration::try_from_secs_f64(value).ok().filter(|value| range.contains(value)) {
                Some(value) => *into = value,
                None => findings
                    .error(&["mcp_servers", name, "limits", key], format!("must be from {least} to {most} seconds")),
            }
        };
        bounded("connect_timeout_sec", limits.connect_timeout_sec, (1, 60), &mut tuning.connect_timeout);
        bounded("silence_sec", limits.silence_sec, (10, 600), &mut tuning.silence);
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
