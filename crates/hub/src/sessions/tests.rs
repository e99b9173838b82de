//! Sessions that come back, between hubs that share a state directory as two processes after one another do.

use std::path::Path;

use futures_util::StreamExt;
use trunkline_config::{Config, Connect, Server, StateDir, Stdio};
use trunkline_telemetry::Metrics;
use trunkline_testkit::{Script, resource};
use trunkline_wire::Method;

use super::*;
use crate::fakes::{self, World, able_session, message, request};
use crate::input::Retry;
use crate::{Keep, Reply, Wants};

const BOTH: Wants = Wants { json: true, sse: true };

fn keep(dir: &Path) -> Keep {
    Keep::in_directory(StateDir::open(dir).expect("our own")).expect("readable")
}

/// A hub without servers, as the next process on this state directory makes it.
fn hub(dir: &Path, config: &Config) -> Arc<Hub> {
    let (fleet, notices) = fakes::fleet(&[]);
    Hub::keeping(&keep(dir), fleet, config, Metrics::new(), trunkline_wire::Budget::new(1 << 26), notices)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A server with a resource.
fn script() -> Script {
    Script { resources: vec![resource("file:///a"), resource("file:///b")], ..Script::default() }
}

async fn world(dir: &Path) -> World {
    World::kept(script(), Server::new(Connect::Stdio(Stdio::new("true", []))), &keep(dir)).await
}

async fn ask(hub: &Arc<Hub>, session: &Arc<Session>, method: &str, params: &str) -> String {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let Reply::One(text) = hub.handle(session, message(&text), BOTH).await else { panic!("one answer") };
    String::from_utf8(text.into_bytes().to_vec()).expect("text")
}

/// How often the server of this world was asked this.
fn asked(world: &World, method: &str) -> Vec<String> {
    let text = |message: trunkline_wire::Message| String::from_utf8(message.encode().to_vec()).expect("text");
    world.server().seen_of(method).into_iter().map(text).collect()
}

#[tokio::test]
async fn r5_a_session_is_taken_up_again_by_the_next_process_with_all_that_its_birth_decided() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let born = able_session(&first, "2025-06-18", r#"{"roots":{},"elicitation":{}}"#);
    assert!(born.id().len() <= 512 && born.id().bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{}", born.id());
    let next = hub(dir.path(), &Config::default());
    let back = next.session(born.id(), Guest::ANYBODY).expect("known by its id alone");
    assert_eq!((back.id(), back.revision(), back.client_name()), (born.id(), born.revision(), born.client_name()));
    assert_eq!(back.abilities(), born.abilities());
    back.announce(&[crate::catalog::List::Tools]);
    let told = back.open_get().expect("a stream").next().await.expect("it counts as initialized");
    assert!(String::from_utf8_lossy(&told.data.into_bytes()).contains("tools/list_changed"));
}

#[test]
fn r5_whoever_comes_at_the_same_time_finds_the_same_session() {
    let dir = directory();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let id = fakes::session(&hub(dir.path(), &Config::default()), "2025-06-18").id().to_owned();
    let next = hub(dir.path(), &Config::default());
    let found: Vec<Arc<Session>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..32).map(|_| scope.spawn(|| next.session(&id, Guest::ANYBODY).expect("known"))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(found.iter().all(|session| Arc::ptr_eq(session, &found[0])));
    assert!(next.metrics().render().contains("trunkline_mcp_sessions_revived_total 1"));
}

#[tokio::test]
async fn s8_ids_that_are_forged_foreign_or_of_another_kind_are_unknown() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let id = fakes::session(&first, "2025-06-18").id().to_owned();
    let foreign = fakes::session(&hub(directory().path(), &Config::default()), "2025-06-18").id().to_owned();
    let pass = first.sealer().seal(&State::Pass { server: "git".into(), inner: "x".into() }, None);
    let next = hub(dir.path(), &Config::default());
    for at in 0..id.len() - 1 {
        let mut forged = id.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert!(next.session(std::str::from_utf8(&forged).expect("ASCII"), Guest::ANYBODY).is_none(), "{at}");
    }
    for other in [foreign, pass, String::new(), "x".repeat(10_000)] {
        assert!(next.session(&other, Guest::ANYBODY).is_none(), "{other}");
    }
    assert_eq!(next.sessions(), 0);
    assert!(next.session(&id, Guest::ANYBODY).is_some());
}

#[tokio::test(start_paused = true)]
async fn s8_whoever_began_a_session_owns_it_in_the_next_process_too_and_others_do_not_even_wake_it() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let (owned, _) =
        first.open(&request(0, Method::Initialize, "{}"), Guest::of_whole(Some("laptop"))).expect("a session");
    let anyones = fakes::session(&first, "2025-06-18");
    let used = owned.used();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(first.session(owned.id(), Guest::of_whole(Some("ci"))).is_none());
    assert_eq!(owned.used(), used, "who may not speak in it does not keep it alive");
    let next = hub(dir.path(), &Config::default());
    assert!(next.session(owned.id(), Guest::of_whole(Some("ci"))).is_none());
    assert_eq!(next.sessions(), 0);
    assert!(next.session(owned.id(), Guest::of_whole(Some("laptop"))).is_some());
    assert!(next.session(owned.id(), Guest::of_whole(Some("ci"))).is_none());
    assert!(next.session(anyones.id(), Guest::of_whole(Some("ci"))).is_some());
}

#[tokio::test]
async fn r5_what_its_client_ended_stays_ended_in_the_next_process_too() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let (ended, other) = (fakes::session(&first, "2025-06-18"), fakes::session(&first, "2025-06-18"));
    first.end(&ended);
    assert!(first.session(ended.id(), Guest::ANYBODY).is_none());
    first.remembered().await;
    let next = hub(dir.path(), &Config::default());
    assert!(next.session(ended.id(), Guest::ANYBODY).is_none());
    assert!(next.session(other.id(), Guest::ANYBODY).is_some());
}

#[tokio::test]
async fn r5_a_session_that_nobody_used_for_longer_than_it_may_rest_is_not_taken_up() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let seal = |born| {
        first
            .sealer()
            .seal(&State::Session { nonce: "n".into(), born, facts: Some(carried("{}")), profile: None }, None)
    };
    let day = Duration::from_hours(24).as_secs();
    let (old, young) = (seal(wall::now() - 12 * day), seal(wall::now() - 7 * day));
    assert!(first.session(&old, Guest::ANYBODY).is_none());
    assert!(first.session(&young, Guest::ANYBODY).is_some());
    // Used since, as its record knows: the week begins anew. So does one whose clock went ahead by a day (R-45).
    first.records.change("n", |record| record.used = wall::now() + day);
    assert!(first.session(&old, Guest::ANYBODY).is_some());
}

fn carried(abilities: &str) -> crate::seal::Carried {
    let text = |text: &str| text.into();
    crate::seal::Carried {
        revision: text("2025-06-18"),
        name: text("x"),
        version: text("1"),
        abilities: text(abilities),
    }
}

#[tokio::test(start_paused = true)]
async fn r45_the_use_of_a_session_is_noted_after_days_and_not_before() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let session = fakes::session(&first, "2025-06-18");
    let nonce = session.nonce().expect("kept");
    tokio::time::sleep(Duration::from_hours(1)).await;
    session.touch();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(first.records.of(nonce), Some(Record::default()));
    // The wall clock of the test stands still; the same comes of a note that is as old as that.
    let due = session.use_to_note(Duration::from_hours(1), Instant::now(), wall::now() + 7200).expect("due");
    assert!(due.abs_diff(wall::now() + 7200 - 60) <= 2, "not now, but when it was used");
    assert_eq!(session.use_to_note(Duration::from_hours(1), Instant::now(), wall::now() + 7200), None);
}

#[tokio::test(start_paused = true)]
async fn r5_a_session_that_gave_way_to_newer_ones_comes_back() {
    let mut config = Config::default();
    config.limits.sessions = 2;
    let hub = fakes::hub(&[], &config);
    let first = fakes::session(&hub, "2025-06-18");
    hub.handle(
        &first,
        message(r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"alert"}}"#),
        BOTH,
    )
    .await;
    let id = first.id().to_owned();
    drop(first);
    for _ in 0..1100 {
        tokio::time::advance(Duration::from_millis(10)).await;
        fakes::session(&hub, "2025-06-18");
    }
    assert_eq!(hub.sessions(), 2);
    assert!(!hub.sessions.contains_key(&*id), "it gave way");
    let back = hub.session(&id, Guest::ANYBODY).expect("known");
    assert_eq!((hub.sessions(), back.level()), (2, Some(LogLevel::Alert)));
}

#[tokio::test(start_paused = true)]
async fn r5_a_session_that_was_found_for_a_request_does_not_give_way_before_it() {
    let mut config = Config::default();
    config.limits.sessions = 2;
    let hub = fakes::hub(&[], &config);
    let id = fakes::session(&hub, "2025-06-18").id().to_owned();
    let found = hub.session(&id, Guest::ANYBODY).expect("known");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_millis(10)).await;
        fakes::session(&hub, "2025-06-18");
    }
    assert_eq!(hub.sessions(), 2);
    assert!(found.open_get().is_some(), "the request that is coming would be refused");
}

#[tokio::test(start_paused = true)]
async fn r5_what_is_set_in_a_session_that_just_gave_way_does_not_forget_what_it_had() {
    let dir = directory();
    let first = world(dir.path()).await;
    let session = fakes::session(&first.hub, "2025-06-18");
    ask(&first.hub, &session, "resources/subscribe", r#"{"uri":"file:///a"}"#).await;
    let found = first.hub.session(session.id(), Guest::ANYBODY).expect("known");
    first.hub.sessions.remove(session.id());
    first.hub.close(&session);
    ask(&first.hub, &found, "logging/setLevel", r#"{"level":"debug"}"#).await;
    let back = first.hub.session(session.id(), Guest::ANYBODY).expect("known");
    assert!(back.subscribed_on(&fakes::git().server, "file:///a").is_some());
}

#[tokio::test(start_paused = true)]
async fn r5_a_session_that_speaks_before_its_time_is_over_stays() {
    let hub = fakes::hub(&[], &Config::default());
    let (speaks, silent) = (fakes::session(&hub, "2025-06-18"), fakes::session(&hub, "2025-06-18"));
    tokio::time::advance(Config::default().limits.session_idle + Duration::from_secs(1)).await;
    // The sweeper has seen both idle; then one of them speaks.
    hub.session(speaks.id(), Guest::ANYBODY).expect("known");
    hub.expire(&speaks);
    hub.expire(&silent);
    assert!(hub.session(speaks.id(), Guest::ANYBODY).is_some());
    assert!(hub.session(silent.id(), Guest::ANYBODY).is_none());
}

#[tokio::test(start_paused = true)]
async fn r5_a_session_that_ends_while_it_subscribes_leaves_no_interest() {
    let hub = fakes::hub(&[("git", fakes::server())], &Config::default());
    let git = fakes::git();
    let session = fakes::session(&hub, "2025-06-18");
    let mut ending = None;
    let joined = hub.interest.join_if(&git, "file:///a", || {
        let noted = session.subscribe(&git, "file:///a");
        // The end comes between what the session notes and what is counted.
        let (hub, ended, runtime) = (Arc::clone(&hub), Arc::clone(&session), tokio::runtime::Handle::current());
        ending = Some(std::thread::spawn(move || {
            let _entered = runtime.enter();
            hub.end(&ended);
        }));
        while session.settings(0).is_some() {
            std::thread::yield_now();
        }
        noted
    });
    ending.expect("begun").join().expect("no panic");
    assert_eq!(joined, Some(Joined::First));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(hub.interest.closest(&git, "file:///a").is_none(), "nobody is left");
    assert_eq!(hub.interest.join_if(&git, "file:///b", || session.subscribe(&git, "file:///b")), None);
}

#[tokio::test]
async fn r5_what_makes_an_id_too_long_is_kept_beside_it() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let settings = format!(r#"{{"extensions":{{"io.modelcontextprotocol/ui":{{"x":"{}"}}}}}}"#, "x".repeat(5000));
    let born = able_session(&first, "2025-11-25", &settings);
    assert!(born.id().len() < 200, "{}", born.id());
    first.remembered().await;
    let back = hub(dir.path(), &Config::default()).session(born.id(), Guest::ANYBODY).expect("known");
    assert_eq!(back.abilities(), born.abilities());
    let endless = format!(r#"{{"extensions":{{"io.modelcontextprotocol/ui":{{"x":"{}"}}}}}}"#, "x".repeat(100_000));
    let born = able_session(&first, "2025-11-25", &endless);
    assert!(first.session(born.id(), Guest::ANYBODY).is_some());
    first.remembered().await;
    assert!(hub(dir.path(), &Config::default()).session(born.id(), Guest::ANYBODY).is_none());
}

#[tokio::test(start_paused = true)]
async fn r5_level_and_subscriptions_come_back_and_the_server_is_told_again() {
    let dir = directory();
    let first = world(dir.path()).await;
    let session = fakes::session(&first.hub, "2025-06-18");
    ask(&first.hub, &session, "logging/setLevel", r#"{"level":"debug"}"#).await;
    for uri in ["file:///a", "file:///b"] {
        let answer = ask(&first.hub, &session, "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#)).await;
        assert!(answer.contains("result"), "{answer}");
    }
    ask(&first.hub, &session, "resources/unsubscribe", r#"{"uri":"file:///b"}"#).await;
    first.hub.remembered().await;

    let next = world(dir.path()).await;
    let server = fakes::git().server;
    assert!(asked(&next, "resources/subscribe").is_empty(), "nobody came back yet");
    let back = next.hub.session(session.id(), Guest::ANYBODY).expect("known");
    assert_eq!(back.level(), Some(LogLevel::Debug));
    assert!(back.subscribed_on(&server, "file:///a").is_some() && back.subscribed_on(&server, "file:///b").is_none());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let told = asked(&next, "resources/subscribe");
    assert!(told.len() == 1 && told[0].contains("file:///a"), "{told:?}");
    assert!(asked(&next, "logging/setLevel").last().is_some_and(|told| told.contains("debug")));
    // It counts as one subscriber, no more: with its end the server is left.
    next.hub.end(&back);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(asked(&next, "resources/unsubscribe").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r23_who_comes_back_is_told_once_of_the_lists_that_changed_meanwhile() {
    let dir = directory();
    let id = fakes::session(&hub(dir.path(), &Config::default()), "2025-06-18").id().to_owned();
    let next = hub(dir.path(), &Config::default());
    next.told().announced(&View::WHOLE, &[crate::catalog::List::Templates], &next.catalog());
    let mut stream = next.session(&id, Guest::ANYBODY).expect("known").open_get().expect("a stream");
    let told = stream.next().await.expect("a notice");
    assert!(String::from_utf8_lossy(&told.data.into_bytes()).contains("resources/list_changed"));
    assert!(timeout(Duration::from_mins(1), stream.next()).await.is_err(), "nothing else changed");
}

#[tokio::test(start_paused = true)]
async fn r26_a_stream_of_a_dead_process_is_answered_for_and_never_taken_for_one_of_this() {
    let dir = directory();
    let born = fakes::session(&hub(dir.path(), &Config::default()), "2025-06-18");
    let next = hub(dir.path(), &Config::default());
    let back = next.session(born.id(), Guest::ANYBODY).expect("known");
    let purse = back.purse().clone();
    let outbox = Arc::new(crate::replay::Outbox::new(trunkline_wire::Id::from(7), purse));
    back.commit(&outbox);
    outbox.answer("another request of the same id".into());
    let gone: Vec<_> = next.attach(&back, Some("s1.Nw.0")).expect("a stream").collect().await;
    let text = String::from_utf8(gone[0].data.clone().into_bytes().to_vec()).expect("text");
    assert!(gone.len() == 1 && text.contains(r#""id":7"#) && text.contains("-31009"), "{text}");
    let (tell, _answer) = tokio::sync::oneshot::channel();
    let asked = back.questions().mint(tell);
    assert_ne!(asked.json().as_bytes(), br#""tl-1""#, "an answer to the dead process' first question");
}

#[tokio::test]
async fn a_session_of_a_pair_ends_with_its_stream_and_leaves_nothing() {
    let dir = directory();
    let first = hub(dir.path(), &Config::default());
    let (pair, _) = first.open_pair(&request(0, Method::Initialize, "{}"), Guest::ANYBODY).expect("a session");
    let next = hub(dir.path(), &Config::default());
    assert!(next.session(pair.id(), Guest::ANYBODY).is_none());
    first.end(&pair);
    first.remembered().await;
    assert!(!dir.path().join("sessions.json").exists());
}

#[tokio::test]
async fn g70_what_waited_in_a_dead_process_is_told_as_lost_and_what_needs_no_memory_holds() {
    let dir = directory();
    let (tokens, server) = {
        let first = world(dir.path()).await;
        let digest = crate::seal::Subject::of(&Method::ToolsCall, &parsed(r#"{"name":"git__echo"}"#), None).digest();
        let park = State::Park { nonce: "n".into(), digest: digest.clone(), process: first.hub.process().into() };
        let pass = State::Pass { server: "git".into(), inner: "x".into() };
        let mut over = first.hub.until(Duration::ZERO);
        over.wall -= 10;
        let url = |until| State::Url { digest: digest.clone(), round: 1, until };
        let states = [park, pass, url(first.hub.until(Duration::from_mins(1))), url(over)];
        (states.map(|state| first.hub.sealer().seal(&state, None)), first.hub.fleet().all()[0].clone())
    };
    let next = world(dir.path()).await;
    let mut retried = tokens.iter().map(|token| {
        let mut params = parsed(&format!(r#"{{"name":"git__echo","inputResponses":{{}},"requestState":"{token}"}}"#));
        let subject = crate::seal::Subject::of(&Method::ToolsCall, &params, None);
        crate::input::retry(&next.hub, &server, &subject, &mut params, None)
    });
    assert!(matches!(retried.next(), Some(Ok(Some(Retry::Lost)))));
    assert!(matches!(retried.next(), Some(Ok(Some(Retry::Pass { .. })))));
    assert!(matches!(retried.next(), Some(Ok(Some(Retry::Url { .. })))));
    let old = retried.next().expect("the last").expect_err("too old");
    assert!(String::from_utf8_lossy(old.as_bytes()).contains("too old"));
}

fn parsed(text: &str) -> trunkline_wire::Object {
    trunkline_wire::Object::parse(&trunkline_wire::Json::parse(text.to_owned()).expect("JSON")).expect("an object")
}
