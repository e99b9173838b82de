//! Clients of 2026-07-28 before servers of the handshake era: the wire as such a client sees it (mcp-protocol 8, G-11 to
//! G-40; what needs no server is tested beside the code of `edge` and `hub`).

use serde_json::{Value, json};

use crate::harness::client::{json, member, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::http::{self, Reply};
use crate::harness::modern::Modern;
use crate::harness::until;

/// One stdio fake, and a modern client of the daemon before it.
async fn one() -> (Daemon, Desk, Modern) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &["--revision", "2025-06-18"]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let client = Modern::new(&daemon.url);
    (daemon, desk, client)
}

fn call(tool: &str, arguments: &str) -> String {
    format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)
}

#[tokio::test]
async fn a_call_needs_no_session_and_its_result_is_the_servers_own_text() {
    // G-11, G-12, G-20, G-26.
    let (_daemon, desk, client) = one().await;
    let discovered = json(&client.result("server/discover", "{}").await);
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    let result =
        r#"{"content":[{"type":"x-new","n":1.50e1,"_meta":{"k":null}}],"z":18446744073709551616,"a":"\u0041"}"#;
    for id in ["7", r#""7""#, r#""\u0041/""#, "9007199254740993"] {
        let arguments = call("one__mirror", &format!(r#"{{"result":{result}}}"#));
        let reply = client.start(id, "tools/call", &arguments).await;
        assert_eq!((reply.status, reply.header("mcp-session-id"), reply.is_stream()), (200, None, false));
        let answer = reply.text().await;
        assert_eq!(member(&answer, "id").as_deref(), Some(id));
        let told = member(&answer, "result").expect("a result");
        assert!(
            told.starts_with(r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":"#),
            "{told}"
        );
        assert!(told.ends_with(&result[1..]), "{told}");
    }
    let large = json(&client.result("tools/call", &call("one__size", r#"{"bytes":300000}"#)).await);
    assert_eq!(text_of(&large).len(), 300_000);
    // What belongs to the hop between client and gateway stays there.
    let calls = desk.received().into_iter().filter(|line| line["body"]["method"] == "tools/call").collect::<Vec<_>>();
    assert!(!calls.is_empty());
    for received in calls {
        let meta = received["body"]["params"]["_meta"].to_string();
        assert!(!meta.contains("io.modelcontextprotocol/"), "{meta}");
    }
}

#[tokio::test]
async fn reads_and_lists_say_how_long_they_are_good_and_prompts_and_completions_do_not() {
    // G-25, G-32.
    let (_daemon, _, client) = one().await;
    for (method, params, cached) in [
        ("tools/list", "{}", true),
        ("prompts/list", "{}", true),
        ("resources/list", "{}", true),
        ("resources/templates/list", "{}", true),
        ("resources/read", r#"{"uri":"fake://one/text"}"#, true),
        ("prompts/get", r#"{"name":"one__plain"}"#, false),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"one__greet"},"argument":{"name":"a","value":""}}"#,
            false,
        ),
    ] {
        // As text: a server's numbers may be larger than any that is read.
        let result = client.result(method, params).await;
        let has = |key: &str| member(&result, key);
        assert_eq!(has("resultType").as_deref(), Some(r#""complete""#), "{method}: {result}");
        assert_eq!(has("ttlMs").is_some(), cached, "{method}: {result}");
        assert_eq!(has("cacheScope").is_some_and(|scope| scope == r#""private""#), cached, "{method}: {result}");
    }
    for uri in ["fake://one/nothing", "nobody://x"] {
        let response = json(&client.ask("resources/read", &json!({ "uri": uri }).to_string()).await);
        assert_eq!(response["error"]["code"], -32602, "{uri}: {response}");
    }
}

#[tokio::test]
async fn s19_g23_g24_annotated_arguments_are_repeated_in_headers() {
    let (_daemon, _, client) = one().await;
    client.tools().await;
    let here = r#"{"region":"Köln","level":42,"dry":false,"place":{"city":"x"}}"#;
    assert_eq!(json(text_of(&client.call("one__region", here).await)), json(here));
    let body = client.body("1", "tools/call", &call("one__region", here));
    let complete = client.headers(&body);
    for (header, value, status) in [
        ("mcp-param-region", None, 400),
        ("mcp-param-region", Some("Köln, not encoded"), 400),
        ("mcp-param-city", Some("y"), 400),
        ("mcp-param-dry-run", Some("true"), 400),
        ("mcp-param-level", Some("42.0"), 200),
        ("mcp-param-level", Some("43"), 400),
        ("mcp-param-unheard-of", Some("x"), 200),
    ] {
        let mut headers = complete.clone();
        headers.retain(|(name, _)| name != header);
        headers.extend(value.map(|value| (header.to_owned(), crate::harness::modern::encoded(value))));
        let reply = client.send(&headers, &body).await;
        assert_eq!(reply.status, status, "{header}: {value:?}");
        let answer = json(&reply.text().await);
        if status == 400 {
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32020), &json!(1)), "{header}");
        }
    }
    let none = client.call("one__region", r#"{"level":null}"#).await;
    assert_eq!(none["resultType"], "complete", "an argument that is not there needs no header");
}

#[tokio::test]
async fn g30_notices_come_on_the_requests_own_stream_if_it_wants_them() {
    let (_daemon, _, mut client) = one().await;
    let quiet = client.exchange("tools/call", &call("one__progress", "{}")).await;
    assert_eq!(quiet.len(), 1, "nobody gave a token: {quiet:?}");
    assert_eq!(client.exchange("tools/call", &call("one__log", r#"{"level":"error"}"#)).await.len(), 1);

    let wants = r#"{"name":"one__progress","arguments":{"steps":3},"_meta":{"progressToken":"mine"}}"#;
    let reply = client.start("1", "tools/call", wants).await;
    assert_eq!((reply.is_stream(), reply.header("x-accel-buffering")), (true, Some("no")), "G-27");
    let (events, _) = reply.events().rest().await;
    let said: Vec<Value> = events.iter().map(|event| json(&event.data)).collect();
    assert_eq!(said.len(), 4);
    assert!(said[..3].iter().all(|notice| notice["params"]["progressToken"] == "mine"), "{said:?}");
    assert_eq!(said[3]["result"]["resultType"], "complete");

    client.log_level = Some("warning");
    // The server learns of the level a moment after the first request that wants it (mcp-protocol 6.5).
    until("the server to speak", async || {
        (client.exchange("tools/call", &call("one__log", r#"{"level":"warning"}"#)).await.len() > 1).then_some(())
    })
    .await;
    for (level, notices) in [("info", 0), ("warning", 1), ("alert", 1)] {
        let said = client.exchange("tools/call", &call("one__log", &format!(r#"{{"level":"{level}"}}"#))).await;
        assert_eq!(said.len(), notices + 1, "{level}: {said:?}");
    }
}

#[tokio::test]
async fn g29_who_closes_the_connection_has_cancelled() {
    let home = Home::new();
    let (config, fakes, stdio) = fake::trio(&home, &["--revision", "2025-06-18"]).await;
    home.configure(&config);
    let daemon = home.serve().await;
    daemon.until_ready(&fake::TRIO).await;
    let client = Modern::new(&daemon.url);
    let desk = |name: &str| match name {
        "stdio" => &stdio,
        name => &fakes[usize::from(name == "sse")].desk,
    };
    for name in fake::TRIO {
        // Before anything was answered, and from the middle of a stream.
        let sleep = client.body("1", "tools/call", &call(&format!("{name}__sleep"), r#"{"ms":600000}"#));
        let waiting = post_and_leave(&client, &daemon, &sleep, desk(name));
        waiting.await;
        cancelled(desk(name), 1).await;
        let params = format!(
            r#"{{"name":"{name}__progress","arguments":{{"steps":9,"ms":100000}},"_meta":{{"progressToken":1}}}}"#
        );
        let reply = client.start("2", "tools/call", &params).await;
        let mut events = reply.events();
        assert!(events.message().await.is_some_and(|notice| notice.contains("notifications/progress")));
        drop(events);
        cancelled(desk(name), 2).await;
    }
    // A question is an answer: the end of its stream cancels nothing, see the tests of questions.
    assert!((daemon.metric("trunkline_requests_total", &["outcome=\"cancelled\""]).await - 6.0).abs() < 0.5);
}

/// Sends a request on a connection of its own, waits until the server has it, and closes the connection.
async fn post_and_leave(client: &Modern, daemon: &Daemon, body: &str, desk: &Desk) {
    let before = desk.lines("calls").len();
    let headers = client.headers(body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let connection = http::connect(daemon.address()).await;
    let sending = http::send(connection, "POST", "/mcp", &headers, body.to_owned());
    let arrived = until("the call at the server", async || (desk.lines("calls").len() > before).then_some(()));
    tokio::select! {
        _ = sending => panic!("it sleeps"),
        () = arrived => {}
    }
}

async fn cancelled(desk: &Desk, count: usize) {
    until("the cancellation", async || (desk.lines("cancelled").len() >= count).then_some(())).await;
}

#[tokio::test]
async fn g33_equal_ids_of_two_clients_are_not_mixed_up() {
    let (daemon, _, client) = one().await;
    let other = Modern::new(&daemon.url);
    let (mine, theirs) = (call("one__echo", r#"{"message":"mine"}"#), call("one__echo", r#"{"message":"theirs"}"#));
    for _ in 0..20 {
        let (one, two) = tokio::join!(client.start("1", "tools/call", &mine), other.start("1", "tools/call", &theirs));
        let (one, two) = tokio::join!(one.text(), two.text());
        assert_eq!((text_of(&json(&one)["result"]), text_of(&json(&two)["result"])), ("mine", "theirs"));
    }
}

#[tokio::test]
async fn g37_a_change_is_told_to_each_listen_when_the_list_shows_it() {
    let (daemon, _, client) = one().await;
    let mut first = client.listen(&json!({ "toolsListChanged": true })).await;
    let mut second = client.listen(&json!({ "toolsListChanged": true, "promptsListChanged": true })).await;
    assert_eq!(second.filter, json!({ "toolsListChanged": true, "promptsListChanged": true }));
    assert_eq!(daemon.health().await["listens"], 2);
    client.call("one__change", r#"{"add":"extra_1"}"#).await;
    for listen in [&mut first, &mut second] {
        // That the server came up may have been told too.
        loop {
            let told = listen.next().await.expect("a notice");
            let shown = client.tools().await.iter().any(|name| name == "one__extra_1");
            if told["method"] == "notifications/tools/list_changed" && shown {
                break;
            }
        }
    }
}

#[tokio::test]
async fn g38_updates_come_to_every_listen_and_the_last_one_to_leave_unsubscribes() {
    let (_daemon, desk, client) = one().await;
    let wanted = json!({ "resourceSubscriptions": ["fake://one/text", "nobody://x"] });
    let first = client.listen(&wanted).await;
    let mut second = client.listen(&wanted).await;
    assert_eq!(second.filter, json!({ "resourceSubscriptions": ["fake://one/text"] }), "G-35");
    let asked = |method: &str| desk.received().iter().filter(|line| line["body"]["method"] == method).count();
    assert_eq!(asked("resources/subscribe"), 1);
    drop(first);
    client.call("one__touch", r#"{"uri":"fake://one/text"}"#).await;
    let told = second.next().await.expect("an update");
    assert_eq!(
        (&told["method"], &told["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("fake://one/text"))
    );
    assert_eq!(asked("resources/unsubscribe"), 0);
    drop(second);
    until("the server to be left", async || (asked("resources/unsubscribe") == 1).then_some(())).await;
}

#[tokio::test]
async fn g39_listens_end_with_a_result_when_the_daemon_stops() {
    let (daemon, _, client) = one().await;
    let mut listen = client.listen(&json!({ "toolsListChanged": true })).await;
    let last = async {
        loop {
            let message = listen.next().await.expect("a last word");
            if message["method"].is_null() {
                return message;
            }
        }
    };
    let (last, (status, _)) = tokio::join!(last, daemon.stop());
    assert_eq!((&last["id"].to_string(), &last["result"]["resultType"]), (&listen.id, &json!("complete")));
    assert!(listen.next().await.is_none());
    assert!(status.success());
}

#[tokio::test]
async fn servers_that_fail_are_told_of_in_the_terms_of_the_era() {
    // mcp-protocol 2.4: a fault of tools/call is a result, of all else an error, HTTP 200 either way.
    let fake = Fake::start("http", "gone", &["--revision", "2025-06-18"]).await;
    let daemon = Daemon::start(&fake.block()).await;
    daemon.until_ready(&["gone"]).await;
    let client = Modern::new(&daemon.url);
    drop(fake);
    daemon.until_state("gone", "backoff").await;
    let reply: Reply = client.start("1", "tools/call", &call("gone__echo", "{}")).await;
    assert_eq!(reply.status, 200);
    let answer = json(&reply.text().await);
    let result = &answer["result"];
    assert_eq!((&result["isError"], &result["resultType"]), (&json!(true), &json!("complete")), "{answer}");
    assert_eq!(result["_meta"]["dev.trunkline/fault"]["code"], -31001, "{result}");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "trunkline");
    let answer = json(&client.ask("prompts/get", r#"{"name":"gone__greet"}"#).await);
    assert_eq!(answer["error"]["code"], -31001, "{answer}");
    let listed = json(&client.result("tools/list", "{}").await);
    assert_eq!(listed["ttlMs"], 0, "its list may be another when it comes back");
    assert!(!listed["tools"].as_array().expect("a list").is_empty());
}
