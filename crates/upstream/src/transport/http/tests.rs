//! Each test has a server with one fault, or one freedom that the protocol leaves it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use trunkline_config::{HttpTransport, Limits};
use trunkline_telemetry::redact::Scrubber;
use trunkline_wire::Notification;

use super::*;
use crate::transport::Dialed;
use crate::transport::body::Bounds;
use crate::transport::fakes::{
    Fake, Fate, call, call_collecting, call_fate, connect, dial, dial_within, event, events, json_reply, live_events,
    nobody, raw, reply, reply_with, server, server_with_token, sound, sound_with_get, status, welcome,
};
use crate::transport::proxies::Proxies;

async fn opened(fake: &Fake) -> Dialed {
    connect(&fake.url, HttpTransport::Http).await
}

fn answer_of(outcome: &Fate) -> &Value {
    let Fate::Answer(answer) = outcome else { panic!("{outcome:?}") };
    answer
}

#[tokio::test]
async fn the_session_and_the_revision_go_with_every_request_after_the_first() {
    let fake = sound(|got| async move { json_reply(&got.result(json!({}))) }).await;
    let mut dialed = opened(&fake).await;
    assert_eq!(answer_of(&call_fate(&mut dialed, 7).await)["id"], 7);
    let listening = tokio::time::timeout(Duration::from_millis(100), dialed.shared.next());
    assert!(listening.await.is_err(), "without GET stream it is silent");
    dialed.transport.close(Duration::from_secs(1)).await;
    assert_eq!(fake.asked(), ["initialize", "notifications/initialized", "tools/call", "GET", "DELETE"]);
    let seen = fake.seen();
    assert_eq!((seen[0].header("mcp-session-id"), seen[0].header("mcp-protocol-version")), (None, None));
    for got in &seen[1..] {
        assert_eq!(got.header("mcp-session-id"), Some("s1"), "{}", got.asks());
        assert_eq!(got.header("mcp-protocol-version"), Some("2025-11-25"), "{}", got.asks());
    }
    assert_eq!(seen[0].header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(seen[3].header("accept"), Some("text/event-stream"));
}

#[tokio::test]
async fn a_session_id_that_comes_later_is_not_taken() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "initialize" => json_reply(&welcome(&got)),
            "tools/call" => reply_with(&[("mcp-session-id", "stray")], &got.result(json!({}))),
            _ => status(202),
        }
    })
    .await;
    let mut dialed = opened(&fake).await;
    call_fate(&mut dialed, 2).await;
    call_fate(&mut dialed, 3).await;
    assert!(fake.seen().iter().all(|got| got.header("mcp-session-id").is_none()));
    dialed.transport.close(Duration::from_secs(1)).await;
    assert!(!fake.asked().contains(&"DELETE".to_owned()), "there is no session to end");
}

#[tokio::test]
async fn the_answer_to_initialize_may_be_a_stream_with_a_ping_before_it() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "initialize" => {
                let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
                let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
                events(event(&ping) + &event(&note) + &event(&welcome(&got)))
            }
            _ => status(202),
        }
    })
    .await;
    let dialed = opened(&fake).await;
    assert_eq!(dialed.handshake.revision, Revision::V2025_11_25);
    assert!(dialed.handshake.capabilities.get("tools").is_some());
    let pong = fake.seen().into_iter().find(|got| got.body["id"] == "p").expect("answered");
    assert_eq!(pong.body["result"], json!({}));
}

#[tokio::test]
async fn notices_precede_the_answer_on_its_stream() {
    let fake = sound(|got| async move {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
        events(event(&note) + ": comment\n\n" + &event(&got.result(json!({"x": 1}))))
    })
    .await;
    let mut dialed = opened(&fake).await;
    let mut before = Vec::new();
    let outcome = call_collecting(&mut dialed, 5, &mut before).await;
    assert_eq!(answer_of(&outcome)["result"], json!({"x": 1}));
    assert!(matches!(&before[..], [Message::Notification(Notification { method: Method::Progress, .. })]));
}

#[tokio::test]
async fn answers_on_streams_do_not_cost_a_connection_each() {
    let fake = sound(|got| async move {
        let (sender, response) = live_events();
        trunkline_telemetry::spawn("late end", async move {
            sender.send(event(&got.result(json!({})))).await.expect("read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
        response
    })
    .await;
    let mut dialed = opened(&fake).await;
    for id in 2..6 {
        call_fate(&mut dialed, id).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let connections: std::collections::BTreeSet<_> = fake.seen().iter().map(|got| got.from).collect();
    assert_eq!(connections.len(), 1);
}

#[tokio::test]
async fn a_404_in_a_session_ends_the_session_and_the_shared_stream() {
    let fake = sound(|_| async { reply(404, &[], r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32001}}"#) }).await;
    let mut dialed = opened(&fake).await;
    assert_eq!(call_fate(&mut dialed, 2).await.fault(), Some(FaultPoint::SessionGone));
    let end = dialed.shared.next().await.expect("says so").expect_err("no message");
    assert_eq!(end.fault, FaultPoint::SessionGone);
    assert!(dialed.shared.next().await.is_none());
    dialed.transport.close(Duration::from_secs(1)).await;
    assert!(!fake.asked().contains(&"DELETE".to_owned()), "there is nothing left to delete");
}

#[tokio::test]
async fn a_400_that_speaks_of_the_session_is_a_lost_one() {
    let fake = sound(|_| async { reply(400, &[], "Bad Request: No valid Session ID") }).await;
    assert_eq!(call_fate(&mut opened(&fake).await, 2).await.fault(), Some(FaultPoint::SessionGone));
}

#[tokio::test]
async fn a_json_rpc_error_with_our_id_wins_over_the_status() {
    let fake = sound(|got| async move {
        let code = if got.body["id"] == 2 { 400 } else { 404 };
        let error =
            json!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": -32602, "message": "no such tool"}});
        reply(code, &[("content-type", "application/json")], error.to_string())
    })
    .await;
    let mut dialed = opened(&fake).await;
    for id in [2, 3] {
        let outcome = call_fate(&mut dialed, id).await;
        assert_eq!(answer_of(&outcome)["error"]["code"], -32602, "{id}");
    }
}

#[tokio::test]
async fn a_status_says_how_far_the_call_got_and_no_secret_is_in_the_text() {
    let fake = sound(|got| async move {
        match got.body["id"].as_u64() {
            Some(401) => reply(401, &[], "bad token s3cr3t-token"),
            Some(429) => reply(429, &[("retry-after", "3")], ""),
            Some(503) => reply(503, &[("retry-after", "4")], ""),
            Some(id) => status(u16::try_from(id).expect("a status")),
            None => status(500),
        }
    })
    .await;
    let server = server_with_token(&fake.url, HttpTransport::Http, "s3cr3t-token");
    let mut dialed = dial(&server).await.unwrap_or_else(|error| panic!("{error}"));
    for (code, fault, wait) in [
        (401, FaultPoint::NeedsAuth, None),
        (403, FaultPoint::NeedsAuth, None),
        (429, FaultPoint::RefusedBeforeRun, Some(3)),
        (503, FaultPoint::RefusedBeforeRun, Some(4)),
        (425, FaultPoint::RefusedBeforeRun, None),
        (500, FaultPoint::ServerFailed, None),
        (502, FaultPoint::ServerFailed, None),
        (413, FaultPoint::Unreadable, None),
    ] {
        let Fate::Unsent(error) = call_fate(&mut dialed, code).await else { panic!("{code}") };
        assert_eq!((error.fault, error.retry_after), (fault, wait.map(Duration::from_secs)), "{code}");
        assert!(error.text.contains(&code.to_string()) && !error.text.contains("s3cr3t"), "{}", error.text);
    }
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer s3cr3t-token"));
}

#[tokio::test]
async fn what_is_no_answer_is_named_for_what_it_is() {
    let fake = sound(|got| async move {
        let json = |text: &'static str| reply(200, &[("content-type", "application/json")], text);
        match got.body["id"].as_u64() {
            Some(10) => status(202),
            Some(11) => reply(200, &[("content-type", "text/html")], "<!doctype html><p>Log in"),
            Some(12) => json(""),
            Some(13) => json("{oops"),
            Some(14) => json(r#"{"jsonrpc":"2.0","id":99,"result":{}}"#),
            Some(15) => json(r#"{"jsonrpc":"2.0","id":15,"method":"ping"}"#),
            _ => events("data: {oops\n\n"),
        }
    })
    .await;
    let mut dialed = opened(&fake).await;
    for (id, said) in [
        (10, "202 Accepted"),
        (11, "text/html"),
        (12, "empty body"),
        (13, "no message"),
        (14, "another request"),
        (15, "with another"),
        (16, "no message"),
    ] {
        let outcome = call_fate(&mut dialed, id).await;
        assert_eq!(outcome.fault(), Some(FaultPoint::Unreadable), "{id}");
        assert!(outcome.text().contains(said), "{id}: {}", outcome.text());
    }
}

#[tokio::test]
async fn an_error_without_id_answers_the_request_it_came_for() {
    let fake = sound(|_| async {
        json_reply(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "?"}}))
    })
    .await;
    let outcome = call_fate(&mut opened(&fake).await, 2).await;
    assert_eq!((&answer_of(&outcome)["id"], &answer_of(&outcome)["error"]["code"]), (&json!(2), &json!(-32700)));
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_unreadable() {
    let fake = sound(|got| async move {
        let answer = got.result(json!("x".repeat(300_000)));
        if got.body["id"] == 2 { json_reply(&answer) } else { events(event(&answer)) }
    })
    .await;
    let limits = Limits { upstream_message_bytes: 100_000, ..Limits::default() };
    let mut dialed =
        dial_within(&server(&fake.url, HttpTransport::Http), limits).await.unwrap_or_else(|e| panic!("{e}"));
    for id in [2, 3] {
        let outcome = call_fate(&mut dialed, id).await;
        assert_eq!(outcome.fault(), Some(FaultPoint::Unreadable), "{id}");
        assert!(outcome.text().contains("100000"), "{}", outcome.text());
    }
}

#[tokio::test]
async fn sixteen_mebibytes_arrive_whole_in_either_form() {
    let fake = sound(|got| async move {
        let answer = got.result(json!("x".repeat(16 << 20)));
        if got.body["id"] == 2 { json_reply(&answer) } else { events(event(&answer)) }
    })
    .await;
    let mut dialed = opened(&fake).await;
    for id in [2, 3] {
        let outcome = call_fate(&mut dialed, id).await;
        assert_eq!(answer_of(&outcome)["result"].as_str().map(str::len), Some(16 << 20));
    }
}

/// A transport to a server that answers whatever it is asked with these bytes and hangs up.
async fn to_raw(answer: &'static [u8]) -> super::HttpTransport {
    to(&raw(answer).await)
}

fn to(url: &url::Url) -> super::HttpTransport {
    let bounds = Bounds { message_bytes: 1 << 20, budget: trunkline_wire::Budget::new(1 << 20) };
    let http = trunkline_config::Http::new(url.clone());
    super::HttpTransport::new(
        Peer::new(&http, (&Proxies::default(), Duration::from_secs(10)), Scrubber::default(), bounds).expect("a peer"),
    )
}

async fn fault_of(transport: &super::HttpTransport) -> FaultPoint {
    match transport.post(&call(2)).await {
        Err(failure) => failure.point,
        Ok(Sent::OnOwnStream(mut stream)) => stream.next().await.expect("an end").expect_err("no answer").fault,
        Ok(Sent::Reply(_) | Sent::OnSharedStream) => panic!("answered"),
    }
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let url = nobody().await;
    let failure = to(&url).post(&call(2)).await.err().expect("refused");
    assert_eq!(failure.point, FaultPoint::NothingSent);
    assert_eq!(
        failure.text,
        format!("nothing listens at 127.0.0.1:{}; is the server running?", url.port().expect("a port"))
    );
}

#[tokio::test]
async fn a_connection_that_dies_before_the_answer_leaves_the_call_in_doubt() {
    assert_eq!(fault_of(&to_raw(b"").await).await, FaultPoint::LostUnanswered);
    assert_eq!(fault_of(&to_raw(b"HTTP/1.1 20").await).await, FaultPoint::LostUnanswered);
}

#[tokio::test]
async fn a_connection_that_dies_within_the_answer_broke_midway() {
    let json = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"json";
    assert_eq!(fault_of(&to_raw(json).await).await, FaultPoint::BrokenMidway);
    let events = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"json";
    assert_eq!(fault_of(&to_raw(events).await).await, FaultPoint::BrokenMidway);
}

#[tokio::test]
async fn what_is_no_http_is_unreadable() {
    assert_eq!(fault_of(&to_raw(b"220 mail.example ESMTP\r\n").await).await, FaultPoint::Unreadable);
}

/// What a server that closes the stream of an answer gives on each GET, in order; then 405.
async fn resumable(first: &'static str, then: &'static [&'static str]) -> Fake {
    let gets = Arc::new(AtomicUsize::new(0));
    sound_with_get(
        move |got| async move { events(first.replace("ID", &got.body["id"].to_string())) },
        move |_| {
            let next = then.get(gets.fetch_add(1, Ordering::Relaxed));
            async move { next.map_or_else(|| status(404), |text| events(*text)) }
        },
    )
    .await
}

#[tokio::test]
async fn a_closed_stream_is_resumed_behind_its_last_event() {
    let fake = resumable(
        "id: 1\nretry: 1\ndata:\n\n",
        &["id: 2\ndata:\n\n", "id: 3\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"late\":true}}\n\n"],
    )
    .await;
    let outcome = call_fate(&mut opened(&fake).await, 2).await;
    assert_eq!(answer_of(&outcome)["result"], json!({"late": true}));
    let positions: Vec<_> =
        fake.seen().iter().filter_map(|got| got.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(positions, ["1", "2"]);
    assert_eq!(fake.asked().iter().filter(|asked| *asked == "tools/call").count(), 1, "never posted twice");
}

#[tokio::test]
async fn three_streams_without_an_event_lose_the_answer() {
    let fake = resumable("id: 1\nretry: 1\ndata:\n\n", &["", "", "", ""]).await;
    let outcome = call_fate(&mut opened(&fake).await, 2).await;
    assert_eq!(outcome.fault(), Some(FaultPoint::BrokenMidway));
    assert_eq!(fake.asked().iter().filter(|asked| *asked == "GET").count(), 3);
}

#[tokio::test]
async fn a_server_that_forgot_the_stream_leaves_the_call_in_doubt_rather_than_unsent() {
    let fake = resumable("id: 1\nretry: 1\ndata:\n\n", &[]).await;
    assert_eq!(call_fate(&mut opened(&fake).await, 2).await.fault(), Some(FaultPoint::BrokenMidway));
}

#[tokio::test]
async fn without_event_ids_an_ended_stream_loses_the_answer_at_once() {
    let fake = resumable(": nothing\n\n", &[]).await;
    assert_eq!(call_fate(&mut opened(&fake).await, 2).await.fault(), Some(FaultPoint::BrokenMidway));
    assert!(!fake.asked().contains(&"GET".to_owned()));
}

#[tokio::test]
async fn a_server_without_get_stream_is_asked_once() {
    for code in [405, 404, 400, 406, 501] {
        let fake = sound_with_get(|_| async { status(500) }, move |_| async move { status(code) }).await;
        let mut dialed = opened(&fake).await;
        assert!(tokio::time::timeout(Duration::from_millis(200), dialed.shared.next()).await.is_err(), "{code}");
        assert_eq!(dialed.transport.facts().get_stream, Some("unsupported"), "{code}");
        assert_eq!(fake.asked().iter().filter(|asked| *asked == "GET").count(), 1, "{code}");
    }
}

#[tokio::test]
async fn the_get_stream_is_reopened_where_it_ended() {
    let fake = resumable(
        "",
        &[
            "retry: 1\nid: a\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"ping\"}\n\n",
        ],
    )
    .await;
    let mut dialed = opened(&fake).await;
    let first = dialed.shared.next().await.expect("open").expect("a message");
    assert!(matches!(first, Message::Notification(Notification { method: Method::ToolsListChanged, .. })));
    assert_eq!(dialed.transport.facts().get_stream, Some("open"));
    let second = dialed.shared.next().await.expect("open").expect("a message");
    assert!(matches!(second, Message::Request(_)));
    let gets: Vec<_> = fake.seen().into_iter().filter(|got| got.asks() == "GET").collect();
    assert_eq!((gets[0].header("last-event-id"), gets[1].header("last-event-id")), (None, Some("a")));
    // The fake's next answer to GET is 404: a stream that stood is refused because the session is gone.
    let end = dialed.shared.next().await.expect("says so").expect_err("no message");
    assert_eq!(end.fault, FaultPoint::SessionGone);
}

#[tokio::test]
async fn closing_ends_the_shared_stream_and_does_not_wait_for_a_dead_server() {
    let fake = Fake::new(|got| async move {
        match got.asks() {
            "initialize" => reply_with(&[("mcp-session-id", "s1")], &welcome(&got)),
            "DELETE" => std::future::pending().await,
            "GET" => status(405),
            _ => status(202),
        }
    })
    .await;
    let mut dialed = opened(&fake).await;
    dialed.transport.close(Duration::from_millis(50)).await;
    assert!(dialed.shared.next().await.is_none());
    assert_eq!(fake.asked().last().map(String::as_str), Some("DELETE"));
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_once_and_remembered() {
    let fake = Fake::new(|got| async move {
        match (got.path.as_str(), got.asks()) {
            ("/mcp", _) => reply(307, &[("location", "/mcp/")], "moved"),
            (_, "initialize") => json_reply(&welcome(&got)),
            (_, "tools/call") => json_reply(&got.result(json!({}))),
            _ => status(202),
        }
    })
    .await;
    let mut dialed = opened(&fake).await;
    assert!(matches!(call_fate(&mut dialed, 2).await, Fate::Answer(_)));
    let paths: Vec<_> = fake.seen().iter().map(|got| got.path.clone()).collect();
    assert_eq!(paths, ["/mcp", "/mcp/", "/mcp/", "/mcp/"]);
    assert_eq!(fake.seen()[1].body, fake.seen()[0].body);
}

#[tokio::test]
async fn s13_no_redirect_leads_out_of_the_origin_turns_a_post_or_goes_on_for_ever() {
    let elsewhere = Fake::new(|got| async move { json_reply(&welcome(&got)) }).await;
    let target = elsewhere.url.to_string();
    let fake = Fake::new(move |got| {
        let target = target.clone();
        async move {
            match got.path.as_str() {
                "/out" => reply(307, &[("location", &target)], ""),
                "/turn" => reply(302, &[("location", "/mcp")], ""),
                _ => reply(308, &[("location", "/loop")], ""),
            }
        }
    })
    .await;
    for (path, said) in [("/out", "another origin"), ("/turn", "final address"), ("/loop", "more than three times")] {
        let url = fake.url.join(path).expect("a URL");
        let failure = to(&url).post(&call(2)).await.err().expect("refused");
        assert_eq!(failure.point, FaultPoint::Unreadable, "{path}");
        assert!(failure.text.contains(said), "{}", failure.text);
    }
    assert!(elsewhere.seen().is_empty(), "nothing was sent there");
}

#[tokio::test]
async fn a_server_of_the_time_of_batches_may_answer_with_one() {
    let fake = sound(|got| async move { json_reply(&json!([got.result(json!({"b": 1}))])) }).await;
    assert_eq!(answer_of(&call_fate(&mut opened(&fake).await, 2).await)["result"], json!({"b": 1}));
}

#[tokio::test]
async fn r42_localhost_is_tried_on_both_families() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.expect("IPv6 loopback");
    let port = listener.local_addr().expect("bound").port();
    trunkline_telemetry::spawn("v6", async move {
        let router = axum::Router::new().fallback(|| async { status(418) });
        axum::serve(listener, router).await.expect("serves");
    });
    let url = format!("http://localhost:{port}/mcp").parse().expect("a URL");
    let failure = to(&url).post(&call(2)).await.err().expect("a teapot");
    assert!(failure.text.contains("418"), "{}", failure.text);
}

#[tokio::test]
async fn r42_an_error_about_localhost_lists_both_addresses() {
    let port = nobody().await.port().expect("a port");
    let url = format!("http://localhost:{port}/mcp").parse().expect("a URL");
    let failure = to(&url).post(&call(2)).await.err().expect("refused");
    assert_eq!(failure.text, format!("nothing listens at 127.0.0.1:{port} or [::1]:{port}; is the server running?"));
}

#[tokio::test]
async fn a_refusal_whose_body_never_ends_is_a_refusal_all_the_same() {
    let fake = sound(|_| async {
        let (sender, mut response) = live_events();
        sender.try_send("too much".to_owned()).expect("room");
        trunkline_telemetry::spawn("held", async move { sender.closed().await });
        *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        response
    })
    .await;
    let outcome = call_fate(&mut opened(&fake).await, 2).await;
    assert_eq!(outcome.fault(), Some(FaultPoint::RefusedBeforeRun));
    assert!(outcome.text().ends_with("429 Too Many Requests: too much"), "{}", outcome.text());
}
