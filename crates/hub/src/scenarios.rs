//! Faults of the catalogue (reliability 14) as a client meets them, with the clock paused: what a session hears while a
//! server takes its time, and whose answer is whose. Each test is named for its F-item or for the statement that it
//! proves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use trunkline_testkit::{Fault, Script, tool};
use trunkline_wire::Method;

use crate::fakes::{self, World, message};
use crate::{Reply, Session, Wants};

const BOTH: Wants = Wants { json: true, sse: true };

/// What clients of the TypeScript SDK wait for a sign of life, at their default.
const PATIENCE: Duration = Duration::from_mins(1);

fn value(text: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(text.as_ref()).expect("JSON")
}

/// All messages of a reply, if no two of them come further apart than `patience`.
async fn within(reply: Reply, patience: Duration) -> Vec<Value> {
    match reply {
        Reply::One(text) => vec![value(text.into_bytes())],
        Reply::Events(mut events) => {
            let mut messages = Vec::new();
            while let Some(event) = timeout(patience, events.next()).await.expect("a sign of life") {
                let text = event.data.into_bytes();
                if !text.is_empty() {
                    messages.push(value(text));
                }
            }
            messages
        }
        other @ (Reply::Accepted | Reply::Error { .. } | Reply::Listening { .. } | Reply::Refused(_)) => {
            panic!("no answer to a call: {other:?}")
        }
    }
}

async fn called(world: &World, session: &Arc<Session>, call: &Value) -> Vec<Value> {
    within(world.hub.handle(session, message(&call.to_string()), BOTH).await, PATIENCE).await
}

fn call(id: &Value, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

#[tokio::test(start_paused = true)]
async fn r35_calls_whose_clients_went_away_are_waited_for_until_they_are_cut() {
    let fault = || Fault::progress("tools/call", 3, Duration::from_secs(45));
    let world = World::new(Script { faults: vec![fault(), fault()], ..Script::default() }).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    world.hub.finished().await;
    let leave = async |id: u64| {
        let params = json!({ "name": "git__echo", "arguments": {}, "_meta": { "progressToken": id } });
        let call = call(&json!(id), &params);
        let answer = world.hub.handle(&session, message(&call.to_string()), BOTH);
        drop(timeout(Duration::from_secs(1), answer).await);
        assert_eq!(world.hub.busy().requests, 1, "it goes on");
    };
    leave(1).await;
    let begun = Instant::now();
    world.hub.finished().await;
    assert_eq!((begun.elapsed().as_secs() + 1) / 5, 27, "when its answer came");
    leave(2).await;
    let (begun, hub) = (Instant::now(), world.hub.clone());
    tokio::join!(hub.finished(), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        hub.cut();
    });
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn r07_a_client_with_a_minute_of_patience_waits_for_a_server_that_reports_progress() {
    // Half an hour of work, one report in 45 s: far beyond the idle limit of the call, and never beyond the client's.
    let steps = 40;
    let script =
        Script { faults: vec![Fault::progress("tools/call", steps, Duration::from_secs(45))], ..Script::default() };
    let world = World::new(script).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let begun = Instant::now();
    let params = json!({ "name": "git__echo", "arguments": {}, "_meta": { "progressToken": "mine" } });
    let mut messages = called(&world, &session, &call(&json!(1), &params)).await;
    assert_eq!(begun.elapsed().as_secs(), 45 * steps);
    let answer = messages.pop().expect("an answer");
    assert!(answer["result"]["content"].is_array(), "{answer}");
    assert_eq!(messages.len() as u64, steps);
    // What a client needs for its patience to begin anew: its own token, and a value that grew.
    let mut last = 0.0;
    for notice in messages {
        assert_eq!(notice["params"]["progressToken"], "mine");
        let progress = notice["params"]["progress"].as_f64().expect("a number");
        assert!(progress > last, "{notice}");
        last = progress;
    }
}

#[tokio::test(start_paused = true)]
async fn r07_a_client_with_a_minute_of_patience_waits_for_a_task_that_it_sees_nothing_of() {
    let working = r#"{"resultType":"complete","taskId":"t1","status":"working","pollIntervalMs":30000}"#;
    let created = r#"{"resultType":"task","taskId":"t1","status":"working","ttlMs":null,"pollIntervalMs":30000}"#;
    let completed = r#"{"resultType":"complete","taskId":"t1","status":"completed","result":{"content":[]}}"#;
    let modern = Script {
        modern: true,
        capabilities: Some(r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#.to_owned()),
        faults: vec![
            Fault::result("tasks/get", working).times(60),
            Fault::result("tasks/get", completed),
            Fault::result("tools/call", created),
        ],
        ..Script::default()
    };
    // Of the older design, whose server is silent while its result is asked for; the fake has none, and says so late.
    let tool = r#"{"name":"echo","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}"#;
    let legacy = Script {
        tools: vec![tool.to_owned()],
        capabilities: Some(r#"{"tools":{},"tasks":{"requests":{"tools":{"call":{}}},"cancel":{}}}"#.to_owned()),
        faults: vec![
            Fault::result("tools/call", r#"{"task":{"taskId":"t1","status":"working","ttl":null}}"#),
            Fault::result("tasks/get", r#"{"taskId":"t1","status":"input_required"}"#),
            Fault::slow("tasks/result", Duration::from_secs(200)),
        ],
        ..Script::default()
    };
    for (script, least, answered) in [(modern, 60 * 30, "result"), (legacy, 200, "error")] {
        let world = World::new(script).await;
        let session = fakes::session(&world.hub, "2025-11-25");
        let begun = Instant::now();
        let params = json!({ "name": "git__echo", "arguments": {}, "_meta": { "progressToken": "mine" } });
        let mut messages = called(&world, &session, &call(&json!(1), &params)).await;
        assert!(begun.elapsed().as_secs() >= least, "{:?}", begun.elapsed());
        let answer = messages.pop().expect("an answer");
        assert!(answer[answered].is_object(), "{answer}");
        assert!(messages.len() as u64 >= least / 30, "{messages:?}");
        for (value, notice) in (1..).zip(&messages) {
            assert_eq!(notice["params"], json!({ "progress": value, "progressToken": "mine" }));
        }
        // Who wants no progress gets none.
        let params = json!({ "name": "git__echo", "arguments": {} });
        let reply = world.hub.handle(&session, message(&call(&json!(2), &params).to_string()), BOTH).await;
        assert_eq!(within(reply, Duration::from_hours(2)).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r06_whatever_a_server_does_a_call_has_one_answer_and_it_is_the_last_word() {
    let faults = [
        Fault::silent("tools/call"),
        Fault::exit("tools/call"),
        Fault::half_line_then_exit("tools/call"),
        Fault::garbage("tools/call", b"not json\n\n{\"jsonrpc\":\"2.0\"\n"),
        Fault::reply_twice("tools/call"),
        Fault::wrong_id("tools/call"),
        Fault::id_as_string("tools/call"),
        Fault::result("tools/call", "[]"),
        Fault::error("tools/call", r#"{"code":"no number"}"#),
        Fault::large("tools/call", 1 << 20),
        Fault::progress("tools/call", 3, Duration::from_secs(1)),
        Fault::log("tools/call"),
        Fault::reply_after_cancel("tools/call"),
        Fault::ask_in_vain("tools/call", "elicitation/create"),
    ];
    for fault in faults {
        let shown = format!("{fault:?}");
        let world = World::new(Script { faults: vec![fault], ..Script::default() }).await;
        let session = fakes::session(&world.hub, "2025-11-25");
        let params = json!({ "name": "git__echo", "arguments": {}, "_meta": { "progressToken": 7 } });
        let request = message(&call(&json!("x"), &params).to_string());
        let reply = timeout(Duration::from_hours(1), world.hub.handle(&session, request, BOTH)).await.expect("a reply");
        let messages = within(reply, Duration::from_hours(1)).await;
        let answers: Vec<&Value> = messages.iter().filter(|message| message["method"].is_null()).collect();
        assert_eq!(answers.len(), 1, "{shown}: {messages:?}");
        assert_eq!(answers[0]["id"], "x", "{shown}");
        assert_eq!(messages.last(), Some(answers[0]), "{shown}: something came after the answer");
    }
}

#[tokio::test(start_paused = true)]
async fn s09_f53_fifty_clients_with_the_same_ids_each_get_their_own_answers() {
    let world = World::new(Script::default()).await;
    let clients = 50;
    let rounds = 20;
    let sessions: Vec<_> = (0..clients).map(|_| fakes::session(&world.hub, "2025-06-18")).collect();
    for round in 0..rounds {
        // The same ids for all at once, of every kind; one that no double holds.
        let id: Value = match round % 4 {
            0 => json!(round),
            1 => json!(round.to_string()),
            2 => json!(9_007_199_254_740_993_u64),
            _ => json!("ü\n"),
        };
        let calls = sessions.iter().enumerate().map(|(client, session)| {
            let nonce = format!("{client}/{round}");
            let params = json!({ "name": "git__echo", "arguments": { "nonce": nonce } });
            let request = call(&id, &params);
            let world = &world;
            async move { (nonce, called(world, session, &request).await) }
        });
        for (nonce, messages) in join_all(calls).await {
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0]["id"], id);
            assert_eq!(messages[0]["result"]["echo"]["arguments"]["nonce"], nonce);
        }
    }
    assert_eq!(world.server().seen_of("tools/call").len(), clients * rounds);
}

#[tokio::test(start_paused = true)]
async fn f24_r22_a_list_that_the_server_shuffles_keeps_its_bytes_while_nothing_else_changes() {
    let tools = ["a", "b", "c", "d"].map(tool).to_vec();
    let world = World::new(Script { tools, faults: vec![Fault::shuffled("tools/list")], ..Script::default() }).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let list = async || {
        let request = fakes::request(1, Method::ToolsList, "{}");
        let reply = world.hub.handle(&session, trunkline_wire::Message::Request(request), BOTH).await;
        let Reply::One(text) = reply else { panic!("a list is one answer: {reply:?}") };
        text.into_bytes()
    };
    let before = list().await;
    let server = world.server();
    for _ in 0..2 {
        server.notify("notifications/tools/list_changed", "{}").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(list().await, before, "the same entries are the same bytes, in whatever order");
    }
    assert_eq!(server.seen_of("tools/list").len(), 3, "it was looked at each time");
    server.exit().await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(list().await, before, "and no outage changes one");
}
