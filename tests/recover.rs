//! Servers that fail: what a person is told, and that each comes back by itself when the cause goes.
//!
//! Every case asserts the state and the sentence in `/health`, the same in `status --json`, and the metrics; and
//! that the healthy neighbour serves on.

use serde_json::Value;

use crate::harness::client::{fault_of, json, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Fake};
use crate::harness::until;

/// A healthy neighbour beside what a test adds.
async fn beside(home: Home, config: &str) -> Daemon {
    let (healthy, _) = fake::stdio(&home, "healthy", &[]);
    home.configure(&format!("{healthy}{config}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["healthy"]).await;
    daemon
}

/// The state and the sentence about `server`, wherever they are shown, and that others do not mind.
async fn is_told(daemon: &Daemon, server: &str, state: &str, words: &[&str]) {
    let shown = daemon.until_state(server, state).await;
    let reason = shown["reason"].as_str().unwrap_or_else(|| panic!("no reason in {shown:#}")).to_owned();
    for word in [&[server], words].concat() {
        assert!(reason.contains(word), "{word:?} is missing in: {reason}");
    }
    let output = daemon.cli(["status", "--json"]);
    let status = json(&String::from_utf8_lossy(&output.stdout));
    let servers = status["servers"].as_array().expect("servers");
    let told: &Value = servers.iter().find(|told| told["name"] == server).expect("the server");
    assert!(told["reason"].is_string() || told["state"] == "starting" || told["state"] == "handshake", "{told:#}");
    assert_ne!(output.status.code(), Some(0), "status says by its exit code that something is wrong");
    let label = format!("server=\"{server}\"");
    let ready = daemon.metric("trunkline_upstream_state", &[&label, "state=\"ready\""]).await;
    assert!(ready < 0.5, "the metrics call it ready");
    assert!(daemon.metric("trunkline_upstream_transitions_total", &[&label]).await >= 1.0);
    let client = daemon.client().await;
    assert_eq!(text_of(&client.call("healthy__echo", r#"{"message":"fine"}"#).await), "fine");
}

async fn works(daemon: &Daemon, server: &str) {
    daemon.until_ready(&[server]).await;
    let client = daemon.client().await;
    assert_eq!(text_of(&client.call(&format!("{server}__echo"), r#"{"message":"back"}"#).await), "back");
    let label = format!("server=\"{server}\"");
    assert!(daemon.metric("trunkline_upstream_state", &[&label, "state=\"ready\""]).await > 0.5);
}

#[tokio::test]
async fn a_missing_command_is_named_and_found_when_it_appears() {
    let home = Home::new();
    let program = home.path("late-program");
    let (block, _) = fake::stdio(&home, "late", &[]);
    let block =
        block.replace(fake::program("fake-upstream").to_str().expect("UTF-8"), program.to_str().expect("UTF-8"));
    let daemon = beside(home, &block).await;
    is_told(&daemon, "late", "misconfigured", &["late-program"]).await;
    std::os::unix::fs::symlink(fake::program("fake-upstream"), program).expect("a link");
    // Its own next look may be a minute away; a person who just installed it says so.
    let output = daemon.cli(["restart", "late"]);
    assert_eq!(output.status.code(), Some(0));
    works(&daemon, "late").await;
}

#[tokio::test]
async fn an_exit_at_start_shows_status_and_last_words() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "exiting", &[]);
    desk.fail("exit");
    let daemon = beside(home, &block).await;
    is_told(&daemon, "exiting", "backoff", &["3", "cannot open its database"]).await;
    desk.heal();
    works(&daemon, "exiting").await;
}

#[tokio::test]
async fn a_server_that_hangs_is_told_as_slow_and_taken_when_it_answers() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "hanging", &[]);
    desk.fail("hang");
    let daemon = beside(home, &format!("{block}startup_timeout_sec = 1\n")).await;
    is_told(&daemon, "hanging", "backoff", &["1"]).await;
    desk.heal();
    works(&daemon, "hanging").await;
}

#[tokio::test]
async fn a_slow_start_is_waited_for() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "slow", &["--slow-start-ms", "2000"]);
    let daemon = beside(home, &block).await;
    works(&daemon, "slow").await;
    assert_eq!(daemon.server("slow").await["restarts"], 0);
}

#[tokio::test]
async fn garbage_on_stdout_is_told_and_forgiven() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "garbage", &[]);
    desk.fail("garbage");
    let daemon = beside(home, &format!("{block}startup_timeout_sec = 1\n")).await;
    is_told(&daemon, "garbage", "backoff", &[]).await;
    desk.heal();
    works(&daemon, "garbage").await;
}

#[tokio::test]
async fn a_flood_on_stderr_before_the_handshake_stalls_nothing() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "loud", &["--fault", "loud"]);
    let daemon = beside(home, &block).await;
    works(&daemon, "loud").await;
    let shown = daemon.server("loud").await;
    assert!(shown["stderr_dropped_bytes"].as_u64() > Some(1 << 20), "{shown:#}");
}

/// One HTTP fault from before the start; then it goes.
async fn http_fault(fault: &str, state: &str, words: &[&str]) {
    let upstream = Fake::start("http", "remote", &[]).await;
    upstream.desk.fail(fault);
    let daemon = beside(Home::new(), &upstream.block()).await;
    is_told(&daemon, "remote", state, words).await;
    let client = daemon.client().await;
    assert!(!client.tools().await.iter().any(|tool| tool.starts_with("remote__")), "never seen, so not listed");
    upstream.desk.heal();
    if state != "backoff" {
        assert_eq!(daemon.cli(["restart", "remote"]).status.code(), Some(0));
    }
    works(&daemon, "remote").await;
}

#[tokio::test]
async fn a_503_is_retried_and_never_taken_for_sse() {
    http_fault("503", "backoff", &["503"]).await;
}

#[tokio::test]
async fn a_503_with_retry_after_is_retried() {
    http_fault("busy", "backoff", &["503"]).await;
}

#[tokio::test]
async fn a_500_is_retried() {
    http_fault("500", "backoff", &["500"]).await;
}

#[tokio::test]
async fn a_401_waits_for_a_credential_and_names_the_key() {
    http_fault("401", "needs_auth", &["401", "bearer_token_env_var"]).await;
}

#[tokio::test]
async fn a_403_says_that_access_is_denied() {
    http_fault("403", "needs_auth", &["403"]).await;
}

#[tokio::test]
async fn a_405_everywhere_is_no_mcp_address() {
    http_fault("405", "misconfigured", &["405"]).await;
}

#[tokio::test]
async fn a_404_everywhere_is_no_mcp_address() {
    http_fault("404", "misconfigured", &["404"]).await;
}

#[tokio::test]
async fn a_web_page_is_told_as_such() {
    let upstream = Fake::start("http", "remote", &[]).await;
    upstream.desk.fail("html");
    let daemon = beside(Home::new(), &upstream.block()).await;
    let told = until("a sentence about the page", async || {
        let reason = daemon.server("remote").await["reason"].as_str()?.to_owned();
        reason.contains("text/html").then_some(reason)
    })
    .await;
    assert!(told.contains("remote"), "{told}");
    upstream.desk.heal();
    daemon.cli(["restart", "remote"]);
    works(&daemon, "remote").await;
}

#[tokio::test]
async fn broken_json_is_told_and_retried() {
    http_fault("garbage", "backoff", &[]).await;
}

#[tokio::test]
async fn a_refused_connection_is_retried_until_somebody_listens() {
    // F-19. The port is known because a server just left it.
    let mut first = Fake::start("http", "remote", &[]).await;
    let address = first.address();
    first.process.end();
    let daemon = beside(Home::new(), &first.block()).await;
    is_told(&daemon, "remote", "backoff", &[&address]).await;
    let _second = Fake::start("http", "remote", &["--listen", &address]).await;
    works(&daemon, "remote").await;
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_keeps_its_tools_listed() {
    // R-22, and the call in between says when the next try is.
    let mut first = Fake::start("http", "remote", &[]).await;
    let address = first.address();
    let daemon = beside(Home::new(), &first.block()).await;
    works(&daemon, "remote").await;
    let client = daemon.client().await;
    first.process.end();
    let failed = until("a call to fail", async || {
        let result = client.call("remote__echo", r#"{"message":"x"}"#).await;
        (result["isError"] == true).then_some(result)
    })
    .await;
    assert_eq!(fault_of(&failed)["server"], "remote");
    assert!(text_of(&failed).contains("remote"), "{failed}");
    assert!(client.tools().await.contains(&"remote__echo".to_owned()));
    let _second = Fake::start("http", "remote", &["--listen", &address]).await;
    // The back-off has grown long; that somebody asks is reason enough to look (one attempt per 2 s).
    assert_eq!(text_of(&client.call("remote__echo", r#"{"message":"same session"}"#).await), "same session");
    works(&daemon, "remote").await;
}

#[tokio::test]
async fn a_broken_tool_list_is_told_with_the_servers_own_words() {
    // F-23.
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "listless", &[]);
    desk.fail("no-tools");
    let daemon = beside(home, &block).await;
    until("a complaint about the list", async || {
        let complaints = daemon.server("listless").await["complaints"].to_string();
        (complaints.contains("tools/list") && complaints.contains("the tool index is broken")).then_some(())
    })
    .await;
    desk.heal();
    // Its own next try is a minute away.
    assert_eq!(daemon.cli(["restart", "listless"]).status.code(), Some(0));
    works(&daemon, "listless").await;
}

#[tokio::test]
async fn status_is_content_when_all_is_well() {
    let daemon = beside(Home::new(), "").await;
    let output = daemon.cli(["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let status = json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(status["servers"][0]["state"], "ready");
}
