//! No process outlives the daemon, whatever its own manners (R-30 and after, F-33, F-34). Linux only: the
//! census reads /proc.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::{census, fake, until};

/// Of those alive, the guards.
fn guards(alive: &BTreeMap<u32, String>) -> Vec<u32> {
    alive.iter().filter(|(_, line)| line.contains("__guard watch")).map(|(pid, _)| *pid).collect()
}

/// Two servers whose grandchildren left the group and ignore TERM, one of them as stubborn itself.
async fn unruly() -> Daemon {
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &["--family"]);
    let (two, _) = fake::stdio(&home, "two", &["--family", "--stubborn"]);
    home.configure(&(one + &two));
    let marker = home.marker.clone();
    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    let alive = census::marked(&marker);
    let lingering = alive.values().filter(|line| line.contains("lingering")).count();
    assert_eq!(lingering, 2, "the test's own setting: {alive:?}");
    daemon
}

async fn until_all_are_gone(marker: &str) {
    until("every descendant to be gone", async || {
        let alive = census::marked(marker);
        if !alive.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(80)).await;
        }
        alive.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn r30_killing_the_daemon_leaves_no_descendant() {
    let daemon = unruly().await;
    let home = daemon.kill();
    until_all_are_gone(&home.marker).await;
}

#[tokio::test]
async fn r30_stopping_the_daemon_leaves_no_descendant() {
    let daemon = unruly().await;
    let (status, home) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    until_all_are_gone(&home.marker).await;
}

/// Reliability 9.5: with daemon and guards gone at the same time, nobody is left to end those that left the group.
#[tokio::test]
async fn r30_what_daemon_and_guards_left_behind_is_swept_by_the_next_daemon() {
    let daemon = unruly().await;
    let alive = census::marked(&daemon.home.marker);
    // So that it cannot do its part while the guards go.
    daemon.signal(Signal::STOP);
    for guard in guards(&alive) {
        census::signal(guard, Signal::KILL);
    }
    let home = daemon.kill();
    let left = census::marked(&home.marker);
    assert!(left.values().any(|line| line.contains("lingering")), "the test's own setting: {left:?}");
    home.configure("");
    let marker = home.marker.clone();
    let daemon = home.serve().await;
    until_all_are_gone(&marker).await;
    until("the count", async || (daemon.metric("trunkline_orphans_swept_total", &[]).await >= 2.0).then_some(())).await;
}

#[tokio::test]
async fn r31_the_figures_agree_with_a_census() {
    let daemon = unruly().await;
    let marker = daemon.home.marker.clone();
    until("figures and census to agree", async || {
        let alive = census::marked(&marker);
        let guards = guards(&alive).len();
        let children = daemon.metric("trunkline_children", &[]).await;
        let processes = daemon.metric("trunkline_server_processes", &[]).await;
        #[expect(clippy::cast_precision_loss, reason = "a handful of processes")]
        let same = (children, processes) == (guards as f64, (alive.len() - guards) as f64);
        (same && guards == 2).then_some(())
    })
    .await;
    for name in ["one", "two"] {
        let usage = daemon.server(name).await["usage"].clone();
        assert_eq!(usage["processes"], 2, "{usage}");
        assert!(usage["resident_bytes"].as_u64() > Some(0) && usage["open_fds"].as_u64() >= Some(6), "{usage}");
    }
    let status = daemon.cli(["status"]);
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("MEMORY") && text.contains(" MiB "), "{text}");
}

#[tokio::test]
async fn a_killed_child_takes_its_family_with_it() {
    let home = Home::new();
    let (one, desk) = fake::stdio(&home, "one", &["--family"]);
    home.configure(&one);
    let marker = home.marker.clone();
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let first: Vec<u32> = census::marked(&marker).into_keys().collect();
    let child: u32 = desk.lines("starts")[0].parse().expect("a pid");
    census::signal(child, rustix::process::Signal::KILL);
    until("the first family to be gone", async || {
        let alive = census::marked(&marker);
        first.iter().all(|pid| !alive.contains_key(pid)).then_some(())
    })
    .await;
    until("a second start", async || (desk.lines("starts").len() == 2).then_some(())).await;
    daemon.until_ready(&["one"]).await;
}

#[tokio::test]
async fn s32_a_child_sees_only_the_environment_it_was_given() {
    // F-68, S-32.
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &[]);
    home.configure(&one);
    let daemon = home.serve_with(&[], &[("CANARY_SECRET", "canary"), ("AWS_SECRET_ACCESS_KEY", "canary")]).await;
    daemon.until_ready(&["one"]).await;
    let result = daemon.client().await.call("one__environment", "{}").await;
    let text = crate::harness::client::text_of(&result).to_owned();
    assert!(!text.contains("canary"), "{text}");
    let variables = crate::harness::client::json(&text)["variables"].clone();
    assert!(variables["PATH"].is_string() && variables["TEST_MARK"].is_string(), "{variables}");
    let ours = variables.as_object().expect("an object").keys().filter(|name| name.starts_with("TRUNKLINE_"));
    assert!(ours.clone().all(|name| name.contains("MARK")), "{:?}", ours.collect::<Vec<_>>());
}
