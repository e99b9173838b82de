//! Each test has a modern server with one fault, or one freedom that the protocol leaves it.

use serde_json::json;
use trunkline_config::{HttpTransport, Server};
use trunkline_wire::Era;

use super::*;
use crate::transport::fakes::{
    Fake, Fate, call, call_collecting, call_fate, dial, event, events, json_reply, live_events, modern, reply, server,
    status,
};
use crate::transport::{Dialed, FaultPoint};

async fn opened(fake: &Fake) -> Dialed {
    let server = Server { era: Some(Era::Modern), ..server(&fake.url, HttpTransport::Http) };
    dial(&server).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn g65_every_post_names_revision_and_method_and_there_is_no_session() {
    let fake = modern(|got| async move {
        let mut response = json_reply(&got.result(json!({"resultType": "complete"})));
        response.headers_mut().insert("mcp-session-id", HeaderValue::from_static("stray"));
        response
    })
    .await;
    let mut dialed = opened(&fake).await;
    call_fate(&mut dialed, 7).await;
    call_fate(&mut dialed, 8).await;
    dialed.transport.close(Duration::from_secs(1)).await;
    assert!(dialed.shared.next().await.is_none(), "the shared stream ends with our leave");
    assert_eq!(fake.asked(), ["server/discover", "tools/call", "tools/call"], "no GET and no DELETE");
    for got in fake.seen() {
        assert_eq!(got.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(got.header("mcp-method"), Some(got.asks()));
        assert_eq!(got.header("mcp-session-id"), None);
        assert_eq!(got.header("accept"), Some("application/json, text/event-stream"));
    }
    assert_eq!(
        fake.seen()[0].body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
        json!("2026-07-28"),
        "the envelope says the same"
    );
}

#[tokio::test]
async fn g65_what_a_message_wants_repeated_goes_into_headers() {
    let fake = modern(|got| async move { json_reply(&got.result(json!({}))) }).await;
    let dialed = opened(&fake).await;
    let headers = [("mcp-name", "t"), ("mcp-param-a", "=?base64?w6Q=?=")];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into();
    let sent = dialed.transport.send(Outgoing { headers, ..call(7) }).await;
    assert!(matches!(sent, Ok(Sent::Reply(_))));
    let got = &fake.seen()[1];
    assert_eq!((got.header("mcp-name"), got.header("mcp-param-a")), (Some("t"), Some("=?base64?w6Q=?=")));
}

#[tokio::test]
async fn notices_precede_the_answer_and_a_lost_one_is_not_resumed() {
    let fake = modern(|got| async move {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
        let answer = if got.body["id"] == 7 { event(&got.result(json!({}))) } else { String::new() };
        events(format!("id: 5\n{}{answer}", event(&note)))
    })
    .await;
    let mut dialed = opened(&fake).await;
    let mut before = Vec::new();
    assert!(matches!(call_collecting(&mut dialed, 7, &mut before).await, Fate::Answer(_)));
    assert_eq!(before.len(), 1);
    let lost = call_fate(&mut dialed, 8).await;
    assert_eq!(lost.fault(), Some(FaultPoint::BrokenMidway));
    assert!(lost.text().contains("ended without it"), "{}", lost.text());
    assert_eq!(fake.asked(), ["server/discover", "tools/call", "tools/call"], "no GET with a last event id");
}

#[tokio::test]
async fn dropping_the_stream_of_an_answer_closes_its_connection() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let fake = modern(move |_| {
        let told = told.clone();
        async move {
            let (sender, response) = live_events();
            trunkline_telemetry::spawn("watch", async move {
                sender.send(": here\n\n".to_owned()).await.expect("open");
                sender.closed().await;
                told.send(()).await.expect("heard");
            });
            response
        }
    })
    .await;
    let dialed = opened(&fake).await;
    let Ok(Sent::OnOwnStream(stream)) = dialed.transport.send(call(7)).await else { panic!("a stream") };
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.expect("the server saw it");
}

#[tokio::test]
async fn an_error_in_the_body_is_the_answer_also_without_an_id() {
    for (code, id) in [(400, "7"), (400, "null"), (404, "7"), (500, "7")] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32020,"message":"no"}}}}"#);
        let fake = modern(move |_| {
            let body = body.clone();
            async move { reply(code, &[("content-type", "application/json")], body) }
        })
        .await;
        let Fate::Answer(answer) = call_fate(&mut opened(&fake).await, 7).await else { panic!("{code} {id}") };
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32020)));
    }
}

#[tokio::test]
async fn a_status_without_an_answer_says_how_far_the_request_got() {
    for (code, fault) in [
        (401, FaultPoint::NeedsAuth),
        (429, FaultPoint::RefusedBeforeRun),
        (503, FaultPoint::ServerFailed),
        (404, FaultPoint::Unreadable),
        (202, FaultPoint::Unreadable),
    ] {
        let fake = modern(move |_| async move { status(code) }).await;
        assert_eq!(call_fate(&mut opened(&fake).await, 7).await.fault(), Some(fault), "{code}");
    }
    let body = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"sign in"}}"#;
    let fake = modern(move |_| async move { reply(401, &[], body) }).await;
    assert_eq!(call_fate(&mut opened(&fake).await, 7).await.fault(), Some(FaultPoint::NeedsAuth), "whatever it says");
}
