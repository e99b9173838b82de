//! What is said of single tools, up to what their server hears.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use trunkline_config::{Auth, Config, Connect, Server, Stdio};
use trunkline_testkit::{Fault as Deed, Script, tool};
use trunkline_wire::{Json, Message, Method, Revision};

use super::*;
use crate::fakes::{self, World};
use crate::{Guest, Reply, Wants, call};

/// A server whose tool `echo` is under these rules.
async fn world(rules: ToolRules, per_minute: Option<u32>, script: Script) -> World {
    let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
    server.expose.rules.insert("echo".to_owned(), Arc::new(ToolRules { tool: "echo".into(), ..rules }));
    server.tuning.per_minute = per_minute;
    World::configured(script, server).await
}

/// The same, where the holder of `ci` may make so many calls.
async fn allowed(allowance: Allowance, rules: ToolRules, script: Script) -> World {
    let world = world(rules, None, script).await;
    let auth = Auth { allowances: vec![("ci".into(), allowance)], ..Auth::default() };
    world.hub.reload(&Config { auth, ..Config::default() });
    world
}

/// A call by the holder of a token.
async fn called_by(world: &World, token: &str) -> Result<Value, Value> {
    let request = fakes::request(0, Method::Initialize, r#"{"protocolVersion":"2025-11-25"}"#);
    let (session, _) = world.hub.open(&request, Guest::of_whole(Some(token))).expect("a session");
    session.initialized();
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"git__echo","arguments":{}}}"#;
    let reply = world.hub.handle(&session, fakes::message(call), Wants { json: true, sse: false }).await;
    let Reply::One(answer) = reply else { panic!("one answer: {reply:?}") };
    let answer: Value = serde_json::from_slice(&answer.into_bytes()).expect("JSON");
    answer.get("result").cloned().ok_or_else(|| answer["error"].clone())
}

async fn called(world: &World, arguments: &Value) -> Result<Value, Value> {
    called_with(world, &json!({ "name": "git__echo", "arguments": arguments })).await
}

async fn called_with(world: &World, params: &Value) -> Result<Value, Value> {
    let request = fakes::request(7, Method::ToolsCall, &params.to_string());
    let value = |json: Json| json.decode::<Value>().expect("JSON");
    let errand = match call::aim(&world.hub, &request, Revision::V2025_11_25, Guest::of_whole(None)) {
        Ok(errand) => errand,
        Err(outcome) => return outcome.map(value).map_err(value),
    };
    call::run(&world.hub, errand, None).await.map(value).map_err(value)
}

fn text(outcome: &Result<Value, Value>) -> &str {
    outcome.as_ref().expect("a result")["content"][0]["text"].as_str().expect("a text")
}

fn slow() -> Script {
    Script { faults: vec![Deed::slow("tools/call", Duration::from_secs(3))], ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn the_server_gets_what_is_fixed_and_a_model_is_told_what_to_leave_out() {
    let fixed = vec![("owner".into(), Json::literal(r#""me""#))];
    let world =
        world(ToolRules { fixed, hidden: vec!["draft".into()], ..ToolRules::default() }, None, Script::default());
    let world = world.await;
    called(&world, &json!({ "title": "a" })).await.expect("an answer");
    let refused = called(&world, &json!({ "draft": true })).await;
    assert_eq!(refused.as_ref().expect("a result")["isError"], true);
    assert!(text(&refused).contains("no argument `draft`"), "{refused:?}");
    let calls = world.server().seen_of("tools/call");
    let [Message::Request(call)] = &calls[..] else { panic!("{calls:?}") };
    let params = call.params.as_ref().expect("params").decode::<Value>().expect("JSON");
    assert_eq!(params["arguments"], json!({ "title": "a", "owner": "me" }));
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_those_at_a_time_wait_for_a_place_and_are_refused_when_it_takes_too_long() {
    let world = world(ToolRules { in_flight_max: Some(1), ..ToolRules::default() }, None, slow()).await;
    let nothing = json!({});
    let call = || called(&world, &nothing);
    let begun = Instant::now();
    let (first, second, third) = tokio::join!(call(), call(), call());
    assert!(first.is_ok() && second.is_ok());
    // Places are waited for 5 s, and the third would come after 6.
    assert!(text(&third).contains("takes one call at a time"), "{third:?}");
    assert_eq!(third.expect("a result")["_meta"]["dev.trunkline/fault"]["retryable"], true);
    assert_eq!((begun.elapsed().as_secs(), world.server().seen_of("tools/call").len()), (6, 2));
    assert!(call().await.is_ok(), "the place was given back");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_gives_its_place_back() {
    let world = world(ToolRules { in_flight_max: Some(1), ..ToolRules::default() }, None, slow()).await;
    let nothing = json!({});
    let given_up = tokio::time::timeout(Duration::from_secs(1), called(&world, &nothing)).await;
    assert!(given_up.is_err());
    assert!(called(&world, &nothing).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_so_many_calls_and_the_others_are_not_its_holders_affair() {
    let world = allowed(Allowance { in_flight_max: Some(1), per_minute: None }, ToolRules::default(), slow()).await;
    let (first, second, third, other) = tokio::join!(
        called_by(&world, "ci"),
        called_by(&world, "ci"),
        called_by(&world, "ci"),
        called_by(&world, "laptop"),
    );
    let told = |outcome: &Result<Value, Value>| outcome.as_ref().is_ok_and(|result| result["isError"] == true);
    assert!(!told(&first) && !told(&second) && !told(&other), "{first:?} {second:?} {other:?}");
    assert_eq!(
        text(&third),
        "token `ci` is good for one call at a time (1) and did not become free within 5 s; try again"
    );
    let holders = world.hub.holders();
    assert_eq!((holders[0].name.as_str(), holders[0].in_flight, holders[0].refused), ("ci", Some(0), 1));

    let allowance = Allowance { in_flight_max: None, per_minute: Some(10) };
    let world = allowed(allowance, ToolRules::default(), Script::default()).await;
    for _ in 0..10 {
        assert!(!told(&called_by(&world, "ci").await));
    }
    let refused = called_by(&world, "ci").await;
    assert_eq!(
        text(&refused),
        "token `ci` is used too often: the configuration allows 10 calls a minute; try again in 6 s"
    );
    let fault = &refused.as_ref().expect("a result")["_meta"]["dev.trunkline/fault"];
    assert_eq!(
        (&fault["name"], &fault["retryable"], &fault["retryAfterMs"]),
        (&json!("OVERLOADED"), &json!(true), &json!(6000))
    );
    assert!(!told(&called_by(&world, "laptop").await));
    assert_eq!(world.hub.holders()[0].refused, 1);
}

/// Whether a call was refused for its turn.
fn is_too_early(outcome: &Result<Value, Value>) -> bool {
    outcome.as_ref().is_ok_and(|result| result.to_string().contains("too often"))
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_gate_refuses_gives_its_turns_back() {
    let rules = ToolRules { in_flight_max: Some(1), ..ToolRules::default() };
    let faults = vec![Deed::slow("tools/call", Duration::from_secs(7))];
    let tools = vec![tool("echo"), tool("other")];
    let world = world(rules, Some(10), Script { faults, tools, ..Script::default() }).await;
    let (nothing, other, begun) = (json!({}), json!({ "name": "git__other" }), Instant::now());
    // All ten turns are taken. One call holds the place of its tool, and nine wait for it in vain.
    let outcomes = join_all((0..10).map(|_| called(&world, &nothing))).await;
    assert_eq!(outcomes.iter().filter(|it| it.as_ref().is_ok_and(|it| it["isError"] == true)).count(), 9);
    assert!(begun.elapsed() < Duration::from_secs(8) && !outcomes.iter().any(is_too_early), "{outcomes:?}");
    // In this time one turn came by itself, and calls wait for less than another.
    let outcomes = join_all((0..9).map(|_| called_with(&world, &other))).await;
    assert!(!outcomes.iter().any(is_too_early), "{outcomes:?}");
    assert!(is_too_early(&join_all((0..4).map(|_| called_with(&world, &other))).await[3]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_server_never_saw_gives_its_turn_back() {
    let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
    (server.tuning.in_flight_max, server.tuning.queue_max, server.tuning.per_minute) = (1, 0, Some(3));
    let world = World::configured(slow(), server).await;
    let nothing = json!({});
    let outcomes = join_all((0..3).map(|_| called(&world, &nothing))).await;
    let full = |it: &&Result<Value, Value>| text(it).contains("requests to work on");
    assert_eq!(outcomes[1..].iter().filter(full).count(), 2, "{outcomes:?}");
    for _ in 0..2 {
        assert!(!is_too_early(&called(&world, &nothing).await), "the turns of those two are there");
    }
    assert!(is_too_early(&called(&world, &nothing).await), "and those of calls that were made are not");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_while_it_waits_gives_its_turn_back() {
    let world = world(ToolRules { in_flight_max: Some(1), ..ToolRules::default() }, Some(2), slow()).await;
    let nothing = json!({});
    for _ in 0..5 {
        let waits = async { tokio::time::timeout(Duration::from_secs(1), called(&world, &nothing)).await };
        let (first, second) = tokio::join!(called(&world, &nothing), waits);
        assert!(!is_too_early(&first) && second.is_err());
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_a_minutes_calls_each_waits_its_turn_or_hears_when_to_come_again() {
    for of_tool in [true, false] {
        let (tool, server) = if of_tool { (Some(10), None) } else { (None, Some(10)) };
        // A rule that says nothing of calls is none here.
        let world = world(ToolRules { per_minute: tool, ..ToolRules::default() }, server, Script::default()).await;
        let begun = Instant::now();
        for _ in 0..10 {
            assert!(called(&world, &json!({})).await.is_ok());
        }
        assert_eq!(begun.elapsed().as_secs(), 0);
        // The next turn is in six seconds, and a call waits five.
        let refused = called(&world, &json!({})).await;
        assert!(text(&refused).contains("the configuration allows 10 calls a minute; try again in 6 s"), "{refused:?}");
        assert_eq!(text(&refused).starts_with("tool `echo` of server `git`"), of_tool);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(called(&world, &json!({})).await.is_ok(), "it waited its turn");
        assert_eq!(begun.elapsed().as_secs(), 6);
    }
}
