//! Calls of modern servers: what they are sent, and rounds of questions between which nothing runs.

use std::time::Duration;

use trunkline_testkit::{Fault, Handle, Script, resource, tool};
use trunkline_wire::{Message, Outcome, Revision, key};

use super::*;
use crate::error::CallErrorKind;
use crate::fakes::{Plan, World, ask, config, echo};
use crate::limits::PROBE_SPACING;

const FORM: &str = r#"{"resultType":"input_required","requestState":"s\u0031","inputRequests":{
    "e":{"method":"elicitation/create","params":{"message":"m"}},"r":{"method":"roots/list"}}}"#;
const STATE_ALONE: &str = r#"{"resultType":"input_required","requestState":"again"}"#;

fn modern() -> Script {
    Script { modern: true, resources: vec![resource("a:b")], ..Script::default() }
}

fn with(fault: Fault) -> Script {
    Script { faults: vec![fault], ..modern() }
}

/// A call of somebody who can be asked everything.
fn capable() -> Ask {
    let declared = Object::parse(&Json::literal(r#"{"elicitation":{"form":{}},"roots":{}}"#)).expect("an object");
    let abilities = Arc::new(Abilities::read(&declared, Revision::V2026_07_28));
    Ask { caller: CallerFacts { id: CallerId(1), abilities, ..CallerFacts::default() }, ..echo() }
}

async fn failure(world: &World, ask: Ask) -> CallError {
    let event = world.upstream().call(ask).await.expect("sent").next().await;
    let CallEvent::Failed(error) = event else { panic!("{event:?}") };
    error
}

/// The `params` of the last message of this method that the server was sent.
fn sent(server: &Handle, method: &str) -> Object {
    match server.seen_of(method).pop() {
        Some(Message::Request(request)) => request.params().expect("an object"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_carries_who_asks_and_what_the_caller_can_be_asked() {
    let world = World::new(modern());
    let caller = CallerFacts { log_level: Some(LogLevel::Info), ..capable().caller };
    let mut call = world.upstream().call(Ask { progress: true, caller, ..echo() }).await.expect("sent");
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("answered") };
    let server = world.server();
    let meta = sent(&server, "tools/call").get_object("_meta").expect("an envelope");
    assert_eq!(meta.get_str(key::PROTOCOL_VERSION).as_deref(), Some("2026-07-28"));
    let told = Json::literal(r#"{"elicitation":{"form":{}},"roots":{}}"#);
    assert_eq!(meta.get(key::CLIENT_CAPABILITIES), Some(&told));
    assert_eq!(meta.get_str(key::LOG_LEVEL).as_deref(), Some("info"));
    assert!(meta.get(key::PROGRESS_TOKEN).is_some());
    let housekeeping = sent(&server, "tools/list").get_object("_meta").expect("an envelope");
    assert_eq!(housekeeping.get(key::CLIENT_CAPABILITIES), Some(&Json::literal("{}")));
    assert!(server.seen_of("initialize").is_empty());
}

#[tokio::test(start_paused = true)]
async fn g71_questions_are_gathered_and_the_request_sent_again_with_the_exact_state() {
    let world = World::new(with(Fault::result("tools/call", FORM).times(1)));
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Asked(asked) = call.next().await else { panic!("asked") };
    assert_eq!((asked.questions.len(), asked.held), (2, false));
    assert_eq!(world.upstream().status().in_flight, 0, "nothing runs between two rounds");

    // A person takes longer than any server may.
    tokio::time::sleep(Duration::from_secs(4000)).await;
    assert!(call.answer("e", Ok(Json::literal(r#"{"action":"accept","content":{}}"#))));
    assert!(!call.answer("e", Ok(Json::literal("{}"))), "once");
    assert!(!call.answer("x", Ok(Json::literal("{}"))), "nobody asked that");
    assert!(call.answer("r", Ok(Json::literal(r#"{"roots":[]}"#))));
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("answered") };

    let server = world.server();
    let ids: Vec<_> = server.seen_of("tools/call").iter().map(|message| message.id().cloned()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "a new id");
    let params = sent(&server, "tools/call");
    assert_eq!(params.get("arguments"), Some(&Json::literal(r#"{"a":1}"#)), "the same params");
    assert_eq!(params.get("requestState"), Some(&Json::literal(r#""s\u0031""#)));
    let given = params.get_object("inputResponses").expect("answers");
    assert_eq!(given.get("e"), Some(&Json::literal(r#"{"action":"accept","content":{}}"#)));
    assert_eq!(given.get("r"), Some(&Json::literal(r#"{"roots":[]}"#)));
}

#[tokio::test(start_paused = true)]
async fn a_server_does_not_sleep_while_a_person_thinks_about_its_question() {
    let mut sleepy = config();
    sleepy.tuning.idle_stop = Some(Duration::from_mins(1));
    let script = with(Fault::result("tools/call", FORM).times(1));
    let world = World::planned(sleepy, [], script);
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Asked(_) = call.next().await else { panic!("asked") };
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(world.upstream().status().state, "ready");
    assert!(call.answer("e", Ok(Json::literal(r#"{"action":"accept"}"#))));
    assert!(call.answer("r", Ok(Json::literal(r#"{"roots":[]}"#))));
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("answered") };
    world.is("idle").await;
    assert_eq!(world.pipes.dials(), 1, "the process that asked was told");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_place_of_an_answer_is_a_person_who_cancels() {
    let world = World::new(with(Fault::result("tools/call", FORM).times(1)));
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Asked(_) = call.next().await else { panic!("asked") };
    for key in ["e", "r"] {
        assert!(call.answer(key, Err(Json::literal(r#"{"code":-1,"message":"no"}"#))));
    }
    let CallEvent::Done(_) = call.next().await else { panic!("answered") };
    let given = sent(&world.server(), "tools/call").get_object("inputResponses").expect("answers");
    assert_eq!(given.get("e"), Some(&Json::literal(r#"{"action":"cancel"}"#)));
    assert_eq!(given.get("r"), Some(&Json::literal(r#"{"roots":[]}"#)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_between_two_rounds_leaves_nothing_behind() {
    let world = World::new(with(Fault::result("tools/call", FORM).times(1)));
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Asked(_) = call.next().await else { panic!("asked") };
    drop(call);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.server().seen_of("notifications/cancelled").is_empty(), "there is nothing to cancel");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_its_state_back_gets_it_after_a_quarter_of_a_second() {
    let world = World::new(with(Fault::result("tools/call", STATE_ALONE).times(3)));
    world.is("ready").await;
    let begun = Instant::now();
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("answered") };
    assert_eq!(begun.elapsed().as_millis(), 750);
    let params = sent(&world.server(), "tools/call");
    assert_eq!(params.get_str("requestState").as_deref(), Some("again"));
    assert_eq!(params.get("inputResponses"), Some(&Json::literal("{}")));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_has_enough_is_given_up_after_ten_rounds() {
    let world = World::new(with(Fault::result("tools/call", STATE_ALONE)));
    let error = failure(&world, capable()).await;
    assert_eq!(error.kind, CallErrorKind::Protocol);
    assert!(error.text.contains("more than 10 times"), "{}", error.text);
    assert_eq!(world.server().seen_of("tools/call").len(), 11);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_result_of_its_revision_is_a_fault() {
    for (result, why) in [
        (r#"{"resultType":"hologram"}"#, "unknown type `hologram`"),
        (r#"{"resultType":"input_required"}"#, "names none"),
    ] {
        let world = World::new(with(Fault::result("tools/call", result)));
        let error = failure(&world, capable()).await;
        assert!(error.kind == CallErrorKind::Protocol && error.text.contains(why), "{}", error.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_header_leads_to_a_new_look_at_the_tools_and_one_more_attempt() {
    let refusal = r#"{"code":-32020,"message":"header mismatch"}"#;
    let world = World::new(with(Fault::error("tools/call", refusal).times(1)));
    let server = world.ready().await;
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let change = async {
        server.saw("tools/call", 1).await;
        server.change(Script { tools: vec![tool("echo"), tool("new")], ..modern() }).await;
    };
    let (event, ()) = tokio::join!(call.next(), change);
    assert!(matches!(event, CallEvent::Done(Ok(_))), "{event:?}");
    assert_eq!((server.seen_of("tools/list").len(), server.seen_of("tools/call").len()), (2, 2));

    let world = World::new(with(Fault::error("tools/call", refusal)));
    let error = failure(&world, capable()).await;
    assert!(error.kind == CallErrorKind::Protocol && error.text.contains("header mismatch"), "{}", error.text);
    assert_eq!(world.server().seen_of("tools/call").len(), 2, "once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_revision_leads_to_a_new_connection_and_one_more_attempt() {
    let refusal = r#"{"code":-32022,"message":"gone","data":{"supported":["2026-07-28"]}}"#;
    let plan = [Plan::Serve(with(Fault::error("tools/call", refusal)))];
    let world = World::planned(config(), plan, modern());
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Done(Ok(_)) = call.next().await else { panic!("answered") };
    assert_eq!(world.pipes.dials(), 2);

    let world = World::new(with(Fault::error("tools/call", refusal)));
    let error = failure(&world, capable()).await;
    assert_eq!((error.kind, world.pipes.dials()), (CallErrorKind::Protocol, 2), "{}", error.text);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_modern_server_is_an_answer() {
    let refusal = r#"{"code":-32021,"message":"no","data":{"requiredCapabilities":{"sampling":{}}}}"#;
    let world = World::new(with(Fault::error("tools/call", refusal)));
    let mut call = world.upstream().call(capable()).await.expect("sent");
    let CallEvent::Done(Err(error)) = call.next().await else { panic!("answered") };
    assert_eq!(error, Json::literal(refusal));
}

#[tokio::test(start_paused = true)]
async fn a_silent_modern_server_is_asked_who_it_is() {
    let world = World::new(modern());
    let server = world.ready().await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(server.seen_of("server/discover").len() > 1 && server.seen_of("ping").is_empty());
    assert_eq!(world.upstream().status().state, "ready");

    let changed = r#"{"code":-32601,"message":"Method not found"}"#;
    server.change(with(Fault::error("server/discover", changed))).await;
    world.is("suspect").await;
    let begun = tokio::time::Instant::now();
    world.pipes.dialed(2).await;
    assert!(begun.elapsed() >= PROBE_SPACING * 2, "refusals in a row are no three looks: {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_a_modern_child_has_it_told() {
    let world = World::new(with(Fault::silent("resources/read")));
    let call = world.upstream().call(ask(Method::ResourcesRead, r#"{"uri":"a:b"}"#)).await.expect("sent");
    drop(call);
    world.server().saw("notifications/cancelled", 1).await;
    let error = world.upstream().call(ask(Method::ResourcesRead, r#"{"uri":"a:b"}"#)).await.expect("sent").next().await;
    let CallEvent::Failed(error) = error else { panic!("silent") };
    assert_eq!(error.outcome, Outcome::Unknown);
}
