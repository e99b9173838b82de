//! The start: who is served when, and what keeps the daemon from starting.

use std::process::Output;

use crate::harness::client::{json, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Fake};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn servers_that_never_start_delay_nobody() {
    // F-1, F-2, R-1, R-2.
    let home = Home::new();
    let (healthy, _) = fake::stdio(&home, "healthy", &[]);
    let (slow, _) = fake::stdio(&home, "slow", &["--slow-start-ms", "60000"]);
    let (hanging, _) = fake::stdio(&home, "hanging", &["--fault", "hang"]);
    let (exiting, _) = fake::stdio(&home, "exiting", &["--fault", "exit"]);
    let (garbage, _) = fake::stdio(&home, "garbage", &["--fault", "garbage"]);
    let failing = Fake::start("http", "failing", &["--fault", "500"]).await;
    let missing = "[mcp_servers.missing]\ncommand = \"/no/such/program\"\n";
    home.configure(&[healthy, slow, hanging, exiting, garbage, failing.block(), missing.to_owned()].concat());
    let daemon = home.serve().await;

    let client = daemon.client().await;
    let _ = client.tools().await;
    daemon.until_ready(&["healthy"]).await;
    assert!(client.tools().await.contains(&"healthy__echo".to_owned()));
    assert_eq!(text_of(&client.call("healthy__echo", r#"{"message":"hi"}"#).await), "hi");
}

#[tokio::test]
async fn without_servers_it_serves_an_empty_catalogue() {
    let daemon = Daemon::start("").await;
    let client = daemon.client().await;
    assert!(client.tools().await.is_empty());
    assert_eq!(daemon.page("/health/live").await.0, 200);
    assert_eq!(daemon.page("/health/ready").await.0, 200);
    assert_eq!(daemon.health().await["servers"], json("[]"));
}

#[tokio::test]
async fn the_demo_needs_no_configuration() {
    let daemon = Home::new().serve_with(&["--demo"], &[]).await;
    daemon.until_ready(&["demo"]).await;
    let client = daemon.client().await;
    let sum = client.call("demo__add", r#"{"a":2,"b":3}"#).await;
    assert!(sum.to_string().contains('5'), "{sum}");
}

#[tokio::test]
async fn disabled_servers_are_not_started() {
    let home = Home::new();
    let (off, desk) = fake::stdio(&home, "off", &[]);
    let (on, _) = fake::stdio(&home, "on", &[]);
    home.configure(&format!("{off}enabled = false\n{on}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["on"]).await;
    assert_eq!(daemon.server("off").await["state"], "disabled");
    assert!(desk.lines("starts").is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_ends_it_with_75() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    let home = Home::new();
    home.configure("");
    let output = home.run(["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains(&holder.local_addr().expect("bound").port().to_string()), "{}", said(&output));
}

#[tokio::test]
async fn a_second_instance_on_the_same_state_ends_with_75() {
    let daemon = Daemon::start("").await;
    let output = daemon.cli(["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert_eq!(daemon.page("/health/live").await.0, 200, "the first one goes on");
}

#[tokio::test]
async fn a_broken_configuration_ends_it_with_78_and_says_where() {
    let home = Home::new();
    home.configure("[mcp_servers.a]\ncomand = \"x\"\n");
    let output = home.run(["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    let said = said(&output);
    for part in ["config.toml", "mcp_servers.a", "comand", "command"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
}

#[tokio::test]
async fn term_ends_it_cleanly_and_closes_stdin_before_any_signal() {
    // G-67.
    let home = Home::new();
    let (polite, polite_desk) = fake::stdio(&home, "polite", &[]);
    let (stubborn, stubborn_desk) = fake::stdio(&home, "stubborn", &["--stubborn"]);
    home.configure(&(polite + &stubborn));
    let daemon = home.serve().await;
    daemon.until_ready(&["polite", "stubborn"]).await;
    let (status, home) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    assert_eq!(polite_desk.lines("ends"), ["stdin closed"]);
    assert_eq!(stubborn_desk.lines("ends"), ["stdin closed", "TERM"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn s31_a_crash_of_the_daemon_leaves_no_core_dump() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // What the daemon is started with allows one, wherever anything may.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let daemon = Daemon::start("").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("the kernel tells");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    // One byte is none, and keeps a program that would take the dump through a pipe from doing so (core(5)).
    assert!(matches!(core.split_whitespace().nth(4), Some("0" | "1")), "{core}");
}
