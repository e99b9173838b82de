//! [`Scene`]: everything the dashboard shows, at one moment, in a form in which two moments can be compared.
//!
//! What only counts time is left out: a moment in which nothing happened equals the one before. Where the report of
//! `/health` says "4 s ago", the scene says when, and keeps that from trembling. What is dear to find out (processes,
//! stderr, losses) is looked at less often, or only when there is more of it. All watchers share one look.
//!
//! Nothing in here was said in a call, and nothing is a secret: texts of servers were scrubbed where they were kept.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use trunkline_config::Connect;
use trunkline_telemetry::RecentCall;
use trunkline_upstream::Upstream;
use trunkline_wire::{Json, Text};

use super::clients;
use super::holders::Holders;
use crate::advice::{self, Case, Trouble};
use crate::body::Body;
use crate::limits::{BOARD_CALLS_MAX, BOARD_CLIENTS_MAX, BOARD_DEAR_EVERY, BOARD_TICK};
use crate::{Edge, health, reply};

/// Times that were worked out from a span differ by this much without meaning it.
const TREMBLE_MS: u64 = 1_500;

/// When a client was last heard of changes with each of its requests; nobody reads that to the second.
const HEARD_COARSE_MS: u64 = 5_000;

/// Memory of the daemon is told in steps of this size.
const RESIDENT_STEP_BYTES: u64 = 256 * 1024;

/// What was to be seen at a moment.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Of the daemon.
    top: Map<String, Value>,
    /// By name, in the order of the configuration.
    servers: Vec<(String, Map<String, Value>)>,
    /// Oldest first.
    calls: Vec<RecentCall>,
}

/// The last look, and what makes the next one cheaper and steadier.
#[derive(Default)]
pub(super) struct Scenery(Mutex<Last>);

#[derive(Default)]
struct Last {
    at: Option<Instant>,
    dear_at: Option<Instant>,
    scene: Arc<Scene>,
    servers: HashMap<String, Kept>,
    /// Since when clients are there, and when they were heard of.
    clients: HashMap<Arc<str>, (u64, u64)>,
    holders: Holders,
    started_unix_ms: u64,
}

/// What is kept of a server from one look to the next.
#[derive(Default)]
struct Kept {
    since_unix_ms: u64,
    retry_at_unix_ms: Option<u64>,
    stderr_read: u64,
    stderr_tail: Value,
    losses: Value,
    /// Processor time when it was last measured.
    cpu: Option<(Instant, f64)>,
    cpu_percent: Option<f64>,
}

/// The scene of now, or of a moment ago if somebody looked then.
pub(super) async fn look(edge: &Edge) -> Arc<Scene> {
    look_within(edge, BOARD_TICK / 2).await
}

async fn look_within(edge: &Edge, patience: Duration) -> Arc<Scene> {
    let mut last = edge.board.scenery.0.lock().await;
    let now = Instant::now();
    if last.at.is_none_or(|at| now.saturating_duration_since(at) >= patience) {
        let dear = last.dear_at.is_none_or(|at| now.saturating_duration_since(at) >= BOARD_DEAR_EVERY);
        if dear {
            edge.metrics.measured().await;
            last.holders = looked_for(edge, std::mem::take(&mut last.holders)).await;
            last.dear_at = Some(now);
        }
        last.scene = Arc::new(last.draw(edge, dear));
        last.at = Some(now);
    }
    Arc::clone(&last.scene)
}

/// Has the processes behind the clients looked for.
async fn looked_for(edge: &Edge, mut holders: Holders) -> Holders {
    let ports: Vec<u16> = edge.hub.clients(BOARD_CLIENTS_MAX).iter().map(|it| it.port).filter(|it| *it != 0).collect();
    let Some(gateway) = edge.addresses.borrow().first().map(SocketAddr::port) else { return holders };
    let looking = tokio::task::spawn_blocking(move || {
        holders.look(&ports, gateway);
        holders
    });
    looking.await.unwrap_or_default()
}

/// `/api/v1/state` of the page, and `/api/v1/board` of the owner's socket: the scene of now as one document, with the spans of time that `/health` has.
pub(crate) async fn whole(edge: &Edge) -> Response<Body> {
    let scene = look_within(edge, Duration::ZERO).await;
    let mut whole = scene.whole();
    let now = unix_ms();
    let ago = |at: &Value| at.as_u64().map(|at| tenths(now.saturating_sub(at)));
    whole["uptime_seconds"] = json!(edge.started.elapsed().as_secs());
    for server in whole["servers"].as_array_mut().into_iter().flatten() {
        server["since_seconds"] = json!(ago(&server["since_unix_ms"]));
        let retry_at = server["retry_at_unix_ms"].as_u64();
        server["retry_in_seconds"] = json!(retry_at.map(|at| tenths(at.saturating_sub(now))));
    }
    reply::json(StatusCode::OK, &whole)
}

/// A document as the text of an event.
pub(super) fn encode(document: impl Serialize) -> Text {
    Text::from(Json::encode(&document).into_bytes())
}

impl Scene {
    /// All of it as one document.
    pub(super) fn whole(&self) -> Value {
        let mut all = self.top.clone();
        all.insert("now_unix_ms".into(), json!(unix_ms()));
        all.insert("servers".into(), self.servers.iter().map(|(_, members)| Value::Object(members.clone())).collect());
        all.insert("calls".into(), self.calls.iter().map(clients::call).collect());
        Value::Object(all)
    }

    /// What is different from an earlier scene: members of the daemon, members of servers by name, the names if there are
    /// others or in another order, and the calls that came since. `None` if nothing is.
    pub(super) fn changes_since(&self, earlier: &Self) -> Option<Value> {
        let set = differing(&self.top, &earlier.top);
        let before: HashMap<&str, &Map<String, Value>> =
            earlier.servers.iter().map(|(name, members)| (name.as_str(), members)).collect();
        let servers: Map<String, Value> = self
            .servers
            .iter()
            .filter_map(|(name, members)| {
                let changed = match before.get(name.as_str()) {
                    Some(before) => differing(members, before),
                    None => members.clone(),
                };
                (!changed.is_empty()).then(|| (name.clone(), Value::Object(changed)))
            })
            .collect();
        let names = |scene: &Self| scene.servers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let order = Some(names(self)).filter(|order| *order != names(earlier));
        let known = earlier.calls.last().map_or(0, |call| call.number);
        let calls: Vec<Value> = self.calls.iter().filter(|call| call.number > known).map(clients::call).collect();
        let nothing = set.is_empty() && servers.is_empty() && order.is_none() && calls.is_empty();
        (!nothing).then(|| {
            let mut changes = json!({ "now_unix_ms": unix_ms(), "set": set, "servers": servers, "calls": calls });
            if let Some(order) = order {
                changes["order"] = json!(order);
            }
            changes
        })
    }
}

/// The members that are new or other than before. All scenes have the same members.
fn differing(now: &Map<String, Value>, before: &Map<String, Value>) -> Map<String, Value> {
    let other = |(key, value): &(&String, &Value)| before.get(*key) != Some(*value);
    now.iter().filter(other).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Last {
    fn draw(&mut self, edge: &Edge, dear: bool) -> Scene {
        let now = unix_ms();
        if self.started_unix_ms == 0 {
            self.started_unix_ms = now.saturating_sub(millis(edge.started.elapsed()));
        }
        let all = edge.hub.fleet().all();
        self.servers.retain(|name, _| all.iter().any(|upstream| upstream.name().as_str() == name));
        let mut troubles = Vec::new();
        let mut servers = Vec::with_capacity(all.len());
        for upstream in all.iter() {
            let name = upstream.name().as_str().to_owned();
            let kept = self.servers.entry(name.clone()).or_default();
            let (members, trouble) = kept.draw(edge, upstream, dear, now);
            servers.push((name, members));
            troubles.extend(trouble);
        }
        let mut top = members(&health::report_on_itself(edge, true));
        top.remove("uptime_seconds");
        let error = top.get("config").and_then(|config| config["error"].as_str()).map(advice::of_configuration);
        let warnings = top.get("warnings").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let general: Vec<Trouble> = error.into_iter().chain(warnings.map(advice::of_installation)).collect();
        // What concerns everything comes first, and calls that fail before those that may.
        let mut wrong: Vec<Trouble> = general.into_iter().chain(troubles).collect();
        wrong.sort_by_key(|trouble| (trouble.level != "error", trouble.server.is_some()));
        let resident =
            trunkline_telemetry::resident_bytes().map(|bytes| bytes / RESIDENT_STEP_BYTES * RESIDENT_STEP_BYTES);
        for (key, value) in [
            ("wrong", json!(wrong)),
            ("resident_bytes", json!(resident)),
            ("started_unix_ms", json!(self.started_unix_ms)),
            ("clients", self.clients(edge, now)),
            ("profiles", edge.hub.profiles().iter().map(clients::profile).collect()),
            ("catalog_version", json!(edge.hub.catalog().version())),
            ("step", json!(edge.board.trends.number())),
        ] {
            top.insert(key.to_owned(), value);
        }
        let noted = edge.hub.recent_calls().last();
        let calls = edge.hub.recent_calls().after(noted.saturating_sub(BOARD_CALLS_MAX));
        Scene { top, servers, calls }
    }

    fn clients(&mut self, edge: &Edge, now: u64) -> Value {
        let clients = edge.hub.clients(BOARD_CLIENTS_MAX);
        let mut kept = HashMap::with_capacity(clients.len());
        let shown = clients
            .iter()
            .map(|client| {
                let before = self.clients.get(&client.label).copied().unwrap_or_default();
                let since = steady(before.0, now.saturating_sub(millis(client.age)), TREMBLE_MS);
                let heard = steady(before.1, now.saturating_sub(millis(client.idle)), HEARD_COARSE_MS);
                kept.insert(Arc::clone(&client.label), (since, heard));
                clients::client(client, self.holders.of(client.port), since, heard)
            })
            .collect();
        self.clients = kept;
        shown
    }
}

impl Kept {
    fn draw(
        &mut self,
        edge: &Edge,
        upstream: &Upstream,
        dear: bool,
        now: u64,
    ) -> (Map<String, Value>, Option<Trouble>) {
        let name = upstream.name();
        let server = upstream.config();
        let view = upstream.states().borrow().clone();
        let mut members = members(&health::server(edge, upstream, health::Depth::Cheap));
        let key = match &server.connect {
            Connect::Http(http) => edge.hub.fleet().signin().and_then(|signin| signin.key(name, http)),
            Connect::Stdio(_) => None,
        };
        let signs_in = key.is_some();
        let says = view.standing(name);
        let (says, cause) = (says.as_deref(), view.cause.as_deref());
        let trouble =
            advice::of_server(&Case { name: name.as_str(), state: view.state, says, cause, server: &server, signs_in });
        self.since_unix_ms = steady(self.since_unix_ms, now.saturating_sub(millis(view.since.elapsed())), TREMBLE_MS);
        self.retry_at_unix_ms = view.next_attempt.map(|at| {
            let wait = millis(at.saturating_duration_since(Instant::now()));
            steady(self.retry_at_unix_ms.unwrap_or_default(), now + wait, TREMBLE_MS)
        });
        let read = edge.journal.stderr_read(name);
        if self.stderr_tail.is_null() || read != self.stderr_read {
            self.stderr_read = read;
            self.stderr_tail = health::stderr_tail(edge, name).into();
        }
        if dear || self.losses.is_null() {
            self.losses = health::losses(edge, upstream);
        }
        if dear {
            self.measure(edge.metrics.usage(name).map(|usage| usage.cpu_seconds));
        }
        if let Some(Value::Object(usage)) = members.get_mut("usage") {
            usage.insert("cpu_percent".to_owned(), json!(self.cpu_percent));
        }
        // Their times go on without anything that happens.
        for lane in members.get_mut("lanes").and_then(Value::as_array_mut).into_iter().flatten() {
            for gone in ["since_seconds", "unused_seconds", "reason"] {
                lane.as_object_mut().map(|lane| lane.remove(gone));
            }
        }
        for gone in ["since_seconds", "retry_in_seconds"] {
            members.remove(gone);
        }
        for (key, value) in [
            ("reason", json!(says)),
            ("since_unix_ms", json!(self.since_unix_ms)),
            ("retry_at_unix_ms", json!(self.retry_at_unix_ms)),
            ("enabled", json!(server.enabled)),
            ("paused", json!(upstream.is_paused())),
            ("kind", json!(if matches!(server.connect, Connect::Stdio(_)) { "stdio" } else { "url" })),
            ("signs_in", json!(signs_in)),
            ("signed_in", json!(key.is_some_and(|key| key.is_signed_in()))),
            ("lately", json!(edge.board.trends.lately(name))),
            ("stderr_tail", self.stderr_tail.clone()),
            ("losses", self.losses.clone()),
        ] {
            members.insert(key.to_owned(), value);
        }
        (members, trouble)
    }

    /// Notes processor time; the share since the last reading is told.
    fn measure(&mut self, used: Option<f64>) {
        let now = Instant::now();
        self.cpu_percent = match (self.cpu, used) {
            (Some((then, before)), Some(used)) if now > then => {
                let share = (used - before).max(0.0) / now.saturating_duration_since(then).as_secs_f64();
                Some((share * 1000.0).round() / 10.0)
            }
            _ => None,
        };
        self.cpu = used.map(|used| (now, used));
    }
}

/// The members of what serialises as an object.
fn members(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => unreachable!("our own structs serialise as objects"),
    }
}

/// The time as it was told before, unless it is another one.
fn steady(before: u64, now: u64, tremble: u64) -> u64 {
    if before.abs_diff(now) < tremble { before } else { now }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285,000 years")]
fn tenths(millis: u64) -> f64 {
    (millis as f64 / 100.0).round() / 10.0
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "shown to people as a date, never compared")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(servers: &[(&str, Value)]) -> Scene {
        let map = |value: &Value| value.as_object().expect("an object").clone();
        let servers = servers.iter().map(|(name, members)| ((*name).to_owned(), map(members))).collect();
        Scene { top: map(&json!({ "sessions": 1 })), servers, calls: Vec::new() }
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = scene(&[("git", json!({ "state": "ready", "tools": 3 })), ("web", json!({ "state": "ready" }))]);
        let now = scene(&[("git", json!({ "state": "backoff", "tools": 3 })), ("web", json!({ "state": "ready" }))]);
        assert_eq!(before.changes_since(&before), None);
        let changes = now.changes_since(&before).expect("one server changed");
        assert_eq!(changes["servers"], json!({ "git": { "state": "backoff" } }));
        assert_eq!((&changes["set"], &changes["calls"], changes.get("order")), (&json!({}), &json!([]), None));
    }

    #[test]
    fn servers_that_come_and_go_are_told_by_the_order() {
        let before = scene(&[("git", json!({ "state": "ready" }))]);
        let now = scene(&[("web", json!({ "state": "starting" })), ("git", json!({ "state": "ready" }))]);
        let changes = now.changes_since(&before).expect("one more");
        assert_eq!(changes["order"], json!(["web", "git"]));
        assert_eq!(changes["servers"], json!({ "web": { "state": "starting" } }));
        let back = before.changes_since(&now).expect("one fewer");
        assert_eq!((&back["order"], &back["servers"]), (&json!(["git"]), &json!({})));
    }

    #[test]
    fn times_do_not_tremble_and_do_move() {
        assert_eq!(steady(10_000, 10_900, TREMBLE_MS), 10_000);
        assert_eq!(steady(10_000, 12_000, TREMBLE_MS), 12_000);
    }

    #[tokio::test(start_paused = true)]
    async fn processor_time_is_told_as_the_share_since_the_last_reading() {
        let mut kept = Kept::default();
        kept.measure(Some(1.0));
        assert_eq!(kept.cpu_percent, None, "one reading says nothing");
        tokio::time::advance(Duration::from_secs(4)).await;
        kept.measure(Some(2.0));
        assert_eq!(kept.cpu_percent, Some(25.0));
        kept.measure(None);
        assert_eq!(kept.cpu_percent, None);
    }
}
