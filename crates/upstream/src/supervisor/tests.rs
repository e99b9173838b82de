//! Supervised servers on pipes, through everything that befalls them.

use std::time::Duration;

use trunkline_testkit::Fault;
use trunkline_testkit::{Script, prompt, resource, tool};

use trunkline_config::Server;
use trunkline_wire::Revision;

use super::*;
use crate::call::CallEvent;
use crate::environment::LogLevel;
use crate::fakes::{Plan, World, config, echo};
use crate::offer::Offer;

fn with(fault: Fault) -> Script {
    Script { faults: vec![fault], ..Script::default() }
}

fn failed(kind: DialErrorKind) -> Plan {
    Plan::Fail(DialError::new(kind, "as planned"))
}

fn tools(count: usize) -> Vec<String> {
    (0..count).map(|number| tool(&format!("t{number}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_is_ready_with_all_its_pages() {
    let script = Script { tools: tools(7), prompts: vec![prompt("p")], page_size: Some(3), ..Script::default() };
    let world = World::new(script);
    world.is("ready").await;
    let status = world.upstream().status();
    assert_eq!((status.tools, status.prompts, status.resources, status.stale), (7, 1, 0, false));
    assert_eq!((status.transport, status.reason), (Some("stdio"), None));
    assert!(world.upstream().ever_ready());
    assert_eq!(world.server().seen_of("resources/list").len(), 0, "not declared, not asked");
    assert_eq!(*world.fleet.offers_changed().borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_leaves_the_others() {
    let script = Script {
        prompts: vec![prompt("p")],
        ..with(Fault::error("tools/list", r#"{"code":-32603,"message":"boom"}"#))
    };
    let world = World::new(script);
    world.is("ready").await;
    let offer = world.upstream().offer();
    assert_eq!((offer.tools.len(), offer.prompts.len()), (0, 1));
    assert_eq!(offer.complaints.len(), 1);
    assert!(offer.complaints[0].why.contains("boom"), "{:?}", offer.complaints);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_the_server_lacks_is_empty() {
    let world = World::new(with(Fault::error("tools/list", r#"{"code":-32601,"message":"unknown"}"#)));
    world.is("ready").await;
    assert!(world.upstream().offer().complaints.is_empty());
}

#[tokio::test(start_paused = true)]
async fn r22_the_offer_outlives_the_connection() {
    let world = World::planned(
        config(),
        [Plan::Serve(Script { tools: tools(3), ..Script::default() }), failed(DialErrorKind::Auth)],
        Script::default(),
    );
    let server = world.ready().await;
    server.exit().await;
    world.is("needs_auth").await;
    let status = world.upstream().status();
    assert_eq!((status.tools, status.stale), (3, true));
    assert!(status.retry_in.is_some_and(|wait| wait >= Duration::from_secs(59)), "{:?}", status.retry_in);
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_is_fetched_again_and_an_unchanged_one_not_published() {
    let world = World::new(Script { tools: tools(2), ..Script::default() });
    let server = world.ready().await;
    let mut changes = world.fleet.offers_changed();
    changes.mark_unchanged();
    for _ in 0..50 {
        server.notify("notifications/tools/list_changed", "{}").await;
    }
    server.saw("tools/list", 2).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!changes.has_changed().expect("open"), "nothing changed");
    assert!(server.seen_of("tools/list").len() <= 3, "a burst is one refresh, or two");
    server.change(Script { tools: tools(5), ..Script::default() }).await;
    server.notify("notifications/tools/list_changed", "{}").await;
    changes.changed().await.expect("open");
    assert_eq!(world.upstream().offer().tools.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_changes_between_its_pages_is_had_in_the_end() {
    let script =
        Script { tools: tools(4), page_size: Some(2), ..with(Fault::list_changes_mid_page("tools/list").times(1)) };
    let world = World::new(script);
    world.is("ready").await;
    let mut offers = world.upstream().offers();
    let complete = offers.wait_for(|offer| offer.tools.len() == 4 && offer.complaints.is_empty());
    tokio::time::timeout(Duration::from_secs(10), complete).await.expect("in time").expect("open");
}

#[tokio::test(start_paused = true)]
async fn r10_a_server_that_dies_comes_back_by_itself() {
    let world = World::new(Script::default());
    world.ready().await.exit().await;
    world.is("backoff").await;
    world.is("ready").await;
    assert_eq!(world.passed(), ["handshake", "ready", "backoff", "starting", "handshake", "ready"]);
    assert_eq!(world.upstream().status().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn r33_a_server_that_keeps_dying_is_left_alone_for_a_minute() {
    let plan = (0..5).map(|_| failed(DialErrorKind::Exited));
    let world = World::planned(config(), plan, Script::default());
    world.is("open").await;
    assert_eq!(world.pipes.dials(), 5);
    let begun = Instant::now();
    world.is("ready").await;
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_done_at_once_from_any_state() {
    let world = World::planned(config(), [failed(DialErrorKind::Config)], Script::default());
    world.is("misconfigured").await;
    let begun = Instant::now();
    world.upstream().restart();
    world.is("ready").await;
    world.upstream().restart();
    world.pipes.dialed(3).await;
    world.is("ready").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(world.pipes.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_problem_in_its_configuration_is_never_dialled() {
    let mut broken = config();
    broken.problem = Some("`GIT_TOKEN` is not set".to_owned());
    let world = World::planned(broken, [], Script::default());
    world.is("misconfigured").await;
    let reason = world.upstream().status().reason.expect("a reason");
    assert!(reason.contains("`GIT_TOKEN` is not set"), "{reason}");
    assert_eq!(world.pipes.dials(), 0);
}

#[tokio::test(start_paused = true)]
async fn r21_an_idle_server_is_probed_and_a_dead_one_replaced() {
    let world = World::planned(config(), [Plan::Serve(with(Fault::silent("ping")))], Script::default());
    world.is("ready").await;
    let begun = Instant::now();
    world.is("suspect").await;
    assert_eq!(begun.elapsed().as_secs(), 40);
    world.is("backoff").await;
    assert_eq!(begun.elapsed().as_secs(), 60);
    let server = world.ready().await;
    server.saw("ping", 2).await;
    assert_eq!(world.upstream().status().state, "ready");
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_panics_is_started_again() {
    let world = World::planned(config(), [Plan::Panic], Script::default());
    world.is("ready").await;
    assert_eq!(world.pipes.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_fleet_is_quiet() {
    let world = World::new(Script::default());
    world.is("ready").await;
    world.fleet.stop().await;
    assert_eq!(world.upstream().status().state, "stopped");
    world.upstream().restart();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!((world.upstream().status().state, world.pipes.dials()), ("stopped", 1));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_is_only_listed() {
    let world = World::planned(Server { enabled: false, ..config() }, [], Script::default());
    assert_eq!(world.upstream().status().state, "disabled");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.pipes.dials(), 0);
    world.fleet.stop().await;
}

/// A server that may sleep for want of work, and has an offer from before.
fn sleepy(start: Start, script: Script) -> World {
    let mut config = config();
    config.tuning.start = start;
    config.tuning.idle_stop = Some(Duration::from_mins(1));
    World::planned(config, [], script)
}

/// Calls `echo` to its end.
async fn called(world: &World) -> Result<(), String> {
    let mut call = world.upstream().call(echo()).await.map_err(|error| error.text)?;
    loop {
        match call.next().await {
            CallEvent::Done(_) => return Ok(()),
            CallEvent::Failed(error) => return Err(error.text),
            CallEvent::Notice(_) | CallEvent::Beat | CallEvent::Asked(_) | CallEvent::Withdrawn(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lazy_server_that_is_known_waits_for_its_first_call() {
    let world = sleepy(Start::Lazy, Script { tools: tools(2), ..Script::default() });
    let known = Offer { revision: Some(Revision::NEWEST_LEGACY), ..Offer::default() };
    world.upstream().0.offers.send_replace(Arc::new(known));
    world.is("idle").await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.pipes.dials(), 0);
    let reason = world.upstream().status().reason;
    assert_eq!(reason.as_deref(), Some("server `git` is asleep; the next call starts it"));
    called(&world).await.expect("woken");
    assert_eq!((world.pipes.dials(), world.upstream().offer().tools.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_lazy_server_that_nobody_knows_is_started_once_to_know_what_it_offers() {
    let world = sleepy(Start::Lazy, Script { tools: tools(2), ..Script::default() });
    world.is("ready").await;
    world.is("idle").await;
    assert_eq!((world.pipes.dials(), world.upstream().offer().tools.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_unused_server_sleeps_and_the_next_call_wakes_it() {
    let world = sleepy(Start::Eager, Script { tools: tools(3), ..Script::default() });
    let server = world.ready().await;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(30)).await;
    called(&world).await.expect("answered");
    world.is("idle").await;
    assert_eq!(begun.elapsed().as_secs(), 90, "a minute after the last call");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.is_closed(), "its process is gone");
    assert_eq!((world.upstream().status().tools, world.upstream().status().stale), (3, true));
    called(&world).await.expect("woken");
    assert_eq!(world.passed(), ["handshake", "ready", "idle", "starting", "handshake", "ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_at_work_does_not_sleep_nor_one_with_subscribers() {
    let slow = Script { resources: vec![resource("a:b")], ..with(Fault::slow("tools/call", Duration::from_secs(200))) };
    let world = sleepy(Start::Eager, slow);
    world.ready().await;
    called(&world).await.expect("answered late");
    assert_eq!(world.upstream().status().state, "ready");
    world.upstream().subscribe("a:b", &crate::CallerFacts::default()).await.expect("asked").expect("a yes");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(world.upstream().status().state, "ready");
    world.upstream().unsubscribe("a:b", &crate::LaneKey::Common).await.expect("asked").expect("a yes");
    world.is("idle").await;
    assert_eq!(world.pipes.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_wanted_log_level_is_told_to_each_connection() {
    let world = World::new(Script::default());
    let server = world.ready().await;
    world.upstream().want_log_level(Some(LogLevel::Notice));
    world.upstream().want_log_level(Some(LogLevel::Debug));
    server.saw("logging/setLevel", 1).await;
    server.exit().await;
    world.is("backoff").await;
    let server = world.ready().await;
    server.saw("logging/setLevel", 1).await;
    assert_eq!(server.seen_of("logging/setLevel").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r22_a_failing_server_stays_listed_unless_told_for_how_long_and_is_listed_again_when_it_is_back() {
    for keep in [None, Some(Duration::from_mins(5))] {
        let mut server = config();
        server.tuning.stale_keep = keep;
        let down = || Plan::Fail(DialError::new(DialErrorKind::Connect, "down".to_owned()));
        // Half a minute each on the average: chance must not bring it back before its time.
        let plan = [Plan::Serve(Script::default())].into_iter().chain((0..60).map(|_| down()));
        let world = World::planned(server, plan, Script::default());
        world.ready().await.exit().await;
        let tools = || world.upstream().offer().tools.len();
        let count = *world.fleet.offers_changed().borrow();
        tokio::time::sleep(Duration::from_secs(290)).await;
        assert_eq!(tools(), 1);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_ne!(world.upstream().status().state, "ready", "it is still away");
        assert_eq!(
            (tools(), *world.fleet.offers_changed().borrow() - count),
            if keep.is_some() { (0, 1) } else { (1, 0) }
        );
        world.is("ready").await;
        assert_eq!(tools(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn r21_f23_a_server_that_answers_no_list_is_not_called_ready() {
    let world = World::planned(config(), [Plan::Serve(with(Fault::silent("tools/list")))], Script::default());
    world.is("backoff").await;
    let reason = world.upstream().status().reason.expect("a reason");
    assert!(reason.contains("its lists could not be had: no answer to tools/list within"), "{reason}");
    assert!(!world.upstream().ever_ready());
    world.is("ready").await;
    assert_eq!(world.pipes.dials(), 2);
}
