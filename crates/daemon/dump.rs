//! What is running, for the log: servers, clients and tasks (SIGQUIT).
//!
//! Numbers and names from the configuration alone; nothing of what a client or a server said.

use trunkline_hub::Hub;

/// Writes it to the log, one line per server and one for the rest.
pub(crate) fn log(hub: &Hub) {
    for upstream in hub.fleet().all().iter() {
        let status = upstream.status();
        tracing::info!(
            server = %upstream.name(),
            state = status.state,
            since_seconds = status.since.as_secs(),
            transport = status.transport,
            pid = status.pid,
            in_flight = status.in_flight,
            restarts = status.restarts,
            tools = status.tools,
            reason = status.reason.as_deref(),
            "running: a server"
        );
    }
    let busy = hub.busy();
    tracing::info!(
        sessions = hub.sessions(),
        busy_sessions = busy.sessions,
        requests = busy.requests,
        get_streams = busy.gets,
        listens = hub.listening(),
        "running: clients"
    );
    for (task, count) in trunkline_telemetry::running() {
        tracing::info!(task, count, "running: tasks");
    }
}
