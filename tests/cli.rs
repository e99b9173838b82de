//! The command line, as people and scripts use it.

use std::process::Output;

use crate::harness::client::json;
use crate::harness::daemon::Home;
use crate::harness::fake::{self, one};
use crate::harness::until;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
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
async fn a_status_that_is_watched_is_shown_again_and_outlives_the_daemon() {
    let daemon = one().await;
    let shown = std::fs::File::create(daemon.home.path("shown")).expect("a file");
    let mut watching = daemon.home.command(["status", "--watch"]).stdout(shown).spawn().expect("the binary runs");
    let times = |of: &str| std::fs::read_to_string(daemon.home.path("shown")).unwrap_or_default().matches(of).count();
    until("the status, twice", async || (times("SERVER") >= 2).then_some(())).await;
    daemon.child().kill().expect("ours");
    until("its end to be shown", async || (times("no daemon is running") >= 1).then_some(())).await;
    assert!(watching.try_wait().expect("ours").is_none(), "it goes on");
    watching.kill().expect("ours");
    watching.wait().expect("ours");
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_could_not_be_written_is_told_and_a_reader_that_went_away_is_not() {
    let home = Home::new();
    for args in [vec!["schema"], vec!["man"], vec!["completions", "bash"], vec!["check"], vec!["doctor"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let output = home.command(&args).stdout(full).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let told = err(&output);
        assert!(told.contains("cannot write to standard output: No space left"), "{args:?}: {told}");
        let (read, gone) = std::io::pipe().expect("a pipe");
        drop(read);
        let output = home.command(&args).stdout(gone).output().expect("the binary runs");
        assert_eq!(err(&output), "", "{args:?}");
    }
}

#[tokio::test]
async fn a_server_is_tried_and_written_and_the_daemon_takes_it_up_and_lets_it_go() {
    let home = Home::new();
    home.configure("# mine\n[listen]\nport = 0\n");
    let file = home.path("config/trunkline/config.toml");
    let daemon = home.serve().await;
    let program = fake::program("fake-upstream").display().to_string();
    let output = daemon.cli(["add", "two", "-e", "A=${env:HOME}", "--", &program, "stdio"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let told = out(&output);
    assert!(told.contains("two answers:") && told.contains("over stdio") && told.contains("tool"), "{told}");
    let servers = async || daemon.health().await["servers"].as_array().map_or(0, Vec::len);
    until("the new server", async || (servers().await == 1).then_some(())).await;
    daemon.until_ready(&["two"]).await;
    let output = daemon.cli(["add", "two", "--url", "http://127.0.0.1:9/mcp", "--untried"]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(err(&output).contains("trunkline remove two"), "{}", err(&output));
    let output = daemon.cli(["add", "none", "--url", "http://127.0.0.1:9/mcp"]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(err(&output).contains("nothing was written") && err(&output).contains("127.0.0.1:9"), "{}", err(&output));
    let written = std::fs::read_to_string(&file).expect("there");
    assert!(written.starts_with("# mine\n") && written.contains("[mcp_servers.two]"), "{written}");
    assert!(!written.contains("none"), "{written}");
    for (args, state) in [(vec!["disable", "two"], "disabled"), (vec!["enable", "two"], "ready")] {
        let output = daemon.cli(&args);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        daemon.until_state("two", state).await;
    }
    assert_eq!(daemon.cli(["remove", "two"]).status.code(), Some(0));
    until("the end of the server", async || (servers().await == 0).then_some(())).await;
}
