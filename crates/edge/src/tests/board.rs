//! The dashboard's door, headers and documents. What its page does with them is `tests/dashboard.rs`' to show.

use std::time::Duration;

use futures_util::FutureExt as _;
use trunkline_config::{Auth, Connect, Http, Secret, Server};
use trunkline_telemetry::{Ended, STEP};
use trunkline_wire::{ExposedName, ServerName};

use super::*;

/// What our own page sends along.
const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");
/// What its browser says of a page elsewhere.
const OTHER_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");
/// The same of one on another port of this machine.
const SAME_SITE: (&str, &str) = ("sec-fetch-site", "same-site");
const OWN_ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:6270");

const ACTIONS: [&str; 7] = [
    "/api/v1/call",
    "/api/v1/reload",
    "/api/v1/servers/git/restart",
    "/api/v1/servers/git/pause",
    "/api/v1/servers/git/resume",
    "/api/v1/servers/git/login",
    "/api/v1/servers/git/logout",
];

fn git() -> ServerName {
    ServerName::new("git").expect("a name")
}

#[tokio::test]
async fn s36_the_page_and_its_parts_run_nothing_else_and_are_framed_by_nobody() {
    let client = Client::new();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/app.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let answer = client.send("GET", path, &[], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        let policy = answer.header("content-security-policy");
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'sha256-", "frame-ancestors 'none'"] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("data:"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        let tag = answer.header("etag").to_owned();
        let again = client.send("GET", path, &[("if-none-match", &tag)], "").await;
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", tag.as_str()), "{path}");
        let weak = format!("\"other\", W/{tag}");
        assert_eq!(client.send("GET", path, &[("if-none-match", &weak)], "").await.status, 304, "{path}");
        assert_eq!(client.send("HEAD", path, &[], "").await.status, 200, "{path}");
        assert_eq!(client.send("POST", path, &[OWN_PAGE], "{}").await.status, 405, "{path}");
    }
    for path in ["/api/v1/state", "/api/v1/history", "/api/v1/tools"] {
        let answer = client.send("GET", path, &[OWN_PAGE], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{path}");
        assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
    }
}

#[tokio::test]
async fn s5_s36_another_user_sees_nothing_of_the_dashboard() {
    let client = Client { arrival: STRANGE, ..Client::with(with_a_server()) };
    for path in ["/", "/assets/app.js", "/api/v1/state", "/api/v1/events", "/api/v1/history", "/api/v1/tools"] {
        let answer = client.send("GET", path, &[OWN_PAGE], "").await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.body.contains("the user who runs it"), "{}", answer.body);
    }
    for path in ACTIONS {
        assert_eq!(client.send("POST", path, &[OWN_PAGE, OWN_ORIGIN], "{}").await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn s5_s36_where_tokens_are_set_the_page_is_there_to_ask_for_one_and_says_nothing_before() {
    let auth = Auth { tokens: vec![("laptop".to_owned(), Secret::new("one"))], ..Auth::default() };
    let client = Client::with(Config { auth, ..with_a_server() });
    for path in ["/", "/assets/app.js"] {
        let answer = client.send("GET", path, &[], "").await;
        assert!(answer.status == 200 && !answer.body.contains("git"), "{path}");
    }
    let paths = [("GET", "/api/v1/state"), ("GET", "/api/v1/events"), ("GET", "/api/v1/tools"), ("POST", ACTIONS[2])];
    for (method, path) in paths {
        for token in ["", "Bearer two"] {
            let answer = client.send(method, path, &[OWN_PAGE, ("authorization", token)], "{}").await;
            assert_eq!(answer.status, 401, "{method} {path} {token}");
        }
    }
    let token = ("authorization", "Bearer one");
    assert_eq!(client.send("GET", "/api/v1/state", &[token], "").await.status, 200);
    assert_eq!(client.send("POST", ACTIONS[2], &[token], "").await.status, 403, "a token is no word of our own page");
    assert_eq!(client.send("POST", ACTIONS[2], &[token, OWN_PAGE], "").await.status, 200);
}

#[tokio::test]
async fn s34_f70_no_page_but_our_own_makes_the_dashboard_do_anything() {
    let mut config = with_a_server();
    config.listen.origins = vec!["https://inspector.example".to_owned()];
    let client = Client::with(config);
    for path in ACTIONS {
        for headers in [
            // No word of where it comes from.
            &[][..],
            &[("content-type", "text/plain"), OWN_ORIGIN],
            &[("content-type", ""), OWN_ORIGIN],
            &[("content-type", "application/x-www-form-urlencoded"), OWN_ORIGIN],
            // A browser says that it is another page, whatever else stands there.
            &[OTHER_SITE, OWN_ORIGIN],
            &[SAME_SITE, OWN_ORIGIN],
            &[("sec-fetch-site", "none"), OWN_ORIGIN],
            // Our own by another name is another origin.
            &[("origin", "http://localhost:6270")],
            // Let in at `/mcp`, by the configuration.
            &[("origin", "https://inspector.example")],
            &[("origin", "https://inspector.example"), OTHER_SITE],
            &[("origin", "http://evil.example"), OWN_PAGE],
            &[("origin", "null"), OWN_PAGE],
            &[("host", "evil.example"), OWN_PAGE],
        ] {
            let answer = client.send("POST", path, headers, "{}").await;
            assert_eq!(answer.status, 403, "{path} {headers:?}: {}", answer.body);
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path} {headers:?}");
        }
    }
    for path in ["/api/v1/state", "/api/v1/events", "/api/v1/history", "/api/v1/tools"] {
        for headers in [&[OTHER_SITE][..], &[SAME_SITE], &[("origin", "https://inspector.example")]] {
            assert_eq!(client.send("GET", path, headers, "").await.status, 403, "{path} {headers:?}");
        }
    }
    // Whoever follows a link to the dashboard comes from anywhere.
    assert_eq!(client.send("GET", "/", &[OTHER_SITE], "").await.status, 200);
    assert!(
        client.send("GET", "/metrics", &[], "").await.body.contains("trunkline_rejected_total{reason=\"cross_site\"}")
    );
}

#[tokio::test]
async fn our_own_page_and_the_owners_programs_may_act() {
    let client = Client::with(with_a_server());
    for proof in [&[OWN_PAGE, ("content-type", "")][..], &[OWN_ORIGIN]] {
        let restarted = client.send("POST", "/api/v1/servers/git/restart", proof, "").await;
        assert_eq!((restarted.status, restarted.json()), (200, json!({ "restarting": "git" })), "{proof:?}");
        let unknown = client.send("POST", "/api/v1/servers/web/restart", proof, "").await;
        assert_eq!(unknown.status, 404);
        // Nobody answers here, which is said.
        assert_eq!(client.send("POST", "/api/v1/reload", proof, "").await.status, 503);
    }
    let call = client.send("POST", "/api/v1/call", &[OWN_PAGE], r#"{"name":"git__log"}"#).await;
    assert_eq!((call.status, call.json()["error"]["code"].as_i64()), (200, Some(-32602)));
    let untyped = client.send("POST", "/api/v1/call", &[OWN_PAGE, ("content-type", "text/plain")], "{}").await;
    assert_eq!(untyped.status, 415);
    for (path, status) in [
        ("/api/v1/servers/git/enable", 404),
        ("/api/v1/servers/git/login/wait", 404),
        ("/api/v1/servers//restart", 404),
        ("/api/v1/logs", 404),
        ("/api/v1/", 404),
    ] {
        assert_eq!(client.send("POST", path, &[OWN_PAGE], "{}").await.status, status, "{path}");
    }
    assert_eq!(client.send("GET", "/api/v1/call", &[OWN_PAGE], "").await.status, 405);
    assert_eq!(client.send("HEAD", "/api/v1/events", &[OWN_PAGE], "").await.status, 405);
}

#[tokio::test]
async fn s34_there_is_no_way_to_say_what_is_run_or_where_it_leads() {
    let client = Client::with(with_a_server());
    let before = client.edge.config();
    for path in ACTIONS {
        let body = r#"{"name":"git__log","command":"/bin/sh","args":["-c","x"],"url":"http://127.0.0.1:1/","env":{}}"#;
        client.send("POST", path, &[OWN_PAGE], body).await;
    }
    assert_eq!(client.edge.config().servers, before.servers);
    for method in ["PUT", "PATCH", "DELETE"] {
        for path in ["/api/v1/servers/git", "/api/v1/servers/git/restart", "/api/v1/state"] {
            let answer = client.send(method, path, &[OWN_PAGE], "{}").await;
            assert!([404, 405].contains(&answer.status), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn s34_what_is_off_in_the_configuration_is_not_switched_on_here_and_a_pause_is_written_nowhere() {
    let client = Client::with(with_a_server());
    for action in ["pause", "resume"] {
        let answer = client.send("POST", &format!("/api/v1/servers/git/{action}"), &[OWN_PAGE], "").await;
        assert_eq!(answer.status, 409, "{action}");
        assert!(answer.body.contains("`trunkline enable git`"), "{}", answer.body);
    }
    let mut config = with_a_server();
    config.servers[0].1.enabled = true;
    let client = Client::with(config.clone());
    let server = client.edge.hub.fleet().get("git").expect("it is there");
    let state = async || client.send("GET", "/api/v1/state", &[OWN_PAGE], "").await.json()["servers"][0].clone();
    for (action, off) in [("pause", true), ("resume", false), ("pause", true), ("restart", false)] {
        let answer = client.send("POST", &format!("/api/v1/servers/git/{action}"), &[OWN_PAGE], "").await;
        assert_eq!((answer.status, server.is_paused()), (200, off), "{action}");
        assert_eq!((&state().await["paused"], &state().await["enabled"]), (&json!(off), &json!(!off)), "{action}");
    }
    assert_eq!(client.edge.config().servers, config.servers, "what is configured stays");
}

#[tokio::test(start_paused = true)]
async fn the_state_says_all_that_health_says_and_what_the_page_needs_beside() {
    let client = Client::with(with_a_server());
    client.open("2025-06-18").await;
    client.edge.hub.recent_calls().note(Ended {
        token: None,
        client: Some("codex#7".into()),
        server: git(),
        tool: ExposedName::new("git__log").expect("a name"),
        outcome: "ok",
        lasted: Duration::from_millis(3),
        sent_bytes: 11,
        received_bytes: 2000,
    });
    let health = client.send("GET", "/health", &[], "").await.json();
    let state = client.send("GET", "/api/v1/state", &[], "").await.json();
    for (key, value) in health.as_object().expect("an object").iter().filter(|(key, _)| *key != "servers") {
        let said = state.get(key).unwrap_or_else(|| panic!("{key} is missing: {state}"));
        assert!(key == "resident_bytes" || said == value, "{key}: {said}");
    }
    let (server, known) = (&state["servers"][0], &health["servers"][0]);
    for key in known.as_object().expect("an object").keys() {
        assert!(server.get(key).is_some(), "{key} is missing: {server}");
    }
    assert_eq!(
        (&server["name"], &server["state"], &server["enabled"]),
        (&json!("git"), &json!("disabled"), &json!(false))
    );
    for key in ["paused", "lately", "kind", "signs_in", "signed_in", "since_unix_ms", "retry_at_unix_ms"] {
        assert!(server.get(key).is_some(), "{key} is missing: {server}");
    }
    assert_eq!(server["lately"]["calls_per_minute"], 0);
    assert_eq!(state["wrong"], json!([]), "what is switched off is not wrong");
    let caller = &state["clients"][0];
    assert_eq!(
        (&caller["name"], &caller["revision"], &caller["by"]),
        (&json!("test"), &json!("2025-06-18"), &json!("session"))
    );
    assert_eq!((&caller["profile"], &caller["pid"]), (&json!(null), &json!(null)), "it came from nowhere");
    let call = &state["calls"][0];
    assert_eq!((&call["client"], &call["tool"], &call["micros"]), (&json!("codex"), &json!("git__log"), &json!(3000)));
    assert_eq!((&call["sent_bytes"], &call["received_bytes"]), (&json!(11), &json!(2000)));
    assert!(call.get("arguments").is_none() && call.get("result").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_a_sign_in_or_another_address_is_said_at_the_top_with_what_helps() {
    let mut config = config();
    let mut server = Server::new(Connect::Http(Http::new("http://127.0.0.1:1/mcp".parse().expect("a URL"))));
    server.problem = Some("the variable `KEY` is not set".to_owned());
    config.servers = vec![(git(), server)];
    let client = Client::with(config);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let state = client.send("GET", "/api/v1/state", &[], "").await.json();
    let wrong = &state["wrong"][0];
    assert_eq!((&wrong["server"], &wrong["level"]), (&json!("git"), &json!("error")), "{state}");
    assert!(wrong["says"].as_str().is_some_and(|says| says.contains("`KEY`")), "{wrong}");
    assert!(wrong["advice"].as_str().is_some_and(|advice| advice.contains("[mcp_servers.git]")), "{wrong}");
    assert_eq!(wrong["command"], "trunkline check");
}

/// The next event of a stream: its name and what it holds.
async fn next(body: &mut Body) -> Option<(String, Value)> {
    let frame = body.frame().await?.expect("no body fails").into_data().expect("data");
    let text = String::from_utf8(frame.to_vec()).expect("text");
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    Some((field("event: ") + &field("retry: "), serde_json::from_str(&field("data: ")).unwrap_or_default()))
}

async fn watch(edge: &Arc<Edge>) -> Response<Body> {
    let request = Request::builder().uri("/api/v1/events").header("host", "127.0.0.1:6270");
    answer(edge, OWN, request.body(Full::new(Bytes::new())).expect("a request")).await
}

#[tokio::test(start_paused = true)]
async fn events_are_everything_once_and_then_what_changed_and_end_at_the_stop() {
    let client = Client::with(with_a_server());
    let mut stream = watch(&client.edge).await.into_body();
    let (name, whole) = next(&mut stream).await.expect("the state");
    assert_eq!((name.as_str(), &whole["servers"][0]["name"]), ("state", &json!("git")));
    assert_eq!(next(&mut stream).now_or_never(), None, "nothing happened, nothing is said");
    client.edge.journal.stderr(&git(), b"hello\n");
    let (name, change) = next(&mut stream).await.expect("a change");
    assert_eq!((name.as_str(), &change["servers"]), ("change", &json!({ "git": { "stderr_tail": "hello\n" } })));
    assert_eq!((&change["set"], &change["calls"]), (&json!({}), &json!([])), "and nothing else");
    client.edge.stop.soft.cancel();
    let (last, _) = loop {
        let event = next(&mut stream).await.expect("word of when to come back");
        if event.0 != "change" {
            break event;
        }
    };
    assert_eq!(last, "1000");
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_updates_within_a_second_are_told_in_two_pieces() {
    let client = Client::with(with_a_server());
    let mut stream = watch(&client.edge).await.into_body();
    next(&mut stream).await.expect("the state");
    let mut told = 0;
    for number in 0..1000 {
        client.edge.journal.transition(&git(), "starting", "backoff", &number.to_string());
        if let Some(Some((_, change))) = next(&mut stream).now_or_never() {
            told += 1;
            assert!(change["servers"]["git"]["transitions"].is_array());
        }
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert!((1..=2).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn r24_there_are_only_so_many_streams_and_a_page_that_closes_makes_room() {
    let client = Client::new();
    let mut open = Vec::new();
    for _ in 0..crate::limits::BOARD_STREAMS_MAX {
        let response = watch(&client.edge).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = watch(&client.edge).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().ok()), (503, Some("1")));
    open.pop();
    assert_eq!(watch(&client.edge).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_last_hour_is_sampled_until_the_stop() {
    let client = Client::with(with_a_server());
    let sampling = trunkline_telemetry::spawn("trends", crate::board::keep_trends(client.edge.clone()));
    tokio::task::yield_now().await;
    client.edge.metrics.request(&git(), &trunkline_wire::Method::ToolsCall, "ok", 0.004);
    tokio::time::sleep(STEP + Duration::from_millis(1)).await;
    let history = client.send("GET", "/api/v1/history", &[], "").await.json();
    assert_eq!((&history["step_seconds"], &history["number"]), (&json!(10), &json!(1)));
    assert_eq!(history["servers"]["git"][0]["calls"], 1, "{history}");
    client.edge.stop.soft.cancel();
    sampling.await.expect("it ends");
}
