//! A fleet whose configuration changes under its servers' feet (R-36).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use trunkline_config::{Connect, Http, Server, Stdio};
use trunkline_testkit::{Fault, Script, prompt, tool};
use trunkline_wire::{Method, Outcome};
use url::Url;

use crate::call::CallEvent;
use crate::error::{CallError, CallErrorKind, DialError, DialErrorKind};
use crate::fakes::{Plan, Told, World, config, echo, name};
use crate::transport::FaultPoint;
use crate::wake::Cause;

fn remote(path: &str) -> Server {
    Server::new(Connect::Http(Http::new(Url::parse(&format!("http://127.0.0.1:9/{path}")).expect("a URL"))))
}

fn child(command: &str) -> Server {
    Server::new(Connect::Stdio(Stdio::new(command, [])))
}

/// A script whose calls take this long.
fn slow(secs: u64) -> Script {
    Script { faults: vec![Fault::slow("tools/call", Duration::from_secs(secs))], ..Script::default() }
}

fn refused() -> Plan {
    Plan::Fail(DialError::new(DialErrorKind::Connect, "refused"))
}

impl World {
    fn reload(&self, server: Server) {
        self.fleet.apply(&[(name(), server)]);
    }

    /// Calls to the end, whenever this is awaited.
    fn calling(&self) -> impl Future<Output = Result<(), CallError>> + use<> {
        let upstream = self.upstream().clone();
        async move {
            let mut call = upstream.call(echo()).await?;
            loop {
                match call.next().await {
                    CallEvent::Done(_) => return Ok(()),
                    CallEvent::Failed(error) => return Err(error),
                    CallEvent::Notice(_) | CallEvent::Beat | CallEvent::Asked(_) | CallEvent::Withdrawn(_) => {}
                }
            }
        }
    }

    /// Begins a call and lets it reach the server.
    async fn running(&self) -> tokio::task::JoinHandle<Result<(), CallError>> {
        let before = self.server().seen_of("tools/call").len();
        #[expect(clippy::disallowed_methods, reason = "no task of the product")]
        let call = tokio::spawn(self.calling());
        self.server().saw("tools/call", before + 1).await;
        call
    }
}

#[tokio::test(start_paused = true)]
async fn r36_an_equal_server_keeps_its_connection_and_other_limits_hold_from_the_next_call_on() {
    let world = World::new(Script { faults: vec![Fault::silent("tools/call")], ..Script::default() });
    world.ready().await;
    world.reload(config());
    let mut quick = config();
    quick.tuning.tool_timeout = Duration::from_secs(7);
    quick.expose.prefix = Some("other".to_owned());
    world.reload(quick);
    let begun = Instant::now();
    let error = world.calling().await.expect_err("a timeout");
    assert_eq!((error.kind, begun.elapsed().as_secs()), (CallErrorKind::Timeout, 7));
    assert_eq!((world.pipes.dials(), world.upstream().status().restarts), (1, 0));
    assert_eq!(world.upstream().config().expose.prefix.as_deref(), Some("other"));
}

#[tokio::test(start_paused = true)]
async fn r36_a_changed_child_stops_first_and_its_calls_end_before_that() {
    let world = World::planned(config(), [Plan::Serve(slow(12))], Script::default());
    let old = world.ready().await;
    let running = world.running().await;
    world.reload(child("other"));
    world.is("starting").await;
    // New calls wait for five seconds, and are told what for.
    let begun = Instant::now();
    let error = world.calling().await.expect_err("the old one is still at work");
    assert_eq!((error.outcome, begun.elapsed().as_secs()), (Outcome::NotSent, 5));
    assert!(error.text.contains("its configuration was changed"), "{}", error.text);
    assert!(!old.is_closed() && world.pipes.dials() == 1, "one process at a time");
    running.await.expect("no panic").expect("its answer came");
    assert_eq!(begun.elapsed().as_secs(), 12);
    let server = world.ready().await;
    assert!(old.is_closed());
    world.calling().await.expect("served by the new one");
    assert_eq!((server.seen_of("tools/call").len(), old.seen_of("tools/call").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn r36_a_call_to_a_changed_child_without_work_waits_for_the_new_one() {
    let world = World::new(Script { tools: vec![tool("t")], ..Script::default() });
    let old = world.ready().await;
    world.reload(child("other"));
    world.is("starting").await;
    assert_eq!(world.upstream().offer().tools.len(), 1, "listed meanwhile");
    world.calling().await.expect("served by the new one");
    assert!(old.is_closed() && old.seen_of("tools/call").is_empty());
}

#[tokio::test(start_paused = true)]
async fn r36_a_changed_server_behind_a_url_serves_on_until_the_new_one_is_ready() {
    let world = World::planned(remote("a"), [Plan::Serve(slow(10)), refused()], Script::default());
    let old = world.ready().await;
    let running = world.running().await;
    world.reload(remote("b"));
    world.pipes.dialed(2).await;
    let meanwhile = world.running().await;
    world.pipes.dialed(3).await;
    sleep(Duration::from_millis(500)).await;
    world.calling().await.expect("answered at once by the new one");
    assert!(!old.is_closed(), "two calls run there");
    running.await.expect("no panic").expect("its answer came");
    meanwhile.await.expect("no panic").expect("its answer came");
    sleep(Duration::from_secs(1)).await;
    assert!(old.is_closed());
    assert_eq!(world.passed(), ["handshake", "ready"], "it was ready all the time");
    assert_eq!(world.upstream().status().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn r36_a_new_address_that_never_answers_takes_over_in_the_end() {
    let plan = std::iter::once(Plan::Serve(Script::default())).chain((0..100).map(|_| refused()));
    let world = World::planned(remote("a"), plan, Script::default());
    world.ready().await;
    let begun = Instant::now();
    world.reload(remote("b"));
    sleep(Duration::from_secs(25)).await;
    world.calling().await.expect("the old one serves");
    world.is("backoff").await;
    assert!((25..=31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(world.upstream().status().reason.expect("a reason").contains("refused"));
}

#[tokio::test(start_paused = true)]
async fn r36_what_another_server_cannot_list_is_not_filled_from_the_one_before() {
    let with_prompts = Script { tools: vec![tool("t")], prompts: vec![prompt("p")], ..Script::default() };
    let refuses = || Script {
        faults: vec![Fault::error("prompts/list", r#"{"code":-32603,"message":"boom"}"#)],
        ..with_prompts.clone()
    };
    let mut same = child("a");
    same.declared.sampling = true;
    for (old, new, kept) in [(remote("a"), remote("b"), 0), (child("a"), child("b"), 0), (child("a"), same, 1)] {
        let world = World::planned(old, [Plan::Serve(with_prompts.clone())], refuses());
        world.ready().await;
        world.reload(new);
        world.pipes.dialed(2).await;
        sleep(Duration::from_secs(1)).await;
        let offer = world.upstream().offer();
        assert_eq!((offer.tools.len(), offer.prompts.len()), (1, kept));
    }
}

#[tokio::test(start_paused = true)]
async fn r36_what_the_old_server_still_lists_is_not_kept_as_the_new_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let shelf = || {
        let state = trunkline_config::StateDir::open(dir.path().join("offers")).expect("our own");
        crate::Shelf::at(state, trunkline_telemetry::Metrics::new())
    };
    let plan = std::iter::once(Plan::Serve(Script::default())).chain((0..100).map(|_| refused()));
    let world = World::kept(shelf(), remote("a"), plan, Script::default());
    let old = world.ready().await;
    world.reload(remote("b"));
    world.pipes.dialed(2).await;
    old.change(Script { tools: vec![tool("late")], ..Script::default() }).await;
    old.notify("notifications/tools/list_changed", "{}").await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.upstream().offer().tools.len(), 1, "it still serves");
    world.environment.shelf.settled().await;
    let next = World::kept(shelf(), remote("b"), [refused()], Script::default());
    assert_eq!(next.upstream().offer().revision, None, "nobody has seen that one");
    let back = World::kept(shelf(), remote("a"), [refused()], Script::default());
    assert_eq!(back.upstream().offer().tools.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r36_a_credential_that_is_refused_is_shown_at_once() {
    let denied = Plan::Fail(DialError::new(DialErrorKind::Auth, "401"));
    let again = Plan::Fail(DialError::new(DialErrorKind::Auth, "401"));
    let world = World::planned(remote("a"), [Plan::Serve(Script::default()), denied, again], Script::default());
    world.ready().await;
    let begun = Instant::now();
    world.reload(remote("b"));
    world.is("needs_auth").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r36_a_server_that_is_taken_out_ends_its_calls_and_leaves_nothing_behind() {
    let world = World::planned(config(), [Plan::Serve(slow(12))], Script::default());
    let server = world.ready().await;
    let running = world.running().await;
    world.fleet.apply(&[]);
    assert!(world.fleet.all().is_empty() && world.fleet.get("git").is_none());
    running.await.expect("no panic").expect("its answer came");
    sleep(Duration::from_secs(1)).await;
    assert!(server.is_closed());
    assert_eq!(world.upstream().status().state, "stopped");
    assert!(world.passed().is_empty(), "the journal has forgotten it");
    let metrics = world.environment.metrics.render();
    assert!(!metrics.contains("server=\"git\""), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn r36_a_call_that_outlives_the_drain_of_a_removed_server_is_told_so() {
    let world = World::planned(config(), [Plan::Serve(slow(100))], Script::default());
    world.ready().await;
    let running = world.running().await;
    let begun = Instant::now();
    world.fleet.apply(&[]);
    let error = running.await.expect("no panic").expect_err("cut");
    assert_eq!((error.outcome, begun.elapsed().as_secs()), (Outcome::Unknown, 20));
}

#[tokio::test(start_paused = true)]
async fn r36_a_server_that_comes_back_while_it_leaves_is_the_same_one() {
    let world = World::planned(config(), [Plan::Serve(slow(10))], Script::default());
    let old = world.ready().await;
    let running = world.running().await;
    world.fleet.apply(&[]);
    world.is("draining").await;
    world.reload(config());
    running.await.expect("no panic").expect("its answer came");
    world.is("ready").await;
    assert!(old.is_closed());
    assert!(world.fleet.all()[0].is(world.upstream()), "not two of one name");
    assert_eq!(world.pipes.dials(), 2);
    // And once more after it has gone for good.
    world.fleet.apply(&[]);
    world.is("stopped").await;
    sleep(Duration::from_secs(1)).await;
    world.reload(config());
    world.pipes.dialed(3).await;
    let back = world.fleet.get("git").expect("it is back");
    back.states().wait_for(|view| view.state == "ready").await.expect("ready");
}

#[tokio::test(start_paused = true)]
async fn r36_a_server_is_switched_off_and_on() {
    let world = World::new(Script::default());
    let server = world.ready().await;
    world.reload(Server { enabled: false, ..config() });
    world.is("disabled").await;
    assert!(server.is_closed());
    sleep(Duration::from_secs(100)).await;
    assert_eq!(world.pipes.dials(), 1);
    world.reload(config());
    world.is("ready").await;
    world.fleet.stop().await;
    assert_eq!(world.upstream().status().state, "stopped");
}

#[tokio::test(start_paused = true)]
async fn r36_a_problem_that_was_mended_is_gone_at_once() {
    let world = World::planned(Server { problem: Some("TOKEN is not set".into()), ..config() }, [], Script::default());
    world.is("misconfigured").await;
    let begun = Instant::now();
    world.reload(config());
    world.is("ready").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_fleet_takes_no_servers() {
    let world = World::new(Script::default());
    world.ready().await;
    world.fleet.stop().await;
    world.reload(child("other"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!((world.pipes.dials(), world.upstream().status().state), (1, "stopped"));
}

#[tokio::test(start_paused = true)]
async fn r36_f39_a_stop_during_a_change_does_not_wait_for_it() {
    let world = World::planned(config(), [Plan::Serve(slow(1000))], Script::default());
    let server = world.ready().await;
    let running = world.running().await;
    world.reload(child("other"));
    world.is("starting").await;
    let begun = Instant::now();
    world.fleet.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    running.await.expect("no panic").expect_err("cut");
    sleep(Duration::from_secs(1)).await;
    assert!(server.is_closed() && world.pipes.dials() == 1);
}

#[tokio::test(start_paused = true)]
async fn r36_of_several_reloads_in_one_moment_the_last_one_holds() {
    // Put with another configuration and taken out before the supervisor has seen either.
    let world = World::new(Script::default());
    let server = world.ready().await;
    world.reload(child("other"));
    world.fleet.apply(&[]);
    world.is("stopped").await;
    sleep(Duration::from_secs(100)).await;
    assert!(server.is_closed() && world.pipes.dials() == 1, "nothing runs that nobody lists");

    // Taken out and put back: nothing has changed.
    let world = World::new(Script::default());
    let server = world.ready().await;
    world.fleet.apply(&[]);
    world.reload(config());
    sleep(Duration::from_secs(100)).await;
    assert!(!server.is_closed() && world.pipes.dials() == 1, "it keeps its connection");
    assert_eq!(world.upstream().status().state, "ready");

    // The other way round while it is leaving.
    let world = World::planned(config(), [Plan::Serve(slow(10))], Script::default());
    world.ready().await;
    let running = world.running().await;
    world.fleet.apply(&[]);
    world.is("draining").await;
    world.reload(config());
    world.fleet.apply(&[]);
    running.await.expect("no panic").expect("its answer came");
    world.is("stopped").await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(world.pipes.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn r35_f39_a_stop_in_the_same_moment_as_a_reload_ends_the_server_all_the_same() {
    let told = Told::new(|_| Ok("{}"));
    told.closes_in_ms.store(1000, Ordering::Relaxed);
    let world = World::planned(config(), [Plan::Tell(told)], Script::default());
    world.is("ready").await;
    world.reload(child("other"));
    tokio::time::timeout(Duration::from_secs(30), world.fleet.stop()).await.expect("it ends");
    assert_eq!((world.upstream().status().state, world.pipes.dials()), ("stopped", 1));
}

#[tokio::test(start_paused = true)]
async fn r36_a_server_that_comes_back_while_an_old_connection_of_it_ends_is_waited_for() {
    let world = World::planned(remote("a"), [Plan::Serve(slow(15))], Script::default());
    world.ready().await;
    let running = world.running().await;
    world.reload(remote("b"));
    world.pipes.dialed(2).await;
    world.calling().await.expect("served by the new one");
    world.fleet.apply(&[]);
    world.is("stopped").await;
    assert!(!running.is_finished(), "its connection ends by itself");
    world.reload(remote("b"));
    world.pipes.dialed(3).await;
    world.calling().await.expect("served once it is up again");
    assert!(!running.is_finished() && world.pipes.dials() == 3);
    running.await.expect("no panic").expect("its answer came");
    assert_eq!(world.upstream().status().state, "ready");
}

/// A server whose calls of `echo` take three seconds and then fail so; others are answered at once.
fn failing_late(fault: FaultPoint) -> Arc<Told> {
    Told::late(Duration::from_secs(3), move |out| if out.method == Method::ToolsCall { Err(fault) } else { Ok("{}") })
}

#[tokio::test(start_paused = true)]
async fn r16_r36_what_fails_on_an_old_connection_says_nothing_of_the_new_one() {
    let (old, new) = (failing_late(FaultPoint::LostUnanswered), Told::new(|_| Ok("{}")));
    let world = World::planned(remote("a"), [Plan::Tell(old.clone()), Plan::Tell(new.clone())], Script::default());
    world.is("ready").await;
    let calls = join_all((0..9).map(|_| world.calling()));
    let ((), failed) = tokio::join!(
        async {
            sleep(Duration::from_secs(1)).await;
            world.reload(remote("b"));
        },
        calls
    );
    assert!(failed.iter().all(Result::is_err) && old.count(&Method::ToolsCall) == 9);
    sleep(Duration::from_secs(1)).await;
    world.calling().await.expect("the breaker is closed");
    assert_eq!(world.passed(), ["handshake", "ready"]);
    assert_eq!(new.count(&Method::Ping), 0, "and there is no doubt");
}

#[tokio::test(start_paused = true)]
async fn r8_r36_calls_that_time_out_on_an_old_connection_cast_no_doubt_on_the_new_one() {
    let mut quick = remote("a");
    quick.tuning.tool_timeout = Duration::from_secs(5);
    let never = Told::late(Duration::from_secs(100), |_| Ok("{}"));
    let new = Told::new(|_| Ok("{}"));
    let world = World::planned(quick.clone(), [Plan::Tell(never), Plan::Tell(new.clone())], Script::default());
    world.is("ready").await;
    let ((), failed) = tokio::join!(
        async {
            sleep(Duration::from_secs(1)).await;
            world.reload(Server { connect: remote("b").connect, ..quick });
        },
        join_all((0..9).map(|_| world.calling()))
    );
    assert!(failed.iter().all(|failed| failed.as_ref().is_err_and(|error| error.kind == CallErrorKind::Timeout)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.passed(), new.count(&Method::Ping)), (vec!["handshake", "ready"], 0));
}

#[tokio::test(start_paused = true)]
async fn r36_an_old_connection_does_not_outlive_a_supervisor_that_panics() {
    let plan = [Plan::Serve(slow(10)), Plan::Serve(Script::default()), Plan::Panic];
    let world = World::planned(remote("a"), plan, Script::default());
    let old = world.ready().await;
    let running = world.running().await;
    world.reload(remote("b"));
    world.pipes.dialed(2).await;
    world.calling().await.expect("served by the new one");
    world.reload(remote("c"));
    running.await.expect("no panic").expect_err("nobody is left who could see it end");
    sleep(Duration::from_secs(5)).await;
    assert!(old.is_closed());
    assert_eq!(world.upstream().status().state, "ready");
}

#[tokio::test(start_paused = true)]
async fn r35_f39_a_reload_while_the_daemon_drains_starts_and_ends_nothing() {
    let world = World::planned(config(), [Plan::Serve(slow(12))], Script::default());
    let server = world.ready().await;
    let running = world.running().await;
    world.fleet.drain();
    let other = trunkline_wire::ServerName::new("other").expect("a name");
    world.fleet.apply(&[(name(), child("another command")), (other, config())]);
    running.await.expect("no panic").expect("its answer came");
    sleep(Duration::from_secs(5)).await;
    assert!(!server.is_closed() && world.fleet.get("other").is_none());
    assert_eq!((world.pipes.dials(), world.upstream().status().state), (1, "ready"));
}

#[tokio::test(start_paused = true)]
async fn r20_f75_a_dial_across_a_network_that_is_gone_is_begun_anew() {
    let hangs = Script { faults: vec![Fault::silent("initialize")], ..Script::default() };
    let url = Url::parse("https://mcp.example.test/mcp").expect("a URL");
    let far = Server::new(Connect::Http(Http::new(url)));
    for (server, dials) in [(far, 2), (config(), 1)] {
        let world = World::planned(server, [Plan::Serve(hangs.clone())], Script::default());
        world.pipes.dialed(1).await;
        sleep(Duration::from_secs(1)).await;
        world.fleet.woke(Cause::Network);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.pipes.dials(), dials);
        assert_eq!(world.upstream().status().state, if dials == 2 { "ready" } else { "starting" });
    }
}

#[tokio::test(start_paused = true)]
async fn r20_r36_a_wake_does_not_cut_calls_that_end_on_an_old_connection() {
    let far = |path: &str| {
        let url = Url::parse(&format!("https://mcp.example.test/{path}")).expect("a URL");
        Server::new(Connect::Http(Http::new(url)))
    };
    let plan = std::iter::once(Plan::Serve(slow(45))).chain((0..30).map(|_| refused()));
    let world = World::planned(far("a"), plan, Script::default());
    world.ready().await;
    let running = world.running().await;
    world.reload(far("b"));
    world.is("starting").await;
    world.fleet.woke(Cause::Network);
    running.await.expect("no panic").expect("its answer came");
}

mod paused;
