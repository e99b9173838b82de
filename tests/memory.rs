//! Memory stays within its bounds, whatever clients and servers do (R-25, F-27). Linux only: it reads /proc.
#![cfg(target_os = "linux")]

use futures_util::future::join_all;

use crate::harness::client::{fault_of, initialize};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::{fake, http};

const MIB: u64 = 1 << 20;

/// A line of the daemon's status: `VmRSS`, what it holds, or `VmHWM`, the most it ever held.
fn memory(daemon: &Daemon, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let rest = status.lines().find_map(|found| found.strip_prefix(line)).expect("a figure");
    rest.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().expect("a number") * 1024
}

/// Opens sessions and leaves them. Returns how often each status was answered.
async fn open(daemon: &Daemon, count: usize) -> (usize, usize) {
    let clients = (0..8).map(|_| async {
        let body = initialize("2025-11-25");
        let headers = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let mut connection = http::connect(daemon.address()).await;
        let (mut opened, mut refused) = (0, 0);
        for _ in 0..count / 8 {
            let with_host = [&headers[..], &[("host", daemon.address())]].concat();
            let reply = http::send(connection, "POST", "/mcp", &with_host, body.clone()).await;
            match reply.status {
                200 => opened += 1,
                429 => {
                    assert!(reply.header("retry-after").is_some(), "it must say when to come back");
                    refused += 1;
                }
                other => panic!("{other}"),
            }
            connection = reply.text_and_connection().await.1;
        }
        (opened, refused)
    });
    join_all(clients).await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[tokio::test]
async fn r25_a_thousand_sessions_that_nobody_ends_add_little() {
    sessions_add_little(1000, 16 * MIB).await;
}

/// By hand, for it takes a minute without optimisation.
#[tokio::test]
#[ignore = "takes a minute"]
async fn r25_ten_thousand_sessions_that_nobody_ends_add_little() {
    sessions_add_little(10_000, 64 * MIB).await;
}

async fn sessions_add_little(count: usize, most: u64) {
    let daemon = Daemon::start("[limits]\nsessions_burst = 20000\n").await;
    open(&daemon, 400).await;
    let before = memory(&daemon, "VmRSS");
    assert_eq!(open(&daemon, count).await, (count, 0));
    let more = memory(&daemon, "VmRSS").saturating_sub(before);
    println!("{count} sessions took {} KiB", more / 1024);
    assert!(more <= most, "{} MiB", more / MIB);
}

#[tokio::test]
async fn r25_a_flood_of_sessions_is_told_to_come_back() {
    let daemon = Daemon::start("[limits]\nsessions_burst = 100\nsessions_per_sec = 1\n").await;
    let (opened, refused) = open(&daemon, 800).await;
    assert!(opened >= 100 && refused >= 400, "{opened} opened, {refused} refused");
}

/// By hand, for it moves gigabytes, and without optimisation too slowly for the patience of these tests:
/// `cargo test --release --test blackbox r25_ -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "moves gigabytes"]
async fn r25_three_hundred_answers_of_fifteen_mebibytes_at_once_stay_within_the_bound() {
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &[]);
    home.configure(&(one + "limits = { in_flight = 300 }\n"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let client = daemon.client().await;
    let calls = (0..300).map(|_| client.call("one__size", r#"{"bytes":15728640}"#));
    let (mut whole, mut refused) = (0, 0);
    for result in join_all(calls).await {
        if result["isError"] == true {
            let fault = fault_of(&result);
            assert!([-31004, -31007].contains(&fault["code"].as_i64().expect("a code")), "{fault}");
            refused += 1;
        } else {
            whole += 1;
        }
    }
    let most = memory(&daemon, "VmHWM");
    println!("{whole} answered, {refused} refused, at most {} MiB", most / MIB);
    assert!(most <= 512 * MIB, "{} MiB", most / MIB);
    assert_eq!(client.call("one__echo", r#"{"message":"still here"}"#).await["content"][0]["text"], "still here");
}
