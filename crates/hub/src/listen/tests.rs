//! Listens before servers that never start: what is told to whom, and what of it waits.

use std::time::Duration;

use futures_util::poll;
use serde_json::json;
use trunkline_wire::Id;

use super::*;
use crate::fakes;
use crate::meta::Params;
use crate::{EventStream, Wants};

const BOTH: Wants = Wants { json: true, sse: true };

fn hub() -> Arc<Hub> {
    fakes::hub(&[("git", fakes::server())], &trunkline_config::Config::default())
}

/// A listen request with this id and filter.
async fn reply(hub: &Arc<Hub>, id: &'static str, notifications: &str) -> Reply {
    let params = format!(
        r#"{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}},"notifications":{notifications}}}"#
    );
    let params = Json::parse(params).expect("JSON");
    let envelope = Envelope::read(Params::read(Some(&params)).expect("an object")).expect("an envelope");
    let id = Id::new(Json::literal(id)).expect("an id");
    let request = Request { id, method: Method::SubscriptionsListen, params: Some(params) };
    hub.handle_modern(envelope, request, BOTH).await
}

/// An open listen, acknowledged.
async fn listen(hub: &Arc<Hub>, id: &'static str, notifications: &str) -> (EventStream, serde_json::Value) {
    let Reply::Listening { mut events, .. } = reply(hub, id, notifications).await else { panic!("no stream") };
    let first = said(&mut events).await.expect("the acknowledgement");
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    (events, first["params"].clone())
}

/// What is there to be read now.
async fn said(events: &mut EventStream) -> Option<serde_json::Value> {
    let Poll::Ready(event) = poll!(events.next()) else { return None };
    let event = event.expect("a listen has no end of its own");
    assert_eq!((event.id, event.retry_ms), (None, None), "nothing is resumed");
    Some(serde_json::from_slice(&event.data.into_bytes()).expect("JSON"))
}

fn subscription(message: &serde_json::Value) -> &serde_json::Value {
    &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
}

#[tokio::test]
async fn g35_the_acknowledgement_comes_first_with_what_will_be_told_and_the_id_as_it_was() {
    let hub = hub();
    for (id, value) in [("7", json!(7)), (r#""7""#, json!("7")), (r#""\u0041""#, json!("A"))] {
        let filter = r#"{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["x:1"],"vendorThing":true}"#;
        let (mut events, told) = listen(&hub, id, filter).await;
        assert_eq!(told["notifications"], json!({ "toolsListChanged": true }), "nobody has that resource");
        assert_eq!(told["_meta"]["io.modelcontextprotocol/subscriptionId"], value);
        hub.listens().announce(|_| vec![List::Tools]);
        let message = said(&mut events).await.expect("a notice");
        assert_eq!((&message["method"], subscription(&message)), (&json!("notifications/tools/list_changed"), &value));
    }
    let (_events, told) = listen(&hub, "1", "{}").await;
    assert_eq!(told["notifications"], json!({}));
}

#[tokio::test]
async fn g36_a_listen_hears_only_of_what_it_asked_for_and_once_of_many_changes() {
    let hub = hub();
    let (mut tools, _) = listen(&hub, "1", r#"{"toolsListChanged":true}"#).await;
    let (mut rest, _) = listen(&hub, "1", r#"{"promptsListChanged":true,"resourcesListChanged":true}"#).await;
    for _ in 0..3 {
        hub.listens().announce(|_| vec![List::Tools, List::Prompts, List::Templates]);
    }
    assert_eq!(said(&mut tools).await.expect("a notice")["method"], "notifications/tools/list_changed");
    assert_eq!(said(&mut tools).await, None);
    assert_eq!(said(&mut rest).await.expect("a notice")["method"], "notifications/prompts/list_changed");
    assert_eq!(said(&mut rest).await.expect("a notice")["method"], "notifications/resources/list_changed");
    assert_eq!(said(&mut rest).await, None);
}

/// Lets the listen `number` watch a URI, as if its server had taken the subscription.
fn watches(hub: &Hub, number: u64, own: &str, written: &str) {
    let git = fakes::git();
    let listen = hub.listens().lock().get(&number).cloned().expect("open");
    listen.lock().watched.insert((git.clone(), own.into()), written.into());
    hub.interest().join(&git, own);
}

#[tokio::test]
async fn an_update_names_the_uri_that_was_subscribed_to_and_keeps_the_rest() {
    let hub = hub();
    let Reply::Listening { mut events, number, .. } = reply(&hub, "1", "{}").await else { panic!("a stream") };
    said(&mut events).await.expect("the acknowledgement");
    watches(&hub, number, "x:1/", "git+x:1/");
    let git = fakes::git();
    let update = |uri: &str, more: &str| {
        let params = Json::parse(format!(r#"{{"uri":"{uri}"{more}}}"#)).expect("JSON");
        subscriptions::updated(&hub, &git, uri, &params);
    };
    update("x:1/deep", r#","n":1"#);
    update("x:1/deep", r#","n":2,"_meta":{"k":1}"#);
    update("y:2", "");
    let message = said(&mut events).await.expect("an update");
    assert_eq!(message["params"]["uri"], "git+x:1/", "mcp-protocol 5.5");
    assert_eq!((&message["params"]["n"], &message["params"]["_meta"]["k"]), (&json!(2), &json!(1)), "the newest alone");
    assert_eq!(subscription(&message), &json!(1));
    assert_eq!(said(&mut events).await, None);
    // Of what is too large to wait the URI is told.
    update("x:1/", &format!(r#","big":"{}""#, "x".repeat(UPDATE_BYTES_MAX)));
    let message = said(&mut events).await.expect("an update");
    assert!(message["params"].get("big").is_none() && message["params"]["uri"] == "git+x:1/", "{message}");
    assert_eq!(hub.budget().used(), 0);
}

#[tokio::test(start_paused = true)]
async fn g38_the_interest_of_a_listen_ends_with_it_after_a_grace() {
    let hub = hub();
    let git = fakes::git();
    let Reply::Listening { events: one, number, .. } = reply(&hub, "1", "{}").await else { panic!("a stream") };
    watches(&hub, number, "x:1", "x:1");
    let Reply::Listening { events: two, number, .. } = reply(&hub, "1", "{}").await else { panic!("a stream") };
    watches(&hub, number, "x:1", "x:1");
    drop(one);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(hub.interest().closest(&git, "x:1").is_some(), "the other listen is there");
    drop(two);
    assert!(hub.interest().closest(&git, "x:1").is_some(), "it may come back");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(hub.interest().closest(&git, "x:1").is_none());
    assert_eq!(hub.listening(), 0);
}

#[tokio::test]
async fn listens_are_bounded_and_a_place_comes_back() {
    let hub = hub();
    let mut open = Vec::new();
    for _ in 0..LISTENS_MAX {
        open.push(reply(&hub, "1", "{}").await);
    }
    assert_eq!(hub.listening(), LISTENS_MAX);
    let Reply::One(refused) = reply(&hub, r#""x""#, "{}").await else { panic!("an error in-band") };
    let refused: serde_json::Value = serde_json::from_slice(&refused.into_bytes()).expect("JSON");
    assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-31004), &json!("x")));
    open.pop();
    assert!(matches!(reply(&hub, "1", "{}").await, Reply::Listening { .. }));
}

#[tokio::test]
async fn g39_the_last_word_is_a_result_with_the_id_of_the_subscription() {
    let hub = hub();
    let Reply::Listening { last, .. } = reply(&hub, r#""l""#, "{}").await else { panic!("a stream") };
    let last: serde_json::Value = serde_json::from_slice(&last.into_bytes()).expect("JSON");
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("l"), &json!("complete")));
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "trunkline");
    assert!(last["result"].get("ttlMs").is_none());
}

#[tokio::test]
async fn tasks_are_told_only_to_who_can_follow_them() {
    let reply = reply(&hub(), "1", r#"{"taskIds":["t"]}"#).await;
    let Reply::Error { code, message } = reply else { panic!("an error with a status, not {reply:?}") };
    assert_eq!(code, -32021);
    let message: serde_json::Value = serde_json::from_slice(&message.into_bytes()).expect("JSON");
    let needed = json!({ "requiredCapabilities": { "extensions": { "io.modelcontextprotocol/tasks": {} } } });
    assert_eq!(message["error"]["data"], needed);
}
