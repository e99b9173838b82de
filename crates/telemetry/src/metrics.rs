//! [`Metrics`]: every number the gateway shows, one method per fact.
//!
//! All names stand in `metrics/series.rs`, on one screen. Labels come from the configuration, from the method
//! table and from literals; tool names are bounded (S-37). A server that leaves takes its series with it, and what ends
//! for it later, a call or a process, is not counted any more, since that would bring them back.
//! The struct is passed in, never global, so that a test sees its own numbers alone.

mod figures;
mod processes;
mod recovery;
mod series;
mod server;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::{IntCounter, Registry, TextEncoder};
use trunkline_wire::{Era, Method, ServerName};

use crate::labels::{BoundedTools, TOOLS_MAX};
use crate::ledger::Ledger;
use crate::{logs, process, tasks};

pub use figures::Figures;
use series::Series;
pub use server::ServerMetrics;

/// All series. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    series: Series,
    tools: BoundedTools,
    ledger: Ledger,
    /// Held while the ledger is read for somebody who asked.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Tool calls that clients of an era had answered, of `client_requests`: resolved once, at the first.
    legacy_calls: OnceLock<IntCounter>,
    modern_calls: OnceLock<IntCounter>,
    /// Those that have series. Held while something of one is counted, so that nothing comes after its end; taken before
    /// any other lock here.
    servers: Mutex<HashSet<ServerName>>,
    /// The state each server is shown in. Held while a state changes and while the series are read, so that
    /// the sum of states of a server is always 1 (reliability 6), and no digest is seen beside the one that it replaces.
    states: Mutex<HashMap<ServerName, &'static str>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh series, all at nothing.
    pub fn new() -> Self {
        let registry = Registry::new_custom(Some("trunkline".into()), None).expect("a prefix that is a name");
        let series = Series::new(&registry);
        Self(Arc::new(Shared {
            registry,
            series,
            tools: BoundedTools::new(TOOLS_MAX),
            ledger: Ledger::default(),
            reading: Arc::default(),
            legacy_calls: OnceLock::new(),
            modern_calls: OnceLock::new(),
            servers: Mutex::default(),
            states: Mutex::default(),
        }))
    }

    /// Returns everything in Prometheus' text form.
    pub fn render(&self) -> String {
        self.show_processes();
        let families = {
            let _steady = self.states();
            self.0.registry.gather()
        };
        let mut out = TextEncoder::new().encode_to_string(&families).expect("our own series encode");
        let _ = writeln!(out, "# HELP trunkline_log_dropped_total Log lines collapsed or over the budget.");
        let _ = writeln!(out, "# TYPE trunkline_log_dropped_total counter");
        let _ = writeln!(out, "trunkline_log_dropped_total {}", logs::dropped());
        let _ = writeln!(out, "# HELP trunkline_task_panics_total Tasks that panicked.");
        let _ = writeln!(out, "# TYPE trunkline_task_panics_total counter");
        for (task, count) in tasks::panics() {
            let _ = writeln!(out, "trunkline_task_panics_total{{task=\"{task}\"}} {count}");
        }
        let _ = writeln!(out, "# HELP trunkline_tasks Tasks alive.");
        let _ = writeln!(out, "# TYPE trunkline_tasks gauge");
        for (task, count) in tasks::running() {
            let _ = writeln!(out, "trunkline_tasks{{task=\"{task}\"}} {count}");
        }
        process::render(&mut out);
        out
    }

    /// Begins the series of a server, and returns the handle that the path of a call uses: resolved once, then a few atomic
    /// additions per call.
    pub fn server(&self, server: &ServerName) -> ServerMetrics {
        self.servers().insert(server.clone());
        let s = &self.0.series;
        let name = [server.as_str()];
        ServerMetrics {
            calls_ok: s.requests.with_label_values(&[server.as_str(), Method::ToolsCall.label(), OK]),
            request_seconds: s.request_seconds.with_label_values(&name),
            inflight: s.inflight.with_label_values(&name),
            queue_depth: s.queue_depth.with_label_values(&name),
            ready_wait: s.ready_wait.with_label_values(&name),
            notices_dropped: s.notices_dropped.with_label_values(&name),
            server: server.clone(),
            all: self.clone(),
        }
    }

    /// Removes all series of a server: it left the configuration.
    pub fn forget(&self, server: &ServerName) {
        let mut servers = self.servers();
        let mut states = self.states();
        servers.remove(server);
        states.remove(server);
        self.0.tools.forget(server);
        self.0.ledger.forget(server);
        self.0.series.forget(server.as_str());
    }

    /// Counts something of a server, if it has series.
    fn of(&self, server: &ServerName, count: impl FnOnce(&Series, &str)) {
        let servers = self.servers();
        if servers.contains(server) {
            count(&self.0.series, server.as_str());
        }
    }

    // Servers: state and connection.

    /// The server's state changed. `reason` is one of a fixed set.
    pub fn transition(&self, server: &ServerName, from: &'static str, to: &'static str, reason: &'static str) {
        self.of(server, |series, name| series.transitions.with_label_values(&[name, from, to, reason]).inc());
        self.state(server, to);
    }

    /// The server is in `state`. [`Metrics::transition`] says so too; this is for the first state.
    pub fn state(&self, server: &ServerName, state: &'static str) {
        self.of(server, |series, name| {
            let mut states = self.states();
            if let Some(old) = states.insert(server.clone(), state) {
                series.state.with_label_values(&[name, old]).set(0);
            }
            series.state.with_label_values(&[name, state]).set(1);
        });
    }

    /// So many lanes does the server have beyond its first.
    pub fn lanes(&self, server: &ServerName, count: usize) {
        self.of(server, |series, name| series.lanes.with_label_values(&[name]).set(whole(count)));
    }

    /// A caller was refused a lane, since all are in use.
    pub fn lane_refused(&self, server: &ServerName) {
        self.of(server, |series, name| series.lanes_refused.with_label_values(&[name]).inc());
    }

    /// A child wrote a line to stdout that is no message.
    pub fn stdio_bad_line(&self, server: &ServerName) {
        self.of(server, |series, name| series.stdio_bad_lines.with_label_values(&[name]).inc());
    }

    // Servers: requests. Whoever makes many holds a `ServerMetrics`.

    /// A request to the server ended after `seconds`. `outcome` is one of a fixed set; success is `"ok"`.
    pub fn request(&self, server: &ServerName, method: &Method, outcome: &'static str, seconds: f64) {
        self.of(server, |series, name| {
            series.requests.with_label_values(&[name, method.label(), outcome]).inc();
            series.request_seconds.with_label_values(&[name]).observe(seconds);
        });
    }

    /// Requests that the server works on came (+) or ended (-).
    pub fn inflight(&self, server: &ServerName, delta: i64) {
        self.of(server, |series, name| series.inflight.with_label_values(&[name]).add(delta));
    }

    /// Requests that wait for a permit came (+) or went (-).
    pub fn queue_depth(&self, server: &ServerName, delta: i64) {
        self.of(server, |series, name| series.queue_depth.with_label_values(&[name]).add(delta));
    }

    /// A call waited `seconds` for the server to be ready.
    pub fn ready_wait(&self, server: &ServerName, seconds: f64) {
        self.of(server, |series, name| series.ready_wait.with_label_values(&[name]).observe(seconds));
    }

    /// A notice was dropped because its reader was slow.
    pub fn notice_dropped(&self, server: &ServerName) {
        self.of(server, |series, name| series.notices_dropped.with_label_values(&[name]).inc());
    }

    /// A server asked something of the person behind a call: it was `asked`, `withdrawn` by the server, or put to nobody
    /// for a reason, such as `ambiguous` or `lacking`.
    pub fn question(&self, server: &ServerName, outcome: &'static str) {
        self.of(server, |series, name| series.questions.with_label_values(&[name, outcome]).inc());
    }

    /// A change notice was merged into a refresh that was due already.
    pub fn list_changed_coalesced(&self, server: &ServerName) {
        self.of(server, |series, name| series.list_changed_coalesced.with_label_values(&[name]).inc());
    }

    // Catalogue.

    /// The server has `count` entries of `kind` (`"tools"`, …) in the catalogue.
    pub fn catalog_entries(&self, server: &ServerName, kind: &'static str, count: usize) {
        self.of(server, |series, name| series.catalog_entries.with_label_values(&[name, kind]).set(whole(count)));
    }

    /// The lists of tools that are published, in place of all that were: for each its address, the token that it is for or
    /// nothing, and its digest.
    pub fn tool_lists<'a>(&self, lists: impl Iterator<Item = [&'a str; 3]>) {
        let _steady = self.states();
        let info = &self.0.series.tools_list_info;
        info.reset();
        lists.for_each(|labels| info.with_label_values(&labels).set(1));
    }

    /// Clients were told that a list changed: one of `"tools"`, `"prompts"`, `"resources"`.
    pub fn list_announced(&self, list: &'static str) {
        self.0.series.lists_announced.with_label_values(&[list]).inc();
    }

    /// `count` calls of the server wait for a person's answer.
    pub fn parked_calls(&self, server: &ServerName, count: usize) {
        self.of(server, |series, name| series.parked_calls.with_label_values(&[name]).set(whole(count)));
    }

    /// The server has `count` entries that were withheld or changed.
    pub fn catalog_complaints(&self, server: &ServerName, count: usize) {
        self.of(server, |series, name| series.catalog_complaints.with_label_values(&[name]).set(whole(count)));
    }

    /// The definitions of `count` tools of the server are not those that were pinned (S-15).
    pub fn tools_changed(&self, server: &ServerName, count: usize) {
        self.of(server, |series, name| series.tools_changed.with_label_values(&[name]).set(whole(count)));
    }

    /// A call of a catalogued tool ended. Names beyond the bound count as `other`; names that are not in the
    /// catalogue must not be given here (S-37).
    pub fn tool_call(&self, server: &ServerName, tool: &str, outcome: &'static str) {
        if outcome == OK && self.0.tools.succeeded_again(server, tool) {
            return;
        }
        self.of(server, |series, name| {
            let counter = |tool: &str| series.tool_calls.with_label_values(&[name, tool, outcome]);
            if outcome == OK {
                self.0.tools.succeeded(server, tool, counter);
            } else {
                counter(self.0.tools.label(server, tool)).inc();
            }
        });
    }

    /// A call was refused before it was sent, since its `"tool"` or its `"server"` may have no more: `"in_flight"` or
    /// `"per_minute"`.
    pub fn call_refused(&self, server: &ServerName, of: &'static str, limit: &'static str) {
        self.of(server, |series, name| series.calls_refused.with_label_values(&[name, of, limit]).inc());
    }

    /// The same, since the holder of this token may make no more.
    pub fn token_refused(&self, token: &str, limit: &'static str) {
        self.0.series.token_calls_refused.with_label_values(&[token, limit]).inc();
    }

    /// How many calls of the holder of a token were refused so.
    pub fn token_refusals(&self, token: &str) -> u64 {
        let count = |limit| self.0.series.token_calls_refused.with_label_values(&[token, limit]).get();
        ["in_flight", "per_minute"].into_iter().map(count).sum()
    }

    /// One of the gateway's own tools was called: `tool` and `outcome` are literals. A call that it passed on counts as the
    /// tool's.
    pub fn own_tool_call(&self, tool: &'static str, outcome: &'static str) {
        self.0.series.own_tool_calls.with_label_values(&[tool, outcome]).inc();
    }

    // Clients.

    /// A client's request was answered with the HTTP status `status`; no method where none could be read.
    pub fn client_request(&self, era: Era, method: Option<&Method>, status: u16) {
        let (era, calls) = match era {
            Era::Legacy => ("legacy", &self.0.legacy_calls),
            Era::Modern => ("modern", &self.0.modern_calls),
        };
        let resolve = |method| self.0.series.client_requests.with_label_values(&[era, method, &status.to_string()]);
        match method {
            Some(call @ Method::ToolsCall) if status == 200 => calls.get_or_init(|| resolve(call.label())).inc(),
            Some(other) => resolve(other.label()).inc(),
            None => resolve("none").inc(),
        }
    }

    /// A request or a connection was refused at the door.
    pub fn rejected(&self, reason: &'static str) {
        self.0.series.rejected.with_label_values(&[reason]).inc();
    }

    /// So many client sessions live.
    pub fn sessions(&self, count: usize) {
        self.0.series.sessions.set(whole(count));
    }

    /// So many streams of modern clients listen for changes.
    pub fn listens(&self, count: usize) {
        self.0.series.listens.set(whole(count));
    }

    /// So many bytes are held for streams that may be resumed.
    pub fn replay_bytes(&self, bytes: usize) {
        self.0.series.replay_bytes.set(whole(bytes));
    }

    /// The scheduler was so many seconds late.
    pub fn loop_lag(&self, seconds: f64) {
        self.0.series.loop_lag.set(seconds);
    }

    /// A session of an earlier process, or one that had given way, was taken up again by its id.
    pub fn session_revived(&self) {
        self.0.series.sessions_revived.inc();
    }

    /// A file of the state directory was written, or could not be. `state` is a literal.
    pub fn state_write(&self, state: &'static str, done: bool) {
        let outcome = if done { "written" } else { "failed" };
        self.0.series.state_writes.with_label_values(&[state, outcome]).inc();
    }

    /// So many calls were written into the audit file, or lost; `outcome` is a literal.
    pub fn audited(&self, outcome: &'static str, calls: u64) {
        if calls > 0 {
            self.0.series.audit_calls.with_label_values(&[outcome]).inc_by(calls);
        }
    }

    /// So many spans were exported, dropped for want of room, or lost with a batch that was not taken; `outcome` is a literal.
    pub fn spans(&self, outcome: &'static str, spans: u64) {
        self.0.series.spans.with_label_values(&[outcome]).inc_by(spans);
    }

    /// Whether the configuration that was read last is in force.
    pub fn config_reload_success(&self, success: bool) {
        self.0.series.config_reload_success.set(i64::from(success));
    }

    /// The version that runs.
    pub fn build_info(&self, version: &'static str) {
        self.0.series.build_info.with_label_values(&[version]).set(1);
    }

    fn servers(&self) -> MutexGuard<'_, HashSet<ServerName>> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn states(&self) -> MutexGuard<'_, HashMap<ServerName, &'static str>> {
        self.0.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outcome label of success.
const OK: &str = "ok";

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
