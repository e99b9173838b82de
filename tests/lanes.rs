//! Servers that not everybody shares: `sharing = "session"` and `"project"`, with real processes.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::client::{Client, fault_of, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::modern::Modern;
use crate::harness::{census, fake, parts, until};

const REVISION: &str = "2025-11-25";

/// A daemon before one such server, whose name is `own`.
async fn daemon(keys: &str, rest: &str) -> Daemon {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "own", &[]);
    home.configure(&format!("{block}{keys}\n{rest}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["own"]).await;
    daemon
}

/// What the process behind `own` knows: what it was told to keep, who it is and where.
async fn process(client: &Client, keep: &str) -> Value {
    let arguments = json!({ "keep": keep }).to_string();
    serde_json::from_str(text_of(&client.call("own__environment", &arguments).await)).expect("JSON")
}

/// The processes of the server, by pid.
fn processes(daemon: &Daemon) -> Vec<u64> {
    census::marked(&daemon.home.marker).into_keys().map(u64::from).collect()
}

async fn gone(daemon: &Daemon, pid: u64) {
    until("the end of a process", async || (!processes(daemon).contains(&pid)).then_some(())).await;
}

#[tokio::test]
async fn r32_two_sessions_keep_their_state_apart_and_take_their_processes_along() {
    let daemon = daemon("sharing = 'session'\nlimits = { lanes = 2 }", "").await;
    let (one, two) = (daemon.client().await, daemon.client().await);
    let (first, second) = (process(&one, "red").await, process(&two, "blue").await);
    assert_ne!(first["pid"], second["pid"]);
    let (again, other) = (process(&one, "").await, process(&two, "").await);
    assert_eq!((&again["kept"], &again["pid"]), (&json!("red"), &first["pid"]));
    assert_eq!((&other["kept"], &other["pid"]), (&json!("blue"), &second["pid"]));
    let status = String::from_utf8_lossy(&daemon.cli(["status"]).stdout).into_owned();
    assert_eq!(status.lines().filter(|line| line.contains(" ready  pid ")).count(), 2, "{status}");

    // All of them at work: one more is told so, by a sentence that names the way out.
    let (one, two) = (std::sync::Arc::new(one), std::sync::Arc::new(two));
    let mut calls = Vec::new();
    for client in [&one, &two] {
        calls.push(client.start("7", "own__progress", r#"{"steps":1,"ms":60000}"#).await);
    }
    let late = daemon.client().await;
    let refused = late.call("own__echo", r#"{"message":"x"}"#).await;
    let fault = fault_of(&refused);
    assert_eq!((&fault["code"], &fault["outcome"]), (&json!(-31_004), &json!("not_sent")), "{fault}");
    assert!(text_of(&refused).contains("all 2 are in use by other sessions"), "{refused}");
    assert!(text_of(&refused).contains("`limits.lanes` of [mcp_servers.own]"), "{refused}");

    // The end of a session ends what it runs, and its process; the other one is left alone.
    assert!(one.delete().await.status < 300);
    gone(&daemon, first["pid"].as_u64().expect("a pid")).await;
    assert!(processes(&daemon).contains(&second["pid"].as_u64().expect("a pid")));
    assert_ne!(process(&late, "").await["kept"], json!("red"), "nothing of it is left to the next one");
}

#[tokio::test]
async fn r30_r32_sessions_come_and_go_and_no_process_stays() {
    let daemon = daemon("sharing = 'session'", "").await;
    let before = processes(&daemon).len();
    for _ in 0..3 {
        join_all((0..8).map(|_| async {
            let client = daemon.client().await;
            assert_eq!(process(&client, "mine").await["kept"], json!("mine"));
            client.delete().await;
        }))
        .await;
    }
    until("as few processes as before", async || (processes(&daemon).len() <= before).then_some(())).await;
    let label = "server=\"own\"";
    until("no lane", async || (daemon.metric("trunkline_upstream_lanes", &[label]).await == 0.0).then_some(())).await;
    // A modern client has no session that could end: its lane does when nobody uses it, or the daemon ends.
    let modern = Modern::new(&daemon.url);
    let own = || async { text_of(&modern.call("own__environment", r#"{"keep":"here"}"#).await).to_owned() };
    assert_eq!(own().await, own().await);
    let (_, home) = daemon.stop().await;
    assert!(census::marked(&home.marker).is_empty());
}

#[tokio::test]
async fn two_projects_see_their_own_directories_by_nothing_but_the_url() {
    let home = Home::new();
    let directory = |name: &str| {
        let path = home.path(name);
        std::fs::create_dir(&path).expect("a directory");
        path.canonicalize().expect("a directory").to_str().expect("UTF-8").to_owned()
    };
    let (a, b) = (directory("project-a"), directory("project-b"));
    let (block, _) = fake::stdio(&home, "own", &["--revision", "2025-06-18"]);
    let files = format!(
        "[mcp_servers.files]\ncommand = {:?}\nargs = [{:?}]\nsharing = 'project'\nenv = {{ TEST_MARK = {:?} }}\n",
        parts::node(),
        parts::reference("filesystem"),
        home.marker,
    );
    let profiles = format!("[profiles.a]\nroots = [{a:?}]\n[profiles.b]\nroots = [{b:?}]\n");
    home.configure(&format!("{block}sharing = 'project'\n{files}{profiles}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["own"]).await;
    until("the lists of a server that nobody has seen yet", async || {
        let files = daemon.server("files").await;
        (files["tools"].as_u64() > Some(0)).then_some(())
    })
    .await;
    for (profile, own, other) in [("a", &a, &b), ("b", &b, &a)] {
        let client = Client::connect(&format!("{}/{profile}", daemon.url), REVISION).await;
        // It looks at its directories after it was told of them, and says of nothing when it is done.
        let allowed = until("its directories", async || {
            let allowed = client.call("files__list_allowed_directories", "{}").await;
            text_of(&allowed).contains(own.as_str()).then_some(allowed)
        })
        .await;
        assert!(!text_of(&allowed).contains(other.as_str()), "{allowed}");
        std::fs::write(format!("{own}/note.txt"), format!("of {profile}")).expect("a file");
        let read = |path: &str| json!({ "path": format!("{path}/note.txt") }).to_string();
        let note = client.call("files__read_text_file", &read(own)).await;
        assert_eq!(text_of(&note), format!("of {profile}"));
        let denied = client.call("files__read_text_file", &read(other)).await;
        assert_eq!(denied["isError"], true, "{denied}");
        assert_eq!(process(&client, "").await["directory"], json!(own), "it is started there");
        let roots = client.call("own__ask", r#"{"method":"roots/list"}"#).await;
        assert!(text_of(&roots).contains(own.as_str()) && !text_of(&roots).contains(other.as_str()), "{roots}");
    }
}
