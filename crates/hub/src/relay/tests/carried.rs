//! What clients carry from one round to the next, brought back by others or elsewhere.

use trunkline_config::{Config, Connect, Profile, Server, Stdio, ToolRules};

use super::*;

#[tokio::test(start_paused = true)]
async fn s08_what_one_owner_was_given_to_carry_is_unknown_to_another() {
    for script in [asking(), modern_server(), urls()] {
        let world = World::new(script).await;
        let of = |owner: &'static str, params: String| {
            let world = &world;
            async move { modern_of(world, Guest::of_whole(Some(owner)), world.hub.next_caller(), &params, ALL).await }
        };
        let asked = of("laptop", CALL.to_owned()).await.expect("a result");
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let key = asked["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
        let answers = json!({ key: { "action": "accept", "content": {} } });
        let before = calls(&world);
        let refused = of("ci", retry(&asked["requestState"], &answers)).await;
        let unknown = of("ci", retry(&json!("made up"), &answers)).await;
        assert_eq!(refused, unknown, "nothing tells the two apart");
        assert_eq!(refused.expect_err("an error")["code"], -32602);
        assert_eq!(calls(&world), before);
        // And nothing is lost for the one it belongs to.
        let done = of("laptop", retry(&asked["requestState"], &answers)).await;
        assert!(done.is_ok(), "{done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_person_keeps_its_place_among_those_of_its_tool_until_it_is_over() {
    let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
    let rules = ToolRules { tool: "echo".into(), in_flight_max: Some(1), ..ToolRules::default() };
    server.expose.rules.insert("echo".to_owned(), Arc::new(rules));
    let once = Deed::ask("tools/call", "elicitation/create", ELICIT).times(1);
    let world = World::configured(Script { faults: vec![once], ..Script::default() }, server).await;
    let asked = modern(&world, CALL, ALL).await.expect("a result");
    let key = asked["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
    let other = modern(&world, CALL, ALL).await.expect("a result");
    assert!(other["content"][0]["text"].as_str().is_some_and(|text| text.contains("one call at a time")), "{other}");
    let answers = json!({ key: { "action": "accept", "content": {} } });
    let done = modern(&world, &retry(&asked["requestState"], &answers), ALL).await.expect("a result");
    assert_eq!(done["content"][0]["text"], r#"{"action":"accept","content":{}}"#, "{done}");
    assert_eq!(calls(&world), 1, "the other never got there");
    let next = modern(&world, CALL, ALL).await.expect("a result");
    assert!(next["isError"].is_null() && calls(&world) == 2, "the place is free: {next}");
}

#[tokio::test(start_paused = true)]
async fn g70_what_was_asked_at_one_address_is_another_request_at_the_next() {
    for script in [asking(), urls()] {
        let world = World::new(script).await;
        let profiles = vec![("few".into(), Profile::default())];
        world.hub.reload(&Config { profiles, ..Config::default() });
        let few = world.hub.profile("few").expect("there");
        let at = async |view: &crate::View, params: String| {
            let guest = Guest { owner: None, view };
            modern_of(&world, guest, world.hub.next_caller(), &params, ALL).await
        };
        let asked = at(&few, CALL.to_owned()).await.expect("a result");
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let key = asked["inputRequests"].as_object().expect("questions").keys().next().expect("one").clone();
        let again = retry(&asked["requestState"], &json!({ key: { "action": "accept", "content": {} } }));
        let before = calls(&world);
        let refused = at(&crate::View::WHOLE, again.clone()).await.expect_err("the name may mean another tool there");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("another request")), "{refused}");
        assert_eq!(calls(&world), before);
        assert!(at(&few, again).await.is_ok(), "it was not used up");
    }
}

#[tokio::test(start_paused = true)]
async fn r24_calls_that_wait_are_bounded_for_each_client_and_in_all_and_are_freed_in_time() {
    let world = World::new(asking()).await;
    // One caller for the server, so that there is no doubt whom to ask.
    let caller = world.hub.next_caller();
    let all_of = async |owner: &'static str, count: usize| {
        let guest = Guest::of_whole(Some(owner));
        let calls = (0..count).map(|_| modern_of(&world, guest, caller, CALL, ALL).boxed());
        let ended = timeout(Duration::from_mins(1), futures_util::future::join_all(calls)).await.expect("all end");
        ended.into_iter().map(|outcome| outcome.expect("a result")).collect::<Vec<_>>()
    };
    let waiting = |results: &[Value]| results.iter().filter(|it| it["resultType"] == "input_required").count();
    // The server works on 64 at a time. Half of them may wait for a person, and half of those for one client's.
    let first = all_of("one", 40).await;
    assert_eq!(waiting(&first), 16);
    let refused = first.iter().find(|it| it["resultType"] != "input_required").expect("too many");
    assert_eq!(refused["_meta"]["dev.trunkline/fault"]["code"], -31004);
    let text = refused["content"][0]["text"].as_str().expect("text");
    assert!(
        text.contains("16 calls of this client wait for answers already") && text.contains("within 10 min"),
        "{text}"
    );
    assert_eq!(waiting(&all_of("two", 40).await), 16, "another one has its share");
    let third = all_of("three", 5).await;
    assert_eq!(waiting(&third), 0);
    assert!(
        third.iter().all(|it| it["isError"] != true),
        "the server is told what a person would say who closed the form"
    );
    assert_eq!(world.hub.parks().count(world.hub.fleet().all()[0].name()), 32);
    sleep(ANSWER_WAIT + Duration::from_secs(1)).await;
    assert_eq!(world.hub.parks().count(world.hub.fleet().all()[0].name()), 0);
}
