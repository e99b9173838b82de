//! Legacy sessions (mcp-protocol 3.9 to 3.12, G-41 to G-55).

use crate::harness::client::{Answer, Client, initialize, json, member, request, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk};
use crate::harness::http;

async fn one() -> (Daemon, Desk) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    (daemon, desk)
}

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[tokio::test]
async fn g41_each_revision_is_answered_with_itself_and_others_with_the_newest() {
    let daemon = Daemon::start("").await;
    for revision in REVISIONS {
        let client = Client::connect(&daemon.url, revision).await;
        assert_eq!(json(&client.greeting)["protocolVersion"], revision);
    }
    for revision in ["1999-01-01", "2026-07-28"] {
        let reply = http::connect(daemon.address()).await;
        let headers = [("host", daemon.address()), ("content-type", "application/json")];
        let reply = http::send(reply, "POST", "/mcp", &headers, initialize(revision)).await;
        assert_eq!(reply.status, 200);
        let events = reply.text().await;
        assert!(events.contains(r#""protocolVersion":"2025-11-25""#), "{events}");
    }
}

#[tokio::test]
async fn g42_sessions_have_visible_ids_that_differ() {
    let daemon = Daemon::start("").await;
    let (one, two) = (daemon.client().await, daemon.client().await);
    let (one, two) = (one.session.expect("an id"), two.session.expect("an id"));
    assert_ne!(one, two);
    assert!(one.len() >= 22 && one.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{one}");
}

#[tokio::test]
async fn g43_requests_without_a_living_session_are_refused_by_their_own_id() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.client().await;
    let body = request("\"who\"", "tools/list", "{}");
    let refused = async |client: &Client, status: u16| {
        let reply = client.post(&body).await;
        assert_eq!(reply.status, status);
        let answer = json(&reply.text().await);
        assert_eq!(answer["id"], "who", "{answer}");
        assert!(answer["error"]["code"].is_i64(), "{answer}");
        answer["error"]["message"].as_str().expect("a message").to_owned()
    };
    assert_eq!(client.delete().await.status / 100, 2);
    refused(&client, 404).await;
    assert_eq!(client.delete().await.status, 404);
    client.session = Some("never-given".into());
    refused(&client, 404).await;
    client.session = None;
    assert!(refused(&client, 400).await.contains("No valid session ID provided"), "the words that clients look for");
}

#[tokio::test]
async fn g44_the_revision_header_may_be_any_known_one_or_absent() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.client().await;
    client.revision = "1999-01-01".into();
    let reply = client.post(&request("1", "ping", "{}")).await;
    assert_eq!(reply.status, 400);
    assert_eq!(json(&reply.text().await)["id"], 1);
    for revision in REVISIONS {
        client.revision = revision.into();
        assert_eq!(client.result("ping", "{}").await, "{}");
    }
    let mut headers = client.headers();
    headers.retain(|(name, _)| *name != "mcp-protocol-version");
    let connection = http::connect(daemon.address()).await;
    let reply = http::send(connection, "POST", "/mcp", &headers, request("1", "ping", "{}")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn g45_a_second_initialize_is_refused() {
    let daemon = Daemon::start("").await;
    let client = daemon.client().await;
    let reply = client.post(&initialize("2025-11-25")).await;
    assert_eq!(reply.status, 400);
    let answer = json(&reply.text().await);
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&(-32600).into(), &0.into()), "{answer}");
    assert_eq!(client.result("ping", "{}").await, "{}", "the session lives on");
}

#[tokio::test]
async fn g46_notifications_and_responses_are_accepted_silently() {
    let daemon = Daemon::start("").await;
    let client = daemon.client().await;
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/nobody/knows"}"#,
        r#"{"jsonrpc":"2.0","id":"stray","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":99,"error":{"code":1,"message":"no"}}"#,
    ] {
        let reply = client.post(body).await;
        assert_eq!(reply.status, 202, "{body}");
        assert_eq!(reply.text().await, "", "{body}");
    }
}

#[tokio::test]
async fn g47_ping_is_answered_here() {
    let (daemon, desk) = one().await;
    let before = desk.received().len();
    assert_eq!(daemon.client().await.result("ping", "{}").await, "{}");
    assert_eq!(desk.received().len(), before);
}

#[tokio::test]
async fn g48_batches_live_in_2025_03_26_only() {
    let (daemon, _) = one().await;
    let batch = format!(
        r#"[{},{{"jsonrpc":"2.0","method":"notifications/initialized"}},{}]"#,
        request("1", "ping", "{}"),
        request("\"two\"", "tools/call", r#"{"name":"one__echo","arguments":{"message":"batched"}}"#)
    );
    let old = Client::connect(&daemon.url, "2025-03-26").await;
    let reply = old.post(&batch).await;
    assert_eq!(reply.status, 200);
    let text = if reply.is_stream() {
        let (events, _) = reply.events().rest().await;
        events.into_iter().map(|event| event.data).collect::<Vec<_>>().join("\n")
    } else {
        reply.text().await
    };
    for part in [r#""id":1"#, r#""id":"two""#, "batched"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let silent = r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#;
    let reply = old.post(silent).await;
    assert_eq!((reply.status, reply.text().await), (202, String::new()));
    for revision in ["2025-06-18", "2025-11-25"] {
        let reply = Client::connect(&daemon.url, revision).await.post(&batch).await;
        assert_eq!(reply.status, 400, "{revision}");
        assert_eq!(json(&reply.text().await)["error"]["code"], -32600);
    }
}

#[tokio::test]
async fn g49_results_hold_nothing_of_the_next_revision() {
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        let result = json(&client.result(method, "{}").await);
        for key in ["resultType", "ttlMs", "cacheScope"] {
            assert!(result[key].is_null(), "{method}: {key}");
        }
    }
}

/// The events of a call that sends progress before its answer.
async fn events_of_a_call(daemon: &Daemon, revision: &str) -> Vec<http::Event> {
    let client = Client::connect(&daemon.url, revision).await;
    match client.start("5", "one__progress", r#"{"steps":2,"ms":20}"#).await {
        Answer::Stream(events) => events.rest().await.0,
        Answer::Whole(text) => panic!("no stream: {text}"),
    }
}

#[tokio::test]
async fn g50_priming_is_for_the_newest_sessions_only() {
    let (daemon, _) = one().await;
    for revision in ["2025-03-26", "2025-06-18"] {
        let events = events_of_a_call(&daemon, revision).await;
        assert!(events.iter().all(|event| !event.data.is_empty()), "{revision}: {events:?}");
    }
    let events = events_of_a_call(&daemon, "2025-11-25").await;
    assert!(events[0].data.is_empty() && events[0].id.is_some(), "{events:?}");
}

#[tokio::test]
async fn g51_a_dropped_stream_goes_on_and_is_replayed() {
    // F-28. The call is not cancelled by the drop, and what was missed comes back: no more, no less.
    let (daemon, desk) = one().await;
    let client = daemon.client().await;
    let Answer::Stream(mut events) = client.start("51", "one__progress", r#"{"steps":10,"ms":60}"#).await else {
        panic!("no stream");
    };
    let mut last = None;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = events.next().await.expect("more to come");
        last = event.id.clone().or(last);
        if !event.data.is_empty() {
            seen.push(event.data);
        }
    }
    drop(events);
    let resumed = client.listen(Some(&last.expect("event ids"))).await;
    assert_eq!(resumed.status, 200);
    let (rest, _) = resumed.events().rest().await;
    seen.extend(rest.into_iter().map(|event| event.data).filter(|data| !data.is_empty()));
    let answer = json(&seen.pop().expect("an answer"));
    assert_eq!(answer["id"], 51);
    assert_eq!(text_of(&answer["result"]), "10 steps done");
    let steps: Vec<i64> = seen.iter().map(|note| json(note)["params"]["progress"].as_i64().expect("a step")).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "in order and once: {steps:?}");
    assert!(desk.lines("cancelled").is_empty(), "a drop is no cancellation");
}

#[tokio::test]
async fn g51_a_stream_that_is_gone_brings_an_error_for_its_request() {
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    let Answer::Stream(events) = client.start("\"gone\"", "one__progress", r#"{"steps":1}"#).await else {
        panic!("no stream");
    };
    let (events, _) = events.rest().await;
    let id = events[0].id.clone().expect("event ids");
    // The session of another client holds no such stream; the id still names the request that waits for it.
    let other = daemon.client().await;
    let reply = other.listen(Some(&id)).await;
    if reply.status == 200 {
        let (events, _) = reply.events().rest().await;
        let answer = json(&events.last().expect("one event").data);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&(-31009).into(), &"gone".into()), "G-53: {answer}");
    } else {
        assert_eq!(reply.status, 400);
    }
    assert_eq!(client.listen(Some("forged")).await.status, 400);
}

#[tokio::test]
async fn g52_related_messages_go_to_the_post_and_others_to_the_get_stream() {
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    let mut standalone = client.listen(None).await.events();
    let messages = client
        .exchange("tools/call", r#"{"name":"one__progress","arguments":{"steps":2},"_meta":{"progressToken":"t"}}"#)
        .await;
    assert!(messages.len() >= 2, "{messages:?}");
    client.call("one__change", r#"{"add":"extra_g52"}"#).await;
    let first = standalone.next().await.expect("an event");
    assert!(first.data.contains("list_changed"), "progress came twice: {first:?}");
    assert_eq!(first.id, None, "a standalone stream cannot be resumed");
}

#[tokio::test]
async fn a_second_get_stream_takes_over_and_gives_back() {
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    let mut older = client.listen(None).await.events();
    let mut newer = client.listen(None).await.events();
    client.call("one__change", r#"{"add":"extra_a"}"#).await;
    assert!(newer.message().await.expect("a notice").contains("list_changed"));
    drop(newer);
    crate::harness::until("the older stream to take over", async || {
        client.call("one__change", r#"{"add":"extra_b"}"#).await;
        tokio::time::timeout(std::time::Duration::from_secs(3), older.message()).await.ok().flatten()
    })
    .await;
}

#[tokio::test]
async fn accept_decides_the_form_of_the_answer() {
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    let ask = async |accept: &str, body: String| {
        let mut headers = client.headers();
        headers.retain(|(name, _)| *name != "accept");
        headers.push(("accept", accept));
        http::send(http::connect(daemon.address()).await, "POST", "/mcp", &headers, body).await
    };
    let reply = ask("text/html", request("1", "ping", "{}")).await;
    assert_eq!(reply.status, 406);
    let reply = ask(
        "application/json",
        request("2", "tools/call", r#"{"name":"one__progress","arguments":{},"_meta":{"progressToken":1}}"#),
    )
    .await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(member(&reply.text().await, "id").as_deref(), Some("2"));
    let reply = ask("text/event-stream", request("3", "ping", "{}")).await;
    assert!(reply.is_stream());
    let (events, _) = reply.events().rest().await;
    assert_eq!(member(&events.last().expect("an answer").data, "id").as_deref(), Some("3"));
    let reply = ask("*/*", request("4", "ping", "{}")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn get_without_session_or_stream_is_refused() {
    let daemon = Daemon::start("").await;
    let headers = [("host", daemon.address()), ("accept", "text/event-stream")];
    let get = async |headers: &[(&str, &str)]| {
        http::send(http::connect(daemon.address()).await, "GET", "/mcp", headers, "").await.status
    };
    assert_eq!(get(&headers).await, 400);
    let client = daemon.client().await;
    let mut with_session = client.headers();
    with_session.retain(|(name, _)| *name != "accept" && *name != "content-type");
    with_session.push(("accept", "application/json"));
    assert_eq!(get(&with_session).await, 406);
}

#[tokio::test]
async fn s09_ids_come_back_byte_for_byte() {
    // G-20, F-53.
    let (daemon, _) = one().await;
    let client = daemon.client().await;
    for id in ["7", "\"7\"", "9007199254740993", "\"\\u0041/\"", "-1", "\"\""] {
        let params = r#"{"name":"one__echo","arguments":{"message":"x"}}"#;
        for (method, params) in [("ping", "{}"), ("tools/call", params), ("no/such", "{}")] {
            let answer = client.exchange_as(id, method, params).await.pop().expect("an answer");
            assert_eq!(member(&answer, "id").as_deref(), Some(id), "{method}: {answer}");
        }
    }
}
