//! At most once, and told truthfully (R-18): tools with an effect, called while connections are cut at random bytes and a
//! child is killed in the middle of its lines.
//!
//! The server notes each run of the tool `effect` by the nonce of its call. A caller may be told of success only if it
//! ran and answered, of `not_sent` or `refused` only if it did not run, and otherwise of `unknown`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::harness::client::{Client, fault_of, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::proxy::{Cut, End, FaultProxy, Flow, Weather};

/// Callers at the same time, each of which makes one call after the other.
const CALLERS: usize = 8;

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    success: usize,
    not_run: usize,
    unknown: usize,
    ran: usize,
}

impl std::fmt::Display for Told {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { success, not_run, unknown, ran } = self;
        write!(out, "{success} told as done, {not_run} as not sent, {unknown} as unknown; {ran} ran")
    }
}

/// Cuts each connection somewhere within its first bytes, whichever way and in whichever manner the dice say.
fn cutting(seed: u64, within: usize) -> impl FnMut(u64) -> Weather + Send + 'static {
    let mut dice = fastrand::Rng::with_seed(seed);
    move |_| {
        let end = [End::Reset, End::Close, End::HalfClose][dice.usize(..3)];
        let flow = Flow { cut: Some(Cut { after: dice.usize(1..within), end }), ..Flow::default() };
        if dice.bool() {
            Weather { up: flow, ..Weather::default() }
        } else {
            Weather { down: flow, ..Weather::default() }
        }
    }
}

/// Calls the tool of `server` so often, and holds what was told against what was done.
async fn calls(daemon: &Daemon, server: &str, desk: &Desk, count: usize) -> Told {
    let next = Arc::new(AtomicUsize::new(0));
    let callers = join_all((0..CALLERS).map(|_| daemon.client())).await;
    let told = join_all(callers.iter().map(|client| caller(client, server, &next, count))).await;
    let mut runs: HashMap<String, usize> = HashMap::new();
    for nonce in desk.lines("effects") {
        *runs.entry(nonce).or_default() += 1;
    }
    let mut sum = Told { ran: runs.len(), ..Told::default() };
    for (nonce, verdict) in told.into_iter().flatten() {
        let ran = runs.get(&nonce).copied().unwrap_or_default();
        assert!(ran <= 1, "{nonce} ran {ran} times");
        match verdict.as_str() {
            "success" => {
                assert_eq!(ran, 1, "{nonce} succeeded without having run");
                sum.success += 1;
            }
            "not_sent" | "refused" => {
                assert_eq!(ran, 0, "{nonce} ran and was told as {verdict}");
                sum.not_run += 1;
            }
            "unknown" => sum.unknown += 1,
            other => panic!("{nonce}: an outcome that no rule knows: {other}"),
        }
    }
    assert_eq!(sum.success + sum.not_run + sum.unknown, count, "each call was answered once");
    sum
}

async fn caller(client: &Client, server: &str, next: &AtomicUsize, count: usize) -> Vec<(String, String)> {
    let mut told = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return told;
        }
        let nonce = format!("{server}-{number}");
        let result = client.call(&format!("{server}__effect"), &format!(r#"{{"nonce":"{nonce}"}}"#)).await;
        let verdict = if result["isError"] == true {
            fault_of(&result)["outcome"].as_str().expect("an outcome").to_owned()
        } else {
            assert_eq!(text_of(&result), nonce, "somebody else's answer");
            "success".to_owned()
        };
        told.push((nonce, verdict));
    }
}

/// Over a URL, through a proxy that cuts.
async fn over(mode: &str, seed: u64, count: usize) {
    let fake = Fake::start(mode, mode, &[]).await;
    let proxy = FaultProxy::before(&fake.address()).await;
    let home = Home::new();
    home.configure(&format!("[mcp_servers.{mode}]\nurl = {:?}\n", proxy.url(&fake.url)));
    let daemon = home.serve().await;
    daemon.until_ready(&[mode]).await;
    proxy.choose(cutting(seed, 40_000));
    proxy.reset_all();
    let told = calls(&daemon, mode, &fake.desk(), count).await;
    println!("{mode}, seed {seed}: {told}, {} connections", proxy.counts().accepted.load(Ordering::Relaxed));
    assert!(told.success > 0, "{told:?}");
}

/// Over pipes, with a child that is killed, or dies in the middle of a line.
async fn over_pipes(seed: u64, count: usize) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "stdio", &[]);
    home.configure(&block);
    let daemon = Arc::new(home.serve().await);
    daemon.until_ready(&["stdio"]).await;
    let over = Arc::new(AtomicBool::new(false));
    let killing = async {
        let mut dice = fastrand::Rng::with_seed(seed);
        let client = daemon.client().await;
        let mut deaths = 0;
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(dice.u64(5..150))).await;
            if dice.bool() {
                client.call("stdio__half", "{}").await;
            } else {
                let pid = desk.lines("starts").last().and_then(|pid| pid.parse().ok());
                if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            deaths += 1;
            // A person who knows better: without it the crash loop would rightly keep the server away for a minute.
            daemon.cli(["restart", "stdio"]);
            daemon.until_ready(&["stdio"]).await;
        }
        deaths
    };
    let calling = async {
        let told = calls(&daemon, "stdio", &desk, count).await;
        over.store(true, Ordering::Relaxed);
        told
    };
    let (deaths, told) = tokio::join!(killing, calling);
    println!("stdio, seed {seed}: {told}, {deaths} deaths");
    assert!(told.success > 0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_f17_over_streamable_http_a_tool_runs_at_most_once_and_its_caller_hears_the_truth() {
    over("http", 17, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_f17_over_the_legacy_pair_a_tool_runs_at_most_once_and_its_caller_hears_the_truth() {
    over("sse", 18, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_f17_over_pipes_a_tool_runs_at_most_once_and_its_caller_hears_the_truth() {
    over_pipes(19, 300).await;
}

/// By hand: `cargo test --test blackbox -- --ignored --nocapture r18_ten_thousand`. Prints what callers were told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn r18_ten_thousand_calls_with_connections_cut_at_random_bytes() {
    let seed = fastrand::u64(..1_000_000);
    over("http", seed, 4000).await;
    over("sse", seed, 2000).await;
    over_pipes(seed, 4000).await;
}
