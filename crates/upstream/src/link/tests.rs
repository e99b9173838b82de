//! Links to servers that answer oddly, late, twice, or not at all.

use trunkline_testkit::Fault;
use trunkline_testkit::{Script, resource};
use trunkline_wire::Message;

use super::*;
use crate::environment::LogLevel;
use crate::fakes::{MESSAGE_BYTES_MAX, canned, link};
use crate::transport::Sent;

const LIMIT: Duration = Duration::from_secs(5);

fn call() -> Object {
    [("name", Json::from("echo"))].into_iter().collect()
}

fn with(fault: Fault) -> Script {
    Script { faults: vec![fault], ..Script::default() }
}

async fn asked(link: &Arc<Link>) -> Result<Result<Json, Json>, Broken> {
    link.request(Method::ToolsCall, &call(), LIMIT).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_found_by_its_id_in_every_spelling() {
    let (link, ..) = link(with(Fault::id_as_string("tools/call"))).await;
    assert!(asked(&link).await.expect("answered").is_ok());
    assert!(!link.is_busy());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_writes_garbage_is_understood_all_the_same() {
    let (link, ..) = link(with(Fault::garbage("tools/call", b"Loading...\n{\"half\":\n\n"))).await;
    assert!(asked(&link).await.expect("answered").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_costs_its_request_and_not_the_connection() {
    let (link, ..) = link(with(Fault::large("tools/call", 2 * MESSAGE_BYTES_MAX).times(1))).await;
    assert_eq!(asked(&link).await.expect_err("given up").fault, FaultPoint::Unreadable);
    assert!(asked(&link).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_nobody_changes_nothing() {
    let (link, ..) = link(with(Fault::wrong_id("tools/call").times(1))).await;
    assert_eq!(asked(&link).await.expect_err("not answered").text, "no answer to tools/call within 5 s");
    assert!(asked(&link).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_second_answer_is_dropped() {
    let (link, ..) = link(with(Fault::reply_twice("tools/call"))).await;
    assert!(asked(&link).await.is_ok());
    assert!(asked(&link).await.is_ok());
    assert!(!link.is_down());
}

#[tokio::test(start_paused = true)]
async fn r44_an_answer_after_the_cancellation_is_dropped() {
    let (link, server, _notices) = link(with(Fault::reply_after_cancel("tools/call").times(1))).await;
    assert!(asked(&link).await.is_err());
    server.saw("notifications/cancelled", 1).await;
    assert!(asked(&link).await.is_ok());
    assert!(!link.is_busy());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_tells_the_server_which() {
    let (link, server, _notices) = link(with(Fault::silent("tools/call"))).await;
    let request = asked(&link);
    tokio::select! {
        _ = request => panic!("no answer was to come"),
        _ = server.saw("tools/call", 1) => {}
    }
    let Message::Notification(told) = server.saw("notifications/cancelled", 1).await else { panic!("a notification") };
    assert_eq!(told.params().expect("an object").get("requestId"), Some(&Json::from(2)));
    assert!(!link.is_busy());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_fails_all_that_waits() {
    let script = with(Fault::silent("tools/call"));
    let (link, server, _notices) = link(script).await;
    let waiting: Vec<_> = (0..30).map(|_| asked(&link)).collect();
    let (ends, ()) = tokio::join!(futures_util::future::join_all(waiting), async {
        server.saw("tools/call", 30).await;
        server.exit().await;
    });
    assert_eq!(ends.len(), 30);
    assert!(ends.into_iter().all(|end| end.is_err_and(|broken| broken.fault == FaultPoint::LostUnanswered)));
    assert!(link.is_down());
    let late = asked(&link).await.expect_err("it is down");
    assert_eq!(late.fault, FaultPoint::NothingSent);
}

#[tokio::test(start_paused = true)]
async fn the_questions_of_a_server_are_answered_at_once() {
    let questions = [
        ("ping", "{}"),
        ("roots/list", "roots not supported"),
        ("sampling/createMessage", "sampling not supported"),
        ("elicitation/create", "cancel"),
        ("vendor/ask", "not found"),
    ];
    for (question, answer) in questions {
        let (link, ..) = link(with(Fault::ask("tools/call", question, "{}"))).await;
        let result = asked(&link).await.expect("answered").expect("a result");
        let text = String::from_utf8_lossy(result.as_bytes()).into_owned();
        assert!(text.contains(answer), "{question}: {text}");
        assert_eq!(text.contains("-32601"), !matches!(question, "ping" | "elicitation/create"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_and_logs_go_where_they_belong() {
    let script = Script {
        faults: vec![Fault::progress("tools/call", 3, Duration::from_secs(1)), Fault::log("resources/read")],
        resources: vec![resource("a:b")],
        ..Script::default()
    };
    let (link, server, mut notices) = link(script).await;
    let mut flight = Flight::register(&link, &Method::ToolsCall, None).expect("a link");
    let asked = Json::literal(r#"{"name":"echo","_meta":{"progressToken":2}}"#);
    flight.send(asked, Vec::new()).await.expect("sent");
    let mut steps = 0;
    let end = loop {
        match flight.next().await {
            Mail::Notice(notice) => {
                assert_eq!(notice.method, Method::Progress);
                steps += 1;
            }
            Mail::Question(_) | Mail::Withdrawn(_) => panic!("it asks nothing"),
            Mail::End(end) => break end,
        }
    };
    assert!(matches!(end, End::Answer(Ok(_))));
    assert_eq!(steps, 3);

    let read: Object = [("uri", Json::from("a:b"))].into_iter().collect();
    link.request(Method::ResourcesRead, &read, LIMIT).await.expect("answered").expect("a result");
    let notice = notices.recv().await.expect("a notice");
    assert!(matches!(notice, ServerNotice::LogMessage { level: Some(LogLevel::Info), .. }), "{notice:?}");
    server.notify("notifications/resources/updated", r#"{"uri":"a:b","x":1}"#).await;
    let notice = notices.recv().await.expect("a notice");
    assert!(matches!(&notice, ServerNotice::ResourceUpdated { uri, .. } if uri == "a:b"), "{notice:?}");
}

#[tokio::test(start_paused = true)]
async fn notices_that_nobody_takes_stop_nothing() {
    let (link, server, _notices) = link(Script::default()).await;
    for _ in 0..40 {
        server.notify("notifications/resources/updated", r#"{"uri":"a:b"}"#).await;
    }
    assert!(asked(&link).await.is_ok());
}

#[tokio::test]
async fn a_close_leaves_time_for_every_step_of_a_childs_stop_order() {
    let (link, transport) = canned("{}", []);
    link.close().await;
    let grace = transport.grace.lock().expect("whole").expect("closed");
    // The end of stdin, TERM for one and a half times as long, then KILL and the sweep: 2 s, 3 s, the rest.
    assert_eq!(grace, Duration::from_secs(2));
    assert!(grace * 5 / 2 + Duration::from_secs(2) <= CLOSE_GRACE, "KILL would come after the close was given up");
}

#[tokio::test(start_paused = true)]
async fn r18_a_session_that_is_gone_says_nothing_of_requests_that_were_accepted() {
    let (link, server, _notices) = link(with(Fault::silent("tools/call"))).await;
    let waiting = asked(&link);
    let (end, ()) = tokio::join!(waiting, async {
        server.saw("tools/call", 1).await;
        let text = "as another request heard".to_owned();
        link.give_up(&Broken { fault: FaultPoint::SessionGone, text, request: None });
    });
    assert_eq!(end.expect_err("lost").fault, FaultPoint::LostUnanswered, "it may have run, and is not sent again");
}

/// A server that says nothing in answer before it has the answer to its own question.
struct Withheld;

impl Transport for Withheld {
    fn send(&self, out: Outgoing) -> futures_util::future::BoxFuture<'_, Result<Sent, SendError>> {
        if out.request.is_some() {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Ok(Sent::OnSharedStream)))
    }

    fn close(&self, _grace: Duration) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> crate::transport::Facts {
        crate::transport::Facts { kind: "http", pid: None, get_stream: None }
    }
}

/// A link to such a server, and what keeps it up.
async fn withheld() -> (Arc<Link>, impl Sized) {
    let (environment, notices) = crate::fakes::environment();
    let (mut dialed, server) = crate::fakes::connect(Script::default(), &environment).await;
    let kept = std::mem::replace(&mut dialed.transport, Arc::new(Withheld));
    (
        Link::open(&crate::fakes::name(), crate::LaneKey::Common, Declared::default(), dialed, &environment),
        (notices, server, kept),
    )
}

#[tokio::test(start_paused = true)]
async fn r14_requests_that_outlive_their_session_outlive_the_end_of_the_shared_stream_too() {
    let (link, _kept) = withheld().await;
    let (_id, waiting) = link.register(None).expect("a link");
    let broken = |fault| Broken { fault, text: String::new(), request: None };
    link.give_up(&broken(FaultPoint::SessionGone));
    link.give_up(&broken(FaultPoint::LostUnanswered));
    assert!(!waiting.is_ended(), "its own answer, or its own 404, is still to come");
    assert_eq!(link.down().await.fault, FaultPoint::SessionGone, "the first reason counts");
}

#[tokio::test(start_paused = true)]
async fn a_question_is_heard_although_the_answer_has_not_begun() {
    let (link, _kept) = withheld().await;
    let declared = Object::parse(&Json::literal(r#"{"elicitation":{}}"#)).expect("an object");
    let abilities = Arc::new(trunkline_wire::Abilities::read(&declared, Revision::V2025_11_25));
    let asker = crate::questions::Asker { id: crate::questions::CallerId(1), abilities, logs: false };
    let mut flight = Flight::register(&link, &Method::ToolsCall, Some(asker)).expect("a link");
    let question = Message::Request(Request {
        id: Id::from(9),
        method: Method::ElicitationCreate,
        params: Some(Json::literal(r#"{"message":"m"}"#)),
    });
    let route = async { link.route(question, None) };
    let (sent, ()) = tokio::join!(flight.send(Json::literal("{}"), Vec::new()), route);
    assert_eq!(sent, Ok(()));
    assert!(matches!(flight.next().await, Mail::Question(_)));
    assert!(tokio::time::timeout(LIMIT, flight.next()).await.is_err(), "and the request is still under way");
}
