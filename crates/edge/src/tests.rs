//! The endpoint as clients and strangers meet it: a request in, a status, headers and a body out. The hub is
//! the real one, with no servers behind it.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderMap;
use http::header::{ALLOW, CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use trunkline_upstream::{Environment, Fleet, GuardProgram, Shelf};
use trunkline_wire::Pressure;

use super::*;

pub(crate) fn config() -> Config {
    Config::default()
}

pub(crate) fn door(config: Config) -> Door {
    let (metrics, journal) = (Metrics::new(), Arc::new(Journal::new()));
    let budget = Budget::new(config.limits.buffer_bytes);
    let (notices, inbox) = mpsc::channel(16);
    let environment = Environment {
        metrics: metrics.clone(),
        journal: journal.clone(),
        budget: budget.clone(),
        limits: config.limits.clone(),
        notices,
        guard: GuardProgram::new("/bin/false", []),
        shelf: Shelf::none(),
        signin: None,
        inherited: Vec::new(),
    };
    let fleet = Fleet::start(&config.servers, environment);
    let hub = Hub::new(fleet, &config, metrics.clone(), budget.clone(), inbox);
    let slots = Arc::new(Semaphore::new(config.limits.connections));
    let (_, relocations) = mpsc::channel(1);
    let configuration = Configuration::fixed(config);
    Door { hub, configuration, relocations, metrics, journal, budget, version: "0.0.0", slots }
}

pub(crate) fn edge(config: Config) -> Arc<Edge> {
    Edge::new(door(config), Vec::new(), Steps::default())
}

/// A connection of the daemon's own user.
pub(crate) const OWN: Arrival =
    Arrival { peer: Peer::Permitted, port: 6270, address: IpAddr::V4(Ipv4Addr::LOCALHOST), from: 0 };
/// A connection of another user of the machine.
pub(crate) const STRANGE: Arrival = Arrival { peer: Peer::Stranger, ..OWN };

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Status, code and id of a JSON-RPC error.
    fn error(&self) -> (u16, i64, Value) {
        let body = self.json();
        (self.status, body["error"]["code"].as_i64().unwrap_or_default(), body["id"].clone())
    }
}

mod board;
mod modern;
mod tokens;

/// A client of one daemon; what it sends by default is what clients send.
struct Client {
    edge: Arc<Edge>,
    arrival: Arrival,
}

impl Client {
    fn new() -> Self {
        Self { edge: edge(config()), arrival: OWN }
    }

    fn with(config: Config) -> Self {
        Self { edge: edge(config), arrival: OWN }
    }

    /// Sends a request. `headers` come on top of the usual ones; an empty value takes a header away.
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body.into())).expect("a request");
        let usual = [
            ("host", "127.0.0.1:6270"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        for (name, value) in usual.iter().chain(headers) {
            let name: http::HeaderName = name.parse().expect("a name");
            request.headers_mut().remove(&name);
            if !value.is_empty() {
                request.headers_mut().insert(name, value.parse().expect("a value"));
            }
        }
        let (parts, body) = answer(&self.edge, self.arrival, request).await.into_parts();
        let body = body.collect().await.expect("no body fails").to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        }
    }

    async fn post(&self, session: &str, body: &Value) -> Answer {
        self.send("POST", "/mcp", &[("mcp-session-id", session)], body.to_string()).await
    }

    /// Opens a session and returns its id.
    async fn open(&self, revision: &str) -> String {
        let opened = self.post("", &initialize(0, revision)).await;
        assert_eq!(opened.status, 200, "{}", opened.body);
        opened.header("mcp-session-id").to_owned()
    }
}

fn initialize(id: u64, revision: &str) -> Value {
    let info = json!({ "name": "test", "version": "1" });
    request(json!(id), "initialize", json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": info }))
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn request(id: Value, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn ping(id: u64) -> Value {
    request(json!(id), "ping", json!({}))
}

fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

#[tokio::test]
async fn s02_s03_g1_g2_g3_host_and_origin_are_checked_on_every_path() {
    let client = Client::new();
    for path in [
        "/mcp",
        "/sse",
        "/messages",
        "/health",
        "/health/live",
        "/metrics",
        "/",
        "/assets/app.js",
        "/api/v1/state",
        "/api/v1/events",
        "/api/v1/call",
        "/nothing",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            for header in
                [("origin", "http://evil.example"), ("origin", "null"), ("host", "evil.example"), ("host", "")]
            {
                let answer = client.send(method, path, &[header], "{}").await;
                assert_eq!(answer.status, 403, "{method} {path} {header:?}");
                assert!(answer.body.contains("listen."), "the setting is named: {}", answer.body);
            }
        }
    }
    for header in [("host", "localhost:6270"), ("host", "[::1]:6270"), ("origin", "http://localhost:6270")] {
        assert_eq!(client.send("GET", "/health/live", &[header], "").await.status, 200, "{header:?}");
    }
}

#[tokio::test]
async fn g4_g10_verbs_and_paths_that_are_not_offered() {
    let client = Client::new();
    for method in ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE"] {
        let answer = client.send(method, "/mcp", &[], "").await;
        assert_eq!((answer.status, answer.headers[ALLOW].to_str().ok()), (405, Some("POST, GET, DELETE")), "{method}");
    }
    assert_eq!(client.send("POST", "/health", &[], "").await.status, 405);
    for path in [
        "/nothing",
        "/index.html",
        "/assets/",
        "/assets/../Cargo.toml",
        "/mcp2",
        "/mcp/work",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/mcp/.well-known/openid-configuration",
        "/health/.well-known/x",
    ] {
        for method in ["GET", "POST"] {
            assert_eq!(client.send(method, path, &[], "{}").await.status, 404, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn s05_s07_g10_another_user_gets_only_the_short_health_and_the_metrics() {
    let client = Client { arrival: STRANGE, ..Client::new() };
    assert_eq!(client.post("", &initialize(0, "2025-06-18")).await.status, 403);
    assert_eq!(client.send("GET", "/mcp", &[], "").await.status, 403);
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(client.send("GET", path, &[], "").await.status, 200, "{path}");
    }
    let health = client.send("GET", "/health", &[], "").await.json();
    assert_eq!(health["status"], "ok");
    assert!(health.get("servers").is_none());
    let own = Client::new().send("GET", "/health", &[], "").await.json();
    assert_eq!(own["servers"], json!([]));
}

#[tokio::test]
async fn s21_g5_g6_g7_g8_bodies_that_are_no_messages() {
    let mut small = config();
    small.limits.request_body_bytes = 1000;
    let client = Client::with(small);
    let session = client.open("2025-06-18").await;
    let text = |kind: &'static str| {
        [("mcp-session-id", session.as_str()), ("content-type", kind)].map(|(a, b)| (a, b.to_owned()))
    };
    for (kind, status) in [("text/plain", 415), ("", 415), ("application/json; charset=utf-8", 200)] {
        let headers = text(kind);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(client.send("POST", "/mcp", &headers, ping(1).to_string()).await.status, status, "{kind:?}");
    }
    for (body, code, id) in [
        ("{", -32700, Value::Null),
        ("", -32700, Value::Null),
        ("\"\\ud800", -32700, Value::Null),
        (r#"{"jsonrpc":"2.0"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, -32600, json!(7)),
        (r#"{"jsonrpc":"2.0","id":"a","method":"ping","params":[]}"#, -32600, json!("a")),
        (r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#, -32600, json!(7)),
    ] {
        let answer = client.send("POST", "/mcp", &[("mcp-session-id", &session)], body).await;
        assert_eq!(answer.error(), (400, code, id), "{body}");
    }
    let large = client.send("POST", "/mcp", &[], vec![b' '; 1001]).await;
    assert_eq!((large.status, large.header("connection")), (413, "close"));
    assert!(large.body.contains("limits.request_body_bytes"));
    let path = format!("/mcp?{}", "x".repeat(2048));
    assert_eq!(client.send("POST", &path, &[], "{}").await.status, 414);
}

#[tokio::test]
async fn accept_decides_the_form_of_the_answer() {
    let client = Client::new();
    let body = initialize(0, "2025-06-18").to_string();
    for (accept, status, kind) in [
        ("application/json, text/event-stream", 200, "application/json"),
        ("text/event-stream, application/json", 200, "application/json"),
        ("", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("text/event-stream", 200, "text/event-stream"),
        ("text/html", 406, "text/plain; charset=utf-8"),
    ] {
        let answer = client.send("POST", "/mcp", &[("accept", accept)], body.clone()).await;
        assert_eq!((answer.status, answer.headers[CONTENT_TYPE].to_str().ok()), (status, Some(kind)), "{accept}");
        if kind == "text/event-stream" {
            assert!(answer.body.starts_with("data: {") && answer.body.ends_with("}\n\n"), "{}", answer.body);
            assert_eq!(answer.header("cache-control"), "no-cache, no-transform");
            assert_eq!(answer.header("x-accel-buffering"), "no");
        }
    }
}

#[tokio::test]
async fn g41_g42_initialize_answers_in_kind_and_names_a_session() {
    let client = Client::new();
    for (wanted, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        // A client that falls back from the modern era may leave its version header in place.
        let headers = [("mcp-protocol-version", "2026-07-28")];
        let answer = client.send("POST", "/mcp", &headers, initialize(3, wanted).to_string()).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["id"]), (200, &json!(3)), "{wanted}");
        assert_eq!(body["result"]["protocolVersion"], given, "{wanted}");
        let id = answer.header("mcp-session-id");
        assert!(id.len() >= 22 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
    }
    assert_ne!(client.open("2025-06-18").await, client.open("2025-06-18").await);
}

#[tokio::test]
async fn g43_a_session_must_be_named_and_known_and_errors_carry_the_id() {
    let client = Client::new();
    let none = client.post("", &ping(41)).await;
    assert_eq!(none.error(), (400, -32000, json!(41)));
    assert_eq!(none.json()["error"]["message"], "Bad Request: No valid session ID provided");
    let unknown = client.post("nobody", &request(json!("x"), "tools/list", json!({}))).await;
    assert_eq!(unknown.error(), (404, -32001, json!("x")));
    assert_eq!(client.post("nobody", &initialize(5, "2025-06-18")).await.error(), (404, -32001, json!(5)));

    let session = client.open("2025-06-18").await;
    assert_eq!(client.post(&session, &ping(1)).await.header("mcp-session-id"), session);
    for (method, status) in [("DELETE", 200), ("DELETE", 404), ("GET", 404)] {
        let answer = client.send(method, "/mcp", &[("mcp-session-id", &session)], "").await;
        assert_eq!(answer.status, status, "{method}");
    }
    assert_eq!(client.post(&session, &ping(42)).await.error(), (404, -32001, json!(42)));
    for (method, status) in [("DELETE", 400), ("GET", 400)] {
        assert_eq!(client.send(method, "/mcp", &[], "").await.status, status, "{method}");
    }
    for message in [initialized(), json!({ "jsonrpc": "2.0", "id": 1, "result": {} })] {
        let answer = client.post("nobody", &message).await;
        assert_eq!(
            (answer.status, answer.headers[CONTENT_TYPE].to_str().ok()),
            (404, Some("text/plain; charset=utf-8"))
        );
        assert_eq!(client.post("", &message).await.status, 400);
    }
}

#[tokio::test]
async fn g44_the_version_header_must_name_a_legacy_revision() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    for (revision, status) in [
        ("", 200),
        ("2024-11-05", 200),
        ("2025-03-26", 200),
        ("2025-06-18", 200),
        ("2025-11-25", 200),
        ("1999-01-01", 400),
        ("nonsense", 400),
    ] {
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", revision)];
        let answer = client.send("POST", "/mcp", &headers, ping(9).to_string()).await;
        assert_eq!((answer.status, &answer.json()["id"]), (status, &json!(9)), "{revision}");
        if status == 400 {
            assert_eq!(answer.error().1, -32000);
            assert!(answer.body.contains("Unsupported protocol version"), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn g45_a_second_initialize_is_refused() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    assert_eq!(client.post(&session, &initialize(8, "2025-06-18")).await.error(), (400, -32600, json!(8)));
}

#[tokio::test]
async fn g46_g47_notifications_are_accepted_and_pings_answered() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    for message in [
        initialized(),
        json!({ "jsonrpc": "2.0", "method": "notifications/unheard_of" }),
        json!({ "jsonrpc": "2.0", "id": 77, "result": {} }),
    ] {
        let answer = client.post(&session, &message).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, ""), "{message}");
    }
    for id in [json!(0), json!("0"), json!(9_007_199_254_740_993_u64)] {
        let answer = client.post(&session, &request(id.clone(), "ping", json!({}))).await;
        assert_eq!(answer.json(), json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
    }
    let unknown = client.post(&session, &request(json!(1), "no/such", json!({}))).await;
    assert_eq!(unknown.error(), (200, -32601, json!(1)), "in-band, as in every legacy session");
}

#[tokio::test]
async fn g48_batches_belong_to_one_revision() {
    let client = Client::new();
    let session = client.open("2025-03-26").await;
    let answer = client.post(&session, &json!([ping(1), initialized(), 7, ping(2)])).await;
    let answers = answer.json();
    let ids: Vec<_> = answers.as_array().expect("an array").iter().map(|one| one["id"].clone()).collect();
    assert_eq!((answer.status, ids), (200, vec![json!(1), Value::Null, json!(2)]));
    assert_eq!(answers[1]["error"]["code"], -32600);
    assert_eq!(answer.header("mcp-session-id"), session);

    let silent = client.post(&session, &json!([initialized(), { "jsonrpc": "2.0", "id": 9, "result": {} }])).await;
    assert_eq!((silent.status, silent.body.as_str()), (202, ""));

    let events = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    let answer = client.send("POST", "/mcp", &events, json!([ping(1), ping(2)]).to_string()).await;
    assert_eq!(answer.body.matches("data: {").count(), 2, "each answer is an event");

    for body in [json!([]), json!([initialize(1, "2025-03-26"), ping(2)]), json!([claiming("tools/list")])] {
        assert_eq!(client.post(&session, &body).await.error().1, -32600, "{body}");
    }
    let newer = client.open("2025-06-18").await;
    assert_eq!(client.post(&newer, &json!([ping(1)])).await.error(), (400, -32600, Value::Null));
    assert_eq!(client.post("", &json!([ping(1)])).await.status, 400);
    assert_eq!(client.post("nobody", &json!([ping(1)])).await.status, 404);
}

fn claiming(method: &str) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(json!("probe"), method, json!({ "_meta": meta }))
}

#[tokio::test]
async fn g31_the_modern_era_has_neither_get_nor_delete() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    for method in ["GET", "DELETE"] {
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2026-07-28")];
        let answer = client.send(method, "/mcp", &headers, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_stream_stays_open_and_ends_with_a_hint_when_the_daemon_stops() {
    let client = Client::new();
    let session = client.open("2025-11-25").await;
    for (headers, status) in [
        (&[("accept", "application/json")][..], 406),
        (&[("mcp-protocol-version", "1999-01-01")], 400),
        (&[("last-event-id", "not-ours")], 400),
    ] {
        let headers: Vec<_> = headers.iter().copied().chain([("mcp-session-id", session.as_str())]).collect();
        assert_eq!(client.send("GET", "/mcp", &headers, "").await.status, status, "{headers:?}");
    }
    let soft = client.edge.stop.soft.clone();
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_secs(40)).await;
        soft.cancel();
    };
    let headers = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
    let (stream, ()) = tokio::join!(client.send("GET", "/mcp", &headers, ""), stop);
    assert_eq!((stream.status, stream.headers[CONTENT_TYPE].to_str().ok()), (200, Some("text/event-stream")));
    assert_eq!(stream.body, ": keep-alive\n\n: keep-alive\n\nretry: 1000\n\n");
}

#[tokio::test]
async fn r39_a_draining_daemon_is_live_and_not_ready_and_refuses_new_work() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    assert_eq!(client.send("GET", "/health/ready", &[], "").await.status, 200);
    client.edge.stop.soft.cancel();
    assert_eq!(client.send("GET", "/health/live", &[], "").await.status, 200);
    let ready = client.send("GET", "/health/ready", &[], "").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "2"));
    assert_eq!(client.send("GET", "/health", &[], "").await.json()["status"], "draining");
    for (session, body) in [("", initialize(1, "2025-06-18")), (session.as_str(), ping(1))] {
        let answer = client.post(session, &body).await;
        assert_eq!(answer.error(), (503, -31005, json!(1)));
        assert_ne!(answer.header("retry-after"), "");
    }
}

#[tokio::test]
async fn too_many_at_once_are_told_when_to_come_back() {
    let mut none = config();
    none.limits.in_flight = 0;
    none.limits.sessions_burst = 1;
    none.limits.sessions_per_sec = 1;
    let client = Client::with(none);
    let session = client.open("2025-06-18").await;
    let busy = client.post(&session, &ping(1)).await;
    assert_eq!((busy.error(), busy.header("retry-after")), ((503, -31004, json!(1)), "1"));
    assert_eq!(client.post(&session, &initialized()).await.status, 202, "a cancellation must get through");
    let refused = client.post("", &initialize(2, "2025-06-18")).await;
    assert_eq!(refused.error(), (429, -31004, json!(2)));
    assert_ne!(refused.header("retry-after"), "");
}

#[tokio::test]
async fn r25_near_the_memory_bound_new_requests_are_refused_while_others_are_worked_on() {
    let client = Client::new();
    let session = client.open("2025-06-18").await;
    client.edge.budget.press(Pressure::Refuse);
    assert_eq!(client.post(&session, &ping(1)).await.status, 200, "with nothing else to do there is room for one");
    let busy = client.edge.place().expect("a place");
    for (session, body) in [("", initialize(1, "2025-06-18")), (session.as_str(), ping(1))] {
        let answer = client.post(session, &body).await;
        assert_eq!((answer.error(), answer.header("retry-after")), ((503, -31004, json!(1)), "1"));
        assert!(answer.body.contains("limits.memory_bytes"), "{}", answer.body);
    }
    let health = client.send("GET", "/health", &[], "").await.json();
    assert!(health["warnings"][0].as_str().expect("a warning").contains("limits.memory_bytes"), "{health}");
    assert!(client.edge.metrics.render().contains(r#"trunkline_rejected_total{reason="memory"} 2"#));
    client.edge.budget.press(Pressure::Shrink);
    assert_eq!(client.post(&session, &ping(2)).await.status, 200);
    drop(busy);
}

#[tokio::test]
async fn cors_is_for_listed_origins_alone() {
    let mut open = config();
    open.listen.origins = vec!["https://inspector.example".into()];
    let client = Client::with(open);
    let headers = [
        ("origin", "https://inspector.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, Mcp-Session-Id, x-evil, mcp-param-region"),
    ];
    let preflight = client.send("OPTIONS", "/mcp", &headers, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://inspector.example");
    assert_eq!(preflight.header("access-control-allow-headers"), "content-type, Mcp-Session-Id, mcp-param-region");
    let answer = client.send("POST", "/mcp", &headers[..1], initialize(0, "2025-06-18").to_string()).await;
    assert_eq!((answer.status, answer.header("vary")), (200, "Origin"));
    assert!(answer.header("access-control-expose-headers").contains("Mcp-Session-Id"));
    let own =
        client.send("POST", "/mcp", &[("origin", "http://localhost:6270")], initialize(0, "2025-06-18").to_string());
    assert_eq!(own.await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let client = Client::new();
    client.open("2025-06-18").await;
    let metrics = client.send("GET", "/metrics", &[], "").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.body.contains("trunkline_client_requests_total"), "{}", metrics.body);
}

/// A configuration with one server, which is switched off.
fn with_a_server() -> Config {
    let connect = trunkline_config::Connect::Stdio(trunkline_config::Stdio::new("true", []));
    let mut server = trunkline_config::Server::new(connect);
    server.enabled = false;
    Config { servers: vec![(trunkline_wire::ServerName::new("git").expect("a name"), server)], ..config() }
}

#[tokio::test]
async fn health_tells_the_truth_about_each_server() {
    let client = Client::with(with_a_server());
    let health = client.send("GET", "/health", &[], "").await.json();
    let git = &health["servers"][0];
    assert_eq!((&git["name"], &git["state"]), (&json!("git"), &json!("disabled")));
    for field in
        ["reason", "retry_in_seconds", "transport", "revision", "pid", "complaints", "transitions", "stderr_tail"]
    {
        assert!(git.get(field).is_some(), "{field} is there, if only as null: {git}");
    }
}

#[tokio::test]
async fn the_owners_socket_answers_the_command_line() {
    let edge = edge(with_a_server());
    let ask = async |method: &str, path: &str, body: &str| {
        let request = Request::builder().method(method).uri(path).body(Full::new(Bytes::from(body.to_owned())));
        let (parts, body) = api::answer(&edge, request.expect("a request")).await.into_parts();
        let body = body.collect().await.expect("no body fails").to_bytes();
        (parts.status.as_u16(), serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    for (path, key) in [
        ("/health", "servers"),
        ("/api/v1/state", "servers"),
        ("/api/v1/tools", "tools"),
        ("/api/v1/tools?server=git", "tools"),
        ("/api/v1/tools?search=also", "search"),
        ("/api/v1/logs", "servers"),
        ("/api/v1/logs?server=git", "servers"),
    ] {
        let (status, body) = ask("GET", path, "").await;
        assert!(status == 200 && body[key].is_array(), "{path}: {body}");
    }
    assert_eq!(ask("POST", "/api/v1/servers/git/restart", "").await.0, 200);
    for (method, path) in [
        ("GET", "/api/v1/tools?server=hub"),
        ("GET", "/api/v1/logs?server=hub"),
        ("POST", "/api/v1/servers/hub/restart"),
    ] {
        let (status, body) = ask(method, path, "").await;
        let text = body["error"].as_str().expect("a sentence");
        assert!(status == 404 && text.contains("git"), "the known names are listed: {text}");
    }
    for (method, path) in [("POST", "/api/v1/servers/git/explode"), ("GET", "/mcp"), ("PUT", "/health")] {
        assert_eq!(ask(method, path, "").await.0, 404, "{method} {path}");
    }
    let (status, body) = ask("POST", "/api/v1/call", r#"{"name":"git__log","arguments":{}}"#).await;
    assert_eq!((status, &body["error"]["code"]), (200, &json!(-32602)), "{body}");
    for body in ["{", "[]", "{}"] {
        assert_eq!(ask("POST", "/api/v1/call", body).await.0, 400, "{body}");
    }
}
