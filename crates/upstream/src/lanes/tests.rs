//! Servers with lanes, on pipes: whose they are, how many there may be, and how they end.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use trunkline_config::{Connect, Http, Sharing, Start, Stdio};
use trunkline_testkit::{Fault, Handle, Script, resource, tool};
use trunkline_wire::{Json, Message, Object, Revision};
use url::Url;

use super::*;
use crate::call::{Ask, Call, CallEvent};
use crate::environment::ServerNotice;
use crate::fakes::{Plan, World, config, echo, name};
use crate::offer::Offer;

/// A server with so many lanes at most, whose lists are known.
fn lanes(sharing: Sharing, most: usize) -> Server {
    let mut server = config();
    server.sharing = sharing;
    server.tuning.start = Start::Lazy;
    server.tuning.idle_stop = Some(Duration::from_mins(30));
    server.tuning.lanes_max = most;
    server
}

/// A world with such a server. What it offers is known, so that nothing runs yet.
async fn world(server: Server, script: Script) -> World {
    let world = World::planned(server, [], script);
    let known = Offer { revision: Some(Revision::NEWEST_LEGACY), ..Offer::default() };
    world.upstream().0.offers.send_replace(Arc::new(known));
    world.is("idle").await;
    world
}

fn slow(secs: u64) -> Script {
    Script { faults: vec![Fault::slow("tools/call", Duration::from_secs(secs))], ..Script::default() }
}

fn session(number: u64) -> CallerFacts {
    CallerFacts {
        client: Some(format!("codex#{number}").into()),
        lane: LaneKey::Session(number),
        ..CallerFacts::default()
    }
}

fn project(root: &str) -> CallerFacts {
    CallerFacts { lane: LaneKey::Roots(None, Arc::from([root.to_owned()])), ..CallerFacts::default() }
}

async fn begun(world: &World, caller: CallerFacts) -> Result<Call, CallError> {
    world.upstream().call(Ask { caller, ..echo() }).await
}

async fn called(world: &World, caller: CallerFacts) -> Result<(), CallError> {
    let mut call = begun(world, caller).await?;
    loop {
        match call.next().await {
            CallEvent::Done(_) => return Ok(()),
            CallEvent::Failed(error) => return Err(error),
            CallEvent::Notice(_) | CallEvent::Beat | CallEvent::Asked(_) | CallEvent::Withdrawn(_) => {}
        }
    }
}

/// The server of the connection that was opened as the `nth`, counted from 0.
fn server(world: &World, nth: usize) -> Handle {
    world.pipes.servers()[nth].clone()
}

fn calls(world: &World) -> Vec<usize> {
    world.pipes.servers().iter().map(|server| server.seen_of("tools/call").len()).collect()
}

fn shown(world: &World) -> Vec<(String, &'static str)> {
    world.upstream().status().lanes.into_iter().map(|lane| (lane.owner, lane.state)).collect()
}

fn metric(world: &World, name: &str) -> String {
    let text = world.environment.metrics.render();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn r32_a_shared_server_has_one_connection_whoever_calls() {
    let world = World::new(Script::default());
    world.ready().await;
    for number in 1..4 {
        called(&world, session(number)).await.expect("answered");
    }
    called(&world, project("file:///a")).await.expect("answered");
    assert_eq!((world.pipes.dials(), shown(&world).len()), (1, 0));
    let (lane, hold) = world.upstream().0.lane_of(&session(1)).await.expect("a lane");
    assert!(Arc::ptr_eq(&lane, &world.upstream().0) && hold.is_none(), "it pays nothing");
}

#[tokio::test(start_paused = true)]
async fn r32_each_session_has_a_connection_of_its_own_and_finds_it_again() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    for number in [1, 2, 1, 1] {
        called(&world, session(number)).await.expect("answered");
    }
    assert_eq!(calls(&world), [3, 1]);
    assert_eq!(shown(&world), [("codex#1".to_owned(), "ready"), ("codex#2".to_owned(), "ready")]);
    assert_eq!((world.upstream().status().state, metric(&world, "trunkline_upstream_lanes{")), ("ready", "2".into()));
}

#[tokio::test(start_paused = true)]
async fn r32_f35_callers_who_come_at_once_open_one_connection() {
    let world = world(lanes(Sharing::Session, 8), slow(1)).await;
    let all = join_all((0..20).map(|_| called(&world, session(7)))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((world.pipes.dials(), calls(&world)), (1, vec![20]));
}

#[tokio::test(start_paused = true)]
async fn r32_one_lane_too_many_takes_the_place_of_the_one_that_was_unused_for_the_longest_time() {
    let world = world(lanes(Sharing::Session, 2), Script::default()).await;
    for number in [1, 2, 1, 3] {
        sleep(Duration::from_secs(1)).await;
        called(&world, session(number)).await.expect("answered");
        let open = world.pipes.servers().iter().filter(|server| !server.is_closed()).count();
        assert!(open <= 2, "never more at a time than the cap says");
    }
    assert!(server(&world, 1).is_closed() && !server(&world, 0).is_closed());
    let owners: Vec<String> = shown(&world).into_iter().map(|(owner, _)| owner).collect();
    assert_eq!(owners, ["codex#1", "codex#3"]);
    called(&world, session(2)).await.expect("it may come back");
    assert_eq!(calls(&world), [2, 1, 1, 1], "to a connection of its own, not to another's");
}

#[tokio::test(start_paused = true)]
async fn r32_where_all_lanes_are_in_use_the_next_caller_is_told_at_once() {
    let world = world(lanes(Sharing::Session, 8), slow(100)).await;
    let mut running = Vec::new();
    for number in 0..8 {
        running.push(begun(&world, session(number)).await.expect("sent"));
    }
    let begun_at = Instant::now();
    let error = begun(&world, session(8)).await.expect_err("refused");
    assert_eq!((error.kind, error.outcome, error.retryable), (CallErrorKind::Overloaded, Outcome::NotSent, true));
    assert_eq!(
        error.text,
        "server `git` has a connection of its own for each session, and all 8 are in use by other sessions; try again later, \
         end one of them, or raise `limits.lanes` of [mcp_servers.git]"
    );
    assert_eq!((begun_at.elapsed(), world.pipes.dials()), (Duration::ZERO, 8));
    assert_eq!(metric(&world, "trunkline_upstream_lanes_refused_total"), "1");
    assert_eq!(world.upstream().status().in_flight, 8, "counted over all of them");
    drop(running.pop());
    drop(begun(&world, session(8)).await.expect("there is one that nobody uses"));
}

#[tokio::test(start_paused = true)]
async fn a_lane_with_a_subscription_is_in_use() {
    let script = Script { resources: vec![resource("a:b")], ..Script::default() };
    let world = world(lanes(Sharing::Session, 1), script).await;
    world.upstream().subscribe("a:b", &session(1)).await.expect("asked").expect("a yes");
    sleep(Duration::from_hours(2)).await;
    assert_eq!(shown(&world), [("codex#1".to_owned(), "ready")]);
    called(&world, session(2)).await.expect_err("refused");
    world.upstream().unsubscribe("a:b", &LaneKey::Session(1)).await.expect("asked").expect("a yes");
    called(&world, session(2)).await.expect("answered");
    let gone = world.upstream().unsubscribe("a:b", &LaneKey::Session(1)).await.expect("asked");
    assert!(gone.is_ok() && world.pipes.dials() == 2, "nothing is started to be left");
}

#[tokio::test(start_paused = true)]
async fn r32_a_lane_that_nobody_uses_sleeps_and_its_owner_wakes_it() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    called(&world, session(1)).await.expect("answered");
    sleep(Duration::from_mins(29)).await;
    assert!(!server(&world, 0).is_closed());
    sleep(Duration::from_mins(2)).await;
    assert!(server(&world, 0).is_closed(), "its process is gone");
    assert_eq!((shown(&world), world.upstream().status().state), (vec![("codex#1".to_owned(), "idle")], "idle"));
    called(&world, session(1)).await.expect("answered");
    assert_eq!(calls(&world), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn r32_a_hundred_sessions_come_and_go_and_leave_nothing() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    let holders = Arc::strong_count(&world.upstream().0);
    for number in 0..100 {
        called(&world, session(number)).await.expect("answered");
        world.upstream().release(&LaneKey::Session(number));
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.pipes.dials(), shown(&world).len()), (100, 0));
    assert!(world.pipes.servers().iter().all(Handle::is_closed));
    assert_eq!(metric(&world, "trunkline_upstream_lanes{"), "0");
    assert_eq!(Arc::strong_count(&world.upstream().0), holders, "no lane holds on to its server");
    world.upstream().release(&LaneKey::Session(5));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_lets_what_runs_on_its_lane_end_first() {
    let world = world(lanes(Sharing::Session, 8), slow(5)).await;
    let mut call = begun(&world, session(1)).await.expect("sent");
    world.upstream().release(&LaneKey::Session(1));
    assert!(matches!(call.next().await, CallEvent::Done(_)));
    sleep(Duration::from_secs(1)).await;
    assert!(server(&world, 0).is_closed() && shown(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn r1_a_lane_that_crashes_leaves_the_others_alone_and_comes_back() {
    let world = world(lanes(Sharing::Session, 8), slow(1)).await;
    called(&world, session(1)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    let running = begun(&world, session(2));
    server(&world, 0).exit().await;
    let mut call = running.await.expect("sent");
    assert!(matches!(call.next().await, CallEvent::Done(_)));
    assert_eq!(world.upstream().status().state, "ready", "the best of them is shown");
    sleep(Duration::from_secs(5)).await;
    called(&world, session(1)).await.expect("it is back by itself");
    assert_eq!((calls(&world), world.upstream().status().restarts), (vec![1, 2, 1], 1));
    let history = world.environment.journal.history(&name());
    assert!(history.iter().any(|it| it.reason.contains("lane of codex#1: server `git` is reconnecting")));
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_supervisor_panics_is_started_again() {
    let mut world = world(lanes(Sharing::Session, 8), Script::default()).await;
    world.notices.close();
    world.pipes.plan(Plan::Panic);
    called(&world, session(1)).await.expect("answered");
    assert_eq!(world.pipes.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn r32_lanes_end_with_another_way_of_sharing_with_the_server_and_with_the_daemon() {
    type Change = fn(&World);
    let changes: [Change; 4] = [
        |world| world.fleet.apply(&[(name(), lanes(Sharing::Shared, 8))]),
        |world| world.fleet.apply(&[(name(), Server { enabled: false, ..lanes(Sharing::Session, 8) })]),
        |world| world.fleet.apply(&[]),
        |_| {},
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let world = world(lanes(Sharing::Session, 8), Script::default()).await;
        called(&world, session(1)).await.expect("answered");
        called(&world, session(2)).await.expect("answered");
        change(&world);
        if at == 3 {
            world.fleet.stop().await;
        } else {
            sleep(Duration::from_secs(3)).await;
        }
        assert!(server(&world, 0).is_closed() && server(&world, 1).is_closed(), "change {at}");
        assert!(shown(&world).is_empty(), "change {at}");
        // Whoever comes late is told by the server as a whole, and begins nothing.
        assert_eq!(called(&world, session(3)).await.is_ok(), at == 0);
        assert_eq!(world.pipes.dials(), if at == 0 { 3 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn r36_a_changed_command_holds_for_each_lane_and_a_restart_too() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    called(&world, session(1)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    let mut changed = lanes(Sharing::Session, 8);
    changed.connect = Connect::Stdio(Stdio::new("another", []));
    world.fleet.apply(&[(name(), changed)]);
    sleep(Duration::from_secs(3)).await;
    assert!(server(&world, 0).is_closed() && server(&world, 1).is_closed());
    assert_eq!(world.pipes.dials(), 5, "the two, and the first to know what it offers");
    sleep(Duration::from_mins(31)).await;
    called(&world, session(1)).await.expect("answered");
    world.upstream().restart();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.pipes.dials(), 8, "the one that was awake, and the one that slept");
}

#[tokio::test(start_paused = true)]
async fn the_offer_is_that_of_the_first_lane_that_is_ready() {
    let script = |tool_name: &str| Script { tools: vec![tool(tool_name)], ..Script::default() };
    let world = world(lanes(Sharing::Session, 8), script("late")).await;
    world.pipes.plan(Plan::Serve(script("one")));
    called(&world, session(1)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    let offered = || world.upstream().offer().tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    assert_eq!((offered(), world.upstream().ever_ready()), (vec!["one".to_owned()], true));
    server(&world, 1).change(script("other")).await;
    server(&world, 1).notify("notifications/tools/list_changed", "{}").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(offered(), ["one"], "what one session makes of its lane is not everybody's");
    world.upstream().release(&LaneKey::Session(1));
    sleep(Duration::from_secs(1)).await;
    called(&world, session(3)).await.expect("answered");
    assert_eq!(offered(), ["one"], "nothing changes because a session ends");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_knows_is_started_once_to_know_what_it_offers_and_sleeps_again() {
    let world = World::planned(lanes(Sharing::Session, 8), [], Script::default());
    world.ready().await;
    assert_eq!((world.pipes.dials(), world.upstream().offer().tools.len(), shown(&world).len()), (1, 1, 0));
    called(&world, session(1)).await.expect("answered");
    assert_eq!(calls(&world), [0, 1]);
    sleep(Duration::from_mins(31)).await;
    assert!(server(&world, 0).is_closed(), "nobody used it");
}

#[tokio::test(start_paused = true)]
async fn a_project_is_told_its_own_directories_and_is_started_there() {
    let world = world(lanes(Sharing::Project, 8), Script::default()).await;
    let here = tempfile::tempdir().expect("a directory");
    let own = Url::from_file_path(here.path()).expect("a URL").to_string();
    for root in [own.as_str(), "file:///nowhere/b%20c"] {
        called(&world, project(root)).await.expect("answered");
    }
    for (nth, root) in [own.as_str(), "file:///nowhere/b%20c"].into_iter().enumerate() {
        server(&world, nth).write("{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}\n").await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(told(&server(&world, nth)), format!(r#"{{"roots":[{{"uri":"{root}"}}]}}"#));
    }
    let table = world.upstream().0.lanes.table();
    let cwd = |nth: usize| match &table.lanes[nth].server().connect {
        Connect::Stdio(stdio) => stdio.cwd.clone(),
        Connect::Http(_) => None,
    };
    assert_eq!((cwd(0).as_deref(), cwd(1)), (Some(here.path()), None), "what is not there nobody is started in");
    assert_eq!(table.lanes[1].lane_label().as_deref(), Some("/nowhere/b c"));
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_project_waits_until_its_server_works_by_its_directories_but_not_for_one_that_asks_for_none()
 {
    for (asks, waits_ms) in [(true, 200), (false, 500)] {
        let world = world(lanes(Sharing::Project, 8), Script::default()).await;
        let upstream = world.upstream().clone();
        let begun_at = Instant::now();
        let call = async {
            let ask = Ask { caller: project("file:///a"), ..echo() };
            upstream.call(ask).await.expect("sent");
            begun_at.elapsed().as_millis()
        };
        let asking = async {
            world.pipes.dialed(1).await;
            sleep(Duration::from_millis(5)).await;
            if asks {
                server(&world, 0).write("{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}\n").await;
            }
        };
        let (waited, ()) = tokio::join!(call, asking);
        assert!((waits_ms..waits_ms + 50).contains(&waited), "{waited} ms");
    }
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    let begun_at = Instant::now();
    called(&world, session(1)).await.expect("answered");
    assert!(begun_at.elapsed() < Duration::from_millis(50), "there is nothing to ask for");
}

/// What a server was told when it asked for something, most recently.
fn told(server: &Handle) -> String {
    let answer = server.seen().into_iter().rev().find_map(|message| match message {
        Message::Response(response) => response.outcome.ok(),
        Message::Request(_) | Message::Notification(_) => None,
    });
    String::from_utf8(answer.expect("an answer").as_bytes().to_vec()).expect("text")
}

#[tokio::test(start_paused = true)]
async fn the_server_of_a_session_is_told_what_its_client_declared_and_when_its_directories_change() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    let client = r#"{"roots":{"listChanged":true},"sampling":{"tools":{}}}"#;
    let declared = Object::parse(&Json::literal(client)).expect("an object");
    let declared = Arc::new(Abilities::read(&declared, Revision::NEWEST_LEGACY));
    // That it can be asked nothing on this one exchange says nothing of the connection.
    let at = |root: &str| CallerFacts { declared: declared.clone(), roots: Arc::from([root.to_owned()]), ..session(1) };
    for root in ["file:///a", "file:///a", "file:///b"] {
        called(&world, at(root)).await.expect("answered");
    }
    let first = server(&world, 0);
    let Some(Message::Request(initialize)) = first.seen_of("initialize").pop() else { panic!("a handshake") };
    let capabilities = initialize.params().expect("an object").get("capabilities").cloned().expect("some");
    assert_eq!(capabilities, Json::literal(r#"{"sampling":{"tools":{}},"roots":{"listChanged":true}}"#));
    first.saw("notifications/roots/list_changed", 1).await;
    assert_eq!(
        (first.seen_of("notifications/roots/list_changed").len(), world.pipes.dials()),
        (1, 1),
        "once, in place"
    );
    first.write("{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}\n").await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(told(&first), r#"{"roots":[{"uri":"file:///b"}]}"#);
    // A reload of something else leaves it alone.
    let mut retuned = lanes(Sharing::Session, 8);
    retuned.tuning.read_timeout = Duration::from_secs(3);
    world.fleet.apply(&[(name(), retuned)]);
    called(&world, at("file:///b")).await.expect("answered");
    // A client without any of it has a server that may ask nothing, and is told of nothing.
    called(&world, session(2)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    let Some(Message::Request(initialize)) = server(&world, 1).seen_of("initialize").pop() else { panic!("another") };
    assert_eq!(initialize.params().expect("an object").get("capabilities"), Some(&Json::literal("{}")));
    assert_eq!((server(&world, 1).seen_of("notifications/roots/list_changed").len(), world.pipes.dials()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_from_other_directories_waits_until_its_server_works_by_them() {
    let world = world(lanes(Sharing::Session, 8), Script::default()).await;
    let at = |root: &str| CallerFacts { roots: Arc::from([root.to_owned()]), ..session(1) };
    called(&world, at("file:///a")).await.expect("answered");
    let first = server(&world, 0);
    let asking = async {
        first.saw("notifications/roots/list_changed", 1).await;
        assert_eq!(first.seen_of("tools/call").len(), 1);
        first.write("{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}\n").await;
    };
    let begun_at = Instant::now();
    let (called, ()) = tokio::join!(called(&world, at("file:///b")), asking);
    called.expect("answered");
    assert!((200..300).contains(&begun_at.elapsed().as_millis()), "{:?}", begun_at.elapsed());
    assert_eq!(told(&first), r#"{"roots":[{"uri":"file:///b"}]}"#);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_unasked_is_said_of_its_lane() {
    let mut world = world(lanes(Sharing::Session, 8), Script::default()).await;
    called(&world, session(1)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    server(&world, 1).notify("notifications/message", r#"{"level":"error","data":"x"}"#).await;
    server(&world, 0).notify("notifications/resources/updated", r#"{"uri":"a:b"}"#).await;
    let mut lanes = Vec::new();
    for _ in 0..2 {
        match world.notices.recv().await.expect("said") {
            ServerNotice::LogMessage { lane, .. } => lanes.push(("log", lane)),
            ServerNotice::ResourceUpdated { lane, .. } => lanes.push(("updated", lane)),
            ServerNotice::ElicitationComplete { .. } => panic!("nobody said that"),
        }
    }
    lanes.sort_by_key(|(what, _)| *what);
    assert_eq!(lanes, [("log", LaneKey::Session(2)), ("updated", LaneKey::Session(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_behind_a_url_has_no_lanes() {
    let mut remote = lanes(Sharing::Session, 8);
    remote.connect = Connect::Http(Http::new(Url::parse("http://127.0.0.1:9/x").expect("a URL")));
    let script = Script { modern: true, ..Script::default() };
    let world = World::planned(remote, [], script);
    called(&world, session(1)).await.expect("answered");
    called(&world, session(2)).await.expect("answered");
    assert_eq!((world.pipes.dials(), shown(&world).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_while_its_lanes_end_does_not_wait_for_them() {
    let world = world(lanes(Sharing::Session, 8), slow(15)).await;
    let running = begun(&world, session(1)).await.expect("sent");
    world.fleet.apply(&[]);
    sleep(Duration::from_secs(1)).await;
    world.fleet.apply(&[(name(), lanes(Sharing::Session, 8))]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.upstream().status().state, "idle", "and not stopped");
    let begun_at = Instant::now();
    drop(begun(&world, CallerFacts::default()).await.expect("the first lane is there"));
    drop(begun(&world, session(2)).await.expect("and others begin"));
    assert!(begun_at.elapsed() < Duration::from_secs(1));
    assert!(!server(&world, 0).is_closed(), "what ran goes on");
    drop(running);
    // When the daemon stops now, nothing is left of any of them.
    world.fleet.stop().await;
    assert!(world.pipes.servers().iter().all(Handle::is_closed));
}
