//! A modern client and a modern server with tasks, through the hub.

use std::sync::Arc;

use serde_json::Value;
use trunkline_testkit::{Fault as Deed, Script};
use trunkline_wire::Message;

use super::*;
use crate::envelope::Envelope;
use crate::fakes::{self, World};
use crate::meta::Params;
use crate::{Hub, View, Wants};

const BOTH: Wants = Wants { json: true, sse: true };
const FOLLOWS: &str = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
const CALL: &str = r#"{"name":"git__echo","arguments":{}"#;
const CREATED: &str =
    r#"{"resultType":"task","taskId":"t/1","status":"working","ttlMs":null,"pollIntervalMs":5e1,"x/y":1.0}"#;
const ASKING: &str = r#"{"resultType":"complete","taskId":"t/1","status":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"message":"Which?","requestedSchema":{}}}}}"#;
const COMPLETED: &str =
    r#"{"resultType":"complete","taskId":"t/1","status":"completed","result":{"content":[],"n":1e2}}"#;

/// A server whose task goes through these states, and stays in the last.
fn script(states: &[&'static str]) -> Script {
    let (last, before) = states.split_last().expect("a state");
    let mut faults: Vec<Deed> = before.iter().map(|state| Deed::result("tasks/get", state).times(1)).collect();
    faults.extend([Deed::result("tasks/get", last), Deed::result("tools/call", CREATED)]);
    faults.extend(["tasks/update", "tasks/cancel"].map(|method| Deed::result(method, "{}")));
    let capabilities = r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#;
    Script { modern: true, capabilities: Some(capabilities.to_owned()), faults, ..Script::default() }
}

/// Asks as a client of these capabilities; `params` lack their last brace. Returns the whole answer, and the code that a
/// transport is told.
async fn ask(hub: &Arc<Hub>, method: &str, params: &str, capabilities: &str) -> (Value, Option<i64>) {
    ask_of(hub, None, method, params, capabilities).await
}

/// The same, with the token of `owner`.
async fn ask_of(
    hub: &Arc<Hub>,
    owner: Option<&str>,
    method: &str,
    params: &str,
    capabilities: &str,
) -> (Value, Option<i64>) {
    let comma = if params == "{" { "" } else { "," };
    let params = format!(
        r#"{params}{comma}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}}}}}"#
    );
    let request = fakes::request(7, Method::from(method), &params);
    let envelope = Envelope::read(Params::read(request.params.as_ref()).expect("an object")).expect("an envelope");
    let envelope = envelope.of(owner.map(Into::into), View::WHOLE);
    let (text, code) = match hub.handle_modern(envelope, request, BOTH).await {
        Reply::One(text) => (text, None),
        Reply::Error { code, message } => (message, Some(code)),
        Reply::Accepted | Reply::Events(_) | Reply::Listening { .. } | Reply::Refused(_) => {
            panic!("one message is expected")
        }
    };
    let answer: Value = serde_json::from_slice(&text.into_bytes()).expect("JSON");
    assert_eq!(answer["id"], 7);
    (answer, code)
}

/// Calls the tool; returns the task's name toward the client.
async fn task(world: &World) -> String {
    let (answer, _) = ask(&world.hub, "tools/call", CALL, FOLLOWS).await;
    answer["result"]["taskId"].as_str().expect("a task").to_owned()
}

/// The result of a request about a task.
async fn about(world: &World, method: &str, token: &str, more: &str) -> Value {
    let (answer, _) = ask(&world.hub, method, &format!(r#"{{"taskId":"{token}"{more}"#), FOLLOWS).await;
    assert!(answer["error"].is_null(), "{answer}");
    answer["result"].clone()
}

/// What the server was sent last by this method.
fn received(world: &World, method: &str) -> Object {
    let all = world.server().seen_of(method);
    let Some(Message::Request(request)) = all.last() else { panic!("no {method}") };
    request.params().expect("an object")
}

#[tokio::test(start_paused = true)]
async fn a_task_crosses_under_a_sealed_name_and_is_reached_by_it() {
    // mcp-protocol 5.14, pass-through.
    let world = World::new(script(&[COMPLETED])).await;
    let (answer, _) = ask(&world.hub, "tools/call", CALL, FOLLOWS).await;
    let created = &answer["result"];
    let token = created["taskId"].as_str().expect("a name");
    assert!(token.starts_with("tl1.task."), "{token}");
    assert_eq!((&created["resultType"], &created["status"]), (&"task".into(), &"working".into()), "{created}");
    assert!(created["ttlMs"].is_null() && created.get("cacheScope").is_none(), "no word about caches: {created}");
    assert_eq!(created["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "trunkline");

    let state = about(&world, "tasks/get", token, "").await;
    assert_eq!((&state["taskId"], &state["status"]), (&token.into(), &"completed".into()));
    assert_eq!(state["result"], json!({ "content": [], "n": 100.0 }));
    assert_eq!(received(&world, "tasks/get").get_str("taskId").as_deref(), Some("t/1"));

    let answers = r#","inputResponses":{"k":{"action":"accept","content":{"n":1.50}}}"#;
    assert_eq!(about(&world, "tasks/update", token, answers).await["resultType"], "complete");
    let told = received(&world, "tasks/update");
    assert_eq!(told.get_str("taskId").as_deref(), Some("t/1"));
    let said = told.get("inputResponses").expect("the answers").as_bytes();
    assert_eq!(said, br#"{"k":{"action":"accept","content":{"n":1.50}}}"#, "as the client wrote them");
    assert_eq!(about(&world, "tasks/cancel", token, "").await["resultType"], "complete");
    assert_eq!(received(&world, "tasks/cancel").get_str("taskId").as_deref(), Some("t/1"));
    let declared = received(&world, "tasks/cancel").get_object("_meta").expect("an envelope");
    let declared = declared.get_object("io.modelcontextprotocol/clientCapabilities").expect("an object");
    assert!(declared.get_object("extensions").is_some_and(|it| it.get(extensions::TASKS).is_some()));
}

#[tokio::test(start_paused = true)]
async fn what_a_task_asks_names_its_server_as_every_question_does() {
    let world = World::new(script(&[ASKING])).await;
    let token = task(&world).await;
    let state = about(&world, "tasks/get", &token, "").await;
    assert_eq!(state["inputRequests"]["k"]["params"]["message"], "[git] Which?", "{state}");
    // Whoever cannot be asked is not shown a question (mcp-protocol 5.10).
    let bare = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let (answer, _) = ask(&world.hub, "tasks/get", &format!(r#"{{"taskId":"{token}""#), bare).await;
    assert_eq!(answer["error"]["code"], -31007, "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("`elicitation`")), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_gateway_did_not_give_reaches_nobody() {
    let world = World::new(script(&[COMPLETED])).await;
    let token = task(&world).await;
    let pass = world.hub.sealer().seal(&State::Pass { server: "git".into(), inner: "t/1".into() }, None);
    let gone = world.hub.sealer().seal(&State::Task { server: "gone".into(), inner: "t/1".into() }, None);
    for foreign in ["t/1", &format!("{token}x"), &pass, &gone, ""] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let (answer, code) = ask(&world.hub, method, &format!(r#"{{"taskId":"{foreign}""#), FOLLOWS).await;
            assert_eq!((&answer["error"]["code"], code), (&json!(-32602), None), "{method} {foreign}: {answer}");
            assert!(world.server().seen_of(method).is_empty());
        }
    }
    for params in ["{", r#"{"taskId":7"#] {
        let (answer, _) = ask(&world.hub, "tasks/get", params, FOLLOWS).await;
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("`taskId`")), "{answer}");
    }
    let odd = format!(r#"{{"taskId":"{token}","inputResponses":[]"#);
    assert_eq!(ask(&world.hub, "tasks/update", &odd, FOLLOWS).await.0["error"]["code"], -32602);
    // And a task's name is nobody's `requestState`.
    let state = format!(r#"{CALL},"requestState":"{token}""#);
    assert_eq!(ask(&world.hub, "tools/call", &state, FOLLOWS).await.0["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn s08_a_task_is_its_owners_alone() {
    let world = World::new(script(&[COMPLETED])).await;
    let (answer, _) = ask_of(&world.hub, Some("laptop"), "tools/call", CALL, FOLLOWS).await;
    let token = answer["result"]["taskId"].as_str().expect("a task").to_owned();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let about = |task: &str| format!(r#"{{"taskId":"{task}""#);
        let refused = ask_of(&world.hub, Some("ci"), method, &about(&token), FOLLOWS).await;
        assert_eq!(refused.0["error"]["code"], -32602, "{method}: {}", refused.0);
        assert_eq!(refused, ask_of(&world.hub, Some("ci"), method, &about("made up"), FOLLOWS).await);
        assert!(world.server().seen_of(method).is_empty());
        let (own, _) = ask_of(&world.hub, Some("laptop"), method, &about(&token), FOLLOWS).await;
        assert!(own.get("error").is_none(), "{method}: {own}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_capability_a_request_about_a_task_is_refused_and_says_what_it_needs() {
    // mcp-protocol 3.4 step 9.
    let world = World::new(script(&[COMPLETED])).await;
    let token = task(&world).await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let (answer, code) = ask(&world.hub, method, &format!(r#"{{"taskId":"{token}""#), "{}").await;
        assert_eq!((&answer["error"]["code"], code), (&json!(-32021), Some(-32021)));
        let needed = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
        assert_eq!(answer["error"]["data"]["requiredCapabilities"], needed);
        assert!(world.server().seen_of(method).is_empty());
    }
    // Methods of the other design stay unknown.
    let (_, code) = ask(&world.hub, "tasks/result", &format!(r#"{{"taskId":"{token}""#), FOLLOWS).await;
    assert_eq!(code, Some(-32601));
}

#[tokio::test(start_paused = true)]
async fn g78_a_client_that_did_not_declare_the_extension_sees_a_call() {
    let world = World::new(script(&[COMPLETED])).await;
    let params = format!("{CALL}}}");
    let request = Message::Request(fakes::request(7, Method::ToolsCall, &params));
    let session = fakes::session(&world.hub, "2025-11-25");
    let Reply::One(text) = world.hub.handle(&session, request, Wants { json: true, sse: false }).await else {
        panic!("one message")
    };
    let answer: Value = serde_json::from_slice(&text.into_bytes()).expect("JSON");
    assert_eq!(answer["result"], json!({ "content": [], "n": 100.0 }));
    // A legacy session has no such methods.
    let get = Message::Request(fakes::request(8, Method::TasksGet, r#"{"taskId":"t/1"}"#));
    let Reply::One(text) = world.hub.handle(&session, get, BOTH).await else { panic!("one message") };
    let answer: Value = serde_json::from_slice(&text.into_bytes()).expect("JSON");
    assert_eq!(answer["error"]["code"], -32601);
}

#[tokio::test(start_paused = true)]
async fn a_task_without_a_name_is_a_fault_of_its_server() {
    let mut script = script(&[COMPLETED]);
    script.faults = vec![Deed::result("tools/call", r#"{"resultType":"task","status":"working"}"#)];
    let world = World::new(script).await;
    let (answer, _) = ask(&world.hub, "tools/call", CALL, FOLLOWS).await;
    let fault = &answer["result"]["_meta"]["dev.trunkline/fault"];
    assert_eq!((&answer["result"]["isError"], &fault["code"]), (&true.into(), &json!(-31007)), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn discover_names_the_relayed_extensions_and_none_where_there_is_none() {
    // mcp-protocol 5.15.
    let extensions = async |world: &World| {
        let (answer, _) = ask(&world.hub, "server/discover", "{", "{}").await;
        answer["result"]["capabilities"].get("extensions").cloned()
    };
    let world = World::new(script(&[COMPLETED])).await;
    assert_eq!(extensions(&world).await, Some(json!({ "io.modelcontextprotocol/tasks": {} })));
    assert_eq!(extensions(&World::new(Script { modern: true, ..Script::default() }).await).await, None);
    // A legacy server's word about an extension of 2026-07-28 counts for nothing.
    let capabilities = Some(r#"{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#.to_owned());
    assert_eq!(extensions(&World::new(Script { capabilities, ..Script::default() }).await).await, None);
}
