//! What outlives the daemon: sessions, what their clients set, and the catalogue (R-2 to R-5, R-22, R-26, R-37).

use serde_json::{Value, json};

use crate::harness::client::{Client, fault_of, initialize, json as parsed, request, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;
use crate::harness::http::{self, Events};
use crate::harness::modern::Modern;
use crate::harness::parts::Sdk;
use crate::harness::until;

/// Kills the daemon as no code of its own can notice, and starts it again at the same address.
async fn kill_and_start(daemon: Daemon) -> Daemon {
    let address = daemon.address().to_owned();
    daemon.kill().serve_at(&address).await
}

/// Waits until a file of the state directory holds this.
async fn on_disk(daemon: &Daemon, file: &str, text: &str) {
    let path = daemon.home.path("state/trunkline").join(file);
    until("a state file", async || std::fs::read_to_string(&path).ok().filter(|held| held.contains(text))).await;
}

/// Waits until this many servers' offers are on disk.
async fn offers_on_disk(daemon: &Daemon, count: usize) {
    let path = daemon.home.path("state/trunkline/offers");
    until("the offers", async || {
        let entries = std::fs::read_dir(&path).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        (names.filter(|name| !name.starts_with('.')).count() == count).then_some(())
    })
    .await;
}

/// The next message that is not about a list: the lists of a server that has just come up may have been announced while
/// the client was away.
async fn past_lists(heard: &mut Events) -> String {
    loop {
        let message = heard.message().await.expect("a message");
        if !message.contains("list_changed") {
            return message;
        }
    }
}

#[tokio::test]
async fn f4_r5_sessions_survive_kill_9_with_level_and_subscriptions_and_a_deleted_one_does_not() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let (client, other, deleted) = (daemon.client().await, daemon.client().await, daemon.client().await);
    let uri = r#"{"uri":"fake://one/text"}"#;
    assert_eq!(client.result("resources/subscribe", uri).await, "{}");
    client.result("logging/setLevel", r#"{"level":"debug"}"#).await;
    on_disk(&daemon, "sessions.json", "debug").await;
    assert_eq!(deleted.delete().await.status / 100, 2, "which is not answered before it is on disk");

    let daemon = kill_and_start(daemon).await;
    daemon.until_ready(&["one"]).await;
    let before = desk.received().len();
    // POST, GET and DELETE, each the first that the new process hears of a session.
    assert_eq!(text_of(&other.call("one__echo", r#"{"message":"still here"}"#).await), "still here");
    let mut heard = client.listen(None).await.events();
    assert_eq!(deleted.post(&request("1", "ping", "{}")).await.status, 404);
    assert_eq!(deleted.delete().await.status, 404);
    // The server is told again, by itself.
    until("the server to be told", async || {
        let told = desk.received().split_off(before).iter().map(Value::to_string).collect::<String>();
        (told.contains("resources/subscribe") && told.contains("logging/setLevel")).then_some(())
    })
    .await;
    other.call("one__touch", uri).await;
    let update = past_lists(&mut heard).await;
    assert!(update.contains("notifications/resources/updated") && update.contains("fake://one/text"), "{update}");
    // Over a pipe no call is said to have caused it, so it comes on the session's own stream.
    client.call("one__log", r#"{"level":"debug"}"#).await;
    let logged = past_lists(&mut heard).await;
    assert!(logged.contains("notifications/message") && logged.contains("debug"), "{logged}");
    // A stream of the process that is gone ends with word of its request (R-26).
    let (events, _) = client.listen(Some("s1.Nw.2")).await.events().rest().await;
    assert!(events.len() == 1 && events[0].data.contains(r#""id":7"#) && events[0].data.contains("-31009"));
    assert!(daemon.metric("trunkline_mcp_sessions_revived_total", &[]).await > 1.5);
    assert_eq!(client.delete().await.status / 100, 2);
    assert_eq!(client.post(&request("1", "ping", "{}")).await.status, 404);
}

#[tokio::test]
async fn f4_r5_a_session_is_served_after_1100_newer_ones() {
    let daemon = Daemon::start("[limits]\nsessions = 1024\nsessions_burst = 4096\n").await;
    let first = daemon.client().await;
    for _ in 0..1100 {
        let body = initialize("2025-06-18");
        let headers = [("host", daemon.address()), ("content-type", "application/json")];
        let reply = http::send(http::connect(daemon.address()).await, "POST", "/mcp", &headers, body).await;
        assert_eq!(reply.status, 200);
    }
    assert!(daemon.metric("trunkline_mcp_sessions", &[]).await < 1024.5);
    assert_eq!(first.result("ping", "{}").await, "{}");
    let daemon = kill_and_start(daemon).await;
    assert_eq!(first.result("ping", "{}").await, "{}");
    drop(daemon);
}

#[tokio::test]
async fn f2_r3_the_whole_list_is_there_while_every_server_still_starts() {
    let home = Home::new();
    let names: Vec<String> = (0..10).map(|number| format!("s{number}")).collect();
    let (blocks, desks): (Vec<_>, Vec<_>) = names.iter().map(|name| fake::stdio(&home, name, &[])).unzip();
    home.configure(&blocks.concat());
    let daemon = home.serve().await;
    daemon.until_ready(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let client = daemon.client().await;
    let lists = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    let mut before = Vec::new();
    for list in lists {
        before.push(client.result(list, "{}").await);
    }
    offers_on_disk(&daemon, names.len()).await;
    for desk in &desks {
        desk.fail("hang");
    }
    let daemon = kill_and_start(daemon).await;
    // One that goes on, and one that begins: byte for byte what it was, with no server up (R-22).
    let fresh = Client::connect(&daemon.url, "2025-11-25").await;
    assert_eq!(fresh.greeting, client.greeting, "the instructions too");
    for (list, before) in lists.into_iter().zip(&before) {
        assert_eq!(&client.result(list, "{}").await, before, "{list}");
        assert_eq!(&fresh.result(list, "{}").await, before, "{list}");
    }
    let shown = daemon.server("s3").await;
    assert!(shown["state"] == "starting" && shown["stale"] == true, "nobody is told that it is up: {shown:#}");
    // A call waits for its server as long as calls do, and says then what is the matter.
    let told = fresh.call("s3__echo", r#"{"message":"x"}"#).await;
    assert!(text_of(&told).contains("server `s3` is starting") && told["isError"] == true, "{told:#}");
    for desk in &desks {
        desk.heal();
    }
    assert_eq!(daemon.cli(["restart", "s3"]).status.code(), Some(0));
    daemon.until_state("s3", "ready").await;
    assert_eq!(&fresh.result("tools/list", "{}").await, &before[0]);
}

#[tokio::test]
async fn f24_r22_a_server_that_is_gone_stays_listed_over_a_restart_and_another_in_its_place_does_not_inherit() {
    let mut upstream = fake::Fake::start("http", "remote", &[]).await;
    let daemon = Daemon::start(&upstream.block()).await;
    daemon.until_ready(&["remote"]).await;
    let client = daemon.client().await;
    let before = client.result("tools/list", "{}").await;
    offers_on_disk(&daemon, 1).await;
    upstream.process.end();
    let daemon = kill_and_start(daemon).await;
    daemon.until_state("remote", "backoff").await;
    assert_eq!(client.result("tools/list", "{}").await, before);
    let told = client.call("remote__echo", r#"{"message":"x"}"#).await;
    assert!(text_of(&told).contains("server `remote`") && told["isError"] == true, "{told:#}");
    daemon.home.configure("[mcp_servers.remote]\nurl = \"http://127.0.0.1:9/mcp\"\n");
    let daemon = kill_and_start(daemon).await;
    assert!(client.tools().await.is_empty());
    drop(daemon);
}

/// The digest of the one list of tools there is, as `/metrics` and `/health` have it.
async fn digest(daemon: &Daemon) -> String {
    let text = daemon.metrics().await;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("trunkline_tools_list_info{")).collect();
    let health = daemon.health().await;
    let lists = health["tool_lists"].as_array().expect("lists");
    let digest = lists[0]["digest"].as_str().expect("a digest").to_owned();
    assert!(lines.len() == 1 && lists.len() == 1, "an old digest goes with its list: {lines:?} {lists:?}");
    assert!(lines[0].contains(&format!("digest=\"{digest}\"")) && lists[0]["address"] == "/mcp", "{lines:?} {lists:?}");
    digest
}

#[tokio::test]
async fn f24_r22_r23_the_list_is_the_same_bytes_over_restarts_and_reconnects_of_servers_that_shuffle_it() {
    let home = Home::new();
    let (one, desk) = fake::stdio(&home, "one", &["--unsteady", "--tools", "20", "--page", "7"]);
    let (two, _) = fake::stdio(&home, "two", &["--unsteady", "--slow-start-ms", "200"]);
    home.configure(&format!("{two}{one}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    let before = (daemon.client().await.result("tools/list", "{}").await, digest(&daemon).await);
    offers_on_disk(&daemon, 2).await;
    let daemon = kill_and_start(daemon).await;
    daemon.until_ready(&["one", "two"]).await;
    let client = daemon.client().await;
    let mut heard = client.listen(None).await.events();
    assert_eq!((client.result("tools/list", "{}").await, digest(&daemon).await), before);
    assert_eq!(daemon.cli(["restart", "one"]).status.code(), Some(0));
    until("a third list", async || (desk.lines("turns").len() > 2).then_some(())).await;
    daemon.until_ready(&["one"]).await;
    assert_eq!((client.result("tools/list", "{}").await, digest(&daemon).await), before);
    // Word of the first change there is: whatever was announced before would be counted, and heard first.
    client.call("one__change", r#"{"add":"extra_1","times":20}"#).await;
    let told = heard.message().await.expect("a notice");
    assert!(told.contains("tools/list_changed"), "{told}");
    assert!(client.result("tools/list", "{}").await.contains("one__extra_1"));
    assert_ne!(digest(&daemon).await, before.1);
    let announced = daemon.metric("trunkline_lists_announced_total", &[]).await;
    assert!((announced - 1.0).abs() < 0.1, "announced {announced} times");
}

#[tokio::test]
async fn f41_r37_killed_in_the_middle_of_writes_and_with_garbage_for_state_it_always_starts() {
    killed_in_writes(20).await;
}

/// By hand: `cargo test --test blackbox f41_ -- --ignored`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn f41_r37_killed_two_hundred_times_in_the_middle_of_writes_it_always_starts() {
    killed_in_writes(200).await;
}

async fn killed_in_writes(kills: u64) {
    let mut daemon = Daemon::start("").await;
    let client = daemon.client().await;
    let mut dice = fastrand::Rng::with_seed(41);
    for round in 0..kills {
        let busy = async {
            for level in ["debug", "info", "notice", "warning", "error"].iter().cycle() {
                let body = request("1", "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#));
                assert_eq!(client.post(&body).await.status, 200);
            }
        };
        // At another place in the writes each time; what of it was reached does not matter.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(dice.u64(..140)), busy).await;
        daemon = kill_and_start(daemon).await;
        assert_eq!(client.result("ping", "{}").await, "{}", "round {round}");
    }
    let state = daemon.home.path("state/trunkline");
    assert!(!state.join("sessions.json.bad").exists() && !state.join("session.key.bad").exists());
    for garbage in ["", "trunkline-state 1 ", "garbage\n"] {
        let address = daemon.address().to_owned();
        let home = daemon.kill();
        for file in ["sessions.json", "session.key", "offers/one-0000000000000000.json"] {
            std::fs::write(state.join(file), garbage).expect("written");
        }
        daemon = home.serve_at(&address).await;
        let refused = client.post(&request("1", "ping", "{}")).await;
        assert_eq!(refused.status, 404, "what could forge a session makes none good");
        let log = daemon.home.log();
        assert!(log.contains("session.key.bad") && log.contains("initialize anew"), "{log}");
        daemon.client().await;
    }
}

/// F-66's sibling: a link in place of the key, to a file that somebody else can read.
#[tokio::test]
async fn s35_a_link_in_place_of_the_key_is_not_followed() {
    let daemon = Daemon::start("").await;
    let client = daemon.client().await;
    let address = daemon.address().to_owned();
    let home = daemon.kill();
    let key = home.path("state/trunkline/session.key");
    std::fs::rename(&key, home.path("elsewhere")).expect("moved");
    std::os::unix::fs::symlink(home.path("elsewhere"), &key).expect("a link");
    let daemon = home.serve_at(&address).await;
    assert_eq!(client.post(&request("1", "ping", "{}")).await.status, 404);
    assert!(daemon.home.log().contains("is a link"));
}

/// The SDKs keep their dead ids after a 404, so what they can do after a restart is what the daemon remembers.
#[tokio::test]
async fn r5_real_clients_go_on_over_a_kill_9_without_initializing_again() {
    for sdk in [Sdk::TypeScript, Sdk::Python, Sdk::TypeScript2("legacy"), Sdk::Python2("legacy")] {
        let home = Home::new();
        let (block, _) = fake::stdio(&home, "one", &[]);
        home.configure(&block);
        let daemon = home.serve().await;
        daemon.until_ready(&["one"]).await;
        let (at, go) = (daemon.home.path("at"), daemon.home.path("go"));
        let echo = json!({ "do": "call", "name": "one__echo", "arguments": { "message": "hi" } });
        let meet = json!({ "do": "meet", "at": at, "go": go });
        let steps = json!([echo, meet, { "do": "ping" }, { "do": "tools" }, echo]);
        let job = json!({ "transport": "http", "url": daemon.url, "steps": steps });
        let restart = async {
            until("the client to be there", async || at.exists().then_some(())).await;
            let daemon = kill_and_start(daemon).await;
            daemon.until_ready(&["one"]).await;
            std::fs::write(&go, "").expect("written");
            daemon
        };
        let (report, daemon) = tokio::join!(sdk.run(&job), restart);
        let steps = report["steps"].as_array().expect("steps");
        assert!(steps.iter().all(|step| step["error"].is_null()), "{sdk:?}: {report:#}");
        assert_eq!(text_of(&steps[4]["ok"]), "hi", "{sdk:?}");
        let greeted = daemon.metric("trunkline_client_requests_total", &["method=\"initialize\""]).await;
        assert!(greeted < 0.5, "{sdk:?} initialized again");
        assert!(daemon.metric("trunkline_mcp_sessions_revived_total", &[]).await > 0.5, "{sdk:?}");
    }
}

/// A client of 2026-07-28 has no session, but what it carries for the gateway (mcp-protocol 5.9).
#[tokio::test]
async fn g70_answers_for_a_call_that_a_dead_process_held_are_told_that_it_is_lost() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let client = Modern::with(&daemon.url, json!({ "elicitation": { "form": {} } }));
    let params = json!({ "message": "Which?", "requestedSchema": { "type": "object", "properties": {} } });
    let arguments = json!({ "method": "elicitation/create", "params": params });
    let call = json!({ "name": "one__ask", "arguments": arguments });
    let asked = parsed(&client.result("tools/call", &call.to_string()).await);
    assert_eq!(asked["resultType"], "input_required", "{asked:#}");
    offers_on_disk(&daemon, 1).await;
    let daemon = kill_and_start(daemon).await;
    let mut again = call.clone();
    again["inputResponses"] = json!({ "e1": { "action": "accept", "content": {} } });
    again["requestState"] = asked["requestState"].clone();
    let told = parsed(&client.result("tools/call", &again.to_string()).await);
    let fault = fault_of(&told);
    assert!(fault["code"] == -31002 && fault["outcome"] == "unknown", "{told:#}");
    drop(daemon);
}
