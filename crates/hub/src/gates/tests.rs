//! What is said of single tools, up to what their server hears.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline_config::{Connect, Server, Stdio};
use trunkline_testkit::{Fault as Deed, Script};
use trunkline_wire::{Json, Message, Method, Revision};

use super::*;
use crate::fakes::{self, World};
use crate::{Guest, call};

/// A server whose tool `echo` is under these rules.
async fn world(rules: ToolRules, per_minute: Option<u32>, script: Script) -> World {
    let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
    server.expose.rules.insert("echo".to_owned(), Arc::new(ToolRules { tool: "echo".into(), ..rules }));
    server.tuning.per_minute = per_minute;
    World::configured(script, server).await
}

async fn called(world: &World, arguments: &Value) -> Result<Value, Value> {
    let params = json!({ "name": "git__echo", "arguments": arguments }).to_string();
    let request = fakes::request(7, Method::ToolsCall, &params);
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
