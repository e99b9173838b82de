//! The gateway as a client of HTTP servers (mcp-protocol 4, G-60 to G-66), seen from the server.

use crate::harness::client::{fault_of, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::Fake;
use crate::harness::until;

async fn with(upstream: &Fake, more: &str) -> Daemon {
    let home = Home::new();
    home.configure(&(upstream.block() + more));
    let daemon = home.serve().await;
    daemon.until_ready(&["remote"]).await;
    daemon
}

#[tokio::test]
async fn every_request_after_initialize_carries_session_and_revision() {
    // G-61.
    let upstream = Fake::start("http", "remote", &["--revision", "2025-06-18"]).await;
    let daemon = with(&upstream, "").await;
    daemon.client().await.call("remote__echo", r#"{"message":"x"}"#).await;
    let received = upstream.desk.received();
    let posts: Vec<_> = received.iter().filter(|request| request["verb"] == "POST").collect();
    let opening = posts.iter().position(|post| post["body"]["method"] == "initialize").expect("an initialize");
    assert!(posts[opening]["headers"]["mcp-session-id"].is_null());
    assert_ne!(posts[opening]["headers"]["mcp-protocol-version"], "2026-07-28");
    for post in &posts[opening + 1..] {
        assert_eq!(post["headers"]["mcp-session-id"], "fake-session-1", "{post}");
        assert_eq!(post["headers"]["mcp-protocol-version"], "2025-06-18", "{post}");
        let accept = post["headers"]["accept"].as_str().expect("an accept header");
        assert!(accept.contains("application/json") && accept.contains("text/event-stream"), "{post}");
    }
    assert_eq!(posts[opening]["body"]["params"]["clientInfo"]["name"], "trunkline");
}

#[tokio::test]
async fn a_forgotten_session_is_opened_anew_once_and_the_call_repeated_once() {
    // G-62, F-13.
    let upstream = Fake::start("http", "remote", &[]).await;
    let daemon = with(&upstream, "").await;
    let client = daemon.client().await;
    upstream.desk.forget_sessions();
    let result = client.call("remote__effect", r#"{"nonce":"once"}"#).await;
    assert_eq!(text_of(&result), "once");
    assert_eq!(upstream.desk.lines("effects"), ["once"]);
    let received = upstream.desk.received();
    let openings = received.iter().filter(|request| request["body"]["method"] == "initialize").count();
    assert_eq!(openings, 2);
    assert_eq!(client.call("remote__echo", r#"{"message":"on"}"#).await["content"][0]["text"], "on");
}

#[tokio::test]
async fn a_server_without_get_stream_or_session_is_fine() {
    // G-63, F-12.
    let upstream = Fake::start("http", "remote", &["--no-get", "--no-session"]).await;
    let daemon = with(&upstream, "").await;
    assert_eq!(text_of(&daemon.client().await.call("remote__echo", r#"{"message":"fine"}"#).await), "fine");
    let gets = upstream.desk.received().iter().filter(|request| request["verb"] == "GET").count();
    assert!(gets <= 1, "405 is remembered: {gets}");
    assert_eq!(daemon.server("remote").await["state"], "ready");
}

#[tokio::test]
async fn a_call_whose_stream_broke_is_not_sent_again() {
    // G-64, F-5, F-17.
    let upstream = Fake::start("http", "remote", &[]).await;
    let daemon = with(&upstream, "").await;
    let client = daemon.client().await;
    let result = client.call("remote__half", r#"{"ms":1}"#).await;
    let fault = fault_of(&result);
    assert_eq!((fault["code"].as_i64(), fault["outcome"].as_str()), (Some(-31002), Some("unknown")), "{result}");
    let received = upstream.desk.received();
    let calls = received.iter().filter(|request| request["body"]["params"]["name"] == "half").count();
    assert_eq!(calls, 1);
    assert!(daemon.metric("trunkline_outcome_unknown_total", &["server=\"remote\""]).await >= 1.0);
}

#[tokio::test]
async fn a_server_that_dies_after_the_effect_is_not_asked_again() {
    // F-17 on pipes.
    let home = Home::new();
    let (block, desk) = crate::harness::fake::stdio(&home, "local", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["local"]).await;
    let client = daemon.client().await;
    for round in 1..=3 {
        daemon.until_ready(&["local"]).await;
        let result = client.call("local__effect", r#"{"nonce":"n","die":1}"#).await;
        assert_eq!(fault_of(&result)["code"], -31002, "{result}");
        assert_eq!(desk.lines("effects").len(), round);
    }
}

#[tokio::test]
async fn a_resumable_stream_is_resumed() {
    let upstream = Fake::start("http", "remote", &["--resumable"]).await;
    let daemon = with(&upstream, "").await;
    let result = daemon.client().await.call("remote__half", "{}").await;
    assert_eq!(text_of(&result), "whole after all");
    let received = upstream.desk.received();
    let resumed = received.iter().find(|request| request["headers"]["last-event-id"].is_string());
    assert!(resumed.is_some_and(|request| request["verb"] == "GET"), "{received:#?}");
}

#[tokio::test]
async fn answers_as_streams_are_answers_too() {
    let upstream = Fake::start("http", "remote", &["--streams"]).await;
    let daemon = with(&upstream, "").await;
    assert_eq!(text_of(&daemon.client().await.call("remote__echo", r#"{"message":"as SSE"}"#).await), "as SSE");
}

#[tokio::test]
async fn s13_configured_credentials_reach_the_server_and_a_clients_do_not() {
    // G-66.
    let upstream = Fake::start("http", "remote", &["--bearer", "s3cret-token"]).await;
    let home = Home::new();
    home.configure(&format!(
        "{}bearer_token_env_var = \"REMOTE_TOKEN\"\nhttp_headers = {{ X-Team = \"red\" }}\n",
        upstream.block()
    ));
    let daemon = home.serve_with(&[], &[("REMOTE_TOKEN", "s3cret-token")]).await;
    daemon.until_ready(&["remote"]).await;
    let client = daemon.client().await;
    let mut headers = client.headers();
    headers.extend([("authorization", "Bearer canary"), ("cookie", "canary=1"), ("baggage", "canary=1")]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"remote__echo","arguments":{"message":"x"},"_meta":{"vendor.example/key":"kept","baggage":"canary=1"}}}"#;
    let connection = crate::harness::http::connect(daemon.address()).await;
    let reply = crate::harness::http::send(connection, "POST", "/mcp", &headers, body).await;
    assert_eq!(reply.status, 200);
    let _ = reply.text().await;
    for line in upstream.desk.lines("received") {
        assert!(!line.contains("canary"), "{line}");
    }
    let received = upstream.desk.received();
    let call = received.iter().find(|request| request["body"]["method"] == "tools/call").expect("the call");
    assert_eq!(call["headers"]["x-team"], "red");
    assert_eq!(call["body"]["params"]["name"], "echo", "the server's own name");
    assert_eq!(call["body"]["params"]["_meta"]["vendor.example/key"], "kept");
    let everything = daemon.home.log() + &daemon.metrics().await + &daemon.health().await.to_string();
    assert!(!everything.contains("s3cret-token"), "the token leaked");
}

#[tokio::test]
async fn the_sse_transport_is_found_out_by_itself() {
    // G-60 without the probe: POST is refused with 405, GET gives the endpoint.
    let upstream = Fake::start("sse", "remote", &[]).await;
    let daemon = with(&upstream, "").await;
    assert_eq!(daemon.server("remote").await["transport"], "sse");
}

#[tokio::test]
async fn an_sse_server_that_restarts_is_connected_again() {
    let mut upstream = Fake::start("sse", "remote", &[]).await;
    let daemon = with(&upstream, "transport = \"sse\"\n").await;
    let address = upstream.address();
    upstream.process.end();
    let _again = Fake::start("sse", "remote", &["--listen", &address]).await;
    let client = daemon.client().await;
    until("a call to work again", async || {
        let result = client.call("remote__echo", r#"{"message":"again"}"#).await;
        (result["content"][0]["text"] == "again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_session_is_deleted_at_the_end() {
    let upstream = Fake::start("http", "remote", &[]).await;
    let daemon = with(&upstream, "").await;
    daemon.stop().await;
    let received = upstream.desk.received();
    let last = received.last().expect("requests");
    assert_eq!((last["verb"].as_str(), &last["headers"]["mcp-session-id"]), (Some("DELETE"), &"fake-session-1".into()));
}
