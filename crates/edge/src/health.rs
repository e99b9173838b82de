//! `/health`, its two short forms, and `/metrics`.
//!
//! *live*: the process works. *ready*: it takes work, whatever the state of any server, since a probe that
//! restarts the daemon because a server is down would take the others with it. *`/health`*: the truth about
//! each server, for people, the command line and scripts. Only who may connect sees servers named (S-5).
//!
//! Everything here is read from values published beforehand; nothing waits for a server. What servers said
//! themselves (stderr, identity) was cleaned of secrets where it was stored.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use trunkline_hub::{Drift, Explained, Holder, ToolList};
use trunkline_telemetry::{Audit, Transition, Usage};
use trunkline_upstream::{Complaint, LaneStatus, Status, Upstream};
use trunkline_wire::{Json, Pressure, ServerName};

use crate::Edge;
use crate::body::Body;
use crate::configuration::Origin;
use crate::limits::{DRAIN_RETRY, STDERR_SHOWN_BYTES};
use crate::reply;

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole report. Field names are an interface: the command line and people's scripts read them.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    /// `ok`, or `draining` once the daemon stops.
    status: &'static str,
    version: &'static str,
    pid: u32,
    uptime_seconds: u64,
    listen: Vec<String>,
    sessions: usize,
    /// Streams of modern clients that listen for changes.
    listens: usize,
    /// Calls that clients wait for.
    in_flight: usize,
    buffered_bytes: usize,
    /// Memory of the daemon itself, where the system tells, and what it may have.
    resident_bytes: Option<u64>,
    memory_bytes: usize,
    /// Where the configuration in force came from, and whether a newer one was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Origin>,
    /// What a person should know about this installation.
    warnings: Vec<String>,
    /// The tokens that are good for so many calls, and how those stand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<Holder>,
    /// The list of tools at each address: the digest stays as long as the list is the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_lists: Option<Vec<ToolList>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<Server<'a>>>,
}

#[derive(Serialize)]
pub(crate) struct Server<'a> {
    name: &'a str,
    state: &'static str,
    /// One sentence, if it is not ready.
    reason: Option<String>,
    retry_in_seconds: Option<f64>,
    since_seconds: f64,
    transport: Option<&'static str>,
    revision: Option<&'static str>,
    identity: Option<serde_json::Value>,
    pid: Option<u32>,
    /// What its processes cost, where the system tells.
    usage: Option<Cost>,
    in_flight: usize,
    /// Who shares a connection.
    sharing: &'static str,
    /// The connections that sessions or projects have of their own.
    lanes: Vec<Lane>,
    restarts: u64,
    get_stream: Option<&'static str>,
    /// Whether what is listed is what an earlier connection offered.
    stale: bool,
    tools: usize,
    prompts: usize,
    resources: usize,
    templates: usize,
    complaints: Vec<Complained>,
    /// What of it the clients seen so far cannot have, and why.
    losses: Vec<Lost>,
    transitions: Vec<Changed>,
    stderr_tail: String,
    stderr_dropped_bytes: u64,
}

/// A connection that is not everybody's.
#[derive(Serialize)]
struct Lane {
    /// Whose it is: a client or a project.
    owner: String,
    state: &'static str,
    reason: Option<String>,
    since_seconds: f64,
    pid: Option<u32>,
    in_flight: usize,
    unused_seconds: f64,
}

/// What the processes of a server cost.
#[derive(Serialize)]
struct Cost {
    resident_bytes: u64,
    cpu_seconds: f64,
    open_fds: u64,
    processes: u64,
}

/// One client's part of the loss report, in short: `trunkline explain` has the sentences.
#[derive(Serialize)]
struct Lost {
    client: String,
    revision: &'static str,
    features: Vec<&'static str>,
}

#[derive(Serialize)]
struct Complained {
    what: String,
    why: String,
}

#[derive(Serialize)]
struct Changed {
    at_unix_ms: u64,
    from: &'static str,
    to: &'static str,
    reason: String,
}

/// How much of a server is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All.
    Whole,
    /// All but stderr and losses, which whoever looks often keeps from the last time.
    Cheap,
}

/// `/health`. Servers are told of only where `named` is set.
pub(crate) async fn report(edge: &Edge, named: bool) -> Response<Body> {
    if named {
        edge.metrics.measured().await;
    }
    let all = edge.hub.fleet().all();
    let servers = || all.iter().map(|upstream| server(edge, upstream, Depth::Whole)).collect();
    let report = Report { servers: named.then(servers), ..report_on_itself(edge, named) };
    reply::json(StatusCode::OK, &report)
}

/// The report without servers.
pub(crate) fn report_on_itself<'a>(edge: &Edge, named: bool) -> Report<'a> {
    let warnings = edge
        .peers
        .unknown_reason()
        .map(|reason| format!("other users of this machine cannot be told apart and could connect: {reason}"));
    Report {
        status: if edge.is_stopping() { "draining" } else { "ok" },
        version: edge.version,
        pid: std::process::id(),
        uptime_seconds: edge.started.elapsed().as_secs(),
        listen: edge.addresses.borrow().iter().map(|address| format!("http://{address}/mcp")).collect(),
        sessions: edge.hub.sessions(),
        listens: edge.hub.listening(),
        in_flight: edge.calls(),
        buffered_bytes: edge.budget.used(),
        resident_bytes: trunkline_telemetry::resident_bytes(),
        memory_bytes: edge.config().limits.memory_bytes,
        config: origin(edge, named),
        warnings: warnings
            .into_iter()
            .chain(short_of_memory(edge))
            .chain(edge.strain.warnings(edge.slots.available_permits() == 0, edge.config().limits.connections))
            .chain(unkept(edge, named))
            .chain(drifted(edge, named))
            .chain(edge.hub.recent_calls().audit().and_then(Audit::trouble).filter(|_| named))
            .collect(),
        tokens: if named { edge.hub.holders() } else { Vec::new() },
        tool_lists: named.then(|| edge.hub.tool_lists()),
        servers: None,
    }
}

/// Who may not see servers sees no path and no error either.
fn origin(edge: &Edge, named: bool) -> Option<Origin> {
    named.then(|| edge.configuration.origin.borrow().clone())
}

/// Says on `/health/live` who answers: a daemon that finds its port taken names who has it.
pub const PID_HEADER: &str = "trunkline-pid";

/// `/health/live`: whoever can answer is alive.
pub(crate) fn live() -> Response<Body> {
    let mut response = reply::plain(StatusCode::OK, "live");
    response.headers_mut().insert(PID_HEADER, HeaderValue::from(std::process::id()));
    response
}

/// `/health/ready`: whether new work is taken.
pub(crate) fn ready(edge: &Edge) -> Response<Body> {
    if edge.is_stopping() {
        let response = reply::plain(StatusCode::SERVICE_UNAVAILABLE, "draining");
        return reply::with_retry_after(response, DRAIN_RETRY);
    }
    reply::plain(StatusCode::OK, "ready")
}

/// `/metrics`, in Prometheus' text format.
pub(crate) async fn metrics(edge: &Edge) -> Response<Body> {
    edge.metrics.measured().await;
    edge.metrics.sessions(edge.hub.sessions());
    reply::text_as(METRICS_TYPE, edge.metrics.render())
}

/// The report on a server.
pub(crate) fn server<'a>(edge: &Edge, upstream: &'a Upstream, depth: Depth) -> Server<'a> {
    let name = upstream.name();
    let Status {
        state,
        reason,
        retry_in,
        since,
        transport,
        revision,
        identity,
        pid,
        in_flight,
        restarts,
        get_stream,
        tools,
        prompts,
        resources,
        templates,
        complaints,
        lanes,
        stale,
    } = upstream.status();
    Server {
        name: name.as_str(),
        state,
        reason,
        retry_in_seconds: retry_in.map(tenths),
        since_seconds: tenths(since),
        transport,
        revision: revision.map(trunkline_wire::Revision::as_str),
        identity: identity.as_ref().and_then(readable),
        pid,
        usage: edge.metrics.usage(name).map(cost),
        in_flight,
        sharing: upstream.sharing().as_str(),
        lanes: lanes.into_iter().map(lane).collect(),
        restarts,
        get_stream,
        stale,
        tools,
        prompts,
        resources,
        templates,
        complaints: complaints.iter().chain(edge.hub.catalog().complaints(name.as_str())).map(complained).collect(),
        losses: if depth == Depth::Whole { all_losses(edge, upstream) } else { Vec::new() },
        transitions: edge.journal.history(name).into_iter().map(changed).collect(),
        stderr_tail: if depth == Depth::Whole { stderr_tail(edge, name) } else { String::new() },
        stderr_dropped_bytes: edge.journal.stderr_dropped(name),
    }
}

fn lane(lane: LaneStatus) -> Lane {
    let LaneStatus { owner, state, reason, since, pid, in_flight, unused } = lane;
    let (since_seconds, unused_seconds) = (tenths(since), tenths(unused));
    Lane { owner, state, reason, since_seconds, pid, in_flight, unused_seconds }
}

/// The end of what a server wrote to standard error.
pub(crate) fn stderr_tail(edge: &Edge, server: &ServerName) -> String {
    edge.journal.stderr_tail(server, STDERR_SHOWN_BYTES)
}

/// What of a server clients cannot have, as the report has it.
pub(crate) fn losses(edge: &Edge, upstream: &Upstream) -> serde_json::Value {
    serde_json::to_value(all_losses(edge, upstream)).expect("texts serialise")
}

fn all_losses(edge: &Edge, upstream: &Upstream) -> Vec<Lost> {
    edge.hub.explain(upstream, None).into_iter().map(lost).collect()
}

fn short_of_memory(edge: &Edge) -> Option<String> {
    let does = match edge.budget.pressure() {
        Pressure::None => return None,
        Pressure::Shrink => "answers kept for clients that resume are dropped early",
        Pressure::Refuse => "new requests are refused while others are worked on",
    };
    Some(format!("the daemon is near the bound of its memory (`limits.memory_bytes`): {does}"))
}

/// Tokens that a restart would lose (reliability 10).
fn unkept(edge: &Edge, named: bool) -> Option<String> {
    let servers = edge.hub.fleet().signin()?.unkept();
    let quoted: Vec<String> = servers.iter().map(|server| format!("`{server}`")).collect();
    let of = if named { quoted.join(", ") } else { format!("{} servers", quoted.len()) };
    (!quoted.is_empty()).then(|| {
        format!("the disk does not take the newest sign-in of {of}, which a restart would lose: make room, it is written then")
    })
}

/// Tools that are not as they were pinned (S-15). Of servers without a name there is but the number.
fn drifted(edge: &Edge, named: bool) -> Vec<String> {
    let drift = edge.hub.drift();
    if !named {
        let text = format!("tools of {} servers are not as they were pinned", drift.len());
        return if drift.is_empty() { Vec::new() } else { vec![text] };
    }
    let told = drift.into_iter().map(|Drift { server, tools, withheld }| {
        let what = if tools == 1 { "1 tool".to_owned() } else { format!("{tools} tools") };
        let verb = if tools == 1 { "is" } else { "are" };
        let withheld = if withheld { " and withheld" } else { "" };
        format!(
            "{what} of server `{server}` {verb} not as pinned{withheld}: `trunkline pins diff {server}` shows the change, \
             `trunkline pins accept {server}` takes it"
        )
    });
    told.collect()
}

fn cost(Usage { resident_bytes, cpu_seconds, open_fds, processes }: Usage) -> Cost {
    Cost { resident_bytes, cpu_seconds, open_fds, processes }
}

fn lost(Explained { client, revision, losses }: Explained) -> Lost {
    Lost { client, revision, features: losses.into_iter().map(|loss| loss.feature).collect() }
}

fn complained(complaint: &Complaint) -> Complained {
    Complained { what: complaint.what.clone(), why: complaint.why.clone() }
}

fn changed(Transition { at_unix_ms, from, to, reason }: Transition) -> Changed {
    Changed { at_unix_ms, from, to, reason }
}

/// Name and version of a server's `serverInfo`; the rest may be of any size.
fn readable(identity: &Json) -> Option<serde_json::Value> {
    let identity = trunkline_wire::Object::parse(identity).ok()?;
    let short = |key| identity.get_str(key).map(|text| trunkline_telemetry::redact::printable(&text, 128));
    Some(serde_json::json!({ "name": short("name"), "version": short("version") }))
}

/// Seconds with one digit: enough for people, stable enough to read.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
