//! No process outlives the daemon, whatever its own manners (R-30 and after, F-33, F-34). Linux only: the
//! census reads /proc.
#![cfg(target_os = "linux")]

use crate::harness::daemon::{Daemon, Home};
use crate::harness::{census, fake, until};

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
async fn killing_the_daemon_leaves_no_descendant() {
    let daemon = unruly().await;
    let home = daemon.kill();
    until_all_are_gone(&home.marker).await;
}

#[tokio::test]
async fn stopping_the_daemon_leaves_no_descendant() {
    let daemon = unruly().await;
    let (status, home) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    until_all_are_gone(&home.marker).await;
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
async fn a_child_sees_only_the_environment_it_was_given() {
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
