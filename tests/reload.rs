//! A changed configuration under a running daemon: what did not change keeps its process and its calls, a file that is
//! wrong changes nothing, and doing it often leaves nothing behind (R-36).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::census;
use crate::harness::client::{Client, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Fake};
use crate::harness::until;

/// The process of a server that is ready.
async fn pid(daemon: &Daemon, server: &str) -> u64 {
    daemon.until_state(server, "ready").await["pid"].as_u64().expect("a process")
}

/// Waits until the newest attempt to read the configuration is in force, or is not.
async fn until_taken(daemon: &Daemon, taken: bool) -> Value {
    until("the reload", async || {
        let config = daemon.health().await["config"].clone();
        (config["error"].is_null() == taken).then_some(config)
    })
    .await
}

/// What `trunkline reload` prints, and its exit code.
fn reload(daemon: &Daemon) -> (String, Option<i32>) {
    let output = daemon.cli(["reload"]);
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.code())
}

async fn echoes(client: &Client, server: &str) {
    assert_eq!(text_of(&client.call(&format!("{server}__echo"), r#"{"message":"fine"}"#).await), "fine");
}

#[tokio::test]
async fn r36_f40_a_bad_file_changes_nothing_and_a_good_one_only_what_it_names() {
    let home = Home::new();
    let (kept, _) = fake::stdio(&home, "kept", &[]);
    let (changed, _) = fake::stdio(&home, "changed", &[]);
    let (added, _) = fake::stdio(&home, "added", &[]);
    let gone = Fake::start("http", "gone", &[]).await;
    home.configure(&format!("{kept}{changed}{}", gone.block()));
    let daemon = home.serve().await;
    daemon.until_ready(&["kept", "changed", "gone"]).await;
    let before = (pid(&daemon, "kept").await, pid(&daemon, "changed").await);
    let client = daemon.client().await;

    // The watcher finds it by itself.
    daemon.home.configure(&format!("{kept}\n[mcp_servers.changed]\nurl = 5\n"));
    let config = until_taken(&daemon, false).await;
    let error = config["error"].as_str().expect("a reason");
    assert!(error.contains("config.toml:") && error.contains("mcp_servers.changed.url"), "{error}");
    assert!(daemon.metric("trunkline_config_reload_success", &[]).await < 0.5);
    let (text, code) = reload(&daemon);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("nothing was changed") && text.contains("mcp_servers.changed.url"), "{text}");
    let status = daemon.cli(["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("is not in force"));
    assert_eq!((pid(&daemon, "kept").await, pid(&daemon, "changed").await), before);
    for server in ["kept", "changed", "gone"] {
        echoes(&client, server).await;
    }

    let changed = changed.replace("TEST_MARK", "OTHER = \"1\", TEST_MARK");
    daemon.home.configure(&format!("{added}{changed}{kept}"));
    until_taken(&daemon, true).await;
    daemon.until_ready(&["added", "kept", "changed"]).await;
    assert!(daemon.metric("trunkline_config_reload_success", &[]).await > 0.5);
    assert_eq!(pid(&daemon, "kept").await, before.0, "the same process");
    until("another process", async || (pid(&daemon, "changed").await != before.1).then_some(())).await;
    let health = daemon.health().await;
    let names: Vec<_> = health["servers"].as_array().expect("servers").iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["added", "changed", "kept"], "in the order of the file");
    until("the series of a removed server to go", async || {
        (!daemon.metrics().await.contains("server=\"gone\"")).then_some(())
    })
    .await;
    for server in ["added", "changed", "kept"] {
        echoes(&client, server).await;
    }
    let (text, code) = reload(&daemon);
    assert_eq!((text.trim(), code), ("nothing changed", Some(0)));
}

#[tokio::test]
async fn r36_a_file_that_is_gone_or_empty_changes_nothing_until_somebody_asks() {
    let home = Home::new();
    let (kept, _) = fake::stdio(&home, "kept", &[]);
    home.configure(&kept);
    let daemon = home.serve().await;
    daemon.until_ready(&["kept"]).await;
    let before = pid(&daemon, "kept").await;
    let told = async |what: &str| {
        let config = until_taken(&daemon, false).await;
        let error = config["error"].as_str().expect("a reason").to_owned();
        assert!(
            error.contains("config.toml: ") && error.contains(what) && error.contains("trunkline reload"),
            "{error}"
        );
        assert_eq!(pid(&daemon, "kept").await, before, "the same process");
    };
    std::fs::remove_file(daemon.home.path("config/trunkline/config.toml")).expect("it was there");
    told("gone").await;
    daemon.home.configure(&kept);
    until_taken(&daemon, true).await;
    daemon.home.configure("# nothing yet\n\n");
    told("nothing in it").await;
    let (text, code) = reload(&daemon);
    assert!(code == Some(0) && text.contains("kept: removed"), "{text}");
}

#[tokio::test]
async fn r36_sighup_takes_a_new_secret_to_the_server_that_uses_it_and_to_no_other() {
    let home = Home::new();
    let secret = home.path("secret");
    std::fs::write(&secret, "first-secret").expect("written");
    let (kept, _) = fake::stdio(&home, "kept", &[]);
    let (user, _) = fake::stdio(&home, "user", &[]);
    let user = user.replace("TEST_MARK", &format!("KEY = \"${{file:{}}}\", TEST_MARK", secret.display()));
    home.configure(&format!("{kept}{user}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["kept", "user"]).await;
    let before = (pid(&daemon, "kept").await, pid(&daemon, "user").await);
    std::fs::write(&secret, "second-secret").expect("written");
    daemon.signal(Signal::HUP);
    until("another process", async || (pid(&daemon, "user").await != before.1).then_some(())).await;
    assert_eq!(pid(&daemon, "kept").await, before.0);
    assert!(!daemon.home.log().contains("-secret"), "no secret in the log");
}

#[tokio::test]
async fn r36_a_command_that_was_missing_is_tried_upon_a_reload() {
    let home = Home::new();
    let program = home.path("late-program");
    let (block, _) = fake::stdio(&home, "late", &[]);
    let real = fake::program("fake-upstream");
    home.configure(&block.replace(real.to_str().expect("UTF-8"), program.to_str().expect("UTF-8")));
    let daemon = home.serve().await;
    daemon.until_state("late", "misconfigured").await;
    std::os::unix::fs::symlink(real, program).expect("a link");
    assert_eq!(reload(&daemon).1, Some(0));
    daemon.until_ready(&["late"]).await;
}

/// A port that nobody listens on just now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn r36_another_port_is_served_at_once_and_other_hosts_from_the_next_start_on() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "kept", &[]);
    let (old, new) = (free_port(), free_port());
    let listen = |port: u16, hosts: &str| format!("[listen]\nport = {port}\nhosts = [{hosts}]\n{block}");
    home.configure(&listen(old, r#""127.0.0.1""#));
    let mut daemon = home.serve_as_configured().await;
    daemon.until_ready(&["kept"]).await;
    let (before, client) = (pid(&daemon, "kept").await, daemon.client().await);

    daemon.home.configure(&listen(old, r#""127.0.0.1", "127.0.0.2""#));
    let put_off = async || daemon.home.log().contains(r#"keys="listen.hosts""#).then_some(());
    until("the hosts to be put off", put_off).await;
    assert!(daemon.health().await["config"]["error"].is_null(), "it is no mistake");
    echoes(&client, "kept").await;

    daemon.home.configure(&listen(new, r#""127.0.0.1""#));
    daemon.url = format!("http://127.0.0.1:{new}/mcp");
    let connect = async |port: u16| tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    until("the new port", async || connect(new).await.ok()).await;
    echoes(&daemon.client().await, "kept").await;
    assert_eq!(pid(&daemon, "kept").await, before, "the same process");
    until("the old port to be free", async || connect(old).await.is_err().then_some(())).await;

    let taken = std::net::TcpListener::bind(("127.0.0.1", old)).expect("free");
    daemon.home.configure(&listen(old, r#""127.0.0.1""#));
    let config = until_taken(&daemon, false).await;
    let error = config["error"].as_str().expect("a reason");
    assert!(error.contains("the old addresses stay") && error.contains(&old.to_string()), "{error}");
    echoes(&daemon.client().await, "kept").await;
    drop(taken);
}

#[tokio::test]
async fn r36_f40_thirty_reloads_under_load_leave_nothing_behind() {
    many_reloads(30, std::time::Duration::ZERO).await;
}

/// A hundred a minute for five minutes. By hand: it takes as long as it says.
#[tokio::test]
#[ignore = "takes five minutes"]
async fn r36_f40_five_hundred_reloads_under_load_leave_nothing_behind() {
    many_reloads(500, std::time::Duration::from_millis(600)).await;
}

async fn many_reloads(count: usize, every: std::time::Duration) {
    let home = Home::new();
    let (kept, _) = fake::stdio(&home, "kept", &[]);
    let (changing, _) = fake::stdio(&home, "changing", &[]);
    let (coming, _) = fake::stdio(&home, "coming", &[]);
    let remote = Fake::start("http", "remote", &[]).await;
    let steady = format!("{kept}{}", remote.block());
    let variant = |number: usize| {
        let other = changing.replace("TEST_MARK", &format!("VARIANT = \"{number}\", TEST_MARK"));
        let coming = if number % 2 == 1 { coming.as_str() } else { "" };
        format!("{steady}tool_timeout_sec = {}\n{other}{coming}", 100 + number)
    };
    home.configure(&variant(0));
    let daemon = Arc::new(home.serve().await);
    daemon.until_ready(&["kept", "changing", "remote"]).await;
    let kept_pid = pid(&daemon, "kept").await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = ["kept", "remote", "kept", "remote"]
        .into_iter()
        .map(|server| {
            let (daemon, stop, calls) = (daemon.clone(), stop.clone(), calls.clone());
            tokio::spawn(async move {
                let client = daemon.client().await;
                while !stop.load(Ordering::Relaxed) {
                    echoes(&client, server).await;
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    // Once around, so that what is made once is there.
    let mut before = None;
    for number in 1..=count {
        daemon.home.configure(&variant(number));
        let pause = tokio::time::sleep(every);
        let asked = daemon.clone();
        let (text, code) = tokio::task::spawn_blocking(move || reload(&asked)).await.expect("no panic");
        assert_eq!(code, Some(0), "{text}");
        pause.await;
        if number == 10 {
            before = Some(settled(&daemon).await);
        }
    }
    let (fds, children, resident) = settled(&daemon).await;
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.expect("no call to an untouched server fails");
    }
    let (fds_before, children_before, resident_before) = before.expect("more than ten");
    eprintln!(
        "{count} reloads, {} calls: descriptors {fds_before} to {fds}, processes {children_before} to {children}, \
         resident {resident_before} to {resident} KiB",
        calls.load(Ordering::Relaxed)
    );
    assert_eq!(pid(&daemon, "kept").await, kept_pid, "the same process");
    assert!(fds <= fds_before + 4, "descriptors: {fds_before} to {fds}");
    assert_eq!(children, children_before, "processes");
    assert!(resident <= resident_before + 16 * 1024, "KiB resident: {resident_before} to {resident}");
    daemon.until_state("changing", "ready").await;
}

/// Descriptors, processes and resident KiB once what was changed has come to rest.
async fn settled(daemon: &Daemon) -> (usize, usize, u64) {
    daemon.until_ready(&["kept", "changing", "remote"]).await;
    let children = until("old processes to go", async || {
        let marked = census::marked(&daemon.home.marker).len();
        let wanted = daemon.health().await["servers"].as_array().expect("servers").len() - 1;
        (marked == 2 * wanted || marked == wanted).then_some(marked)
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("a process").count();
    (fds, children, resident.expect("a size"))
}
