//! The pair as its clients meet it, before a hub without servers: what is posted, and what the stream then says.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use trunkline_config::{Auth, Config, Reach, Secret};

use super::*;
use crate::tests::{OWN, STRANGE, config, edge};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// A client with its stream open.
struct Client {
    edge: Arc<Edge>,
    body: Body,
    unread: String,
    address: String,
}

fn call(id: &Value, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn initialize(revision: &str) -> Value {
    let info = json!({ "name": "old", "version": "1" });
    call(&json!(0), "initialize", &json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": info }))
}

async fn send(edge: &Arc<Edge>, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let usual = [("host", "127.0.0.1:6270"), ("content-type", "application/json")];
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in usual.iter().filter(|(name, _)| headers.iter().all(|(set, _)| set != name)).chain(headers) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    crate::answer(edge, OWN, request).await
}

async fn text(response: Response<Body>) -> (u16, String) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("no body fails").to_bytes();
    (parts.status.as_u16(), String::from_utf8(body.to_vec()).expect("text"))
}

impl Client {
    async fn open(edge: &Arc<Edge>) -> Self {
        let response = send(edge, "GET", "/sse", &[("accept", "text/event-stream")], "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = response.into_body();
        let mut client = Self { edge: Arc::clone(edge), body, unread: String::new(), address: String::new() };
        let first = client.event().await.expect("the first event");
        let address = first.strip_prefix("event: endpoint\ndata: ").unwrap_or_else(|| panic!("{first}"));
        assert!(address.starts_with("/messages?sessionId=") && address.len() >= 20 + 32, "{address}");
        client.address = address.to_owned();
        client
    }

    /// With a session of this revision.
    async fn begun(edge: &Arc<Edge>, revision: &str) -> Self {
        let mut client = Self::open(edge).await;
        let answer = client.ask(&initialize(revision)).await;
        assert_eq!(answer["result"]["protocolVersion"], revision);
        client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    /// The next block of the stream, as it was written; none when it ended.
    async fn event(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let block = block.to_owned();
                self.unread = rest.to_owned();
                return Some(block);
            }
            let frame = self.body.frame().await?.expect("no body fails");
            self.unread.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("text"));
        }
    }

    async fn message(&mut self) -> Value {
        let event = self.event().await.expect("the stream is open");
        let data = event.strip_prefix("event: message\ndata: ").unwrap_or_else(|| panic!("{event}"));
        serde_json::from_str(data).expect("JSON")
    }

    async fn send(&self, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        text(send(&self.edge, "POST", &self.address, headers, body).await).await
    }

    async fn post(&self, body: &Value) {
        assert_eq!(self.send(&[], &body.to_string()).await, (202, "Accepted\n".to_owned()), "{body}");
    }

    async fn ask(&mut self, body: &Value) -> Value {
        self.post(body).await;
        self.message().await
    }

    async fn ping(&mut self, id: u64) {
        let answer = self.ask(&call(&json!(id), "ping", &json!({}))).await;
        assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": id, "result": {} }));
    }
}

#[tokio::test]
async fn g54_what_is_posted_is_accepted_and_answered_on_the_stream_at_any_legacy_revision() {
    let edge = edge(config());
    for revision in REVISIONS {
        let mut client = Client::begun(&edge, revision).await;
        client.ping(7).await;
        let unknown = client.ask(&call(&json!("x"), "tools/call", &json!({ "name": "nobody__x" }))).await;
        assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!("x"), &json!(-32602)));
        client.post(&json!({ "jsonrpc": "2.0", "id": 1, "result": {} })).await;
        client.ping(8).await;
        let again = client.ask(&initialize(revision)).await;
        assert_eq!((&again["id"], &again["error"]["code"]), (&json!(0), &json!(-32600)), "G-45 holds here too");
    }
    let negotiated = Client::open(&edge).await.ask(&initialize("2026-07-28")).await;
    assert_eq!(negotiated["result"]["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn g54_an_address_must_name_one_stream_that_is_open() {
    let edge = edge(config());
    let client = Client::begun(&edge, "2024-11-05").await;
    let body = call(&json!(1), "ping", &json!({})).to_string();
    let twice = format!("{}&sessionId=other", client.address);
    for (address, status) in [
        ("/messages", 400),
        ("/messages?sessionId=", 400),
        ("/messages?sessionid=x", 400),
        (twice.as_str(), 400),
        ("/messages?sessionId=nobody", 404),
        (client.address.as_str(), 202),
    ] {
        assert_eq!(text(send(&edge, "POST", address, &[], &body).await).await.0, status, "{address}");
    }
    let other = Client::open(&edge).await;
    assert_ne!(other.address, client.address);
    let address = client.address.clone();
    drop(client);
    assert_eq!(text(send(&edge, "POST", &address, &[], &body).await).await.0, 404, "it ended with its stream");
}

#[tokio::test]
async fn bodies_that_are_no_messages_get_a_status_and_the_session_lives_on() {
    let mut small = config();
    small.limits.request_body_bytes = 1000;
    let edge = edge(small);
    let mut client = Client::begun(&edge, "2025-06-18").await;
    assert_eq!(client.send(&[("content-type", "text/plain")], "{}").await.0, 415);
    for (body, code) in [("{", "-32700"), (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, "-32600"), ("[]", "-32600")] {
        let (status, text) = client.send(&[], body).await;
        assert!(status == 400 && text.contains(code), "{body}: {status} {text}");
    }
    assert_eq!(client.send(&[], &" ".repeat(1001)).await.0, 413);
    client.ping(1).await;
}

#[tokio::test]
async fn g1_g2_each_half_has_its_verb_its_names_and_its_switch() {
    let here = edge(config());
    for (method, path, status, allow) in
        [("POST", "/sse", 405, "GET"), ("HEAD", "/sse", 405, "GET"), ("GET", "/messages?sessionId=x", 405, "POST")]
    {
        let response = send(&here, method, path, &[], "{}").await;
        let allowed = response.headers().get("allow").and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!((response.status().as_u16(), allowed), (status, allow), "{method} {path}");
    }
    for header in [("origin", "http://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        for (method, path) in [("GET", "/sse"), ("POST", "/messages?sessionId=x")] {
            assert_eq!(send(&here, method, path, &[header], "{}").await.status(), 403, "{method} {path} {header:?}");
        }
    }
    assert_eq!(send(&here, "GET", "/sse", &[("accept", "application/json")], "").await.status(), 406);
    let stranger = Request::builder().uri("/sse").header("host", "127.0.0.1:6270").body(Full::new(Bytes::new()));
    assert_eq!(crate::answer(&here, STRANGE, stranger.expect("a request")).await.status(), 403);

    let mut without: Config = config();
    without.listen.legacy_sse = false;
    let without = edge(without);
    for (method, path) in [("GET", "/sse"), ("POST", "/messages?sessionId=x")] {
        assert_eq!(send(&without, method, path, &[], "{}").await.status(), 404, "{method} {path}");
    }
}

#[tokio::test]
async fn a_claim_is_refused_on_the_stream_and_before_initialize_only_a_ping_is_answered() {
    let edge = edge(config());
    let mut client = Client::open(&edge).await;
    let meta = json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } });
    for (method, params, code) in [
        ("server/discover", &meta, -32600),
        ("tools/list", &meta, -32600),
        ("server/discover", &json!({}), -32601),
        ("tools/list", &json!({}), -32600),
    ] {
        let answer = client.ask(&call(&json!("p"), method, params)).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("p"), &json!(code)), "{method} {params}");
    }
    client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } })).await;
    client.ping(3).await;
    assert_eq!(client.ask(&initialize("2025-03-26")).await["result"]["protocolVersion"], "2025-03-26");
    let claimed = client.ask(&call(&json!(4), "ping", &meta)).await;
    assert_eq!(claimed["error"]["code"], -32600);
}

#[tokio::test]
async fn g48_a_batch_is_taken_apart_in_the_one_revision_that_has_them() {
    let edge = edge(config());
    let batch = json!([call(&json!(1), "ping", &json!({})), 7, call(&json!(2), "ping", &json!({}))]);
    let mut client = Client::begun(&edge, "2025-03-26").await;
    client.post(&batch).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.message().await["id"].clone());
    }
    assert_eq!(ids, [json!(1), Value::Null, json!(2)]);
    for client in [Client::begun(&edge, "2024-11-05").await, Client::open(&edge).await] {
        let (status, text) = client.send(&[], &batch.to_string()).await;
        assert!(status == 400 && text.contains("-32600"), "{status} {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_is_the_session_and_ends_it_after_a_grace() {
    let edge = edge(config());
    let client = Client::begun(&edge, "2024-11-05").await;
    assert_eq!((edge.hub.sessions(), edge.pairs.lock().len()), (1, 1));
    drop(client);
    assert_eq!((edge.hub.sessions(), edge.pairs.lock().len()), (1, 0));
    sleep(PAIR_GRACE + Duration::from_millis(10)).await;
    assert_eq!(edge.hub.sessions(), 0);
    // One whose body nobody ever read is gone as well.
    drop(send(&edge, "GET", "/sse", &[], "").await);
    assert_eq!(edge.pairs.lock().len(), 0);
}

#[tokio::test]
async fn a_session_that_is_ended_elsewhere_ends_its_stream() {
    let mut few = config();
    few.limits.sessions = 1;
    let edge = edge(few);
    let mut first = Client::begun(&edge, "2024-11-05").await;
    let _second = Client::begun(&edge, "2024-11-05").await;
    assert_eq!(first.event().await, None);
    assert_eq!(edge.hub.sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_and_a_stop_answers_what_comes_and_ends_the_stream() {
    let edge = edge(config());
    let mut client = Client::begun(&edge, "2025-06-18").await;
    assert_eq!(client.event().await.as_deref(), Some(": keep-alive"), "after 15 s");
    edge.stop.soft.cancel();
    let refused = client.ask(&call(&json!(5), "ping", &json!({}))).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(5), &json!(-31005)));
    assert_eq!(client.event().await, None);
    assert_eq!(send(&edge, "GET", "/sse", &[], "").await.status(), 503);
}

#[tokio::test]
async fn too_many_at_once_are_told_on_the_stream() {
    let mut none = config();
    none.limits.in_flight = 0;
    none.limits.sessions_burst = 1;
    none.limits.sessions_per_sec = 1;
    let edge = edge(none);
    let mut client = Client::begun(&edge, "2025-06-18").await;
    let busy = client.ask(&call(&json!(1), "ping", &json!({}))).await;
    assert_eq!((&busy["id"], &busy["error"]["code"]), (&json!(1), &json!(-31004)));
    let refused = Client::open(&edge).await.ask(&initialize("2025-06-18")).await;
    assert_eq!(refused["error"]["code"], -31004, "sessions are rationed as at /mcp");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_refused_and_loses_nothing_that_was_accepted() {
    let edge = edge(config());
    let mut client = Client::open(&edge).await;
    let ping = call(&json!(1), "ping", &json!({})).to_string();
    for _ in 0..PAIR_QUEUE_MAX {
        assert_eq!(client.send(&[], &ping).await.0, 202);
    }
    assert_eq!(client.send(&[], &ping).await.0, 503);
    for _ in 0..PAIR_QUEUE_MAX {
        assert_eq!(client.message().await["id"], 1);
    }
    client.ping(2).await;
}

#[tokio::test]
async fn s5_a_limited_token_gets_here_what_it_gets_at_mcp() {
    let tokens = vec![("ci".to_owned(), Secret::new("two"))];
    let limited = |reach| Config {
        auth: Auth { tokens: tokens.clone(), limited: vec![("ci".into(), reach)], ..Auth::default() },
        ..config()
    };
    let headers = [("accept", "text/event-stream"), ("authorization", "Bearer two")];
    let nowhere = edge(limited(Reach { profiles: Some(vec![]), ..Reach::default() }));
    let (status, body) = text(send(&nowhere, "GET", "/sse", &headers, "").await).await;
    assert!(status == 404 && body.contains("open to you"), "{status} {body}");
    let edge = edge(limited(Reach { servers: Some(vec![]), ..Reach::default() }));
    let stream = send(&edge, "GET", "/sse", &headers, "").await;
    assert_eq!(stream.status(), 200);
    let views: Vec<_> = edge.pairs.lock().values().map(|pair| pair.visitor.view.clone()).collect();
    assert_eq!(views, [edge.hub.view_at(Some("ci".into()), None).expect("open")]);
}

#[tokio::test]
async fn s5_a_stream_from_before_the_tokens_gives_a_limited_one_nothing_more() {
    let edge = edge(config());
    let client = Client::begun(&edge, "2025-06-18").await;
    let ping = call(&json!(1), "ping", &json!({})).to_string();
    let tokens = [("laptop", "one"), ("ci", "two")].map(|(name, token)| (name.to_owned(), Secret::new(token))).to_vec();
    let limited = vec![("ci".into(), Reach { servers: Some(vec![]), ..Reach::default() })];
    let guarded = Config { auth: Auth { tokens, limited, ..Auth::default() }, ..config() };
    // The stream ends only once what runs on it has ended; it can be posted to until then.
    edge.hub.reload(&guarded);
    edge.go_by(&guarded);
    let (status, text) = client.send(&[("authorization", "Bearer two")], &ping).await;
    assert!(status == 404 && text.contains("session not found"), "{status} {text}");
    assert_eq!(client.send(&[("authorization", "Bearer one")], &ping).await.0, 202, "who sees the same goes on");
}
