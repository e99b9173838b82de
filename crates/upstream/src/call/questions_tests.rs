//! Questions of legacy servers: they reach whoever made the call, or are answered, and nobody else hears of them.

use std::time::Duration;

use trunkline_testkit::{Fault, Script};
use trunkline_wire::Message;

use super::*;
use crate::error::CallErrorKind;
use crate::fakes::{World, echo};
use crate::questions::Question;

const ELICIT: &str = r#"{"message":"Which?","requestedSchema":{"type":"object"}}"#;
const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;

fn asking() -> Script {
    Script { faults: vec![Fault::ask("tools/call", "elicitation/create", ELICIT)], ..Script::default() }
}

/// A call of the caller `id`, who can be asked what `abilities` say.
fn of(id: u64, abilities: &'static str) -> Ask {
    let declared = Object::parse(&Json::literal(abilities)).expect("an object");
    let abilities = Arc::new(Abilities::read(&declared, trunkline_wire::Revision::V2025_11_25));
    Ask { caller: CallerFacts { id: CallerId(id), abilities, ..CallerFacts::default() }, ..echo() }
}

async fn begin(world: &World, ask: Ask) -> Call {
    world.is("ready").await;
    world.upstream().call(ask).await.expect("sent")
}

async fn question(call: &mut Call) -> Question {
    let CallEvent::Asked(mut asked) = call.next().await else { panic!("a question") };
    assert!(asked.held && asked.state.is_none());
    asked.questions.pop().expect("one")
}

async fn text(call: &mut Call) -> String {
    let CallEvent::Done(Ok(result)) = call.next().await else { panic!("a result") };
    String::from_utf8_lossy(result.as_bytes()).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_question_reaches_the_caller_and_the_answer_the_server() {
    let world = World::new(asking());
    let mut call = begin(&world, of(1, ALL)).await;
    let asked = question(&mut call).await;
    assert_eq!((asked.method, asked.params), (Method::ElicitationCreate, Some(Json::literal(ELICIT))));
    assert!(call.answer(&asked.key, Ok(Json::literal(r#"{"action":"accept","content":{"n":1e2}}"#))));
    assert!(!call.answer(&asked.key, Ok(Json::literal("{}"))), "one answer is enough");
    assert!(text(&mut call).await.contains(r#"{\"action\":\"accept\",\"content\":{\"n\":1e2}}"#));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_stands_still_while_a_person_answers() {
    let world = World::new(asking());
    let mut call = begin(&world, of(1, ALL)).await;
    let asked = question(&mut call).await;
    let thinking = tokio::time::timeout(Duration::from_hours(2), call.next());
    assert!(thinking.await.is_err(), "nothing happens meanwhile");
    assert!(call.answer(&asked.key, Ok(Json::literal(r#"{"action":"decline"}"#))));
    assert!(text(&mut call).await.contains("decline"));
}

#[tokio::test(start_paused = true)]
async fn g69_a_caller_who_cannot_be_asked_is_not() {
    let world = World::new(asking());
    let mut call = begin(&world, of(1, "{}")).await;
    assert!(text(&mut call).await.contains("cancel"));
    let mut call = begin(&world, echo()).await;
    assert!(text(&mut call).await.contains("cancel"), "nor the gateway itself");
}

#[tokio::test(start_paused = true)]
async fn g74_what_may_be_for_one_of_several_callers_is_put_to_nobody() {
    let script = Script {
        faults: vec![Fault::silent("tools/call").times(1), Fault::ask("tools/call", "elicitation/create", ELICIT)],
        ..Script::default()
    };
    let world = World::new(script);
    let _other = begin(&world, of(1, ALL)).await;
    let mut call = begin(&world, of(2, ALL)).await;
    assert!(text(&mut call).await.contains("cancel"));
    assert!(world.environment.metrics.render().contains(r#"questions_total{outcome="ambiguous",server="git"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn several_calls_of_one_caller_are_no_doubt() {
    let script = Script {
        faults: vec![Fault::silent("tools/call").times(1), Fault::ask("tools/call", "elicitation/create", ELICIT)],
        ..Script::default()
    };
    let world = World::new(script);
    let mut first = begin(&world, of(1, ALL)).await;
    let mut second = begin(&world, of(1, ALL)).await;
    // The oldest is asked; the answer leads the second on, for the server knows its own question.
    let asked = question(&mut first).await;
    assert!(first.answer(&asked.key, Ok(Json::literal(r#"{"action":"cancel"}"#))));
    assert!(text(&mut second).await.contains("cancel"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_leaves_no_question_open() {
    let world = World::new(asking());
    let mut call = begin(&world, of(1, ALL)).await;
    question(&mut call).await;
    drop(call);
    world.server().saw("notifications/cancelled", 1).await;
    let told = world.server().seen().into_iter().find_map(|message| match message {
        Message::Response(response) => Some(response.outcome),
        Message::Request(_) | Message::Notification(_) => None,
    });
    assert_eq!(told, Some(Ok(Json::literal(r#"{"action":"cancel"}"#))));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_taken_back_is_nobodys_any_more() {
    let script = Script { faults: vec![Fault::ask_in_vain("tools/call", "elicitation/create")], ..Script::default() };
    let world = World::new(script);
    let mut call = begin(&world, of(1, ALL)).await;
    // It may be gone before the caller heard of it.
    let waited = tokio::time::timeout(Duration::from_secs(200), async {
        if let CallEvent::Asked(asked) = call.next().await {
            let CallEvent::Withdrawn(key) = call.next().await else { panic!("withdrawn") };
            assert_eq!(key, asked.questions[0].key);
            assert!(!call.answer(&key, Ok(Json::literal("{}"))));
        }
        call.next().await
    });
    assert!(waited.await.is_err(), "and the call goes on");
    let CallEvent::Failed(error) = call.next().await else { panic!("its own deadline still holds") };
    assert_eq!(error.kind, CallErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn g30_a_log_message_without_a_stream_is_for_the_request_that_runs_alone_if_that_wants_it() {
    let world = World::new(Script { faults: vec![Fault::log("tools/call")], ..Script::default() });
    let Ask { caller, .. } = of(1, ALL);
    let caller = CallerFacts { log_level: Some(LogLevel::Debug), logs_with_request: true, ..caller };
    let mut call = begin(&world, Ask { caller, ..of(1, ALL) }).await;
    assert!(matches!(call.next().await, CallEvent::Notice(notice) if notice.method == Method::LogMessage));
    text(&mut call).await;
    let mut call = begin(&world, of(1, ALL)).await;
    text(&mut call).await;
}
