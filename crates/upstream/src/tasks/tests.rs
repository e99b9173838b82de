//! Servers of both designs on pipes; whoever calls sees a call.

use trunkline_testkit::{Fault, Handle, Script};
use trunkline_wire::{Abilities, Message, Revision};

use super::*;
use crate::call::{Ask, Call, CallEvent, CallerFacts};
use crate::error::CallErrorKind;
use crate::fakes::{World, echo};
use crate::questions::CallerId;

const CREATED: &str = r#"{"resultType":"task","taskId":"t1","status":"working","ttlMs":null,"pollIntervalMs":2000}"#;
const WORKING: &str = r#"{"resultType":"complete","taskId":"t1","status":"working"}"#;
const COMPLETED: &str =
    r#"{"resultType":"complete","taskId":"t1","status":"completed","result":{"content":[],"x":1.0}}"#;
const ASKING: &str = r#"{"resultType":"complete","taskId":"t1","status":"input_required",
    "inputRequests":{"e":{"method":"elicitation/create","params":{"message":"m"}}}}"#;

/// A modern server whose task goes through these states, and stays in the last.
fn modern(states: &[&'static str]) -> Script {
    let capabilities = format!(r#"{{"tools":{{}},"extensions":{{"{TASKS}":{{}}}}}}"#);
    let (last, before) = states.split_last().expect("a state");
    let mut faults: Vec<Fault> = before.iter().map(|state| Fault::result("tasks/get", state).times(1)).collect();
    faults.extend([Fault::result("tasks/get", last), Fault::result("tools/call", CREATED)]);
    faults.extend(["tasks/update", "tasks/cancel"].map(|method| Fault::result(method, "{}")));
    Script { modern: true, capabilities: Some(capabilities), faults, ..Script::default() }
}

/// A server of 2025-11-25 whose tool wants to be a task, which goes through these states.
fn legacy(states: &[&'static str]) -> Script {
    let capabilities = r#"{"tools":{},"tasks":{"requests":{"tools":{"call":{}}},"cancel":{}}}"#;
    let tool = r#"{"name":"echo","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}"#;
    let created = r#"{"task":{"taskId":"t1","status":"working","ttl":null,"pollInterval":500}}"#;
    let result = r#"{"content":[],"x":1.0,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"}}}"#;
    let mut faults: Vec<Fault> = states.iter().map(|state| Fault::result("tasks/get", state).times(1)).collect();
    faults.extend([Fault::result("tools/call", created), Fault::result("tasks/cancel", "{}")]);
    faults.push(Fault::result("tasks/result", result));
    Script { tools: vec![tool.to_owned()], capabilities: Some(capabilities.to_owned()), faults, ..Script::default() }
}

/// A call of somebody who can fill in forms.
async fn called(world: &World) -> Call {
    called_by(world, r#"{"elicitation":{}}"#).await
}

/// A call of somebody with these capabilities.
async fn called_by(world: &World, capabilities: &'static str) -> Call {
    let declared = Object::parse(&Json::literal(capabilities)).expect("an object");
    let abilities = Arc::new(Abilities::read(&declared, Revision::V2026_07_28));
    let caller = CallerFacts { id: CallerId(1), abilities, ..CallerFacts::default() };
    world.is("ready").await;
    world.upstream().call(Ask { caller, ..echo() }).await.expect("sent")
}

/// The ids of the requests that the server was told to forget.
fn withdrawn(server: &Handle) -> Vec<Json> {
    let told = server.seen_of("notifications/cancelled").into_iter().map(|message| {
        let Message::Notification(notice) = message else { panic!("a notification") };
        notice.params().expect("an object").get("requestId").expect("an id").clone()
    });
    told.collect()
}

fn id(request: &Message) -> Json {
    request.id().expect("a request").json().clone()
}

fn params(message: &Message) -> Object {
    let Message::Request(request) = message else { panic!("a request") };
    request.params().expect("an object")
}

#[tokio::test(start_paused = true)]
async fn g78_a_task_of_the_extension_is_followed_and_its_result_is_that_of_the_call() {
    let world = World::new(modern(&[WORKING, WORKING, COMPLETED]));
    let mut call = called(&world).await;
    let begun = Instant::now();
    let CallEvent::Done(Ok(result)) = call.next().await else { panic!("a result") };
    assert_eq!(result, Json::literal(r#"{"content":[],"x":1.0}"#));
    assert!((6000..=7300).contains(&begun.elapsed().as_millis()), "as often as the server wants, and a little later");
    let server = world.server();
    let told = params(&server.seen_of("tools/call")[0]).get_object("_meta").expect("an envelope");
    let told = told.get_object(key::CLIENT_CAPABILITIES).expect("capabilities");
    assert!(told.get_object("extensions").is_some_and(|known| known.get(TASKS).is_some()));
    assert_eq!(params(&server.seen_of("tasks/get")[2]).get_str("taskId").as_deref(), Some("t1"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.seen_of("tasks/cancel").is_empty());
}

#[tokio::test(start_paused = true)]
async fn g78_who_declared_the_extension_gets_the_task_and_nobody_looks_at_it_or_cancels_it() {
    let world = World::new(modern(&[WORKING]));
    let mut call = called_by(&world, r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#).await;
    let CallEvent::Done(Ok(result)) = call.next().await else { panic!("a result") };
    assert_eq!(result, Json::literal(CREATED));
    drop(call);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let server = world.server();
    assert!(server.seen_of("tasks/get").is_empty() && server.seen_of("tasks/cancel").is_empty());
    assert!(world.upstream().offer().extensions.get(TASKS).is_some(), "its offer says so");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_failed_is_an_error_of_the_server() {
    let failed = r#"{"taskId":"t1","status":"failed","error":{"code":-7,"message":"no"}}"#;
    let world = World::new(modern(&[failed]));
    let CallEvent::Done(Err(error)) = called(&world).await.next().await else { panic!("an error") };
    assert_eq!(error, Json::literal(r#"{"code":-7,"message":"no"}"#));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_asks_is_answered_by_an_update_and_goes_on() {
    let world = World::new(modern(&[ASKING, COMPLETED]));
    let mut call = called(&world).await;
    let CallEvent::Asked(asked) = call.next().await else { panic!("asked") };
    assert_eq!((&*asked.questions[0].key, asked.held), ("e", true), "the task is kept");
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(call.answer("e", Ok(Json::literal(r#"{"action":"decline"}"#))));
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("a result") };
    let update = params(&world.server().seen_of("tasks/update")[0]);
    assert_eq!(update.get_str("taskId").as_deref(), Some("t1"));
    assert_eq!(update.get("inputResponses"), Some(&Json::literal(r#"{"e":{"action":"decline"}}"#)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_has_the_task_cancelled_in_whatever_state() {
    for script in [modern(&[WORKING]), modern(&[ASKING]), legacy(&[r#"{"status":"working"}"#; 20])] {
        let world = World::new(script);
        let mut call = called(&world).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), call.next()).await;
        drop(call);
        let server = world.server();
        let cancel = params(&server.saw("tasks/cancel", 1).await);
        assert_eq!(cancel.get_str("taskId").as_deref(), Some("t1"));
        // A look that was under way is withdrawn by its own id.
        let call = server.seen_of("tools/call")[0].clone();
        assert!(!withdrawn(&server).contains(&id(&call)), "a task is not cancelled so");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_during_a_look_has_the_look_withdrawn_and_the_task_cancelled() {
    for mut script in [modern(&[WORKING]), legacy(&[])] {
        script.faults.insert(0, Fault::silent("tasks/get"));
        let world = World::new(script);
        let mut call = called(&world).await;
        let server = world.server();
        let look = tokio::select! {
            biased;
            look = server.saw("tasks/get", 1) => look,
            _ = call.next() => panic!("nothing can come of it yet"),
        };
        drop(call);
        let cancel = params(&server.saw("tasks/cancel", 1).await);
        assert_eq!(cancel.get_str("taskId").as_deref(), Some("t1"));
        server.saw("notifications/cancelled", 1).await;
        assert_eq!(withdrawn(&server), [id(&look)], "the look alone; a task is not cancelled so");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_the_server_cancelled_or_lost_has_an_unknown_outcome() {
    for state in [r#"{"status":"cancelled"}"#, r#"{"status":"completed"}"#, r#"{"status":"napping"}"#] {
        let world = World::new(modern(&[state]));
        let CallEvent::Failed(error) = called(&world).await.next().await else { panic!("failed") };
        assert_eq!(error.kind, CallErrorKind::OutcomeUnknown, "{state}: {}", error.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_has_the_time_of_a_call() {
    let world = World::new(modern(&[WORKING]));
    let mut call = called(&world).await;
    let begun = Instant::now();
    let CallEvent::Failed(error) = call.next().await else { panic!("failed") };
    assert_eq!((error.kind, begun.elapsed().as_secs()), (CallErrorKind::Timeout, 3600), "each look is a sign of life");
    world.server().saw("tasks/cancel", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_has_to_be_a_task_is_called_as_one_and_its_result_bears_no_trace() {
    let world = World::new(legacy(&[r#"{"status":"working"}"#, r#"{"status":"completed"}"#]));
    let CallEvent::Done(Ok(result)) = called(&world).await.next().await else { panic!("a result") };
    assert_eq!(result, Json::literal(r#"{"content":[],"x":1.0}"#));
    let server = world.server();
    assert_eq!(params(&server.seen_of("tools/call")[0]).get("task"), Some(&Json::literal("{}")));
    assert_eq!((server.seen_of("tasks/get").len(), server.seen_of("tasks/result").len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_legacy_task_asks_comes_while_its_result_is_awaited() {
    let mut script = legacy(&[r#"{"status":"input_required"}"#]);
    script.faults.insert(0, Fault::ask("tasks/result", "elicitation/create", r#"{"message":"m"}"#));
    let world = World::new(script);
    let mut call = called(&world).await;
    let CallEvent::Asked(asked) = call.next().await else { panic!("asked") };
    assert!(call.answer(&asked.questions[0].key, Ok(Json::literal(r#"{"action":"accept"}"#))));
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("a result") };
}

#[tokio::test(start_paused = true)]
async fn a_legacy_tool_that_may_be_a_task_is_called_plainly() {
    let mut script = legacy(&[]);
    script.tools = vec![script.tools[0].replace("required", "optional")];
    script.faults.clear();
    let world = World::new(script);
    let CallEvent::Done(Ok(_)) = called(&world).await.next().await else { panic!("a result") };
    assert_eq!(params(&world.server().seen_of("tools/call")[0]).get("task"), None);
}
