use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use trunkline_config::{HttpTransport, Limits};
use trunkline_wire::Notification;

use super::*;
use crate::transport::Dialed;
use crate::transport::fakes::{
    Fake, Fate, Got, call, call_collecting, call_fate, connect, dial, dial_within, event, events, eventually,
    json_reply, live_events, raw, reply, reply_with, server, server_with_token, sound, status, welcome,
};

async fn opened(fake: &Fake) -> Dialed {
    connect(&fake.url, HttpTransport::Http).await
}

fn answer_of(fate: &Fate) -> &Value {
    let Fate::Answer(answer) = fate else { panic!("{fate:?}") };
    answer
}

#[tokio::test]
async fn the_session_and_the_revision_go_with_every_request_after_the_first() {
    let fake = sound(|got| async move { json_reply(&got.result(json!({}))) }).await;
    let mut dialed = opened(&fake).await;
    assert_eq!(answer_of(&call_fate(&mut dialed, 7).await)["id"], 7);
    let listening = tokio::time::timeout(Duration::from_millis(100), dialed.shared.next());
    assert!(listening.await.is_err(), "without GET stream it is silent");
    dialed.transport.close(Duration::from_secs(1)).await;
    assert_eq!(fake.asked(), ["initialize", "notifications/initialized", "tools/call", "GET", "DELETE"]);
    let seen = fake.seen();
    assert_eq!((seen[0].header("mcp-session-id"), seen[0].header("mcp-protocol-version")), (None, None));
    for got in &seen[1..] {
        assert_eq!(got.header("mcp-session-id"), Some("s1"), "{}", got.asks());
        assert_eq!(got.header("mcp-protocol-version"), Some("2025-11-25"), "{}", got.asks());
    }
    assert_eq!(seen[0].header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(seen[3].header("accept"), Some("text/event-stream"));
}

#[tokio::test]
async fn a_session_id_that_comes_later_is_not_taken() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "initialize" => json_reply(&welcome(&got)),
            "tools/call" => reply_with(&[("mcp-session-id", "stray")], &got.result(json!({}))),
            _ => status(202),
        }
    })
    .await;
    let mut dialed = opened(&fake).await;
    call_fate(&mut dialed, 2).await;
    call_fate(&mut dialed, 3).await;
    assert!(fake.seen().iter().all(|got| got.header("mcp-session-id").is_none()));
    dialed.transport.close(Duration::from_secs(1)).await;
    assert!(!fake.asked().contains(&"DELETE".to_owned()), "there is no session to end");
}

#[tokio::test]
async fn the_answer_to_initialize_may_be_a_stream_with_a_ping_before_it() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "initialize" => {
                let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
                events(event(&ping) + &event(&note) + &event(&welcome(&got)))
            }
            _ => status(202),
        }
    })
    .await;
    let dialed = opened(&fake).await;
    assert_eq!(dialed.handshake.revision, Revision::V2025_11_25);
    assert!(dialed.handshake.capabilities.get("tools").is_some());
    let pong = fake.seen().into_iter().find(|got| got.body["id"] == "p").expect("answered");
    assert_eq!(pong.body["result"], json!({}));
}

#[tokio::test]
async fn notices_precede_the_answer_on_its_stream() {
    let fake = sound(|got| async move {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
        events(event(&note) + ": comment\n\n" + &event(&got.result(json!({"x": 1}))))
    })
    .await;
    let mut dialed = opened(&fake).await;
    let mut before = Vec::new();
    let fate = call_collecting(&mut dialed, 5, &mut before).await;
    assert_eq!(answer_of(&fate)["result"], json!({"x": 1}));
    assert!(matches!(&before[..], [Message::Notification(Notification { method: Method::Progress, .. })]));
}

#[tokio::test]
async fn answers_on_streams_do_not_cost_a_connection_each() {
    let fake = sound(|got| async move {
        let (sender, response) = live_events();
        trunkline_telemetry::spawn("late end", async move {
            sender.send(event(&got.result(json!({})))).await.expect("read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
        response
    })
    .await;
    let mut dialed = opened(&fake).await;
    for id in 2..6 {
        call_fate(&mut dialed, id).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let connections: std::collections::BTreeSet<_> = fake.seen().iter().map(|got| got.from).collect();
    assert_eq!(connections.len(), 1);
}
