//! `trunkline stdio`: clients that only start programs, of both eras, before a daemon that comes and goes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::client::{self, member};
use crate::harness::daemon::{BINARY, Home};
use crate::harness::fake::{self, one};
use crate::harness::modern::{KEY, REVISION};
use crate::harness::parts::Sdk;
use crate::harness::pipes::PipeClient;
use crate::harness::{census, until};

/// Ends the daemon that a bridge started, whatever becomes of the test.
struct End<'a>(&'a str);

impl Drop for End<'_> {
    fn drop(&mut self) {
        for pid in census::marked(self.0).into_keys() {
            census::signal(pid, Signal::KILL);
        }
    }
}

/// How the bridge is started for this home.
fn bridge(home: &Home, args: &[&str]) -> (String, Vec<String>) {
    let mut all = vec![
        format!("XDG_STATE_HOME={}", home.path("state").display()),
        format!("XDG_CONFIG_HOME={}", home.path("config").display()),
        format!("TEST_MARK={}", home.marker),
        BINARY.to_owned(),
        "stdio".to_owned(),
    ];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    ("/usr/bin/env".to_owned(), all)
}

fn open(home: &Home) -> PipeClient {
    let (command, args) = bridge(home, &[]);
    PipeClient::open(&command, &args)
}

async fn connect(home: &Home) -> PipeClient {
    let (command, args) = bridge(home, &[]);
    PipeClient::connect(&command, &args, "2025-11-25").await
}

fn echo(message: &str) -> String {
    format!(r#"{{"name":"one__echo","arguments":{{"message":"{message}"}}}}"#)
}

/// A request of the modern era, with its envelope.
fn modern(id: &str, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        format!("{KEY}protocolVersion"): REVISION,
        format!("{KEY}clientInfo"): { "name": "plain", "version": "1" },
        format!("{KEY}clientCapabilities"): {},
    });
    client::request(id, method, &params.to_string())
}

#[tokio::test]
async fn a_legacy_client_has_its_session_and_every_message_is_a_line() {
    let daemon = one().await;
    let mut client = connect(&daemon.home).await;
    let tools = client.ask("tools/list", "{}").await;
    assert!(tools.contains(r#""one__echo""#), "{tools}");
    let answer = client.ask("tools/call", &echo("by a line")).await;
    assert!(answer.contains("by a line"), "{answer}");
    // Progress comes on the call's own stream, before its answer.
    client
        .send(&client::request(
            "77",
            "tools/call",
            r#"{"name":"one__progress","arguments":{"steps":2},"_meta":{"progressToken":"p"}}"#,
        ))
        .await;
    let mut progress = 0;
    loop {
        let line = client.line().await.expect("the bridge lives");
        progress += usize::from(member(&line, "method").as_deref() == Some(r#""notifications/progress""#));
        if member(&line, "id").as_deref() == Some("77") {
            break;
        }
    }
    assert!(progress > 0, "progress was passed on");
    client.send("no json").await;
    let refused = client.line().await.expect("the bridge lives");
    assert!(refused.contains("-32700") && refused.contains(r#""id":null"#), "{refused}");
    assert_eq!(daemon.health().await["sessions"], 1);
    client.close();
    assert_eq!(client.line().await, None, "it ends with its input");
    until("the session's end", async || (daemon.health().await["sessions"] == 0).then_some(())).await;
}

#[tokio::test]
async fn a_modern_client_has_its_headers_made() {
    let daemon = one().await;
    let mut client = open(&daemon.home);
    client.send(&modern("\"a\"", "server/discover", json!({}))).await;
    let answer = client.answer("\"a\"").await;
    assert!(answer.contains(REVISION), "{answer}");
    client.send(&modern("1", "tools/list", json!({}))).await;
    assert!(client.answer("1").await.contains("one__echo"));
    let call = json!({ "name": "one__echo", "arguments": { "message": "ä" } });
    client.send(&modern("2", "tools/call", call)).await;
    assert!(client.answer("2").await.contains('ä'));
    assert_eq!(daemon.health().await["sessions"], 0, "the modern era has none");
}

#[tokio::test]
async fn a_stream_without_an_end_does_not_outlive_the_input() {
    let daemon = one().await;
    let mut client = open(&daemon.home);
    client.send(&modern("1", "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }))).await;
    let first = client.line().await.expect("the bridge lives");
    assert!(first.contains("acknowledged"), "{first}");
    client.close();
    assert_eq!(client.line().await, None, "it ends with its input");
}

#[tokio::test]
async fn a_session_goes_on_when_the_daemon_is_another() {
    let daemon = one().await;
    let mut client = connect(&daemon.home).await;
    client.ask("tools/call", &echo("before")).await;
    let address = daemon.address().to_owned();
    let (_, home) = daemon.stop().await;
    // Asked while there is none: it waits for the next one.
    client.send(&client::request("50", "tools/call", &echo("between"))).await;
    let daemon = home.serve_at(&address).await;
    let answer = client.answer("50").await;
    assert!(answer.contains("between") || answer.contains("isError"), "{answer}");
    daemon.until_ready(&["one"]).await;
    assert!(client.ask("tools/call", &echo("after")).await.contains("after"));
    assert_eq!(daemon.health().await["sessions"], 1, "it is the same one");
}

#[tokio::test]
async fn at_the_end_of_input_what_was_asked_is_still_answered() {
    let daemon = one().await;
    let mut client = connect(&daemon.home).await;
    for id in ["7", "8", "9"] {
        client.send(&client::request(id, "tools/call", &echo(id))).await;
    }
    client.close();
    let mut answers = Vec::new();
    while let Some(line) = client.line().await {
        answers.extend(member(&line, "id"));
    }
    answers.sort();
    assert_eq!(answers, ["7", "8", "9"]);
}

#[tokio::test]
async fn upon_term_what_is_under_way_is_cancelled_and_the_session_ended() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&block);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let mut client = connect(&daemon.home).await;
    client.send(&client::request("5", "tools/call", r#"{"name":"one__sleep","arguments":{"ms":60000}}"#)).await;
    let received = |what: &str| desk.lines("received").iter().any(|line| line.contains(what));
    until("the call", async || received("tools/call").then_some(())).await;
    let bridges = census::marked(&daemon.home.marker).into_iter().filter(|(_, line)| line.contains("trunkline stdio"));
    for (pid, _) in bridges.collect::<Vec<_>>() {
        census::signal(pid, Signal::TERM);
    }
    assert_eq!(client.line().await, None, "it ends");
    until("the cancellation", async || received("notifications/cancelled").then_some(())).await;
    until("the session's end", async || (daemon.health().await["sessions"] == 0).then_some(())).await;
}

#[tokio::test]
async fn where_no_daemon_runs_one_is_started_for_everybody_and_stays() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "one", &[]);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    home.configure(&format!("[listen]\nport = {port}\nhosts = [\"127.0.0.1\"]\n{block}"));
    let (command, args) = bridge(&home, &["--no-start"]);
    let refused = std::process::Command::new(&command).args(&args).stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("trunkline serve"));
    let _end = End(&home.marker);
    // Two at the same time start one.
    let (mut first, mut second) = tokio::join!(connect(&home), connect(&home));
    for client in [&mut first, &mut second] {
        client.close();
        assert_eq!(client.line().await, None);
    }
    let status = home.run(["status", "--json"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains(r#""name":"one""#), "{text}{}", String::from_utf8_lossy(&status.stderr));
    // It stays until somebody ends it.
    let serving = || -> Vec<u32> {
        let all = census::marked(&home.marker).into_iter();
        all.filter(|(_, line)| line.contains(" serve")).map(|(pid, _)| pid).collect()
    };
    let one = until("one of the two", async || Some(serving()).filter(|serving| serving.len() == 1)).await;
    census::signal(one[0], Signal::TERM);
    until("its end", async || census::marked(&home.marker).is_empty().then_some(())).await;
}

#[tokio::test]
async fn upon_term_while_a_daemon_is_being_started_the_bridge_ends_and_the_daemon_is_there_for_others() {
    let home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    home.configure(&format!("[listen]\nport = {port}\nhosts = [\"127.0.0.1\"]\n"));
    // A daemon waits for whoever holds its state directory.
    std::fs::create_dir_all(home.path("state/trunkline")).expect("made");
    let held = std::fs::File::create(home.path("state/trunkline/lock")).expect("made");
    held.lock().expect("free");
    let _end = End(&home.marker);
    let mut client = open(&home);
    let running = |what: &str| -> Vec<u32> {
        let all = census::marked(&home.marker).into_iter();
        all.filter(|(_, line)| line.contains(what)).map(|(pid, _)| pid).collect()
    };
    until("a daemon that is started", async || Some(running(" serve")).filter(|serving| serving.len() == 1)).await;
    let bridges = running("trunkline stdio");
    assert_eq!(bridges.len(), 1);
    census::signal(bridges[0], Signal::TERM);
    assert_eq!(client.line().await, None, "it ends");
    drop(held);
    let status = async || home.run(["status"]).status.success().then_some(());
    until("the daemon", status).await;
}

/// The official SDKs' own transports for child processes, both generations.
#[tokio::test]
async fn the_sdks_stdio_clients_do_what_they_do_with_any_server() {
    let daemon = one().await;
    let (command, args) = bridge(&daemon.home, &[]);
    let steps = json!([{ "do": "tools" }, { "do": "call", "name": "one__echo", "arguments": { "message": "über ↑" } }]);
    let job = json!({ "transport": "stdio", "command": command, "args": args, "steps": steps });
    for sdk in [
        Sdk::TypeScript,
        Sdk::Python,
        Sdk::TypeScript2("auto"),
        Sdk::TypeScript2("legacy"),
        Sdk::Python2("auto"),
        Sdk::FastMcp("auto"),
    ] {
        let report = sdk.run(&job).await;
        let steps = report["steps"].as_array().expect("steps");
        assert!(steps[0]["ok"].to_string().contains("one__echo"), "{sdk:?}: {report}");
        assert!(steps[1]["ok"].to_string().contains("über ↑"), "{sdk:?}: {report}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn s7_nothing_is_sent_to_another_user_who_listens_in_the_daemons_place() {
    // Listens, and says on which port, and what is said to it.
    const LISTEN: &str = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n\
                          while True:\n  c, _ = s.accept()\n  print('heard', c.recv(99999), flush=True)";
    // Needs to become somebody else, which only root can.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut stranger = std::process::Command::new("python3");
    std::os::unix::process::CommandExt::uid(&mut stranger, 65534);
    let mut stranger =
        stranger.args(["-c", LISTEN]).current_dir("/").stdout(Stdio::piped()).spawn().expect("python3 runs");
    let mut said = BufReader::new(stranger.stdout.take().expect("piped"));
    let mut port = String::new();
    said.read_line(&mut port).expect("a port");
    let home = Home::new();
    let token = "canary-0123456789abcdef0123456789abcdef";
    home.configure(&format!(
        "[listen]\nport = {}\nhosts = [\"127.0.0.1\"]\n[auth.tokens]\nme = \"{token}\"\n",
        port.trim()
    ));
    let _end = End(&home.marker);
    let (command, args) = bridge(&home, &[]);
    let refused = std::process::Command::new(&command).args(&args).stdin(Stdio::null()).output().expect("it runs");
    stranger.kill().expect("killed");
    stranger.wait().expect("ended");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("another user of this machine (uid 65534) listens at 127.0.0.1:"), "{told}");
    assert_eq!(refused.status.code(), Some(1));
    let mut heard = String::new();
    said.read_to_string(&mut heard).expect("text");
    assert!(heard.lines().all(|line| line == "heard b''"), "{heard}");
}
