//! Faults of the catalogue (reliability 14) that need real sockets: refusals that name a time, sessions forgotten under
//! load, more calls than a server takes, clients that connect and say nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::client::{Client, fault_of, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::proxy::{Counts, FaultProxy, Weather};
use crate::harness::{in_time, until};

/// How often a server was asked for this method.
fn asked(desk: &Desk, method: &str) -> usize {
    desk.received().iter().filter(|request| request["body"]["method"] == method).count()
}

#[tokio::test]
async fn r18_f18_only_a_refusal_that_names_a_time_is_followed_by_another_try() {
    let upstream = Fake::start("http", "remote", &[]).await;
    let daemon = Daemon::start(&upstream.block()).await;
    daemon.until_ready(&["remote"]).await;
    let client = Arc::new(daemon.client().await);

    upstream.desk.fail("busy");
    let call = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.call("remote__effect", r#"{"nonce":"told when"}"#).await }
    });
    until("the refusal", async || (asked(&upstream.desk, "tools/call") == 1).then_some(())).await;
    upstream.desk.heal();
    let result = in_time("the second try", call).await.expect("no panic");
    assert_eq!(text_of(&result), "told when");
    assert_eq!(upstream.desk.lines("effects"), ["told when"]);

    for status in ["503", "502"] {
        let before = asked(&upstream.desk, "tools/call");
        upstream.desk.fail(status);
        let result = client.call("remote__effect", r#"{"nonce":"in the dark"}"#).await;
        upstream.desk.heal();
        let fault = fault_of(&result);
        assert_eq!((&fault["name"], &fault["outcome"]), (&"OUTCOME_UNKNOWN".into(), &"unknown".into()), "{result}");
        assert_eq!(asked(&upstream.desk, "tools/call"), before + 1, "{status} says nothing of what was done");
        daemon.until_ready(&["remote"]).await;
    }
    assert_eq!(upstream.desk.lines("effects"), ["told when"]);
}

#[tokio::test]
async fn r14_f13_forty_calls_that_find_their_session_forgotten_share_one_new_one() {
    let (upstream, other) = (Fake::start("http", "remote", &[]).await, Fake::start("http", "other", &[]).await);
    let daemon = Daemon::start(&format!("{}{}", upstream.block(), other.block())).await;
    daemon.until_ready(&["remote", "other"]).await;
    let client = daemon.client().await;
    upstream.desk.forget_sessions();
    let nonces: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let calls = nonces.iter().map(|nonce| {
        let (client, arguments) = (&client, format!(r#"{{"nonce":"{nonce}"}}"#));
        async move { client.call("remote__effect", &arguments).await }
    });
    for (nonce, result) in nonces.iter().zip(join_all(calls).await) {
        assert_eq!(text_of(&result), nonce);
    }
    let mut effects = upstream.desk.lines("effects");
    effects.sort();
    let mut expected = nonces.clone();
    expected.sort();
    assert_eq!(effects, expected, "each happened once");
    assert_eq!(asked(&upstream.desk, "initialize"), 2, "one session in place of the forgotten one");
    assert_eq!(asked(&other.desk, "initialize"), 1, "the other server is not concerned");
}

#[tokio::test]
async fn r20_f21_connections_that_swallow_cost_a_few_calls_and_are_replaced() {
    let upstream = Fake::start("http", "remote", &[]).await;
    let proxy = FaultProxy::before(&upstream.address()).await;
    let block = upstream.block().replace(&upstream.url, &proxy.url(&upstream.url));
    let daemon = Daemon::start(&format!("{block}tool_timeout_sec = 2\n")).await;
    daemon.until_ready(&["remote"]).await;
    let client = daemon.client().await;
    for round in 0..2 {
        // More connections than calls are to be lost, all at rest and to be used again.
        let calls = (0..12).map(|_| client.call("remote__sleep", r#"{"ms":200}"#));
        for result in join_all(calls).await {
            assert_eq!(text_of(&result), "slept");
        }
        proxy.set_established(&Weather::swallowing());
        let mut lost = 0;
        loop {
            let nonce = format!("{round}-{lost}");
            let result = client.call("remote__effect", &format!(r#"{{"nonce":"{nonce}"}}"#)).await;
            if result["isError"] != true {
                assert_eq!(text_of(&result), nonce);
                break;
            }
            // It may have arrived, for all that anybody can see.
            let fault = fault_of(&result);
            assert_eq!(
                (&fault["name"], &fault["outcome"]),
                (&"UPSTREAM_TIMEOUT".into(), &"unknown".into()),
                "{result}"
            );
            lost += 1;
        }
        assert!((1..=6).contains(&lost), "{lost} calls went into connections that swallow: three cast doubt on all");
        assert!(Counts::of(&proxy.counts().swallowed) > 0, "the fault happened");
        assert!(!upstream.desk.lines("effects").contains(&format!("{round}-0")));
        daemon.until_ready(&["remote"]).await;
    }
    let mut effects = upstream.desk.lines("effects");
    let all = effects.len();
    effects.sort();
    effects.dedup();
    assert_eq!(effects.len(), all, "nothing was sent again");
}

#[tokio::test]
async fn r24_f26_more_calls_than_a_server_takes_are_refused_and_its_neighbours_do_not_notice() {
    flood(400).await;
}

/// By hand: `cargo test --release --test blackbox f26_two -- --ignored --nocapture`. Prints how the neighbour fared.
#[tokio::test]
#[ignore = "two thousand connections at once"]
async fn r24_f26_two_thousand_calls_to_a_slow_server_are_bounded_and_its_neighbours_do_not_notice() {
    flood(2000).await;
}

async fn flood(calls: usize) {
    let home = Home::new();
    let (slow, _) = fake::stdio(&home, "slow", &["--delay-ms", "300"]);
    let (fast, _) = fake::stdio(&home, "fast", &[]);
    home.configure(&format!("{slow}limits = {{ in_flight = 8, queue = 64, queue_wait_sec = 2 }}\n{fast}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["slow", "fast"]).await;
    let clients = join_all((0..4).map(|_| Client::connect(&daemon.url, "2025-11-25"))).await;
    let other = daemon.client().await;
    let alone = neighbour(&daemon, &other).await;
    let flood = join_all((0..calls).map(|number| {
        let client = &clients[number % clients.len()];
        async move { client.call("slow__echo", r#"{"message":"at last"}"#).await }
    }));
    let meanwhile = async {
        until("a full queue", async || {
            let depth = daemon.metric("trunkline_queue_depth", &["server=\"slow\""]).await;
            assert!(depth <= 64.0, "{depth} wait");
            (depth > 32.0).then_some(())
        })
        .await;
        neighbour(&daemon, &other).await
    };
    let (results, beside) = tokio::join!(flood, meanwhile);
    eprintln!("{calls} calls; p99 of a neighbour's call and of health: alone {alone:?}, beside them {beside:?}");
    let (served, refused): (Vec<_>, Vec<_>) = results.iter().partition(|result| result["isError"] != true);
    for result in &refused {
        let fault = fault_of(result);
        assert_eq!((&fault["name"], &fault["outcome"]), (&"OVERLOADED".into(), &"not_sent".into()), "{result}");
    }
    assert!(
        served.len() >= 8 && refused.len() >= calls - 8 - 64 * 2,
        "{} served, {} refused",
        served.len(),
        refused.len()
    );
}

/// A hundred calls of a server that has nothing to do with it all, and a hundred looks at the health; p99 of each.
async fn neighbour(daemon: &Daemon, client: &Client) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..100 {
        let begun = Instant::now();
        assert_eq!(text_of(&client.call("fast__echo", r#"{"message":"as ever"}"#).await), "as ever");
        times[0].push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(daemon.page("/health/ready").await.0, 200);
        times[1].push(begun.elapsed());
    }
    times.map(|mut times| {
        times.sort();
        times[98]
    })
}

#[tokio::test]
async fn f63_five_hundred_connections_that_say_nothing_keep_nobody_out_and_are_closed() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "served", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["served"]).await;
    let mut silent = Vec::new();
    for number in 0..500 {
        let mut socket = TcpStream::connect(daemon.address()).await.expect("there is room");
        if number % 2 == 0 {
            socket.write_all(b"POST /mcp HTTP/1.1\r\nHo").await.expect("it listens");
        }
        silent.push(socket);
    }
    let client = daemon.client().await;
    assert_eq!(text_of(&client.call("served__echo", r#"{"message":"in between"}"#).await), "in between");
    let closed = join_all(silent.iter_mut().map(|socket| async move {
        let mut rest = Vec::new();
        // What it says first, and whether it closes or resets, does not matter here.
        let _ = in_time("the end of a silent connection", socket.read_to_end(&mut rest)).await;
    }));
    closed.await;
    assert_eq!(text_of(&client.call("served__echo", r#"{"message":"and after"}"#).await), "and after");
}

#[tokio::test]
async fn f63_the_owner_gets_in_when_clients_hold_every_connection() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "served", &[]);
    home.configure(&format!("[limits]\nconnections = 8\nhead_read_sec = 60\n{block}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["served"]).await;
    let client = daemon.client().await;
    // Each begins to ask and does not go on; more of them than there are places wait at the door.
    let mut silent = Vec::new();
    for _ in 0..12 {
        let mut socket = TcpStream::connect(daemon.address()).await.expect("the system takes it");
        socket.write_all(b"POST /mcp HTTP/1.1\r\nHo").await.expect("it listens");
        silent.push(socket);
    }
    // Again and again: one place was kept by the door that last let somebody in.
    for _ in 0..3 {
        let output = daemon.cli(["reload"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    drop(silent);
    assert_eq!(text_of(&client.call("served__echo", r#"{"message":"and after"}"#).await), "and after");
}
