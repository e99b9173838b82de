//! [`Metrics`]: every number the gateway shows, one method per fact.
//!
//! All names stand in [`Series::new`], on one screen. Labels come from the configuration, from the method
//! table and from literals; tool names are bounded (S-37). A server that leaves takes its series with it.
//! The struct is passed in, never global, so that a test sees its own numbers alone.

mod processes;
mod recovery;
mod server;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use trunkline_wire::{Era, Method, ServerName};

use crate::labels::{BoundedTools, TOOLS_MAX};
use crate::ledger::Ledger;
use crate::{logs, process, tasks};

pub use server::ServerMetrics;

/// Upper edges of durations, in seconds. The added latency we promise ends at 50 ms, so there is an
/// edge; the last one is the idle limit of a tool call.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 270.0];

/// All series. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    series: Series,
    tools: BoundedTools,
    ledger: Ledger,
    /// Tool calls that clients of an era had answered, of `client_requests`: resolved once, at the first.
    legacy_calls: OnceLock<IntCounter>,
    modern_calls: OnceLock<IntCounter>,
    /// The state each server is shown in. Held while a state changes and while the series are read, so that
    /// the sum of states of a server is always 1 (reliability 6).
    states: Mutex<HashMap<ServerName, &'static str>>,
}

#[derive(Debug)]
struct Series {
    transitions: IntCounterVec,
    state: IntGaugeVec,
    dials: IntCounterVec,
    ready_wait: HistogramVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    inflight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    outcome_unknown: IntCounterVec,
    breaker_open_seconds: CounterVec,
    retries: IntCounterVec,
    retry_budget_exhausted: IntCounterVec,
    wake_events: IntCounter,
    notices_dropped: IntCounterVec,
    list_changed_coalesced: IntCounterVec,
    questions: IntCounterVec,
    stdio_bad_lines: IntCounterVec,
    child_restarts: IntCounterVec,
    catalog_entries: IntGaugeVec,
    catalog_complaints: IntGaugeVec,
    parked_calls: IntGaugeVec,
    tool_calls: IntCounterVec,
    children: IntGauge,
    resident_bytes: IntGaugeVec,
    cpu_seconds: CounterVec,
    open_fds: IntGaugeVec,
    processes: IntGaugeVec,
    orphans_swept: IntCounter,
    client_requests: IntCounterVec,
    rejected: IntCounterVec,
    sessions: IntGauge,
    listens: IntGauge,
    replay_bytes: IntGauge,
    sessions_revived: IntCounter,
    state_writes: IntCounterVec,
    memory_pressure: IntGauge,
    config_reload_success: IntGauge,
    build_info: IntGaugeVec,
    loop_lag: Gauge,
}

impl Series {
    fn new(registry: &Registry) -> Self {
        let r = registry;
        Self {
            transitions: counters(
                r,
                "upstream_transitions_total",
                "server from to reason",
                "Changes of a server's state.",
            ),
            state: gauges(r, "upstream_state", "server state", "1 for the state the server is in."),
            dials: counters(r, "upstream_dials_total", "server outcome", "Attempts to connect."),
            ready_wait: seconds(r, "ready_wait_seconds", "Time that calls waited for a server to be ready."),
            requests: counters(r, "requests_total", "server method outcome", "Requests to servers, by how they ended."),
            request_seconds: seconds(r, "request_seconds", "Time from a request to its end, waiting included."),
            inflight: gauges(r, "inflight", "server", "Requests that a server is working on."),
            queue_depth: gauges(r, "queue_depth", "server", "Requests that wait for a server's permit."),
            outcome_unknown: counters(r, "outcome_unknown_total", "server", "Requests whose fate cannot be known."),
            breaker_open_seconds: registered(
                r,
                CounterVec::new(
                    Opts::new("breaker_open_seconds_total", "Time that a server was left alone by its breaker."),
                    &["server"],
                ),
            ),
            retries: counters(r, "retries_total", "server reason", "Requests sent again, by what had failed."),
            retry_budget_exhausted: counters(
                r,
                "retry_budget_exhausted_total",
                "server",
                "Requests not sent again because too many were.",
            ),
            wake_events: registered(
                r,
                IntCounter::new("wake_events_total", "Times that the machine slept or its network changed."),
            ),
            notices_dropped: counters(
                r,
                "notices_dropped_total",
                "server",
                "Notices dropped because a reader was slow.",
            ),
            list_changed_coalesced: counters(
                r,
                "list_changed_coalesced_total",
                "server",
                "Change notices merged into one refresh.",
            ),
            questions: counters(
                r,
                "questions_total",
                "server outcome",
                "Questions of servers to clients, by what became of them.",
            ),
            stdio_bad_lines: counters(
                r,
                "stdio_bad_lines_total",
                "server",
                "Lines on a child's stdout that are no message.",
            ),
            child_restarts: counters(r, "child_restarts_total", "server reason", "Children started again."),
            catalog_entries: gauges(r, "catalog_entries", "server kind", "Entries offered to clients."),
            parked_calls: gauges(r, "parked_calls", "server", "Calls that wait for a person's answer."),
            catalog_complaints: gauges(r, "catalog_complaints", "server", "Entries withheld or changed."),
            tool_calls: counters(r, "tool_calls_total", "server tool outcome", "Calls by catalogued tool."),
            children: gauge(r, "children", "Servers' process trees alive, each with its guard."),
            resident_bytes: gauges(r, "server_resident_bytes", "server", "Resident memory of a server's processes."),
            cpu_seconds: registered(
                r,
                CounterVec::new(
                    Opts::new("server_cpu_seconds_total", "Time spent by a server's processes."),
                    &["server"],
                ),
            ),
            open_fds: gauges(r, "server_open_fds", "server", "Open descriptors of a server's processes."),
            processes: gauges(r, "server_processes", "server", "A server's processes, without their guard."),
            orphans_swept: registered(
                r,
                IntCounter::new("orphans_swept_total", "Processes killed that had escaped their guard."),
            ),
            client_requests: counters(r, "client_requests_total", "era method status", "Requests of clients."),
            rejected: counters(r, "rejected_total", "reason", "Requests and connections refused at the door."),
            sessions: gauge(r, "mcp_sessions", "Client sessions alive."),
            listens: gauge(r, "mcp_listens", "Streams of modern clients open that listen for changes."),
            replay_bytes: gauge(r, "replay_bytes", "Bytes held for streams that may be resumed."),
            sessions_revived: registered(
                r,
                IntCounter::new("mcp_sessions_revived_total", "Client sessions taken up again by their id."),
            ),
            state_writes: counters(r, "state_writes_total", "state outcome", "Writes of what outlives the process."),
            memory_pressure: gauge(r, "memory_pressure", "1: what is kept shrinks, 2: new requests are refused."),
            config_reload_success: gauge(
                r,
                "config_reload_success",
                "1 if the last reading of the configuration was taken.",
            ),
            build_info: gauges(r, "build_info", "version", "1, with the version as label."),
            loop_lag: registered(r, Gauge::new("loop_lag_seconds", "How late the scheduler was when last looked at.")),
        }
    }

    fn forget(&self, server: &str) {
        for vec in [
            &self.transitions,
            &self.dials,
            &self.requests,
            &self.outcome_unknown,
            &self.retries,
            &self.retry_budget_exhausted,
            &self.notices_dropped,
            &self.list_changed_coalesced,
            &self.questions,
            &self.stdio_bad_lines,
            &self.child_restarts,
            &self.tool_calls,
        ] {
            leave(vec, server, |labels| vec.remove(labels));
        }
        for vec in [
            &self.state,
            &self.inflight,
            &self.queue_depth,
            &self.catalog_entries,
            &self.catalog_complaints,
            &self.parked_calls,
            &self.resident_bytes,
            &self.open_fds,
            &self.processes,
        ] {
            leave(vec, server, |labels| vec.remove(labels));
        }
        leave(&self.breaker_open_seconds, server, |labels| self.breaker_open_seconds.remove(labels));
        for vec in [&self.ready_wait, &self.request_seconds] {
            leave(vec, server, |labels| vec.remove(labels));
        }
        leave(&self.cpu_seconds, server, |labels| self.cpu_seconds.remove(labels));
    }
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
            legacy_calls: OnceLock::new(),
            modern_calls: OnceLock::new(),
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

    /// Returns the handle that the path of a call uses: resolved once, then a few atomic additions per call.
    pub fn server(&self, server: &ServerName) -> ServerMetrics {
        let s = &self.0.series;
        let name = [server.as_str()];
        ServerMetrics {
            calls_ok: s.requests.with_label_values(&[server.as_str(), Method::ToolsCall.label(), OK]),
            requests: s.requests.clone(),
            request_seconds: s.request_seconds.with_label_values(&name),
            inflight: s.inflight.with_label_values(&name),
            queue_depth: s.queue_depth.with_label_values(&name),
            ready_wait: s.ready_wait.with_label_values(&name),
            notices_dropped: s.notices_dropped.with_label_values(&name),
            server: server.clone(),
        }
    }

    /// Removes all series of a server: it left the configuration.
    pub fn forget(&self, server: &ServerName) {
        let mut states = self.states();
        states.remove(server);
        self.0.tools.forget(server);
        self.0.ledger.forget(server);
        self.0.series.forget(server.as_str());
    }

    // Servers: state and connection.

    /// The server's state changed. `reason` is one of a fixed set.
    pub fn transition(&self, server: &ServerName, from: &'static str, to: &'static str, reason: &'static str) {
        self.0.series.transitions.with_label_values(&[server.as_str(), from, to, reason]).inc();
        self.state(server, to);
    }

    /// The server is in `state`. [`Metrics::transition`] says so too; this is for the first state.
    pub fn state(&self, server: &ServerName, state: &'static str) {
        let mut states = self.states();
        let gauge = &self.0.series.state;
        if let Some(old) = states.insert(server.clone(), state) {
            gauge.with_label_values(&[server.as_str(), old]).set(0);
        }
        gauge.with_label_values(&[server.as_str(), state]).set(1);
    }

    /// A child wrote a line to stdout that is no message.
    pub fn stdio_bad_line(&self, server: &ServerName) {
        self.0.series.stdio_bad_lines.with_label_values(&[server.as_str()]).inc();
    }

    // Servers: requests. Whoever makes many holds a `ServerMetrics`.

    /// A request to the server ended after `seconds`. `outcome` is one of a fixed set; success is `"ok"`.
    pub fn request(&self, server: &ServerName, method: &Method, outcome: &'static str, seconds: f64) {
        let labels = [server.as_str(), method.label(), outcome];
        self.0.series.requests.with_label_values(&labels).inc();
        self.0.series.request_seconds.with_label_values(&[server.as_str()]).observe(seconds);
    }

    /// Requests that the server works on came (+) or ended (-).
    pub fn inflight(&self, server: &ServerName, delta: i64) {
        self.0.series.inflight.with_label_values(&[server.as_str()]).add(delta);
    }

    /// Requests that wait for a permit came (+) or went (-).
    pub fn queue_depth(&self, server: &ServerName, delta: i64) {
        self.0.series.queue_depth.with_label_values(&[server.as_str()]).add(delta);
    }

    /// A call waited `seconds` for the server to be ready.
    pub fn ready_wait(&self, server: &ServerName, seconds: f64) {
        self.0.series.ready_wait.with_label_values(&[server.as_str()]).observe(seconds);
    }

    /// A notice was dropped because its reader was slow.
    pub fn notice_dropped(&self, server: &ServerName) {
        self.0.series.notices_dropped.with_label_values(&[server.as_str()]).inc();
    }

    /// A server asked something of the person behind a call: it was `asked`, `withdrawn` by the server, or put to nobody
    /// for a reason, such as `ambiguous` or `lacking`.
    pub fn question(&self, server: &ServerName, outcome: &'static str) {
        self.0.series.questions.with_label_values(&[server.as_str(), outcome]).inc();
    }

    /// A change notice was merged into a refresh that was due already.
    pub fn list_changed_coalesced(&self, server: &ServerName) {
        self.0.series.list_changed_coalesced.with_label_values(&[server.as_str()]).inc();
    }

    // Catalogue.

    /// The server has `count` entries of `kind` (`"tools"`, …) in the catalogue.
    pub fn catalog_entries(&self, server: &ServerName, kind: &'static str, count: usize) {
        self.0.series.catalog_entries.with_label_values(&[server.as_str(), kind]).set(whole(count));
    }

    /// `count` calls of the server wait for a person's answer.
    pub fn parked_calls(&self, server: &ServerName, count: usize) {
        self.0.series.parked_calls.with_label_values(&[server.as_str()]).set(whole(count));
    }

    /// The server has `count` entries that were withheld or changed.
    pub fn catalog_complaints(&self, server: &ServerName, count: usize) {
        self.0.series.catalog_complaints.with_label_values(&[server.as_str()]).set(whole(count));
    }

    /// A call of a catalogued tool ended. Names beyond the bound count as `other`; names that are not in the
    /// catalogue must not be given here (S-37).
    pub fn tool_call(&self, server: &ServerName, tool: &str, outcome: &'static str) {
        let counter = |tool: &str| self.0.series.tool_calls.with_label_values(&[server.as_str(), tool, outcome]);
        if outcome == OK {
            self.0.tools.succeeded(server, tool, counter);
        } else {
            counter(self.0.tools.label(server, tool)).inc();
        }
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

    /// Whether the configuration that was read last is in force.
    pub fn config_reload_success(&self, success: bool) {
        self.0.series.config_reload_success.set(i64::from(success));
    }

    /// The version that runs.
    pub fn build_info(&self, version: &'static str) {
        self.0.series.build_info.with_label_values(&[version]).set(1);
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

fn counters(registry: &Registry, name: &str, labels: &str, help: &str) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), &words(labels)))
}

fn gauges(registry: &Registry, name: &str, labels: &str, help: &str) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), &words(labels)))
}

fn words(labels: &str) -> Vec<&str> {
    labels.split(' ').collect()
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

/// A histogram of durations per server. Not per method: that would be most of the 5000 series (S-37).
fn seconds(registry: &Registry, name: &str, help: &str) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    registered(registry, HistogramVec::new(options, &["server"]))
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let series = made.expect("a literal name and labels");
    registry.register(Box::new(series.clone())).expect("each name stands once in Series::new");
    series
}

/// Removes the children of `vec` whose label `server` is `server`.
fn leave(vec: &impl Collector, server: &str, remove: impl Fn(&HashMap<&str, &str>) -> prometheus::Result<()>) {
    for family in vec.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get("server") == Some(&server) {
                // It may have gone in between; then there is nothing left to do.
                let _ = remove(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests;
