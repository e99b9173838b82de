//! One server per rung of the ladder, and the sentences that people read.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trunkline_config::{Http, HttpTransport as Wanted, Secret};
use trunkline_wire::Era;

use super::*;
use crate::error::{DialErrorKind, Disposition};
use crate::transport::fakes::{
    self, Fake, Got, dial, dial_remembering, discovered, environment, event, events, json_reply, live_events, nobody,
    raw, reply, sound, status, welcome,
};

/// A server whose era is to be found out.
fn server(url: &url::Url, transport: Wanted) -> Server {
    Server { era: None, ..fakes::server(url, transport) }
}

fn server_with_token(url: &url::Url, transport: Wanted, token: &str) -> Server {
    Server { era: None, ..fakes::server_with_token(url, transport, token) }
}

async fn error_of(server: &Server) -> DialError {
    dial(server).await.err().expect("no connection")
}

/// A server of the legacy pair that answers a POST to its SSE address with `refusal`.
async fn legacy_pair(path: &'static str, refusal: u16) -> (Fake, url::Url) {
    let line = Arc::new(tokio::sync::Mutex::new(None));
    let fake = Fake::new(move |got| {
        let line = Arc::clone(&line);
        async move {
            match (got.asks(), got.path.as_str()) {
                ("GET", at) if at == path => {
                    let (sender, response) = live_events();
                    sender.send("event: endpoint\ndata: /post\n\n".to_owned()).await.expect("room");
                    *line.lock().await = Some(sender);
                    response
                }
                ("initialize", "/post") => {
                    let line = line.lock().await.clone().expect("an open stream");
                    line.send(event(&welcome(&got))).await.expect("open");
                    status(202)
                }
                (_, "/post") => status(202),
                _ => status(refusal),
            }
        }
    })
    .await;
    let url = fake.url.join(path).expect("a URL");
    (fake, url)
}

#[tokio::test]
async fn a_modern_server_is_found_with_the_first_request() {
    let fake = fakes::modern(|_| async { status(500) }).await;
    for wanted in [Wanted::Auto, Wanted::Http] {
        let dialed = dial(&server(&fake.url, wanted)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((dialed.handshake.revision, dialed.next_id), (Revision::V2026_07_28, 2));
        assert!(dialed.handshake.identity.is_some());
    }
    assert_eq!(fake.asked(), ["server/discover"; 2]);
}

#[tokio::test]
async fn g61_a_server_that_refuses_the_probe_is_greeted_without_a_trace_of_it() {
    let fake = sound(|got| async move { json_reply(&got.result(json!({}))) }).await;
    let dialed = dial(&server(&fake.url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((dialed.transport.facts().kind, dialed.next_id), ("http", 2));
    assert_eq!(fake.asked(), ["server/discover", "initialize", "notifications/initialized"]);
    assert_eq!(fake.seen()[1].header("mcp-protocol-version"), None);
    assert_eq!(fake.seen()[2].header("mcp-protocol-version"), Some("2025-11-25"));
}

#[tokio::test]
async fn g60_a_refused_post_leads_to_the_legacy_pair() {
    for refusal in [400, 404, 405, 406, 410, 415, 422, 501] {
        let (fake, url) = legacy_pair("/events", refusal).await;
        let dialed = dial(&server(&url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{refusal}: {error}"));
        assert_eq!(dialed.transport.facts().kind, "sse");
        assert_eq!(fake.asked()[..4], ["server/discover", "initialize", "GET", "initialize"]);
    }
}

#[tokio::test]
async fn a_url_that_ends_in_sse_is_tried_as_such_first() {
    let (fake, url) = legacy_pair("/sse", 405).await;
    let dialed = dial(&server(&url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(dialed.transport.facts().kind, "sse");
    assert_eq!(fake.asked()[..2], ["GET", "initialize"]);

    let streamable = sound(|_| async { status(500) }).await;
    let url = streamable.url.join("/sse").expect("a URL");
    let dialed = dial(&server(&url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(dialed.transport.facts().kind, "http");
}

#[tokio::test]
async fn g59_what_proves_nothing_leads_nowhere() {
    for code in [429, 500, 502, 503, 504] {
        let fake = Fake::new(move |_| async move { status(code) }).await;
        let error = error_of(&server(&fake.url, Wanted::Auto)).await;
        assert_eq!((error.kind, error.disposition()), (DialErrorKind::Http(code), Disposition::Backoff), "{code}");
        assert_eq!(fake.asked(), ["server/discover"], "{code}");
    }
}

#[tokio::test]
async fn the_servers_own_word_on_when_to_come_back_is_kept() {
    let fake = Fake::new(|_| async { reply(429, &[("retry-after", "17")], "") }).await;
    assert_eq!(error_of(&server(&fake.url, Wanted::Auto)).await.retry_after, Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn where_neither_transport_is_found_the_answer_to_the_post_is_told() {
    let fake = Fake::new(|got| async move { status(if got.asks() == "GET" { 406 } else { 404 }) }).await;
    let error = error_of(&server(&fake.url, Wanted::Auto)).await;
    assert_eq!((error.kind, error.disposition()), (DialErrorKind::Http(404), Disposition::Misconfigured));
    assert!(error.text.contains("`url`") && error.text.contains("[mcp_servers.fake]"), "{error}");
    assert_eq!(fake.asked(), ["server/discover", "initialize", "GET"]);
}

#[tokio::test]
async fn a_get_that_meets_a_busy_server_is_told_instead() {
    let fake = Fake::new(|got| async move { status(if got.asks() == "GET" { 503 } else { 405 }) }).await;
    assert_eq!(error_of(&server(&fake.url, Wanted::Auto)).await.disposition(), Disposition::Backoff);
}

#[tokio::test]
async fn an_explicit_transport_is_the_only_one_tried() {
    let (fake, url) = legacy_pair("/events", 405).await;
    assert_eq!(error_of(&server(&url, Wanted::Http)).await.kind, DialErrorKind::Http(405));
    assert_eq!(fake.asked(), ["server/discover", "initialize"]);
    let fake = sound(|_| async { status(500) }).await;
    assert_eq!(error_of(&server(&fake.url, Wanted::Sse)).await.kind, DialErrorKind::Http(405));
    assert_eq!(fake.asked(), ["GET"]);
}

#[tokio::test]
async fn a_local_server_that_answers_503_is_asked_about_its_switch() {
    let fake = Fake::new(|_| async { status(503) }).await;
    let error = error_of(&server(&fake.url, Wanted::Auto)).await;
    let expected = format!(
        "503 Service Unavailable from its address ({}); is the desktop app's MCP server switched on?",
        fake.url
    );
    assert_eq!(error.text, expected);
}

#[tokio::test]
async fn a_refused_credential_names_the_key_to_set() {
    for code in [401, 403] {
        let fake = Fake::new(move |_| async move { status(code) }).await;
        let bare = error_of(&server(&fake.url, Wanted::Auto)).await;
        assert_eq!(bare.disposition(), Disposition::NeedsAuth);
        assert!(bare.text.contains("no token was sent; set `bearer_token_env_var`"), "{bare}");
        let with = error_of(&server_with_token(&fake.url, Wanted::Auto, "s3cr3t")).await;
        assert!(with.text.contains("`FAKE_TOKEN` was sent and refused") && !with.text.contains("s3cr3t"), "{with}");
        let mut header = Http::new(fake.url.clone());
        header.headers = vec![("Authorization".to_owned(), Secret::new("Basic x"))];
        let header = error_of(&Server::new(Connect::Http(header))).await;
        assert!(header.text.contains("`http_headers` was sent and refused"), "{header}");
        assert_eq!(fake.asked(), ["server/discover"; 3], "G-59");
    }
}

#[tokio::test]
async fn where_nobody_listens_it_says_so() {
    let url = nobody().await;
    let error = error_of(&server(&url, Wanted::Auto)).await;
    assert_eq!((error.kind, error.disposition()), (DialErrorKind::Connect, Disposition::Backoff));
    assert!(error.text.starts_with("nothing listens at 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn what_is_no_mcp_is_shown_as_it_is() {
    let page = Fake::new(|_| async { reply(200, &[("content-type", "text/html")], "<html>Log in") }).await;
    let error = error_of(&server(&page.url, Wanted::Auto)).await;
    assert!(error.text.contains("text/html") && error.text.contains("an HTML page"), "{error}");
    let mail = error_of(&server(&raw(b"220 mail.example ESMTP\r\n").await, Wanted::Auto)).await;
    assert!(mail.text.contains("is no HTTP"), "{mail}");
}

#[tokio::test]
async fn a_redirect_elsewhere_names_the_target() {
    let fake = Fake::new(|_| async { reply(308, &[("location", "https://real.example/mcp?k=1")], "") }).await;
    let error = error_of(&server(&fake.url, Wanted::Auto)).await;
    assert!(error.text.contains("https://real.example/mcp,") && error.text.contains("`url`"), "{error}");
}

/// Answers `initialize` with `answer` of it.
async fn answering(answer: impl Fn(&Got) -> serde_json::Value + Clone + Send + Sync + 'static) -> Fake {
    Fake::new(move |got| {
        let answer = if got.asks() == "initialize" { json_reply(&answer(&got)) } else { status(202) };
        async move { answer }
    })
    .await
}

#[tokio::test]
async fn a_revision_from_elsewhere_is_not_a_connection() {
    let fake = answering(|got| got.result(json!({"protocolVersion": "2031-01-01", "capabilities": {}}))).await;
    let error = error_of(&server(&fake.url, Wanted::Auto)).await;
    assert_eq!((error.kind, error.disposition()), (DialErrorKind::Revision, Disposition::Misconfigured));
    assert!(error.text.contains("2031-01-01"), "{error}");
    assert_eq!(fake.asked(), ["server/discover", "initialize"], "not initialized, and not asked as SSE");
}

#[tokio::test]
async fn a_server_that_wants_an_older_revision_gets_it() {
    let fake = answering(|got| {
        if got.body["params"]["protocolVersion"] == "2024-11-05" {
            return welcome(got);
        }
        let data = json!({"supported": ["2024-11-05"]});
        json!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": -32602, "message": "no", "data": data}})
    })
    .await;
    let dialed = dial(&server(&fake.url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(dialed.handshake.revision, Revision::V2024_11_05);
}

#[tokio::test]
async fn a_server_that_refuses_the_handshake_is_quoted() {
    let fake = answering(
        |got| json!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": -32603, "message": "no licence"}}),
    )
    .await;
    let error = error_of(&server(&fake.url, Wanted::Auto)).await;
    assert!(error.text.contains("error -32603: no licence"), "{error}");
}

#[tokio::test]
async fn an_unaccepted_initialized_notice_does_not_matter() {
    let fake =
        Fake::new(
            |got| async move { if got.asks() == "initialize" { json_reply(&welcome(&got)) } else { status(404) } },
        )
        .await;
    assert!(dial(&server(&fake.url, Wanted::Auto)).await.is_ok());
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_with_the_key_that_raises_the_limit() {
    let fake = Fake::new(|_| async { std::future::pending().await }).await;
    let mut server = server(&fake.url, Wanted::Auto);
    server.tuning.startup_timeout = Some(Duration::from_millis(50));
    let error = error_of(&server).await;
    assert_eq!(error.kind, DialErrorKind::Timeout);
    assert!(error.text.contains("within 0.05 s") && error.text.contains("`startup_timeout_sec`"), "{error}");
    assert!(error.text.contains("`server/discover`") && error.text.contains("era = \"legacy\""), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_comes_on_its_stream_is_none() {
    let fake = Fake::new(|_| async { events(": nothing\n\n") }).await;
    let error = error_of(&server(&fake.url, Wanted::Http)).await;
    assert!(error.text.contains("ended without it"), "{error}");
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_named() {
    let mut http = Http::new("https://127.0.0.1:1/mcp".parse().expect("a URL"));
    http.ca_file = Some("/nonexistent/ca.pem".into());
    let error = error_of(&Server::new(Connect::Http(http))).await;
    assert_eq!(error.disposition(), Disposition::Misconfigured);
    assert!(error.text.contains("/nonexistent/ca.pem"), "{error}");
}

#[tokio::test]
async fn tls_that_meets_none_is_a_fault_of_tls() {
    let mut url = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    url.set_scheme("https").expect("a scheme");
    let error = error_of(&server(&url, Wanted::Auto)).await;
    assert_eq!((error.kind, error.disposition()), (DialErrorKind::Tls, Disposition::Backoff), "{error}");
}

#[tokio::test]
async fn a_child_that_is_not_there_is_no_connection() {
    let name = ServerName::new("fake").expect("a name");
    let stdio = trunkline_config::Stdio::new("/nonexistent/server", []);
    let server = Server::new(Connect::Stdio(stdio));
    let (environment, memory) = (environment(trunkline_config::Limits::default()), Mutex::default());
    let order = Order { name: &name, server: &server, first_start: true, environment: &environment, memory: &memory };
    let error = super::dial(order).await.err();
    assert!(error.expect("no connection").text.contains("/nonexistent/server"));
}

/// A server that answers the probe as `probe` says and `initialize` as a sound one.
async fn probed(probe: impl Fn(&Got) -> axum::response::Response + Clone + Send + Sync + 'static) -> Fake {
    Fake::new(move |got| {
        let answer = match got.asks() {
            "server/discover" => probe(&got),
            "initialize" => json_reply(&welcome(&got)),
            _ => status(202),
        };
        async move { answer }
    })
    .await
}

fn error(got: &Got, code: i64, supported: &[&str]) -> serde_json::Value {
    let data = json!({"supported": supported});
    json!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": code, "message": "no", "data": data}})
}

#[tokio::test]
async fn a_refusal_that_names_our_revision_is_modern_and_is_asked_once_more() {
    let refused = |code| {
        move |got: &Got| {
            let body = error(got, code, &["2026-07-28"]);
            reply(400, &[("content-type", "application/json")], body.to_string())
        }
    };
    let fake = probed(refused(-32022)).await;
    let told = error_of(&server(&fake.url, Wanted::Auto)).await;
    assert_eq!((told.kind, fake.asked().len()), (DialErrorKind::Revision, 2), "{told}");
    assert_eq!(fake.asked(), ["server/discover"; 2]);

    let fake = probed(refused(-32020)).await;
    assert!(dial(&server(&fake.url, Wanted::Auto)).await.is_ok(), "`initialize` as a last resort");
    assert_eq!(fake.asked()[..3], ["server/discover", "server/discover", "initialize"]);
}

#[tokio::test]
async fn g59_a_message_under_a_status_that_proves_nothing_is_not_read_as_evidence() {
    for code in [401, 403, 429, 503] {
        let fake = probed(move |got| reply(code, &[], error(got, -32601, &[]).to_string())).await;
        assert!(dial(&server(&fake.url, Wanted::Auto)).await.is_err(), "{code}");
        assert_eq!(fake.asked(), ["server/discover"], "{code}");
    }
}

#[tokio::test]
async fn a_legacy_server_is_probed_once() {
    let fake = probed(|_| status(404)).await;
    let memory = Mutex::default();
    for _ in 0..2 {
        assert!(dial_remembering(&server(&fake.url, Wanted::Auto), &memory).await.is_ok());
    }
    assert_eq!(fake.asked().iter().filter(|asked| *asked == "server/discover").count(), 1);

    let (fake, url) = legacy_pair("/events", 404).await;
    let memory = Mutex::default();
    for _ in 0..2 {
        assert!(dial_remembering(&server(&url, Wanted::Auto), &memory).await.is_ok());
    }
    let again: Vec<String> = fake.asked().into_iter().filter(|asked| asked != "notifications/initialized").collect();
    assert_eq!(again, ["server/discover", "initialize", "GET", "initialize", "GET", "initialize"]);
}

#[tokio::test]
async fn what_was_remembered_and_does_not_hold_is_found_out_anew() {
    let memory: Mutex<Memory> = Mutex::default();
    memory.lock().expect("sound").legacy(Way::Initialize, Instant::now());
    let fake = fakes::modern(|_| async { status(500) }).await;
    let dialed = dial_remembering(&server(&fake.url, Wanted::Auto), &memory).await;
    assert_eq!(dialed.expect("a connection").handshake.revision, Revision::V2026_07_28);
    assert_eq!(fake.asked(), ["initialize", "server/discover"]);

    let refusing = Fake::new(|got| async move {
        match got.asks() {
            "server/discover" => json_reply(&discovered(&got)),
            _ => json_reply(&error(&got, -32022, &["2026-07-28"])),
        }
    })
    .await;
    memory.lock().expect("sound").legacy(Way::Initialize, Instant::now());
    assert!(dial_remembering(&server(&refusing.url, Wanted::Auto), &memory).await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_to_be_modern_is_not_tried_otherwise() {
    let fake = sound(|_| async { status(500) }).await;
    let must = Server { era: Some(Era::Modern), ..server(&fake.url, Wanted::Auto) };
    let told = error_of(&must).await;
    assert_eq!(told.kind, DialErrorKind::Revision);
    assert!(told.text.contains("`era` in [mcp_servers.fake]") && told.text.contains("405"), "{told}");
    assert_eq!(fake.asked(), ["server/discover"]);
}
