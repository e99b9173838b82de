//! Servers whose requests fail on their way: what is sent again, what is not, and when a server is left alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use trunkline_config::{Server, Tuning};
use trunkline_wire::Outcome;

use super::*;
use crate::call::{Ask, CallEvent};
use crate::error::{CallErrorKind, DialError, DialErrorKind};
use crate::fakes::{Plan, Told, World, ask, config, echo};
use crate::transport::Outgoing;
use crate::wake::Cause;

const DONE: Result<&str, FaultPoint> = Ok(r#"{"content":[]}"#);

/// A server that does this with its requests, however often it is dialled.
fn world(told: &Arc<Told>) -> World {
    World::planned(config(), (0..9).map(|_| Plan::Tell(told.clone())), trunkline_testkit::Script::default())
}

/// Fails the first `times` requests of `method` so, and answers all others.
fn failing(method: Method, times: usize, fault: FaultPoint) -> Arc<Told> {
    let left = AtomicUsize::new(times);
    Told::new(move |out: &Outgoing| {
        let fails = out.method == method
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Err(fault) } else { DONE }
    })
}

fn read() -> Ask {
    ask(Method::ResourcesRead, r#"{"uri":"a:b"}"#)
}

fn look() -> Ask {
    ask(Method::ToolsCall, r#"{"name":"look"}"#)
}

async fn run(world: &World, ask: Ask) -> Result<Result<Json, Json>, CallError> {
    let mut call = world.upstream().call(ask).await?;
    loop {
        match call.next().await {
            CallEvent::Done(answer) => return Ok(answer),
            CallEvent::Failed(error) => return Err(error),
            CallEvent::Notice(_) | CallEvent::Beat | CallEvent::Asked(_) | CallEvent::Withdrawn(_) => {}
        }
    }
}

async fn result(world: &World, ask: Ask) -> String {
    let result = run(world, ask).await.expect("answered").expect("a result");
    String::from_utf8_lossy(result.as_bytes()).into_owned()
}

fn metric(world: &World, line: &str) -> bool {
    world.environment.metrics.render().lines().any(|shown| shown == line)
}

#[tokio::test(start_paused = true)]
async fn r16_f15_five_resets_leave_the_server_alone_and_no_callers_call_finds_out_that_it_is_back() {
    let told = failing(Method::ToolsCall, 5, FaultPoint::LostUnanswered);
    let world = world(&told);
    world.is("ready").await;
    for _ in 0..5 {
        world.is("ready").await;
        assert_eq!(run(&world, echo()).await.expect_err("reset").outcome, Outcome::Unknown);
    }
    world.is("open").await;
    let (begun, calls, pings) = (Instant::now(), told.count(&Method::ToolsCall), told.count(&Method::Ping));
    let refused = run(&world, echo()).await.expect_err("refused");
    assert_eq!((refused.kind, refused.outcome), (CallErrorKind::Unavailable, Outcome::NotSent));
    assert!(begun.elapsed() <= Duration::from_millis(10), "{:?}", begun.elapsed());
    assert!(refused.retry_after.is_some_and(|wait| wait <= Duration::from_secs(5)), "{refused:?}");
    assert!(refused.text.contains("left alone"), "{}", refused.text);
    world.is("ready").await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!((told.count(&Method::ToolsCall), told.count(&Method::Ping)), (calls, pings + 1));
    assert!(metric(&world, r#"trunkline_breaker_open_seconds_total{server="git"} 5"#));
    run(&world, echo()).await.expect("answered").expect("a result");
    assert_eq!(world.pipes.dials(), 1, "the connection was kept");
}

#[tokio::test(start_paused = true)]
async fn r16_errors_that_the_server_wrote_open_no_breaker() {
    let world = World::new(trunkline_testkit::Script {
        faults: vec![trunkline_testkit::Fault::error("tools/call", r#"{"code":-32000,"message":"no"}"#)],
        ..trunkline_testkit::Script::default()
    });
    for _ in 0..50 {
        run(&world, echo()).await.expect("answered").expect_err("an error");
    }
    assert_eq!(world.upstream().status().state, "ready");
}

#[tokio::test(start_paused = true)]
async fn r17_f16_of_many_reads_that_fail_a_fifth_is_sent_again() {
    let count = AtomicUsize::new(0);
    let told = Told::new(move |out| {
        let fails = out.method == Method::ResourcesRead && count.fetch_add(1, Ordering::Relaxed) % 5 < 2;
        if fails { Err(FaultPoint::ServerFailed) } else { DONE }
    });
    let world = world(&told);
    world.is("ready").await;
    let mut failed = 0;
    for _ in 0..100 {
        let round = join_all((0..20).map(|_| run(&world, read()))).await;
        failed += round.iter().filter(|outcome| outcome.is_err()).count();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let resends = told.count(&Method::ResourcesRead) - 2000;
    assert!((100..=400).contains(&resends), "{resends} of 2000");
    assert!(failed > 0, "the original fault is reported");
    assert!(world.environment.metrics.render().contains("trunkline_retry_budget_exhausted_total{server=\"git\"}"));
    assert_eq!(world.upstream().status().state, "ready");
}

#[tokio::test(start_paused = true)]
async fn r14_f13_forty_calls_of_a_forgotten_session_go_on_after_one_new_handshake() {
    let forgetful = Told::new(|out| if out.method == Method::ToolsCall { Err(FaultPoint::SessionGone) } else { DONE });
    let sound = failing(Method::ToolsCall, 0, FaultPoint::LostUnanswered);
    let plan = [Plan::Tell(forgetful.clone()), Plan::Tell(sound.clone())];
    let world = World::planned(config(), plan, trunkline_testkit::Script::default());
    world.is("ready").await;
    let outcomes = join_all((0..40).map(|_| run(&world, echo()))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|outcome| outcome.is_err()));
    assert_eq!(world.pipes.dials(), 2, "one new handshake");
    assert_eq!(sound.count(&Method::ToolsCall), 40, "each once");
    assert!(forgetful.count(&Method::ToolsCall) <= 40);
}

#[tokio::test(start_paused = true)]
async fn r18_a_replay_shows_in_the_result_and_in_the_metrics_and_what_was_never_sent_is_none() {
    let replayed = world(&failing(Method::ResourcesRead, 1, FaultPoint::BrokenMidway));
    assert_eq!(result(&replayed, read()).await, r#"{"content":[],"_meta":{"dev.trunkline/replays":1}}"#);
    assert!(metric(&replayed, r#"trunkline_retries_total{reason="broke_midway",server="git"} 1"#));
    let unsent = world(&failing(Method::ResourcesRead, 1, FaultPoint::NothingSent));
    assert_eq!(result(&unsent, read()).await, r#"{"content":[]}"#);
    assert!(metric(&unsent, r#"trunkline_retries_total{reason="not_sent",server="git"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn r18_a_tools_hints_count_where_the_operator_says_so() {
    let told = failing(Method::ToolsCall, 1, FaultPoint::LostUnanswered);
    let doubted = world(&told);
    doubted.is("ready").await;
    assert_eq!(run(&doubted, look()).await.expect_err("lost").outcome, Outcome::Unknown);
    assert_eq!(told.count(&Method::ToolsCall), 1);

    let trusting = |told: &Arc<Told>| {
        let mut config = config();
        config.tuning.trust_annotations = true;
        World::planned(config, [Plan::Tell(told.clone())], trunkline_testkit::Script::default())
    };
    let told = failing(Method::ToolsCall, 1, FaultPoint::LostUnanswered);
    let trusted = trusting(&told);
    trusted.is("ready").await;
    assert!(result(&trusted, look()).await.contains("dev.trunkline/replays"));
    let told = failing(Method::ToolsCall, 1, FaultPoint::LostUnanswered);
    let other = trusting(&told);
    other.is("ready").await;
    assert_eq!(run(&other, echo()).await.expect_err("no hint").outcome, Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn r17_how_often_a_request_is_sent_again_is_the_operators_to_say() {
    // The fifth fault in a row would open the breaker.
    for retries_max in [0, 2, 4] {
        let told =
            Told::new(|out| if out.method == Method::ResourcesRead { Err(FaultPoint::ServerFailed) } else { DONE });
        let world = world(&told);
        world.is("ready").await;
        // Enough that went well for the budget not to be what ends it.
        for _ in 0..40 {
            run(&world, echo()).await.expect("answered").expect("a result");
        }
        let tuning = Tuning { retries_max, ..Tuning::default() };
        world.fleet.apply(&[(crate::fakes::name(), Server { tuning, ..config() })]);
        run(&world, read()).await.expect_err("it fails each time");
        assert_eq!(told.count(&Method::ResourcesRead), 1 + retries_max as usize, "{retries_max}");
    }
}

#[tokio::test(start_paused = true)]
async fn r14_without_retries_a_request_still_outlives_its_forgotten_session() {
    let told = failing(Method::ToolsCall, 1, FaultPoint::SessionGone);
    let server = Server { tuning: Tuning { retries_max: 0, ..Tuning::default() }, ..config() };
    let plan = (0..9).map(|_| Plan::Tell(told.clone()));
    let world = World::planned(server, plan, trunkline_testkit::Script::default());
    world.is("ready").await;
    run(&world, echo()).await.expect("answered").expect("a result");
    assert_eq!(told.count(&Method::ToolsCall), 2);
}

#[tokio::test(start_paused = true)]
async fn r21_a_changed_silence_holds_for_the_connection_that_stands() {
    let told = Told::new(|_| DONE);
    let world = world(&told);
    world.is("ready").await;
    let silent = async |silence: u64, time: u64| {
        let tuning = Tuning { silence: Duration::from_secs(silence), ..Tuning::default() };
        world.fleet.apply(&[(crate::fakes::name(), Server { tuning, ..config() })]);
        let before = told.count(&Method::Ping);
        tokio::time::sleep(Duration::from_secs(time)).await;
        told.count(&Method::Ping) - before
    };
    assert_eq!(silent(600, 300).await, 0);
    assert!(silent(10, 35).await >= 1);
    assert_eq!(world.pipes.dials(), 1, "the same connection");
}

#[tokio::test(start_paused = true)]
async fn r18_a_large_request_is_not_sent_twice() {
    let told = failing(Method::ResourcesRead, 1, FaultPoint::ServerFailed);
    let world = world(&told);
    world.is("ready").await;
    let params = format!(r#"{{"uri":"a:b","x":"{}"}}"#, "x".repeat(1024 * 1024));
    assert_eq!(run(&world, ask(Method::ResourcesRead, &params)).await.expect_err("failed").outcome, Outcome::Unknown);
    assert_eq!(told.count(&Method::ResourcesRead), 1);
}

#[tokio::test(start_paused = true)]
async fn r18_that_the_last_attempt_was_not_sent_is_not_told_of_a_request_that_may_have_run() {
    let told = Told::new(|out| {
        let fails = [Method::ResourcesRead, Method::Ping].contains(&out.method);
        if fails { Err(FaultPoint::LostUnanswered) } else { DONE }
    });
    let away = (0..99).map(|_| Plan::Fail(DialError::new(DialErrorKind::Auth, "401")));
    let plan = [Plan::Tell(told.clone())].into_iter().chain(away);
    let world = World::planned(config(), plan, trunkline_testkit::Script::default());
    world.is("ready").await;
    let error = run(&world, read()).await.expect_err("lost");
    assert_eq!(told.count(&Method::ResourcesRead), 1);
    assert_eq!((error.kind, error.outcome), (CallErrorKind::OutcomeUnknown, Outcome::Unknown), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn r20_f22_a_wake_drops_what_rests_and_looks_at_every_server_once() {
    let told = failing(Method::ToolsCall, 0, FaultPoint::LostUnanswered);
    let world = world(&told);
    world.is("ready").await;
    world.fleet.woke(Cause::Slept);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.passed().split_off(2), ["suspect", "ready"]);
    assert_eq!((told.count(&Method::Ping), told.renewed.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(world.pipes.dials(), 1);
    assert!(metric(&world, "trunkline_wake_events_total 1"));
}
