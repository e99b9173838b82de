//! `/mcp/NAME`: what a profile shows is all there is for its clients, in both eras, now and after the next reload.

use crate::harness::client::{Client, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;
use crate::harness::modern::Modern;
use crate::harness::{http, until};

const REVISION: &str = "2025-11-25";

/// A daemon before a server with a thousand tools, and these profiles.
async fn daemon(profiles: &str) -> Daemon {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "many", &["--tools", "1000"]);
    home.configure(&format!("{block}{profiles}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["many"]).await;
    daemon
}

fn at(daemon: &Daemon, profile: &str) -> String {
    format!("{}/{profile}", daemon.url)
}

/// `many__tool_0000` to `many__tool_0039`.
fn forty() -> Vec<String> {
    (0..40).map(|number| format!("many__tool_{number:04}")).collect()
}

const FORTY: &str = "[profiles.forty]\nenabled_tools = ['many__tool_00[0-3]?']\n";

#[tokio::test]
async fn a_profile_of_forty_tools_of_a_thousand_lists_and_calls_exactly_these() {
    let patterns = "['many__tool_000?', 'many__tool_001?', 'many__tool_002?', 'many__tool_003?', 'many__echo']";
    let daemon = daemon(&format!("[profiles.forty]\nenabled_tools = {patterns}\ndisabled_tools = ['*echo']\n")).await;
    let url = at(&daemon, "forty");
    let (legacy, modern) = (Client::connect(&url, REVISION).await, Modern::new(&url));
    assert_eq!(legacy.tools().await, forty());
    assert_eq!(modern.tools().await, forty());
    assert_eq!(daemon.client().await.tools().await.len(), 1000);
    let named = |args: &[&str]| -> Vec<String> {
        let output = daemon.cli(args.iter().copied());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    assert_eq!(named(&["tools", "--profile", "forty"]), forty());
    assert_eq!(named(&["tools", "--find", "echo a message"]).first().map(String::as_str), Some("many__echo"));
    assert!(!named(&["tools", "--find", "echo", "--profile", "forty"]).contains(&"many__echo".to_owned()));
    let message = r#"{"message":"fine"}"#;
    assert_eq!(text_of(&daemon.client().await.call("many__echo", message).await), "fine");
    let hidden = r#"{"name":"many__echo","arguments":{"message":"fine"}}"#;
    for answer in [legacy.ask("tools/call", hidden).await, modern.ask("tools/call", hidden).await] {
        assert!(answer.contains("-32602") && answer.contains("unknown tool: many__echo"), "{answer}");
    }
    for answer in [
        legacy.ask("tools/call", r#"{"name":"many__tool_0039","arguments":{}}"#).await,
        modern.ask("tools/call", r#"{"name":"many__tool_0039","arguments":{}}"#).await,
    ] {
        assert!(answer.contains(r#""content""#), "{answer}");
    }
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_told_with_those_that_are() {
    let daemon = daemon("[profiles.work]\n[profiles.home]\n").await;
    let reply = http::get(daemon.address(), "/mcp/wrok").await;
    assert_eq!(reply.status, 404);
    let text = reply.text().await;
    assert!(text.contains("/mcp, /mcp/home, /mcp/work"), "{text}");
}

#[tokio::test]
async fn a_reload_changes_what_a_profile_shows_and_tells_its_clients() {
    let daemon = daemon(FORTY).await;
    let client = Client::connect(&at(&daemon, "forty"), REVISION).await;
    assert!(client.tools().await.is_empty(), "brackets stand for themselves");
    let mut stream = client.listen(None).await.events();
    let before = std::fs::read_to_string(daemon.home.path("config/trunkline/config.toml")).expect("the configuration");
    daemon.home.configure(&before.replace("[0-3]?", "0?"));
    let ten = &forty()[..10];
    until("the tools of the new pattern", async || (client.tools().await == ten).then_some(())).await;
    // Those of the server's other lists may still come before it.
    while !stream.next().await.expect("a notice").data.contains("notifications/tools/list_changed") {}
}
