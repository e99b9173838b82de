//! The hub as `edge` sees it, before servers that never start.

use std::sync::Arc;

use trunkline_config::Config;
use trunkline_testkit::{Fault, Script};
use trunkline_wire::{Id, Method};

use crate::fakes::{World, hub, message, request, server, session};
use crate::{Guest, Hub, Refusal, Reply, Session, Wants};

const BOTH: Wants = Wants { json: true, sse: true };

async fn ask(hub: &Arc<Hub>, session: &Arc<Session>, text: &str) -> serde_json::Value {
    let reply = hub.handle(session, message(text), BOTH).await;
    let Reply::One(text) = reply else { panic!("one answer is expected, not {reply:?}") };
    serde_json::from_slice(&text.into_bytes()).expect("JSON")
}

#[tokio::test]
async fn initialize_begins_a_session_under_an_id_that_nobody_guesses() {
    let hub = hub(&[("git", server())], &Config::default());
    let opened = request(0, Method::Initialize, r#"{"protocolVersion":"2025-06-18"}"#);
    let (session, response) = hub.open(&opened, Guest::ANYBODY).expect("a session");
    assert_eq!(response.id, Some(Id::from(0)));
    assert!(session.id().len() >= 22 && session.id().bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    assert!(Arc::ptr_eq(&hub.session(session.id(), Guest::ANYBODY).expect("known"), &session));
    let second = hub.handle(&session, crate::Message::Request(opened), BOTH).await;
    assert!(matches!(second, Reply::Refused(Refusal::SecondInitialize)));
    hub.end(&session);
    assert!(hub.session(session.id(), Guest::ANYBODY).is_none());
}

#[tokio::test]
async fn what_the_gateway_knows_it_answers_itself() {
    let hub = hub(&[], &Config::default());
    let session = session(&hub, "2025-06-18");
    let pong = ask(&hub, &session, r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(pong.to_string(), r#"{"id":"p","jsonrpc":"2.0","result":{}}"#);
    for (method, params, code) in [
        ("server/discover", "{}", -32601),
        ("vendor/x", "{}", -32601),
        ("logging/setLevel", r#"{"level":"loud"}"#, -32602),
        ("tools/call", r#"{"name":"nobody__x"}"#, -32602),
        ("tools/call", "{}", -32602),
        ("prompts/get", r#"{"name":"x"}"#, -32602),
        ("resources/read", r#"{"uri":"x:1"}"#, -32002),
        ("resources/subscribe", r#"{"uri":"x:1"}"#, -32002),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"x"}}"#, -32602),
        ("tools/list", r#"{"cursor":"x"}"#, -32602),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        assert_eq!(ask(&hub, &session, &text).await["error"]["code"], code, "{method} {params}");
    }
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"x:{}"}}}}"#,
        "x".repeat(10_000)
    );
    assert_eq!(ask(&hub, &session, &long).await["error"]["code"], -32602);
    let list = ask(&hub, &session, r#"{"jsonrpc":"2.0","id":1,"method":"resources/templates/list"}"#).await;
    assert_eq!(list["result"].to_string(), r#"{"resourceTemplates":[]}"#);
    let noted = hub.handle(&session, message(r#"{"jsonrpc":"2.0","method":"x/y"}"#), BOTH).await;
    assert!(matches!(noted, Reply::Accepted));
}

#[tokio::test]
async fn a_draining_hub_takes_no_new_work() {
    let hub = hub(&[], &Config::default());
    let session = session(&hub, "2025-06-18");
    hub.drain();
    assert!(matches!(hub.open(&request(0, Method::Initialize, "{}"), Guest::ANYBODY), Err(Refusal::ShuttingDown)));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
    let told = ask(&hub, &session, call).await;
    assert_eq!(told["result"]["_meta"]["dev.trunkline/fault"]["code"], -31005);
    let told = hub.call_direct("x", None).await.expect("a tool result");
    assert!(std::str::from_utf8(told.as_bytes()).expect("text").contains("-31005"));
}

#[tokio::test(start_paused = true)]
async fn r35_calls_that_outlast_the_drain_are_answered_and_their_server_told() {
    let script = Script { faults: vec![Fault::silent("tools/call")], ..Script::default() };
    let world = World::new(script).await;
    let session = session(&world.hub, "2025-06-18");
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"git__echo"}}"#;
    let server = world.server();
    let (told, ()) = tokio::join!(ask(&world.hub, &session, call), async {
        server.saw("tools/call", 1).await;
        world.hub.cut();
    });
    let fault = &told["result"]["_meta"]["dev.trunkline/fault"];
    assert_eq!((&told["id"], &fault["code"]), (&7.into(), &(-31005).into()), "{told}");
    assert_eq!((&fault["outcome"], &fault["server"]), (&"unknown".into(), &"git".into()), "{told}");
    server.saw("notifications/cancelled", 1).await;
    assert!(!session.is_busy());
}

#[tokio::test(start_paused = true)]
async fn new_sessions_are_rationed_and_the_longest_idle_one_gives_way() {
    let mut config = Config::default();
    config.limits.sessions = 2;
    config.limits.sessions_burst = 3;
    config.limits.sessions_per_sec = 1;
    let hub = hub(&[], &config);
    let first = session(&hub, "2025-06-18");
    tokio::time::advance(std::time::Duration::from_millis(10)).await;
    let second = Arc::downgrade(&session(&hub, "2025-06-18"));
    let _open = hub.attach(&first, None).expect("a stream");
    session(&hub, "2025-06-18");
    assert_eq!(hub.sessions(), 2);
    assert!(second.upgrade().is_none() && first.open_get().is_some(), "the first has an open stream");
    let refused = hub.open(&request(0, Method::Initialize, "{}"), Guest::ANYBODY).expect_err("too fast");
    assert!(matches!(refused, Refusal::TooManySessions { .. }) && refused.retry_after().is_some());
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    session(&hub, "2025-06-18");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_used_for_a_week_is_forgotten() {
    let hub = hub(&[], &Config::default());
    let idle = session(&hub, "2025-06-18");
    tokio::time::sleep(std::time::Duration::from_hours(24 * 7 + 1)).await;
    assert!(hub.session(idle.id(), Guest::ANYBODY).is_none());
}

#[tokio::test]
async fn the_command_line_hears_of_an_unknown_tool_too() {
    let hub = hub(&[], &Config::default());
    let error = hub.call_direct("x__y", None).await.expect_err("no such tool");
    assert!(std::str::from_utf8(error.as_bytes()).expect("text").contains("unknown tool"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_no_list_has_shown_yet_is_waited_for() {
    let program = trunkline_config::Stdio::new("no-such-program", []);
    let absent = trunkline_config::Server::new(trunkline_config::Connect::Stdio(program));
    let hub = hub(&[("git", absent)], &Config::default());
    let result = hub.call_direct("git__log", None).await.expect("a result that the model can read");
    let text = std::str::from_utf8(result.as_bytes()).expect("text");
    assert!(text.contains("server `git`") && text.contains("no-such-program"), "{text}");
    assert!(text.contains("\"isError\":true"), "{text}");
}

#[tokio::test]
async fn an_unknown_tool_of_a_server_that_is_away_is_explained() {
    let hub = hub(&[("git", server()), ("gi", server())], &Config::default());
    let error = hub.call_direct("git__log", None).await.expect_err("no such tool");
    let text = std::str::from_utf8(error.as_bytes()).expect("text");
    assert!(text.contains("unknown tool: git__log; server `git` is disabled"), "{text}");
}

#[tokio::test]
async fn g56_a_session_outlives_eleven_hundred_newer_ones() {
    let hub = hub(&[], &Config::default());
    let oldest = session(&hub, "2025-06-18");
    for _ in 0..1_100 {
        session(&hub, "2025-06-18");
    }
    assert!(hub.session(oldest.id(), Guest::ANYBODY).is_some());
    let pong = ask(&hub, &oldest, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(pong["result"].to_string(), "{}");
}
