//! What a relay passes on, to whom it puts questions, and how they end.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use trunkline_testkit::{Fault as Deed, Script};
use trunkline_wire::{Id, Message, Response, Revision};

use super::*;
use crate::call;
use crate::client::ModernClient;
use crate::fakes::{self, World};
use crate::limits::ANSWER_WAIT;
use crate::replay::Outbox;
use crate::session::Session;
use crate::{Guest, Reply, Wants};

const BOTH: Wants = Wants { json: true, sse: true };
const ELICIT: &str = r#"{"message":"Which?","requestedSchema":{"type":"object","properties":{}}}"#;
const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{}}"#;
const CALL: &str = r#"{"name":"git__echo","arguments":{"a":1}}"#;

fn notice(method: Method, params: &'static str) -> CallEvent {
    CallEvent::Notice(Notification { method, params: Some(Json::literal(params)) })
}

fn asking() -> Script {
    Script { faults: vec![Deed::ask("tools/call", "elicitation/create", ELICIT)], ..Script::default() }
}

/// Calls the tool in a session; returns the events of its stream.
async fn called(world: &World, session: &Arc<Session>) -> crate::EventStream {
    let call = Message::Request(fakes::request(7, Method::ToolsCall, CALL));
    let Reply::Events(events) = world.hub.handle(session, call, BOTH).await else { panic!("a stream is expected") };
    events
}

async fn event(events: &mut crate::EventStream) -> Value {
    loop {
        let event = timeout(Duration::from_hours(1), events.next()).await.expect("in time").expect("an event");
        let text = event.data.into_bytes();
        if !text.is_empty() {
            return serde_json::from_slice(&text).expect("JSON");
        }
    }
}

async fn answer(world: &World, session: &Arc<Session>, id: &Value, outcome: Result<&str, &str>) {
    let json = |text: &str| Json::parse(text.to_owned()).expect("JSON");
    let id = Id::new(json(&id.to_string())).expect("an id");
    let outcome = outcome.map(json).map_err(json);
    let reply = world.hub.handle(session, Message::Response(Response { id: Some(id), outcome }), BOTH).await;
    assert!(matches!(reply, Reply::Accepted));
}

/// A modern client's call, up to its outcome.
async fn modern(world: &World, params: &str, abilities: &'static str) -> Result<Value, Value> {
    modern_as(world, world.hub.next_caller(), params, abilities).await
}

async fn modern_as(
    world: &World,
    id: trunkline_upstream::CallerId,
    params: &str,
    abilities: &'static str,
) -> Result<Value, Value> {
    modern_of(world, Guest::ANYBODY, id, params, abilities).await
}

/// The same, by `guest`.
async fn modern_of(
    world: &World,
    guest: Guest<'_>,
    id: trunkline_upstream::CallerId,
    params: &str,
    abilities: &'static str,
) -> Result<Value, Value> {
    let declared = Object::parse(&Json::literal(abilities)).expect("an object");
    let client = ModernClient {
        id,
        label: "modern".into(),
        owner: guest.owner.map(Into::into),
        abilities: Arc::new(trunkline_wire::Abilities::read(&declared, Revision::V2026_07_28)),
        level: None,
    };
    let request = fakes::request(7, Method::ToolsCall, params);
    let outbox = Arc::new(Outbox::new(Id::from(7), fakes::session(&world.hub, "2025-11-25").purse().clone()));
    let listener = Listener { caller: Caller::Modern(Arc::new(client)), outbox, streams: true };
    let value = |json: Json| json.decode::<Value>().expect("JSON");
    let errand = match call::aim(&world.hub, &request, Revision::V2026_07_28, guest) {
        Ok(errand) => errand,
        Err(outcome) => return outcome.map(value).map_err(value),
    };
    call::run(&world.hub, errand, Some(listener)).await.map(value).map_err(value)
}

/// The same call, with answers and the state that came before.
fn retry(state: &Value, answers: &Value) -> String {
    json!({"name":"git__echo","arguments":{"a":1},"requestState":state,"inputResponses":answers}).to_string()
}

/// A legacy server whose first call wants a URL visited.
fn urls() -> Script {
    let error = r#"{"code":-32042,"message":"visit","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://x/","message":"Sign in"}]}}"#;
    Script { faults: vec![Deed::error("tools/call", error).times(1)], ..Script::default() }
}

fn calls(world: &World) -> usize {
    world.server().seen_of("tools/call").len()
}

#[tokio::test(start_paused = true)]
async fn notices_come_back_in_the_clients_terms_and_before_the_answer() {
    let world = World::new(Script::default()).await;
    let session = fakes::session(&world.hub, "2025-06-18");
    let outbox = Arc::new(Outbox::new(Id::from(7), session.purse().clone()));
    let listener = Some(Listener { caller: Caller::Legacy(session), outbox: Arc::clone(&outbox), streams: true });
    let progress = Some(Progress::new(Json::from("mine"), 10));
    let upstream = world.hub.fleet().all()[0].clone();
    let mut relay = Relay::new(&world.hub, &upstream, listener, progress);
    let params = Object::parse(&Json::literal(r#"{"name":"echo"}"#)).expect("an object");
    let ask = Ask::new(Method::ToolsCall, params);
    let mut call = upstream.call(ask).await.expect("sent");
    for event in [
        notice(Method::Progress, r#"{"progressToken":3,"progress":1}"#),
        notice(Method::LogMessage, r#"{"level":"debug","data":"beneath the threshold"}"#),
        notice(Method::LogMessage, r#"{"level":"error","data":"x"}"#),
        notice(Method::ToolsListChanged, "{}"),
        notice(Method::Progress, r#"{"progressToken":3,"progress":2}"#),
    ] {
        assert!(relay.take(&mut call, event).is_none());
    }
    let text = Json::literal(r#"{ "content":[],"n":1e2 }"#);
    let ended = relay.take(&mut call, CallEvent::Done(Ok(text.clone())));
    assert!(matches!(ended, Some(Ended::Answer(Ok(answer))) if answer == text));
    let mut reader = outbox.commit(1);
    outbox.answer("answer".into());
    let context = Context::from_waker(futures_util::task::noop_waker_ref());
    let mut sent = Vec::new();
    while let Poll::Ready(Some(event)) = outbox.poll_event(&mut reader, &context) {
        sent.push(String::from_utf8(event.data.into_bytes().to_vec()).expect("text"));
    }
    assert_eq!(
        sent,
        [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"x","logger":"git"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":2}}"#,
            "answer",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_is_asked_on_the_calls_own_stream_and_a_pause_costs_nothing() {
    let world = World::new(asking()).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let mut events = called(&world, &session).await;
    let question = event(&mut events).await;
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "[git] Which?");
    sleep(Duration::from_secs(400)).await;
    answer(&world, &session, &question["id"], Ok(r#"{"action":"accept","content":{"n":1e2}}"#)).await;
    let last = event(&mut events).await;
    assert_eq!(last["id"], 7);
    let text = last["result"]["content"][0]["text"].as_str().expect("text");
    assert!(text.contains(r#""action":"accept","content":{"n":1e2}"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_legacy_client_reaches_a_legacy_server_as_it_is() {
    let world = World::new(asking()).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let mut events = called(&world, &session).await;
    let question = event(&mut events).await;
    answer(&world, &session, &question["id"], Err(r#"{"code":-1,"message":"no","data":{"x":1.0}}"#)).await;
    let last = event(&mut events).await.to_string();
    assert!(last.contains(r#"\"data\":{\"x\":1.0}"#), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cancels_leaves_no_question_open() {
    let world = World::new(asking()).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let mut events = called(&world, &session).await;
    let question = event(&mut events).await;
    let cancel = Notification { method: Method::Cancelled, params: Some(Json::literal(r#"{"requestId":7}"#)) };
    world.hub.handle(&session, Message::Notification(cancel), BOTH).await;
    let taken_back = event(&mut events).await;
    assert_eq!(
        (&taken_back["method"], &taken_back["params"]["requestId"]),
        (&json!("notifications/cancelled"), &question["id"])
    );
    assert_eq!(event(&mut events).await["error"]["code"], -32800);
    world.server().saw("notifications/cancelled", 1).await;
    assert!(world.server().seen().iter().any(|seen| matches!(seen, Message::Response(told) if told.outcome.is_ok())));
}

#[tokio::test(start_paused = true)]
async fn g69_a_client_that_cannot_be_asked_is_not_and_the_call_goes_on() {
    let world = World::new(asking()).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let call = Message::Request(fakes::request(7, Method::ToolsCall, CALL));
    let Reply::One(text) = world.hub.handle(&session, call, BOTH).await else { panic!("one answer") };
    assert!(String::from_utf8_lossy(&text.into_bytes()).contains("cancel"));
    let result = modern(&world, CALL, "{}").await.expect("a result");
    assert_eq!(result.get("resultType"), None);
    assert!(result.to_string().contains("cancel"), "{result}");
}

#[tokio::test(start_paused = true)]
async fn g68_a_modern_client_is_asked_by_a_result_and_the_call_is_made_once() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    assert_eq!(first["resultType"], "input_required");
    let questions = first["inputRequests"].as_object().expect("questions");
    let (key, question) = questions.iter().next().expect("one");
    assert_eq!(
        (&question["method"], &question["params"]["message"]),
        (&json!("elicitation/create"), &json!("[git] Which?"))
    );
    sleep(Duration::from_secs(90)).await;
    let answers = json!({ key: {"action":"accept","content":{"n":5}} });
    let last = modern(&world, &retry(&first["requestState"], &answers), ALL).await.expect("a result");
    assert!(last["content"][0]["text"].as_str().expect("text").contains(r#""content":{"n":5}"#), "{last}");
    assert_eq!(calls(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn g70_a_wrong_state_never_starts_the_call_again() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    let state = &first["requestState"];
    let key = first["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
    let answers = json!({ key.as_str(): {"action":"decline"} });
    let forged = json!(format!("{}x", state.as_str().expect("a token")));
    let elsewhere =
        json!({"name":"git__echo","arguments":{"a":2},"requestState":state,"inputResponses":answers}).to_string();
    for params in [
        retry(&forged, &answers),
        retry(&json!(7), &answers),
        elsewhere,
        retry(state, &json!([])),
        retry(state, &json!({ key.as_str(): "yes" })),
        json!({"name":"git__echo","arguments":{"a":1},"inputResponses":answers}).to_string(),
    ] {
        let error = modern(&world, &params, ALL).await.expect_err("refused");
        assert_eq!(error["code"], -32602, "{params}");
    }
    let good = retry(state, &answers);
    assert!(modern(&world, &good, ALL).await.is_ok(), "none of them used it up");
    assert_eq!(modern(&world, &good, ALL).await.expect_err("used")["code"], -32602);
    assert_eq!(calls(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn two_retries_at_once_are_one() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    let key = first["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
    let params = retry(&first["requestState"], &json!({ key: {"action":"cancel"} }));
    let (one, other) = tokio::join!(modern(&world, &params, ALL), modern(&world, &params, ALL));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_missing_is_asked_for_again() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    let second = modern(&world, &retry(&first["requestState"], &json!({"other":{}})), ALL).await.expect("a result");
    assert_eq!(second["resultType"], "input_required");
    assert_eq!(second["inputRequests"], first["inputRequests"]);
    assert_ne!(second["requestState"], first["requestState"]);
    let key = second["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
    let last = modern(&world, &retry(&second["requestState"], &json!({ key: {"action":"cancel"} })), ALL).await;
    assert!(last.is_ok(), "{last:?}");
    assert_eq!(calls(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn who_never_comes_back_frees_the_call_and_the_server_is_told() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    sleep(ANSWER_WAIT + Duration::from_secs(1)).await;
    world.server().saw("notifications/cancelled", 1).await;
    assert!(world.server().seen().iter().any(|seen| matches!(seen, Message::Response(told) if told.outcome.is_ok())));
    assert_eq!(world.hub.parks().count(world.hub.fleet().all()[0].name()), 0);
    let late = modern(&world, &retry(&first["requestState"], &json!({})), ALL).await.expect_err("too late");
    assert_eq!(late["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_asked_what_they_can_be_asked_now() {
    let script = Script {
        faults: vec![Deed::ask("tools/call", "elicitation/create", ELICIT).then("sampling/createMessage")],
        ..Script::default()
    };
    let world = World::sampling(script).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    let key = first["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
    let answers = json!({ key: {"action":"accept"} });
    // This time the client lends no model, so the next question is refused, and the call ends.
    let last =
        modern(&world, &retry(&first["requestState"], &answers), r#"{"elicitation":{}}"#).await.expect("a result");
    assert!(last.to_string().contains("sampling not supported"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_meanwhile_is_told_of_on_the_retry() {
    let world = World::new(asking()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    world.server().exit().await;
    sleep(Duration::from_secs(5)).await;
    let lost = modern(&world, &retry(&first["requestState"], &json!({})), ALL).await.expect("a tool result");
    assert_eq!(lost["isError"], true);
    assert_eq!(lost["_meta"]["dev.trunkline/fault"]["code"], -31002);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_given_up_cancels_the_call() {
    let script = Script { faults: vec![Deed::ask_in_vain("tools/call", "elicitation/create")], ..Script::default() };
    let world = World::new(script).await;
    // The question is taken back at once, so the call itself is what is waited for.
    let pending = modern(&world, CALL, ALL);
    assert!(timeout(Duration::from_secs(5), pending).await.is_err());
    world.server().saw("notifications/cancelled", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_url_that_must_be_visited_first_is_asked_for_and_the_call_made_anew() {
    let script = urls();
    let world = World::new(script.clone()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    assert_eq!(first["inputRequests"]["u1"]["params"]["url"], "https://x/");
    assert_eq!(first["inputRequests"]["u1"]["params"].get("elicitationId"), None);
    let state = &first["requestState"];
    let no = modern(&world, &retry(state, &json!({"u1":{"action":"decline"}})), ALL).await.expect("a tool result");
    assert_eq!(no["_meta"]["dev.trunkline/fault"]["code"], -31010);
    assert_eq!(calls(&world), 1);
    let yes = modern(&world, &retry(state, &json!({"u1":{"action":"accept"}})), ALL).await.expect("a result");
    assert_eq!(yes.get("isError"), None, "{yes}");
    assert_eq!(calls(&world), 2);

    let world = World::new(script.clone()).await;
    let told = modern(&world, CALL, "{}").await.expect("a tool result");
    assert_eq!(told["_meta"]["dev.trunkline/fault"]["code"], -31010);
    assert!(told["content"][0]["text"].as_str().expect("text").contains("https://x/"), "{told}");

    let world = World::new(script).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let call = Message::Request(fakes::request(7, Method::ToolsCall, CALL));
    let Reply::One(text) = world.hub.handle(&session, call, BOTH).await else { panic!("one answer") };
    let text: Value = serde_json::from_slice(&text.into_bytes()).expect("JSON");
    assert_eq!(
        text["error"]["data"]["elicitations"][0]["elicitationId"], "e1",
        "a client that knows the error gets it"
    );
}

#[tokio::test(start_paused = true)]
async fn s40_nobody_is_sent_to_a_page_without_tls_and_no_page_is_fetched_here() {
    let asked = r#"{"mode":"url","elicitationId":"e1","url":"http://evil.example/","message":"Sign in"}"#;
    let error = r#"{"code":-32042,"message":"visit","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"http://evil.example/","message":"Sign in"}]}}"#;
    for fault in [Deed::ask("tools/call", "elicitation/create", asked), Deed::error("tools/call", error)] {
        let world = World::new(Script { faults: vec![fault], ..Script::default() }).await;
        let told = modern(&world, CALL, ALL).await.expect("a tool result");
        assert_eq!(told["_meta"]["dev.trunkline/fault"]["code"], -31007, "{told}");
        assert!(!told.to_string().contains("evil.example"), "{told}");
        let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
        let call = Message::Request(fakes::request(7, Method::ToolsCall, CALL));
        let text = match world.hub.handle(&session, call, BOTH).await {
            Reply::One(text) => String::from_utf8(text.into_bytes().to_vec()).expect("text"),
            Reply::Events(mut events) => event(&mut events).await.to_string(),
            Reply::Accepted | Reply::Error { .. } | Reply::Listening { .. } | Reply::Refused(_) => {
                panic!("an answer is expected")
            }
        };
        assert!(text.contains("-31007") && !text.contains("evil.example"), "{text}");
    }
}

/// A modern server that asks for a form, and wants its state back.
const ROUND: &str = r#"{"x-own":1e2,"resultType":"input_required","requestState":"s\u0031 ","inputRequests":{"e":{"method":"elicitation/create","params":{"mode":"form","message":"Which?","requestedSchema":{"type":"object","properties":{}},"x":1.50}}}}"#;

fn modern_server() -> Script {
    Script { modern: true, faults: vec![Deed::result("tools/call", ROUND).times(1)], ..Script::default() }
}

/// The `params` of the last call that the server saw.
fn last_call(world: &World) -> Object {
    match world.server().seen_of("tools/call").pop() {
        Some(Message::Request(request)) => request.params().expect("an object"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn g71_a_legacy_client_is_really_asked_what_a_modern_server_wants_to_know() {
    let world = World::new(modern_server()).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let mut events = called(&world, &session).await;
    let question = event(&mut events).await;
    assert_eq!((&question["method"], &question["params"]["x"]), (&json!("elicitation/create"), &json!(1.5)));
    sleep(Duration::from_secs(90)).await;
    answer(&world, &session, &question["id"], Ok(r#"{"action":"accept","content":{"n":1e2}}"#)).await;
    assert_eq!(event(&mut events).await["id"], 7);
    let again = last_call(&world);
    assert_eq!(calls(&world), 2);
    assert_eq!(again.get("requestState"), Some(&Json::literal(r#""s\u0031 ""#)), "the exact state");
    let given = again.get_object("inputResponses").expect("answers");
    assert_eq!(given.get("e"), Some(&Json::literal(r#"{"action":"accept","content":{"n":1e2}}"#)));
}

#[tokio::test(start_paused = true)]
async fn g72_a_legacy_client_that_cannot_be_asked_hears_what_is_missing() {
    let world = World::new(modern_server()).await;
    let session = fakes::session(&world.hub, "2025-11-25");
    let call = Message::Request(fakes::request(7, Method::ToolsCall, CALL));
    let Reply::One(text) = world.hub.handle(&session, call, BOTH).await else { panic!("one answer") };
    let text: Value = serde_json::from_slice(&text.into_bytes()).expect("JSON");
    assert_eq!(text["result"]["isError"], true);
    assert_eq!(text["result"]["_meta"]["dev.trunkline/fault"]["code"], -31010);
    assert!(text["result"]["content"][0]["text"].as_str().expect("text").contains("`elicitation`"), "{text}");
    assert_eq!(calls(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn g73_between_modern_peers_questions_and_state_pass_and_nothing_is_held() {
    let world = World::new(modern_server()).await;
    let first = modern(&world, CALL, ALL).await.expect("a result");
    assert_eq!((&first["resultType"], &first["x-own"]), (&json!("input_required"), &json!(100.0)));
    let question = &first["inputRequests"]["e"];
    assert_eq!(question["params"]["message"], "[git] Which?", "a person sees who asks");
    assert_eq!((&question["params"]["mode"], &question["params"]["x"]), (&json!("form"), &json!(1.5)));
    assert_eq!(world.hub.parks().count(world.hub.fleet().all()[0].name()), 0);
    let state = first["requestState"].as_str().expect("a token");
    assert!(state.starts_with("tl1.pass."), "{state}");

    let answers = json!({ "e": {"action":"accept","content":{}} });
    let forged = modern(&world, &retry(&json!("s1 "), &answers), ALL).await.expect_err("not as it was given");
    assert_eq!((forged["code"].as_i64(), calls(&world)), (Some(-32602), 1));
    modern(&world, &retry(&first["requestState"], &answers), ALL).await.expect("a result");
    let again = last_call(&world);
    assert_eq!(again.get_str("requestState").as_deref(), Some("s1 "), "the server's own");
    assert!(again.get_object("inputResponses").expect("answers").get("e").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_modern_client_did_not_declare_a_server_may_not_ask() {
    let world = World::new(modern_server()).await;
    let refused = modern(&world, CALL, "{}").await.expect("a tool result");
    assert_eq!(refused["_meta"]["dev.trunkline/fault"]["code"], -31007);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_a_legacy_client_refuses_ends_the_call_of_a_modern_server() {
    let round = r#"{"resultType":"input_required","inputRequests":{"s":{"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}}}"#;
    let script = Script { modern: true, faults: vec![Deed::result("tools/call", round)], ..Script::default() };
    let world = World::new(script).await;
    let session = fakes::able_session(&world.hub, "2025-11-25", ALL);
    let mut events = called(&world, &session).await;
    let question = event(&mut events).await;
    answer(&world, &session, &question["id"], Err(r#"{"code":-1,"message":"not today"}"#)).await;
    let last = event(&mut events).await;
    assert_eq!(last["result"]["_meta"]["dev.trunkline/fault"]["code"], -31010);
    assert!(last["result"]["content"][0]["text"].as_str().expect("text").contains("not today"), "{last}");
    assert_eq!(calls(&world), 1);
}

mod carried;
