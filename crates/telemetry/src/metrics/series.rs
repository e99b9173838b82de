//! [`Series`]: every name, label and help text, on one screen.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper edges of durations, in seconds. The added latency we promise ends at 50 ms, so there is an
/// edge; the last one is the idle limit of a tool call.
pub(super) const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 270.0];

/// The series themselves.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) transitions: IntCounterVec,
    pub(super) state: IntGaugeVec,
    pub(super) dials: IntCounterVec,
    pub(super) ready_wait: HistogramVec,
    pub(super) requests: IntCounterVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) inflight: IntGaugeVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) outcome_unknown: IntCounterVec,
    pub(super) breaker_open_seconds: CounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) retry_budget_exhausted: IntCounterVec,
    pub(super) wake_events: IntCounter,
    pub(super) notices_dropped: IntCounterVec,
    pub(super) list_changed_coalesced: IntCounterVec,
    pub(super) questions: IntCounterVec,
    pub(super) stdio_bad_lines: IntCounterVec,
    pub(super) child_restarts: IntCounterVec,
    pub(super) catalog_entries: IntGaugeVec,
    pub(super) catalog_complaints: IntGaugeVec,
    pub(super) tools_changed: IntGaugeVec,
    pub(super) lanes: IntGaugeVec,
    pub(super) lanes_refused: IntCounterVec,
    pub(super) tools_list_info: IntGaugeVec,
    pub(super) lists_announced: IntCounterVec,
    pub(super) parked_calls: IntGaugeVec,
    pub(super) tool_calls: IntCounterVec,
    pub(super) calls_refused: IntCounterVec,
    pub(super) token_calls_refused: IntCounterVec,
    pub(super) own_tool_calls: IntCounterVec,
    pub(super) children: IntGauge,
    pub(super) resident_bytes: IntGaugeVec,
    pub(super) cpu_seconds: CounterVec,
    pub(super) open_fds: IntGaugeVec,
    pub(super) processes: IntGaugeVec,
    pub(super) orphans_swept: IntCounter,
    pub(super) client_requests: IntCounterVec,
    pub(super) rejected: IntCounterVec,
    pub(super) sessions: IntGauge,
    pub(super) listens: IntGauge,
    pub(super) replay_bytes: IntGauge,
    pub(super) sessions_revived: IntCounter,
    pub(super) state_writes: IntCounterVec,
    pub(super) audit_calls: IntCounterVec,
    pub(super) spans: IntCounterVec,
    pub(super) memory_pressure: IntGauge,
    pub(super) config_reload_success: IntGauge,
    pub(super) build_info: IntGaugeVec,
    pub(super) loop_lag: Gauge,
}

impl Series {
    pub(super) fn new(registry: &Registry) -> Self {
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
            wake_events: counter(r, "wake_events_total", "Times that the machine slept or its network changed."),
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
            tools_list_info: gauges(r, "tools_list_info", "address token digest", "1, with the digest of a list."),
            lists_announced: counters(r, "lists_announced_total", "list", "Times that clients were told of a change."),
            parked_calls: gauges(r, "parked_calls", "server", "Calls that wait for a person's answer."),
            catalog_complaints: gauges(r, "catalog_complaints", "server", "Entries withheld or changed."),
            tools_changed: gauges(r, "tools_changed", "server", "Tools that are not as they were pinned."),
            lanes: gauges(r, "upstream_lanes", "server", "Connections that sessions or projects have of their own."),
            lanes_refused: counters(r, "upstream_lanes_refused_total", "server", "Calls that found all in use."),
            tool_calls: counters(r, "tool_calls_total", "server tool outcome", "Calls by catalogued tool."),
            calls_refused: counters(r, "calls_refused_total", "server of limit", "Calls beyond what is allowed."),
            token_calls_refused: counters(r, "token_calls_refused_total", "token limit", "The same of a token."),
            own_tool_calls: counters(r, "own_tool_calls_total", "tool outcome", "Calls that tool search answered."),
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
            orphans_swept: counter(r, "orphans_swept_total", "Processes killed that had escaped their guard."),
            client_requests: counters(r, "client_requests_total", "era method status", "Requests of clients."),
            rejected: counters(r, "rejected_total", "reason", "Requests and connections refused at the door."),
            sessions: gauge(r, "mcp_sessions", "Client sessions alive."),
            listens: gauge(r, "mcp_listens", "Streams of modern clients open that listen for changes."),
            replay_bytes: gauge(r, "replay_bytes", "Bytes held for streams that may be resumed."),
            sessions_revived: counter(r, "mcp_sessions_revived_total", "Client sessions taken up again by their id."),
            state_writes: counters(r, "state_writes_total", "state outcome", "Writes of what outlives the process."),
            audit_calls: counters(r, "audit_calls_total", "outcome", "Calls for the audit file, by their fate."),
            spans: counters(r, "spans_total", "outcome", "Spans for the collector of traces, by what became of them."),
            memory_pressure: gauge(r, "memory_pressure", "1: what is kept shrinks, 2: new requests are refused."),
            config_reload_success: gauge(r, "config_reload_success", "1 if the last configuration read was taken."),
            build_info: gauges(r, "build_info", "version", "1, with the version as label."),
            loop_lag: registered(r, Gauge::new("loop_lag_seconds", "How late the scheduler was when last looked at.")),
        }
    }

    /// Removes all that are a server's.
    pub(super) fn forget(&self, server: &str) {
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
            &self.lanes_refused,
            &self.tool_calls,
            &self.calls_refused,
        ] {
            leave(vec, server, |labels| vec.remove(labels));
        }
        for vec in [
            &self.state,
            &self.inflight,
            &self.queue_depth,
            &self.catalog_entries,
            &self.catalog_complaints,
            &self.tools_changed,
            &self.lanes,
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

fn counters(registry: &Registry, name: &str, labels: &str, help: &str) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), &words(labels)))
}

fn gauges(registry: &Registry, name: &str, labels: &str, help: &str) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), &words(labels)))
}

fn words(labels: &str) -> Vec<&str> {
    labels.split(' ').collect()
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
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
