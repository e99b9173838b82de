//! What a session does with requests and streams, with work made by hand in place of servers.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use trunkline_wire::Method;

use super::*;
use crate::fakes::{self, request};
use crate::limits::{PENDING_BYTES_MAX, PENDING_EVENTS_MAX, REPLAY_AGE_MAX};
use crate::{EventStream, Reply, Wants, dispatch};

async fn work(session: &Session, id: Id, start: impl FnOnce(Arc<Outbox>) -> BoxFuture<'static, ()>) -> Reply {
    dispatch::work(session, id, Wants { json: true, sse: true }, start).await
}

fn session(revision: &str) -> Arc<Session> {
    let params = format!(r#"{{"protocolVersion":"{revision}"}}"#);
    let facts = Facts::read(&request(0, Method::Initialize, &params)).expect("readable");
    let session = Session::begin(
        1,
        Identity::of_stream("id".into(), Guest::ANYBODY),
        facts,
        Budget::new(1 << 20),
        Budget::new(1 << 20),
    );
    session.initialized();
    session
}

/// Work that passes on what it is told: notices, and the answer when the sender is gone.
fn steered(
    session: &Arc<Session>,
    mut told: mpsc::Receiver<&'static str>,
) -> impl FnOnce(Arc<Outbox>) -> BoxFuture<'static, ()> {
    let session = Arc::clone(session);
    move |outbox| {
        async move {
            while let Some(notice) = told.recv().await {
                outbox.notice(notice.into());
            }
            session.finish(&outbox, "answer".into());
        }
        .boxed()
    }
}

async fn texts(events: EventStream) -> Vec<String> {
    let shown = |event: Event| {
        let data = String::from_utf8(event.data.into_bytes().to_vec()).expect("text");
        format!("{} {data}", event.id.as_deref().unwrap_or("-"))
    };
    events.map(shown).collect().await
}

fn stream(reply: Reply) -> EventStream {
    let Reply::Events(events) = reply else { panic!("a stream is expected, not {reply:?}") };
    events
}

#[tokio::test]
async fn an_answer_that_comes_first_is_one_body_and_leaves_nothing_behind() {
    let session = session("2025-11-25");
    let (told, receiver) = mpsc::channel::<&'static str>(1);
    drop(told);
    let reply = work(&session, Id::from(7), steered(&session, receiver)).await;
    assert!(matches!(&reply, Reply::One(text) if *text == "answer".into()), "{reply:?}");
    assert!(!session.is_busy() && session.lock().streams.is_empty());
}

#[tokio::test]
async fn a_notice_that_comes_first_makes_a_stream_that_ends_with_the_answer() {
    for (revision, primed) in [("2025-11-25", true), ("2025-06-18", false)] {
        let session = session(revision);
        let (told, receiver) = mpsc::channel(4);
        told.send("notice").await.expect("room");
        let events = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
        drop(told);
        let mut expected = vec!["s1.Nw.1 notice", "s1.Nw.2 answer"];
        if primed {
            expected.insert(0, "s1.Nw.0 ");
        }
        assert_eq!(texts(events).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_its_client_is_gone_and_is_resumed_where_it_was_left() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel(4);
    told.send("one").await.expect("room");
    let mut events = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
    let first = events.next().await.expect("the first notice");
    drop(events);
    told.send("two").await.expect("room");
    drop(told);
    while session.is_busy() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let id = EventId::parse(first.id.as_deref().expect("an id")).expect("an id of ours");
    let resumed = session.resume(&id).expect("held").boxed();
    assert_eq!(texts(resumed).await, ["s1.Nw.2 two", "s1.Nw.3 answer"]);
    session.sweep(Instant::now() + REPLAY_AGE_MAX + Duration::from_secs(1), REPLAY_AGE_MAX);
    assert!(session.resume(&id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_its_client_leaves_before_anything_was_said() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel::<&'static str>(4);
    {
        let mut reply = Box::pin(work(&session, Id::from(7), steered(&session, receiver)));
        assert!(futures_util::poll!(&mut reply).is_pending());
    }
    tokio::task::yield_now().await;
    assert!(!told.is_closed(), "the work still listens");
    drop(told);
    while session.is_busy() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_client_that_resumes_takes_the_stream_over_from_a_stalled_connection() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel(4);
    told.send("one").await.expect("room");
    let stalled = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
    let id = EventId { stream: 1, request: Id::from(7), number: 0 };
    let resumed = session.resume(&id).expect("held").boxed();
    drop(told);
    assert_eq!(texts(resumed).await, ["s1.Nw.1 one", "s1.Nw.2 answer"]);
    assert_eq!(texts(stalled).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_lost_its_turn_does_not_keep_the_work_to_itself() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel(4);
    told.send("one").await.expect("room");
    let mut stalled = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
    let resumed = session.resume(&EventId { stream: 1, request: Id::from(7), number: 0 }).expect("held").boxed();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(stalled.next().await, None);
    told.send("two").await.expect("room");
    drop(told);
    assert_eq!(texts(resumed).await, ["s1.Nw.1 one", "s1.Nw.2 two", "s1.Nw.3 answer"]);
    drop(stalled);
}

#[tokio::test]
async fn cancelling_drops_the_work_and_ends_the_reply() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel::<&'static str>(4);
    let reply = work(&session, Id::from(7), steered(&session, receiver));
    let cancel = async {
        tokio::task::yield_now().await;
        session.cancel(&Id::from(8));
        assert!(!told.is_closed(), "another request's id cancels nothing");
        session.cancel(&Id::from(7));
    };
    let (reply, ()) = tokio::join!(reply, cancel);
    assert!(
        matches!(&reply, Reply::One(text) if text.clone().into_bytes().windows(6).any(|part| part == b"-32800")),
        "{reply:?}"
    );
    assert!(told.is_closed());
    session.cancel(&Id::from(7));
}

#[tokio::test]
async fn the_end_of_a_session_cancels_its_calls_and_closes_its_streams() {
    let session = session("2025-06-18");
    let (told, receiver) = mpsc::channel(4);
    told.send("one").await.expect("room");
    let events = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
    let get = session.open_get().expect("open").boxed();
    session.subscribe(&crate::fakes::git(), "x:1");
    assert_eq!(session.end().len(), 1);
    assert!(told.is_closed());
    assert!(texts(events).await.last().expect("an answer").contains("-32800"));
    assert_eq!(texts(get).await, [""; 0]);
    assert!(session.open_get().is_none());
    let (_keep, receiver) = mpsc::channel(1);
    let late = work(&session, Id::from(9), steered(&session, receiver)).await;
    assert!(matches!(late, Reply::Refused(crate::Refusal::UnknownSession)));
}

#[tokio::test]
async fn what_waits_for_a_stream_is_the_newest_of_each_kind() {
    let session = session("2025-06-18");
    session.announce(&[List::Tools]);
    session.announce(&[List::Tools, List::Templates]);
    session.updated("x:1", "old".into());
    session.updated("x:2", "other".into());
    session.updated("x:1", "new".into());
    session.set_level(LogLevel::Debug);
    session.log(LogLevel::Error, &"nobody listens".into());
    let get = session.open_get().expect("open");
    session.log(LogLevel::Error, &"line".into());
    let texts: Vec<String> = texts(get.take(5).boxed()).await;
    assert!(texts[0].contains("notifications/tools/list_changed"));
    assert!(texts[1].contains("notifications/resources/list_changed"));
    assert_eq!(texts[2..], ["- other", "- new", "- line"]);
}

#[tokio::test]
async fn the_newest_stream_is_the_target_and_the_older_one_takes_over_again() {
    let session = session("2025-06-18");
    let mut older = session.open_get().expect("open");
    let newer = session.open_get().expect("open");
    session.updated("x:1", "first".into());
    assert!(futures_util::poll!(older.next()).is_pending());
    drop(newer);
    assert_eq!(older.next().await.expect("an event").data, "first".into());
    let many: Vec<_> = (0..GET_STREAMS_MAX).map(|_| session.open_get().expect("open")).collect();
    assert_eq!(older.next().await, None, "beyond the bound the oldest ends");
    drop(many);
}

#[tokio::test]
async fn a_stalled_reader_costs_a_bounded_amount() {
    let session = session("2025-06-18");
    session.set_level(LogLevel::Debug);
    let _stalled = session.open_get().expect("open");
    let line = Bytes::from(vec![b'x'; 1000]);
    session.updated("x:1", "kept".into());
    for _ in 0..10_000 {
        session.log(LogLevel::Error, &line);
    }
    let state = session.lock();
    assert!(state.pending.bytes <= PENDING_BYTES_MAX && state.pending.logs.len() <= PENDING_EVENTS_MAX);
    assert_eq!(state.pending.updates.len(), 1, "log lines go first");
    assert!(session.purse.whole.used() <= PENDING_BYTES_MAX);
}

#[tokio::test]
async fn finished_streams_give_way_to_new_ones() {
    let session = session("2025-06-18");
    for id in 0..100 {
        let (told, receiver) = mpsc::channel(4);
        told.send("notice").await.expect("room");
        let events = stream(work(&session, Id::from(id), steered(&session, receiver)).await);
        drop(told);
        texts(events).await;
    }
    assert_eq!(session.lock().streams.len(), REPLAY_STREAMS_MAX);
}

#[tokio::test]
async fn s09_equal_ids_of_different_type_are_different_requests() {
    let session = session("2025-06-18");
    let (number, string) = (Id::from(1), Id::new(trunkline_wire::Json::literal(r#""1""#)).expect("an id"));
    let (_tell_number, number_work) = mpsc::channel::<&'static str>(1);
    let (tell_string, string_work) = mpsc::channel::<&'static str>(1);
    let mut first = Box::pin(work(&session, number.clone(), steered(&session, number_work)));
    let mut second = Box::pin(work(&session, string, steered(&session, string_work)));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    session.cancel(&number);
    assert!(!tell_string.is_closed());
    drop(tell_string);
    assert!(matches!(second.await, Reply::One(text) if text == "answer".into()));
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() < 1024, "{} bytes", size_of::<Session>());
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_keeps_what_changed_and_nothing_else() {
    let session = session("2025-06-18");
    session.announce(&[List::Prompts]);
    session.updated("x:1", "gone".into());
    session.sweep(Instant::now() + SESSION_BUFFERS_IDLE_MAX + Duration::from_secs(1), REPLAY_AGE_MAX);
    assert_eq!(session.purse.whole.used(), 0);
    let mut get = session.open_get().expect("open");
    assert!(get.next().await.expect("an event").data.into_bytes().windows(7).any(|part| part == b"prompts"));
}

#[tokio::test]
async fn a_request_that_answers_late_does_not_take_a_newer_one_off_the_list() {
    let session = session("2025-06-18");
    let (first_done, wait) = oneshot::channel::<()>();
    let slow = {
        let session = Arc::clone(&session);
        move |outbox: Arc<Outbox>| {
            async move {
                let _ = wait.await;
                session.finish(&outbox, "first".into());
            }
            .boxed()
        }
    };
    let mut first = Box::pin(work(&session, Id::from(1), slow));
    assert!(futures_util::poll!(&mut first).is_pending());
    let (told, receiver) = mpsc::channel::<&'static str>(1);
    let mut second = Box::pin(work(&session, Id::from(1), steered(&session, receiver)));
    assert!(futures_util::poll!(&mut second).is_pending());
    first_done.send(()).expect("awaited");
    assert!(matches!(first.await, Reply::One(text) if text == "first".into()));
    assert!(session.is_busy());
    drop(told);
    assert!(matches!(second.await, Reply::One(text) if text == "answer".into()));
    assert!(!session.is_busy());
}

#[tokio::test]
async fn a_hub_refuses_event_ids_that_are_not_its_own_and_answers_for_its_own() {
    let hub = fakes::hub(&[], &trunkline_config::Config::default());
    let session = fakes::session(&hub, "2025-06-18");
    assert!(matches!(hub.attach(&session, Some("42")), Err(crate::Refusal::ForeignEventId)));
    let gone = texts(hub.attach(&session, Some("s9.Nw.3")).expect("a stream")).await;
    assert_eq!(gone.len(), 1);
    assert!(gone[0].starts_with(r#"- {"jsonrpc":"2.0","id":7,"error":{"code":-31009"#), "{gone:?}");
}

#[tokio::test]
async fn on_the_one_stream_of_a_pair_events_have_no_ids_and_nothing_is_kept() {
    let params = r#"{"protocolVersion":"2025-11-25"}"#;
    let facts = Facts::read(&request(0, Method::Initialize, params)).expect("readable");
    let facts = Facts { one_stream: true, ..facts };
    let session = Session::begin(
        1,
        Identity::of_stream("id".into(), Guest::ANYBODY),
        facts,
        Budget::new(1 << 20),
        Budget::new(1 << 20),
    );
    let (told, receiver) = mpsc::channel(4);
    told.send("notice").await.expect("room");
    let events = stream(work(&session, Id::from(7), steered(&session, receiver)).await);
    drop(told);
    assert_eq!(texts(events).await, ["- notice", "- answer"], "not even a priming event");
    assert!(session.lock().streams.is_empty());
    assert_eq!(session.purse().whole.used(), 0);

    // A cancelled request is not answered (mcp-protocol 2.8 note a).
    let (_told, receiver) = mpsc::channel::<&'static str>(4);
    let cancel = async { session.cancel(&Id::from(8)) };
    let (reply, ()) = tokio::join!(work(&session, Id::from(8), steered(&session, receiver)), cancel);
    assert!(matches!(&reply, Reply::One(text) if text.is_empty()), "{reply:?}");
}

#[tokio::test]
async fn g53_a_stream_resumed_yields_nothing_of_another() {
    let session = session("2025-06-18");
    let mut ids = Vec::new();
    for (request, notices) in [(7, ["a", "b"]), (8, ["c", "d"])] {
        let (told, receiver) = mpsc::channel(4);
        for notice in notices {
            told.send(notice).await.expect("room");
        }
        drop(told);
        let mut events = stream(work(&session, Id::from(request), steered(&session, receiver)).await);
        ids.push(events.next().await.expect("the first notice").id.expect("an id"));
        while events.next().await.is_some() {}
    }
    for (id, rest) in ids.iter().zip([["s1.Nw.2 b", "s1.Nw.3 answer"], ["s2.OA.2 d", "s2.OA.3 answer"]]) {
        let id = EventId::parse(id).expect("an id of ours");
        assert_eq!(texts(session.resume(&id).expect("held").boxed()).await, rest);
    }
    // An id put together from two streams is of neither.
    let mixed = EventId::parse("s1.OA.1").expect("of the right form");
    assert!(session.resume(&mixed).is_none());
}

#[tokio::test]
async fn g55_a_cancellation_is_for_one_request_of_one_session() {
    let (one, other) = (session("2025-06-18"), session("2025-06-18"));
    let calls = [(&one, 7), (&one, 8), (&other, 7)].map(|(session, id)| {
        let (told, receiver) = mpsc::channel::<&'static str>(4);
        (told, Box::pin(work(session, Id::from(id), steered(session, receiver))))
    });
    let mut ended = Vec::new();
    let [(first, mut a), (second, mut b), (third, mut c)] = calls;
    for reply in [&mut a, &mut b, &mut c] {
        assert!(futures_util::poll!(reply.as_mut()).is_pending());
    }
    one.cancel(&Id::from(7));
    for (told, reply) in [(&first, &mut a), (&second, &mut b), (&third, &mut c)] {
        ended.push((told.is_closed(), futures_util::poll!(reply.as_mut()).is_ready()));
    }
    assert_eq!(ended, [(true, true), (false, false), (false, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_ten_seconds_comes_on_a_stream_where_the_client_takes_one() {
    let session = session("2025-06-18");
    let slow = |outbox: Arc<Outbox>| {
        let session = Arc::clone(&session);
        async move {
            tokio::time::sleep(Duration::from_secs(15)).await;
            session.finish(&outbox, "answer".into());
        }
        .boxed()
    };
    let begun = Instant::now();
    let events = stream(work(&session, Id::from(1), slow).await);
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(texts(events).await, ["s1.MQ.1 answer"]);
    let whole = dispatch::work(&session, Id::from(2), Wants { json: true, sse: false }, slow).await;
    assert!(matches!(whole, Reply::One(_)), "{whole:?}");
}
