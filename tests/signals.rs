//! Signals, and what they end: the stop of reliability 8 as a client and as the service manager see it, the dump of
//! what is running, and the watchdog.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::harness::client::{Answer, Client, json, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::modern::Modern;
use crate::harness::{census, fake, http, in_time, until};

/// Longer than any stop may take.
const STOP: Duration = Duration::from_secs(40);

async fn with_one(args: &[&str], limits: &str, flags: &[&str]) -> (Daemon, fake::Desk) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", args);
    home.configure(&format!("{block}\n[limits]\n{limits}\n"));
    let daemon = home.serve_with(flags, &[]).await;
    daemon.until_ready(&["one"]).await;
    (daemon, desk)
}

/// What a call comes to: the text of the last message of its answer.
async fn last_of(answer: Answer) -> String {
    match answer {
        Answer::Whole(text) => text,
        Answer::Stream(events) => {
            let (events, _) = events.rest().await;
            events.into_iter().rev().find(|event| !event.data.is_empty()).expect("an answer").data
        }
    }
}

#[tokio::test]
async fn r35_f38_work_in_flight_completes_and_open_streams_end_cleanly() {
    const BYTES: usize = 1 << 20;
    let (daemon, desk) = with_one(&[], "", &[]).await;
    let clients = join_all((0..20).map(|_| daemon.client())).await;
    let streams = join_all(clients.iter().map(|client| client.listen(None))).await;
    let mut listen = Modern::new(&daemon.url).listen(&json(r#"{"toolsListChanged":true}"#)).await;
    // Answers so large that they are being sent when the stop comes, and calls that are being worked on.
    let sized = format!(r#"{{"name":"one__size","arguments":{{"bytes":{BYTES}}}}}"#);
    let body = crate::harness::client::request("1", "tools/call", &sized);
    let large = join_all((0..50).map(|_| clients[0].post(&body))).await;
    let slow = tokio::spawn({
        let url = daemon.url.clone();
        async move {
            let client = Client::connect(&url, "2025-11-25").await;
            text_of(&client.call("one__effect", r#"{"nonce":"slow","ms":1500}"#).await).to_owned()
        }
    });
    until("the slow call to be worked on", async || desk.lines("effects").contains(&"slow".into()).then_some(())).await;
    daemon.signal(Signal::TERM);
    let stop = tokio::spawn(daemon.ended(STOP));
    for reply in large {
        let text = reply.text().await;
        assert!(text.len() > BYTES && text.ends_with('}'), "{} bytes came", text.len());
    }
    for stream in streams {
        let (events, _) = stream.events().rest().await;
        assert!(events.last().is_some_and(|event| event.retry.is_some()), "{events:?}");
    }
    // Whatever was announced before, the completion is the end.
    let mut last = listen.next().await.expect("a completion");
    while last["result"].is_null() {
        assert_eq!(last["method"], "notifications/tools/list_changed", "{last}");
        last = listen.next().await.expect("a completion");
    }
    assert_eq!(slow.await.expect("no panic"), "slow");
    let (status, home) = stop.await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{}", home.log());
}

#[tokio::test]
async fn r35_what_comes_on_an_old_connection_while_it_drains_is_refused_with_its_id() {
    let (daemon, desk) = with_one(&[], "", &[]).await;
    let busy = daemon.client().await;
    let call = tokio::spawn(async move { busy.call("one__effect", r#"{"nonce":"busy","ms":2500}"#).await });
    until("the call to be worked on", async || (!desk.lines("effects").is_empty()).then_some(())).await;
    // A head that has begun keeps its connection.
    let mut half = tokio::net::TcpStream::connect(daemon.address()).await.expect("it listens");
    let body = r#"{"jsonrpc":"2.0","id":"late","method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        daemon.address(),
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut half, head.as_bytes()).await.expect("open");
    tokio::time::sleep(Duration::from_millis(100)).await;
    daemon.signal(Signal::TERM);
    let stop = tokio::spawn(daemon.ended(STOP));
    tokio::time::sleep(Duration::from_millis(700)).await;
    tokio::io::AsyncWriteExt::write_all(&mut half, format!("\r\n{body}").as_bytes()).await.expect("open");
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut half, &mut answer).await.expect("it closes");
    let answer = answer.to_ascii_lowercase();
    for part in ["http/1.1 503", "retry-after: 2", "connection: close", "\"id\":\"late\"", "-31005", "not_sent"] {
        assert!(answer.contains(part), "{part} is missing in {answer}");
    }
    assert_eq!(text_of(&call.await.expect("no panic")), "busy");
    assert_eq!(stop.await.expect("no panic").0.code(), Some(0));
}

#[tokio::test]
async fn r35_calls_that_outlast_the_drain_are_cancelled_and_answered() {
    let (daemon, desk) = with_one(&[], "drain_sec = 1", &[]).await;
    let legacy = daemon.client().await;
    let held = legacy.start("7", "one__hang", "{}").await;
    let modern = Modern::new(&daemon.url);
    let other = tokio::spawn(async move { modern.ask("tools/call", r#"{"name":"one__hang","arguments":{}}"#).await });
    let calls = |desk: &fake::Desk| desk.received().iter().filter(|seen| seen.to_string().contains("hang")).count();
    until("both calls", async || (calls(&desk) == 2).then_some(())).await;
    daemon.signal(Signal::TERM);
    let stop = tokio::spawn(daemon.ended(STOP));
    for text in [last_of(held).await, other.await.expect("no panic")] {
        let fault = &json(&text)["result"]["_meta"]["dev.trunkline/fault"];
        assert_eq!((&fault["code"], &fault["outcome"]), (&json("-31005"), &json("\"unknown\"")), "{text}");
        assert_eq!(fault["server"], "one", "{text}");
    }
    let (status, home) = stop.await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let cancelled = desk.received().iter().filter(|seen| seen.to_string().contains("notifications/cancelled")).count();
    assert_eq!(cancelled, 2, "the server was told to give both up");
}

/// In the legacy era a client that goes away has cancelled nothing (R-44).
#[tokio::test]
async fn r35_a_call_whose_client_went_away_has_the_drain_like_any_other() {
    let (daemon, desk) = with_one(&[], "", &[]).await;
    let client = daemon.client().await;
    let call = tokio::spawn(async move { client.call("one__effect", r#"{"nonce":"left","ms":2500}"#).await });
    until("the call to be worked on", async || (!desk.lines("effects").is_empty()).then_some(())).await;
    call.abort();
    assert!(call.await.is_err(), "its client is gone, and with it every connection");
    let (status, home) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let log = home.log();
    assert!(log.contains("calls of clients that went away"), "{log}");
    assert!(!desk.received().iter().any(|seen| seen.to_string().contains("notifications/cancelled")));
}

#[tokio::test]
async fn r35_what_waits_for_its_turn_is_refused_when_the_stop_begins() {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&format!("{block}limits = {{ in_flight = 1, queue_wait_sec = 30 }}\n"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let client = std::sync::Arc::new(daemon.client().await);
    let call = |id: &'static str, arguments: &'static str| {
        let client = std::sync::Arc::clone(&client);
        tokio::spawn(async move { last_of(client.start(id, "one__effect", arguments).await).await })
    };
    let first = call("1", r#"{"nonce":"first","ms":2500}"#);
    until("the first to be worked on", async || (!desk.lines("effects").is_empty()).then_some(())).await;
    let queued = call("2", r#"{"nonce":"second"}"#);
    until("the second to wait", async || {
        (daemon.metric("trunkline_queue_depth", &["server=\"one\""]).await > 0.5).then_some(())
    })
    .await;
    daemon.signal(Signal::TERM);
    let stop = tokio::spawn(daemon.ended(STOP));
    let fault = json(&queued.await.expect("no panic"))["result"]["_meta"]["dev.trunkline/fault"].clone();
    assert_eq!((&fault["code"], &fault["outcome"]), (&json("-31005"), &json("\"not_sent\"")), "{fault}");
    assert_eq!(text_of(&json(&first.await.expect("no panic"))["result"]), "first");
    let (status, _home) = stop.await.expect("no panic");
    assert_eq!(status.code(), Some(0));
    assert_eq!(desk.lines("effects"), ["first"]);
}

#[tokio::test]
async fn r35_f39_a_second_signal_does_not_wait_for_the_drain() {
    let (daemon, _) = with_one(&["--stubborn", "--family"], "drain_sec = 300", &[]).await;
    let client = daemon.client().await;
    let held = client.start("7", "one__hang", "{}").await;
    let marker = daemon.home.marker.clone();
    daemon.signal(Signal::TERM);
    until("the drain", async || daemon.home.log().contains("stopping:").then_some(())).await;
    // The wait for the end is far shorter than the drain: the second signal is what ends it.
    daemon.signal(Signal::TERM);
    let stop = tokio::spawn(daemon.ended(STOP));
    assert!(last_of(held).await.contains("-31005"));
    let (status, home) = stop.await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{}", home.log());
    until("every descendant to be gone", async || census::marked(&marker).is_empty().then_some(())).await;
}

#[tokio::test]
async fn r35_f39_a_signal_while_servers_start_ends_it_in_order() {
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "slow", &["--slow-start-ms", "60000"]);
    home.configure(&block);
    let marker = home.marker.clone();
    let daemon = home.serve().await;
    until("the start to have begun", async || (!census::marked(&marker).is_empty()).then_some(())).await;
    let (status, home) = daemon.stop().await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    until("every descendant to be gone", async || census::marked(&marker).is_empty().then_some(())).await;
}

#[tokio::test]
async fn quit_writes_what_is_running_to_the_log_and_stops_nothing() {
    let (daemon, _) = with_one(&[], "", &[]).await;
    let client = daemon.client().await;
    let _stream = client.listen(None).await;
    daemon.signal(Signal::QUIT);
    until("the dump", async || {
        let log = daemon.home.log();
        let wanted = ["running: a server", "state=\"ready\"", "get_streams=1", "task=\"connection\""];
        wanted.iter().all(|part| log.contains(part)).then_some(())
    })
    .await;
    assert_eq!(text_of(&client.call("one__echo", r#"{"message":"on"}"#).await), "on");
}

#[tokio::test]
async fn r38_a_service_manager_hears_that_it_is_ready_each_beat_and_the_stop() {
    let home = Home::new();
    home.configure("");
    let path = home.path("notify");
    let manager = tokio::net::UnixDatagram::bind(&path).expect("free");
    let path = path.to_str().expect("UTF-8").to_owned();
    let daemon = home.serve_with(&[], &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "30000000")]).await;
    let heard = async || {
        let mut text = [0; 256];
        let length = in_time("a word of the daemon", manager.recv(&mut text)).await.expect("open");
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };
    assert_eq!(heard().await, "READY=1");
    assert_eq!(heard().await, "WATCHDOG=1");
    assert_eq!(heard().await, "WATCHDOG=1");
    daemon.signal(Signal::STOP);
    // What it said before it was stopped may still lie there.
    while manager.try_recv(&mut [0; 256]).is_ok() {}
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(manager.try_recv(&mut [0; 256]).is_err(), "one that does not run says nothing");
    daemon.signal(Signal::CONT);
    assert_eq!(heard().await, "WATCHDOG=1");
    daemon.signal(Signal::TERM);
    while heard().await != "STOPPING=1" {}
    assert_eq!(daemon.ended(STOP).await.0.code(), Some(0));
}

#[tokio::test]
#[cfg(debug_assertions)]
async fn r38_f42_a_daemon_that_does_not_move_any_more_ends_itself_and_its_children() {
    let flags = ["--watchdog-sec", "4", "--wedge-after-ms", "1500"];
    let (daemon, _) = with_one(&[], "", &flags).await;
    let marker = daemon.home.marker.clone();
    let (status, home) = daemon.ended(Duration::from_mins(1)).await;
    assert_eq!(status.code(), Some(70), "{}", home.log());
    assert!(home.log().contains("nothing moves any more"), "{}", home.log());
    until("every descendant to be gone", async || census::marked(&marker).is_empty().then_some(())).await;
}

#[tokio::test]
async fn r38_r45_f22_a_daemon_that_was_stopped_is_not_wedged() {
    let (mut daemon, _) = with_one(&[], "", &["--watchdog-sec", "4"]).await;
    daemon.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(8)).await;
    daemon.signal(Signal::CONT);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(daemon.is_running(), "{}", daemon.home.log());
    assert_eq!(daemon.page("/health/live").await.0, 200);
}

#[tokio::test]
async fn r41_f44_a_port_that_another_trunkline_has_is_said_with_its_pid() {
    let daemon = Daemon::start("").await;
    let pid = daemon.health().await["pid"].to_string();
    let home = Home::new();
    home.configure("");
    let output = home.run(["serve", "--listen", daemon.address()]);
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8_lossy(&output.stderr);
    for part in [daemon.address(), "another trunkline", &pid] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn r41_a_successor_waits_for_the_drain_of_its_predecessor() {
    let (daemon, desk) = with_one(&[], "", &[]).await;
    let client = daemon.client().await;
    let call = tokio::spawn(async move { client.call("one__effect", r#"{"nonce":"x","ms":6500}"#).await });
    until("the call to be worked on", async || (!desk.lines("effects").is_empty()).then_some(())).await;
    let address = daemon.address().to_owned();
    daemon.signal(Signal::TERM);
    until("the drain", async || daemon.home.log().contains("stopping:").then_some(())).await;
    let mut next = daemon.home.command(["serve", "--listen", &address]).spawn().expect("it starts");
    assert_eq!(text_of(&call.await.expect("no panic")), "x");
    until("the successor", async || {
        assert!(next.try_wait().expect("our child").is_none(), "it gave up");
        let connected = tokio::net::TcpStream::connect(&address).await.is_ok();
        (connected && http::get(&address, "/health/ready").await.status == 200).then_some(())
    })
    .await;
    census::signal(next.id(), Signal::TERM);
    until("the end", async || next.try_wait().expect("our child")).await;
}
