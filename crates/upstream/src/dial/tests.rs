//! One server per rung of the ladder, and the sentences that people read.

use serde_json::json;
use trunkline_config::Secret;

use super::*;
use crate::error::Disposition;
use crate::transport::fakes::{
    Fake, Got, dial, environment, event, events, json_reply, live_events, nobody, raw, reply, server,
    server_with_token, sound, status, welcome,
};

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
async fn streamable_http_is_found_with_the_first_request() {
    let fake = sound(|got| async move { json_reply(&got.result(json!({}))) }).await;
    let dialed = dial(&server(&fake.url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((dialed.transport.facts().kind, dialed.next_id), ("http", 2));
    assert_eq!(fake.asked(), ["initialize", "notifications/initialized"]);
}

#[tokio::test]
async fn a_refused_post_leads_to_the_legacy_pair() {
    for refusal in [400, 404, 405, 406, 410, 415, 422, 501] {
        let (fake, url) = legacy_pair("/events", refusal).await;
        let dialed = dial(&server(&url, Wanted::Auto)).await.unwrap_or_else(|error| panic!("{refusal}: {error}"));
        assert_eq!(dialed.transport.facts().kind, "sse");
        assert_eq!(fake.asked()[..3], ["initialize", "GET", "initialize"]);
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
async fn what_proves_nothing_never_leads_to_sse() {
    for code in [429, 500, 502, 503, 504] {
        let fake = Fake::new(move |_| async move { status(code) }).await;
        let error = error_of(&server(&fake.url, Wanted::Auto)).await;
        assert_eq!((error.kind, error.disposition()), (DialErrorKind::Http(code), Disposition::Backoff), "{code}");
        assert_eq!(fake.asked(), ["initialize"], "{code}");
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
    assert_eq!(fake.asked(), ["initialize", "GET"]);
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
    assert_eq!(fake.asked(), ["initialize"]);
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
        assert_eq!(fake.asked(), ["initialize"; 3]);
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
    assert_eq!(fake.asked(), ["initialize"], "not initialized, and not asked as SSE");
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
    let error = super::dial(&name, &server, true, &environment(trunkline_config::Limits::default())).await.err();
    assert!(error.expect("no connection").text.contains("/nonexistent/server"));
}
