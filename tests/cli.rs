//! The command line, as people and scripts use it.

use std::process::Output;

use crate::harness::client::json;
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn one() -> Daemon {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    daemon
}

#[tokio::test]
async fn status_is_a_table_for_people() {
    let daemon = one().await;
    let output = daemon.cli(["status"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    for part in ["one", "ready", "stdio"] {
        assert!(out(&output).contains(part), "{part} is missing in:\n{}", out(&output));
    }
    assert!(!out(&output).contains('\u{1b}'), "no colours into a pipe");
}

#[tokio::test]
async fn tools_lists_by_published_name() {
    let daemon = one().await;
    for args in [vec!["tools"], vec!["tools", "one"]] {
        let output = daemon.cli(&args);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert!(out(&output).contains("one__echo"), "{}", out(&output));
    }
    let output = daemon.cli(["tools", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("one"), "the known names are told: {}", err(&output));
}

#[tokio::test]
async fn call_calls_and_says_by_its_exit_how_it_went() {
    let daemon = one().await;
    let output = daemon.cli(["call", "one__echo", r#"{"message":"from the shell"}"#]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("from the shell"), "{}", out(&output));
    let output = daemon.cli(["call", "one__nope"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("one__nope") || out(&output).contains("one__nope"), "{}", err(&output));
    let output = daemon.cli(["call", "one__echo", "{oops"]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
}

#[tokio::test]
async fn logs_show_last_words_and_transitions() {
    let daemon = one().await;
    daemon.client().await.call("one__stderr", r#"{"bytes":50}"#).await;
    crate::harness::until("the words to arrive", async || {
        let output = daemon.cli(["logs", "one"]);
        (output.status.code() == Some(0) && out(&output).contains("eeeeeeeeee")).then_some(())
    })
    .await;
    let output = daemon.cli(["logs"]);
    assert!(out(&output).contains("ready"), "{}", out(&output));
}

#[tokio::test]
async fn restart_restarts_the_one_server() {
    let daemon = one().await;
    let before = daemon.server("one").await["pid"].clone();
    let output = daemon.cli(["restart", "one"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    crate::harness::until("another process", async || {
        let server = daemon.server("one").await;
        (server["state"] == "ready" && server["pid"] != before).then_some(())
    })
    .await;
    assert_eq!(daemon.cli(["restart", "nobody"]).status.code(), Some(1));
}

#[tokio::test]
async fn check_reads_the_configuration_and_starts_nothing() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let output = home.run(["check"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", out(&output), err(&output));
    assert!(desk.lines("starts").is_empty());
    home.configure("[mcp_servers.one]\nurl = \"ftp://x\"\n");
    let output = home.run(["check"]);
    assert_eq!(output.status.code(), Some(78), "{}{}", out(&output), err(&output));
    assert!((out(&output) + &err(&output)).contains("mcp_servers.one"));
}

#[tokio::test]
async fn without_a_daemon_it_says_how_to_start_one() {
    let home = Home::new();
    home.configure("");
    for args in [&["status"][..], &["tools"], &["call", "a__b"], &["restart", "a"]] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(err(&output).contains("trunkline serve"), "{args:?}: {}", err(&output));
    }
}

#[tokio::test]
async fn help_schema_and_usage() {
    let home = Home::new();
    let help = out(&home.run(["--help"]));
    for command in ["serve", "check", "status", "tools", "call", "logs", "restart", "schema"] {
        assert!(help.contains(command), "{command} is missing in:\n{help}");
    }
    let schema = json(&out(&home.run(["schema"])));
    assert!(schema["properties"]["mcp_servers"].is_object());
    assert_eq!(home.run(["sevre"]).status.code(), Some(2));
    assert!(out(&home.run(["--version"])).contains(env!("CARGO_PKG_VERSION")));
}
