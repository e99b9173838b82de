//! Each test has a server with one fault, or one freedom that the protocol leaves it.

use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use trunkline_config::HttpTransport;
use url::Url;

use super::*;
use crate::transport::fakes::{
    Fake, Fate, Got, call, call_collecting, call_fate, connect, dial, event, live_events, reply, server, status,
    welcome,
};

/// The writing end of the stream that a fake has open.
type Line = Arc<Mutex<Option<mpsc::Sender<String>>>>;

/// A server that opens with `opening`, acknowledges each POST with `ack`, and answers on the stream.
async fn legacy(opening: &'static str, ack: u16) -> (Fake, Line) {
    let line = Line::default();
    let kept = Arc::clone(&line);
    let fake = Fake::new(move |got| {
        let kept = Arc::clone(&kept);
        async move {
            if got.method == http::Method::GET {
                let (sender, response) = live_events();
                sender.send(opening.to_owned()).await.expect("room");
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
                return response;
            }
            if let Some(answer) = answer_to(&got) {
                let sender = kept.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("an open stream");
                sender.send(event(&answer).replace('\n', "\r\n")).await.expect("open");
            }
            reply(ack, &[], if ack == 204 { "" } else { "Accepted" })
        }
    })
    .await;
    (fake, line)
}

fn answer_to(got: &Got) -> Option<Value> {
    match got.asks() {
        "initialize" => Some(welcome(got)),
        "tools/call" => Some(got.result(json!({"path": got.path}))),
        _ => None,
    }
}

fn say(line: &Line, text: &str) {
    let sender = line.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("an open stream");
    sender.try_send(text.to_owned()).expect("room");
}

#[tokio::test]
async fn the_address_may_be_announced_in_any_form_and_posts_acknowledged_in_any_way() {
    for (opening, ack, path) in [
        ("event: endpoint\ndata: /messages?s=1\n\n", 202, "/messages?s=1"),
        (": hello\r\nevent: endpoint\r\ndata: messages?s=1\r\n\r\n", 200, "/messages?s=1"),
        ("event: endpoint\rdata: ?s=1\r\r", 204, "/mcp?s=1"),
    ] {
        let (fake, _line) = legacy(opening, ack).await;
        let mut dialed = connect(&fake.url, HttpTransport::Sse).await;
        let Fate::Answer(answer) = call_fate(&mut dialed, 7).await else { panic!("{opening}") };
        assert_eq!((&answer["id"], &answer["result"]["path"]), (&json!(7), &json!(path)));
        assert_eq!(fake.asked(), ["GET", "initialize", "notifications/initialized", "tools/call"]);
        assert_eq!(fake.seen()[1].header("mcp-protocol-version"), None);
        assert_eq!(fake.seen()[3].header("mcp-protocol-version"), Some("2025-11-25"));
    }
}

#[tokio::test]
async fn an_absolute_address_of_the_same_origin_is_taken() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "GET" => {
                let host = got.header("host").expect("a host").to_owned();
                let (sender, response) = live_events();
                sender.send(format!("event: endpoint\ndata: http://{host}/post\n\n")).await.expect("room");
                trunkline_telemetry::spawn("held", async move {
                    let _sender = sender;
                    std::future::pending::<()>().await;
                });
                response
            }
            _ => status(500),
        }
    })
    .await;
    let error = dial(&server(&fake.url, HttpTransport::Sse)).await.err().expect("500");
    assert!(error.text.contains("500"), "{error}");
    assert_eq!(fake.seen()[1].path, "/post");
}

#[tokio::test]
async fn s39_an_address_elsewhere_is_refused_before_anything_is_sent_there() {
    let elsewhere = Fake::new(|_| async { status(202) }).await;
    let target = elsewhere.url.to_string();
    let fake = Fake::new(move |_| {
        let opening = format!("event: endpoint\ndata: {target}\n\n");
        async move { crate::transport::fakes::events(opening) }
    })
    .await;
    let error = dial(&server(&fake.url, HttpTransport::Sse)).await.err().expect("refused");
    assert!(error.text.contains(&elsewhere.url.to_string()), "{error}");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn s39_a_second_announcement_ends_the_connection() {
    let (fake, line) = legacy("event: endpoint\ndata: /m\n\n", 202).await;
    let mut dialed = connect(&fake.url, HttpTransport::Sse).await;
    say(&line, "event: endpoint\ndata: /m2\n\n");
    let outcome = call_fate(&mut dialed, 7).await;
    assert_eq!(outcome.fault(), Some(FaultPoint::BrokenMidway), "an acknowledged call may have run");
    assert!(dialed.shared.next().await.is_none());
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_connection() {
    let (fake, line) = legacy("event: endpoint\ndata: /m\n\n", 202).await;
    let mut dialed = connect(&fake.url, HttpTransport::Sse).await;
    *line.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let end = dialed.shared.next().await.expect("says so").expect_err("no message");
    assert_eq!(end.fault, FaultPoint::BrokenMidway);
    assert!(dialed.shared.next().await.is_none());
}

#[tokio::test]
async fn what_the_server_says_unasked_comes_on_the_stream_and_what_cannot_be_read_costs_nothing_else() {
    let (fake, line) = legacy("event: endpoint\ndata: /m\n\n", 202).await;
    let mut dialed = connect(&fake.url, HttpTransport::Sse).await;
    say(&line, "event: news\ndata: x\n\ndata:\n\n: comment\n\ndata: {oops\n\n");
    let bad = dialed.shared.next().await.expect("open").expect_err("no message");
    assert_eq!(bad.fault, FaultPoint::Unreadable);
    say(&line, &event(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})));
    let mut before = Vec::new();
    assert!(matches!(call_collecting(&mut dialed, 7, &mut before).await, Fate::Answer(_)));
    assert!(matches!(&before[..], [Message::Notification(_)]));
}

#[tokio::test]
async fn a_post_that_finds_no_session_ends_the_connection_and_did_not_run() {
    let (fake, _line) = legacy("event: endpoint\ndata: /m\n\n", 202).await;
    let refusing = Fake::new(move |got| {
        let target = fake.url.join(&got.path).expect("a URL");
        async move { if got.asks() == "tools/call" { status(404) } else { forward(&target, &got).await } }
    })
    .await;
    let mut dialed = connect(&refusing.url, HttpTransport::Sse).await;
    assert_eq!(call_fate(&mut dialed, 7).await.fault(), Some(FaultPoint::SessionGone));
    let end = dialed.shared.next().await.expect("says so").expect_err("no message");
    assert_eq!(end.fault, FaultPoint::SessionGone);
    assert!(dialed.transport.send(call(8)).await.is_err());
}

#[tokio::test]
async fn closing_ends_the_stream() {
    let (fake, _line) = legacy("event: endpoint\ndata: /m\n\n", 202).await;
    let mut dialed = connect(&fake.url, HttpTransport::Sse).await;
    dialed.transport.close(Duration::from_secs(1)).await;
    assert!(dialed.shared.next().await.is_none());
}

/// Passes a request on, so that a fake can answer some itself.
async fn forward(target: &Url, got: &Got) -> axum::response::Response {
    let address = Address::new(target.clone()).expect("a URL");
    let (proxies, connect) = (crate::transport::proxies::Proxies::default(), Duration::from_secs(10));
    let client = crate::transport::client::Client::new(&address, None, &proxies, connect).expect("a client");
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    let body = if got.body.is_null() { String::new() } else { got.body.to_string() };
    let answer =
        client.send(got.method.clone(), &address, &headers, body.into()).await.unwrap_or_else(|e| panic!("{e}"));
    let mut response = axum::response::Response::new(axum::body::Body::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove("transfer-encoding");
    response
}

proptest! {
    #[test]
    fn s39_an_announced_address_never_leads_out_of_the_origin(
        scheme in "(https?:)?", slashes in "[/\\\\]{0,3}", host in "(127\\.0\\.0\\.1|evil\\.example|u:p@127\\.0\\.0\\.1|)",
        port in "(:[0-9]{1,5})?", rest in "[ -~]{0,30}"
    ) {
        let stream = Address::new("http://127.0.0.1:8080/sse".parse().expect("a URL")).expect("an address");
        let announced = format!("{scheme}{slashes}{host}{port}{rest}");
        if let Ok(endpoint) = stream.resolve(&announced) {
            prop_assert_eq!(endpoint.url().origin(), stream.url().origin());
            prop_assert!(endpoint.url().username().is_empty() && endpoint.url().password().is_none());
        }
    }

    #[test]
    fn a_path_of_the_servers_own_is_always_taken(path in "(/[a-zA-Z0-9_~.-]{1,8}){1,4}", query in "(\\?[a-zA-Z0-9=&-]{0,20})?") {
        let stream = Address::new("https://x.example/a/sse".parse().expect("a URL")).expect("an address");
        let resolved = stream.resolve(&format!("{path}{query}"));
        prop_assert!(resolved.is_ok_and(|address| address.url().host_str() == Some("x.example")));
    }
}
