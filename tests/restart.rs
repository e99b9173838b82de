//! Restarts that no client notices: sockets that are there before, between and after the daemons (R-4), and sessions
//! that go on (R-5). The service manager is the harness's own.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::activator::{self, Activator, Sockets};
use crate::harness::asking::{Asking, Question};
use crate::harness::client::{Client, request, text_of};
use crate::harness::daemon::Home;
use crate::harness::modern::Modern;
use crate::harness::parts::Sdk;
use crate::harness::{census, fake, http, until};

/// A modern request, which needs no session.
fn modern(url: &str) -> Question {
    let client = Modern::new(url);
    let body = client.body("1", "tools/call", r#"{"name":"one__echo","arguments":{"message":"still here"}}"#);
    Question { url: url.to_owned(), headers: client.headers(&body), body, expected: "still here" }
}

/// A request of a session that began once and does not begin again.
async fn legacy(url: &str) -> Question {
    let client = Client::connect(url, "2025-11-25").await;
    let headers = client.headers().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let body = request("1", "tools/call", r#"{"name":"one__echo","arguments":{"message":"same session"}}"#);
    Question { url: url.to_owned(), headers, body, expected: "same session" }
}

async fn activated() -> (Activator, fake::Desk) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    let activator = Activator::start(home, &block).await;
    activator.until_servers_are_ready(&["one"]).await;
    (activator, desk)
}

async fn both(activator: &Activator) -> Vec<Question> {
    vec![modern(&activator.url), legacy(&activator.url).await]
}

#[tokio::test]
async fn r4_sockets_that_are_handed_over_win_over_the_configuration_and_go_to_no_child() {
    // S-32, F-68.
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "one", &[]);
    // What is configured is taken by somebody else, which does not matter.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = taken.local_addr().expect("bound").port();
    home.configure(&format!("{block}\n[listen]\nport = {other}\n"));
    let sockets = Sockets::make(&home);
    let mut child = sockets.start(&home, &[]);
    for host in ["127.0.0.1", "[::1]"] {
        let reply = http::get(&format!("{host}:{}", sockets.port()), "/health/ready").await;
        assert_eq!(reply.status, 200, "{host}");
    }
    let url = format!("http://127.0.0.1:{}/mcp", sockets.port());
    let client = Modern::new(&url);
    let result = until("the server", async || {
        let result = client.call("one__environment", "{}").await;
        (result["isError"] != true).then_some(result)
    })
    .await;
    let seen = text_of(&result);
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        assert!(!seen.contains(variable), "{variable} in {seen}");
    }
    #[cfg(target_os = "linux")]
    {
        let names = sockets.names();
        let family = census::marked(&home.marker);
        assert!(!family.is_empty());
        for (pid, line) in family {
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("ours");
            let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            let ours: Vec<_> = links.filter(|link| names.contains(link)).collect();
            assert!(ours.is_empty(), "{line} has {ours:?}");
        }
    }
    let status = home.run(["status"]);
    assert_eq!(status.status.code(), Some(0), "the owner's socket was handed over too");
    assert!(home.log().contains("`[listen]` wants port"), "{}", home.log());
    census::signal(child.id(), Signal::TERM);
    let end = until("the end", async || child.try_wait().expect("our child")).await;
    assert_eq!(end.code(), Some(0), "{}", home.log());
    assert!(home.path("state/trunkline/trunkline.sock").exists(), "its file is the service manager's");
}

#[tokio::test]
async fn s1_a_socket_for_the_whole_network_is_refused_if_it_is_handed_over_too() {
    let home = Home::new();
    home.configure("");
    let (open, local) = (TcpListener::bind("0.0.0.0:0"), || TcpListener::bind("127.0.0.1:0").map(Into::into));
    let mut child = activator::start_with(&home, &[], [open.map(Into::into), local(), local()]);
    let end = until("the end", async || child.try_wait().expect("our child")).await;
    assert_eq!(end.code(), Some(78), "{}", home.log());
    assert!(home.log().contains("0.0.0.0"), "{}", home.log());
}

#[tokio::test]
async fn r4_r5_f3_planned_restarts_refuse_nothing_and_lose_nothing() {
    let (activator, _) = activated().await;
    let asking = Asking::begin(both(&activator).await, Duration::from_millis(20));
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        activator.replace(Signal::TERM).await;
        activator.until_servers_are_ready(&["one"]).await;
    }
    let notes = asking.end().await;
    eprintln!("planned restarts: {} answered, the slowest after {:?}", notes.answered, notes.slowest);
    let bad = (&notes.refused, &notes.statuses, &notes.wrong, &notes.lost);
    assert!(bad.0.is_empty() && bad.1.is_empty() && bad.2.is_empty() && bad.3.is_empty(), "{bad:?}");
    assert!(notes.answered > 50);
    assert!(activator.ends().iter().all(|end| end.code() == Some(0)), "{:?}", activator.ends());
}

/// Kills so many daemons, each while it is at work.
async fn kill(activator: &Activator, kills: usize) {
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(500)).await;
        activator.replace(Signal::KILL).await;
        activator.until_servers_are_ready(&["one"]).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// So many daemons are killed under a client of 50 requests a second that gives up at nothing, and notes all that real
/// ones give up at.
async fn survives(kills: usize) {
    let (activator, _) = activated().await;
    let asking = Asking::begin(both(&activator).await, Duration::from_millis(20));
    kill(&activator, kills).await;
    let notes = asking.end().await;
    eprintln!(
        "{kills} kills: {} answered, {} lost in flight, the slowest after {:?}",
        notes.answered,
        notes.lost.len(),
        notes.slowest
    );
    assert!(notes.refused.is_empty(), "{:?}", notes.refused);
    assert!(notes.statuses.is_empty(), "{:?}", notes.statuses);
    assert!(notes.wrong.is_empty(), "{:?}", notes.wrong);
    // What was in flight: at 50 a second hardly more than a handful each time, even on a busy machine.
    assert!(notes.lost.len() <= kills * 10, "{:?}", notes.lost);
    assert!(notes.answered > 25 * kills as u64, "{notes:?}");
}

#[tokio::test]
async fn r4_r5_f4_a_killed_daemon_loses_only_what_was_in_flight() {
    survives(3).await;
}

/// The same with the official client of the older generation, which keeps its session's id whatever happens.
async fn sdk_survives(kills: usize) {
    let (activator, desk) = activated().await;
    let over = activator.home.path("over");
    let storm = json!({
        "do": "storm", "name": "one__echo", "arguments": {"message": "still here"}, "every_ms": 20, "until": over,
    });
    let job = json!({"transport": "http", "url": activator.url, "steps": [storm]});
    let (report, ()) = tokio::join!(Sdk::TypeScript.run_whenever(&job), async {
        let called =
            |desk: &fake::Desk| desk.received().iter().filter(|seen| seen.to_string().contains("still here")).count();
        until("the first calls", async || (called(&desk) > 5).then_some(())).await;
        kill(&activator, kills).await;
        std::fs::write(&over, "").expect("written");
    });
    let told = &report["steps"][0]["ok"];
    eprintln!("{kills} kills under the TypeScript SDK: {told}");
    let failures = told["failures"].as_object().unwrap_or_else(|| panic!("{report}"));
    for (why, count) in failures {
        for given_up_at in ["ECONNREFUSED", "404", "ession not found", "is stopping", "ot connected"] {
            assert!(!why.contains(given_up_at), "{count} times: {why}");
        }
    }
    let failed: u64 = failures.values().filter_map(serde_json::Value::as_u64).sum();
    assert!(failed <= 10 * kills as u64, "{told}");
    assert!(told["answered"].as_u64() > Some(20 * kills as u64), "{told}");
}

#[tokio::test]
async fn r4_r5_f4_an_sdk_that_never_initialises_again_works_on_through_kills() {
    sdk_survives(3).await;
}

/// The long form of both, by hand: `cargo test --test blackbox twenty -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes two minutes; run by hand and before a release"]
async fn r4_r5_f4_twenty_killed_daemons_lose_only_what_was_in_flight() {
    survives(20).await;
    sdk_survives(20).await;
}
