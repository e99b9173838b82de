//! `make bench`: Trunkline beside a direct connection and a bare hyper proxy, in one run, on loopback.
//!
//! Everything measured is a process of its own: the fast upstream (the tests' fake server), the bare proxy (this
//! binary in a hidden mode) and the real daemon. The contenders of a row take turns, several rounds long, so that
//! a machine whose speed drifts bends all of them; the table shows medians, and ratios of medians.

mod health;
mod load;
mod process;
mod proxy;
mod report;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use hyper::body::Bytes;

use load::{Client, Failure, Measured, Speech, as_f64};
use report::{Report, Row};
use stage::{Daemon, Upstream};

/// Clients that post at once, in the rows about small calls.
const CLIENTS: [usize; 3] = [1, 32, 256];
/// Client sessions of the memory rows.
const SESSIONS: usize = 1000;

/// Sessions opened one after the other while all servers sleep.
const OPENED: usize = 500;

#[derive(Parser)]
#[command(about = "Measures Trunkline beside a direct connection and a bare proxy")]
struct Options {
    /// The daemon to measure.
    #[arg(long, default_value = "target/release/trunkline")]
    trunkline: PathBuf,
    /// The fast upstream server.
    #[arg(long, default_value = "target/release/examples/fake-upstream")]
    upstream: PathBuf,
    /// Rounds per row.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measurement, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    millis: u64,
    /// Writes the table to this file as well.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Measures only the sections whose name has this in it: small, eras, large, lists, health, memory.
    #[arg(long)]
    only: Option<String>,
    /// Measures the small calls with these numbers of clients instead, for example `--clients 1,32`.
    #[arg(long, value_delimiter = ',', default_values_t = CLIENTS)]
    clients: Vec<usize>,
    /// Measures only the contenders whose label has one of these in it, for example `--contenders bare,http`.
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// Hidden: be the bare proxy in front of this address.
    #[arg(long, hide = true)]
    proxy_to: Option<SocketAddr>,
}

/// Runs a connection or a load client beside the rest.
#[expect(clippy::disallowed_methods, reason = "the bench is no daemon: its tasks end with it")]
fn background(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(target) = options.proxy_to {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return Ok(runtime.block_on(stage::be_proxy(target))?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = tokio::task::LocalSet::new().block_on(&runtime, measure(&options))?;
    let text = report.to_string();
    println!("{text}");
    if let Some(path) = &options.write {
        std::fs::write(path, text)?;
    }
    Ok(())
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let mut report = Report::default();
    let wanted = |section: &str| options.only.as_ref().is_none_or(|only| section.contains(only.as_str()));
    if wanted("small") {
        small_calls(options, &mut report).await?;
    }
    if wanted("eras") {
        eras(options, &mut report).await?;
    }
    if wanted("large") {
        large_results(options, &mut report).await?;
    }
    if wanted("lists") {
        lists(options, &mut report).await?;
    }
    if wanted("health") {
        health_under_load(options, &mut report).await?;
    }
    if wanted("asleep") {
        asleep(options, &mut report).await?;
    }
    if wanted("memory") {
        start_and_memory(options, &mut report).await?;
    }
    Ok(report)
}

/// One place where a client may knock.
struct Contender {
    label: &'static str,
    address: SocketAddr,
    tool: &'static str,
    pid: Option<u32>,
    is_modern: bool,
}

impl Contender {
    fn speech(&self) -> Speech {
        if self.is_modern { Speech::Modern(self.tool) } else { Speech::Legacy }
    }
}

fn call(tool: &str, bytes: usize) -> Bytes {
    let arguments = format!(r#"{{"bytes":{bytes}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#)
        .into()
}

fn modern_call(tool: &str, bytes: usize) -> Bytes {
    let envelope = concat!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"#,
        r#""io.modelcontextprotocol/clientCapabilities":{}"#
    );
    let params = format!(r#"{{"name":"{tool}","arguments":{{"bytes":{bytes}}},"_meta":{{{envelope}}}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#).into()
}

/// Lets every contender have its turn, `rounds` times; returns the median calls a second, latency in
/// microseconds and CPU microseconds a call of each.
async fn take_turns(
    options: &Options,
    contenders: &[Contender],
    clients: usize,
    bytes: usize,
    body: impl Fn(&Contender) -> Bytes,
) -> Result<Vec<Row>, Failure> {
    let is_wanted = |label: &str| {
        options.contenders.is_empty() || options.contenders.iter().any(|part| label.contains(part.as_str()))
    };
    let contenders: Vec<&Contender> = contenders.iter().filter(|contender| is_wanted(contender.label)).collect();
    let mut found: Vec<Vec<(Measured, f64)>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for (&contender, found) in contenders.iter().zip(&mut found) {
            let before = contender.pid.map(process::cpu_seconds);
            let time = Duration::from_millis(options.millis);
            let measured =
                load::run(contender.address, (clients, contender.speech()), time, &body(contender), bytes).await;
            let measured = measured.map_err(|error| format!("{} at {clients} clients: {error}", contender.label))?;
            let cpu = contender.pid.map(process::cpu_seconds).zip(before).map_or(0.0, |(after, before)| after - before);
            let cpu_us = cpu * 1e6 / as_f64(measured.calls.max(1));
            found.push((measured, cpu_us));
        }
    }
    let rows = contenders.iter().zip(found).map(|(contender, rounds)| Row {
        label: contender.label,
        per_second: report::median(rounds.iter().map(|(measured, _)| measured.per_second())),
        median_us: report::median(rounds.iter().map(|(measured, _)| measured.median_us())),
        cpu_us: contender.pid.map(|_| report::median(rounds.iter().map(|(_, cpu)| *cpu))),
        peak_mib: contender.pid.map(process::peak_mib),
    });
    Ok(rows.collect())
}

async fn small_calls(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let http = Upstream::http(options, "http", 0)?;
    let sse = Upstream::sse(options, "sse")?;
    let proxy = stage::Proxy::start(http.address()?)?;
    let daemon =
        Daemon::start(options, &[&http.config("http"), &sse.config("sse"), &stage::stdio(options, "stdio", 0)]).await?;
    let contenders = [
        Contender { label: "direct", address: http.address()?, tool: "size", pid: None, is_modern: false },
        Contender {
            label: "bare proxy",
            address: proxy.address,
            tool: "size",
            pid: Some(proxy.pid()),
            is_modern: false,
        },
        Contender {
            label: "trunkline, http",
            address: daemon.address,
            tool: "http__size",
            pid: Some(daemon.pid()),
            is_modern: false,
        },
        Contender {
            label: "trunkline, stdio",
            address: daemon.address,
            tool: "stdio__size",
            pid: Some(daemon.pid()),
            is_modern: false,
        },
        Contender {
            label: "trunkline, sse",
            address: daemon.address,
            tool: "sse__size",
            pid: Some(daemon.pid()),
            is_modern: false,
        },
    ];
    for &clients in &options.clients {
        let rows = take_turns(options, &contenders, clients, 1024, |contender| call(contender.tool, 1024)).await?;
        report.section(format!("tools/call, 1 KiB result, {clients} clients"), rows);
    }
    Ok(())
}

/// Small calls between clients and servers of both eras, all over HTTP: what crossing costs.
async fn eras(options: &Options, report: &mut Report) -> Result<(), Failure> {
    const CLIENTS: usize = 32;
    let old = Upstream::http(options, "old", 0)?;
    let new = Upstream::modern(options, "new")?;
    let proxy = stage::Proxy::start(old.address()?)?;
    let daemon = Daemon::start(options, &[&old.config("old"), &new.config("new")]).await?;
    let direct = |label, upstream: &Upstream, is_modern| {
        upstream.address().map(|address| Contender { label, address, tool: "size", pid: None, is_modern })
    };
    let through =
        |label, tool, is_modern| Contender { label, address: daemon.address, tool, pid: Some(daemon.pid()), is_modern };
    let contenders = [
        // What of a difference is the servers' own.
        direct("direct, legacy", &old, false)?,
        direct("direct, modern", &new, true)?,
        Contender {
            label: "bare proxy",
            address: proxy.address,
            tool: "size",
            pid: Some(proxy.pid()),
            is_modern: false,
        },
        through("legacy client, legacy server", "old__size", false),
        through("modern client, modern server", "new__size", true),
        through("legacy client, modern server", "new__size", false),
        through("modern client, legacy server", "old__size", true),
    ];
    let body = |contender: &Contender| {
        if contender.is_modern { modern_call(contender.tool, 1024) } else { call(contender.tool, 1024) }
    };
    let rows = take_turns(options, &contenders, CLIENTS, 1024, body).await?;
    report.section(format!("tools/call between eras, 1 KiB result, {CLIENTS} clients"), rows);
    Ok(())
}

async fn large_results(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for (bytes, clients) in [(1 << 20, 4), (16 << 20, 2)] {
        // Fresh processes, so that the peak of memory is that of this row.
        let http = Upstream::http(options, "http", 0)?;
        let proxy = stage::Proxy::start(http.address()?)?;
        let over_http = Daemon::start(options, &[&http.config("http")]).await?;
        let over_stdio = Daemon::start(options, &[&stage::stdio(options, "stdio", 0)]).await?;
        let contenders = [
            Contender { label: "direct", address: http.address()?, tool: "size", pid: None, is_modern: false },
            Contender {
                label: "bare proxy",
                address: proxy.address,
                tool: "size",
                pid: Some(proxy.pid()),
                is_modern: false,
            },
            Contender {
                label: "trunkline, http",
                address: over_http.address,
                tool: "http__size",
                pid: Some(over_http.pid()),
                is_modern: false,
            },
            Contender {
                label: "trunkline, stdio",
                address: over_stdio.address,
                tool: "stdio__size",
                pid: Some(over_stdio.pid()),
                is_modern: false,
            },
        ];
        let rows = take_turns(options, &contenders, clients, bytes, |contender| call(contender.tool, bytes)).await?;
        report.section(format!("tools/call, {} MiB result, {clients} clients", bytes >> 20), rows);
    }
    Ok(())
}

async fn lists(options: &Options, report: &mut Report) -> Result<(), Failure> {
    // One server that lists as many tools as ten servers behind the daemon do.
    let single = Upstream::http(options, "single", 1000)?;
    let proxy = stage::Proxy::start(single.address()?)?;
    let ten: Vec<Upstream> =
        (0..10).map(|n| Upstream::http(options, &format!("s{n}"), 100)).collect::<Result<_, _>>()?;
    let blocks: Vec<String> =
        ten.iter().enumerate().map(|(n, server)| server.config(&format!("s{n}"))).collect::<Vec<_>>();
    let daemon = Daemon::start(options, &blocks.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let contenders = [
        Contender { label: "direct, 1 server", address: single.address()?, tool: "", pid: None, is_modern: false },
        Contender {
            label: "bare proxy, 1 server",
            address: proxy.address,
            tool: "",
            pid: Some(proxy.pid()),
            is_modern: false,
        },
        Contender {
            label: "trunkline, 10 servers",
            address: daemon.address,
            tool: "",
            pid: Some(daemon.pid()),
            is_modern: false,
        },
    ];
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
    let rows = take_turns(options, &contenders, 8, 80_000, |_| body.clone()).await?;
    report.section("tools/list, 1000 tools, 8 clients".into(), rows);
    Ok(())
}

/// R-39: probes beside as many clients as the rows above have at most.
async fn health_under_load(options: &Options, report: &mut Report) -> Result<(), Failure> {
    const CALLERS: usize = 256;
    let upstream = Upstream::http(options, "http", 0)?;
    let daemon = Daemon::start(options, &[&upstream.config("http")]).await?;
    let over = Arc::new(AtomicBool::new(false));
    let probing = std::thread::spawn({
        let (address, over) = (daemon.address, Arc::clone(&over));
        move || health::probe(address, &over)
    });
    let time = Duration::from_millis(options.millis);
    let loaded = load::run(daemon.address, (CALLERS, Speech::Legacy), time, &call("http__size", 1024), 1024).await;
    over.store(true, Ordering::Relaxed);
    let took = probing.join().map_err(|_| "the probes panicked")??;
    loaded?;
    let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).copied();
    let (median, p99) = (at(50).unwrap_or_default(), at(99).unwrap_or_default());
    let text = format!("median {median:.1} ms, p99 {p99:.1} ms of {}", took.len());
    report.fact("/health/* while 256 clients call", text);
    Ok(())
}

/// First answers with a kept catalogue, while no server answers (F-2).
async fn asleep(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let desks = tempfile::TempDir::new()?;
    let desk = |name: &str| desks.path().join(name);
    let names: Vec<String> = (0..10).map(|number| format!("s{number}")).collect();
    let blocks: Vec<String> = names.iter().map(|name| stage::sleeper(options, name, 20, &desk(name))).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    let dir = Daemon::start(options, &blocks).await?.kill(names.len()).await?;
    for name in &names {
        std::fs::create_dir_all(desk(name))?;
        std::fs::write(desk(name).join("fault"), "hang")?;
    }
    let daemon = Daemon::again(options, &blocks, dir).await?;
    report.fact(
        "first complete list after exec, kept catalogue, all 10 servers asleep",
        format!("{:.0} ms", daemon.ready_ms),
    );
    let mut opened = Vec::with_capacity(OPENED);
    for _ in 0..OPENED {
        let start = tokio::time::Instant::now();
        Client::open(daemon.address).await?;
        opened.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    opened.sort_by(f64::total_cmp);
    report.fact("`initialize` beside it, connection included, p99", format!("{:.1} ms", opened[OPENED * 99 / 100]));
    Ok(())
}

async fn start_and_memory(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let blocks: Vec<String> = (0..10).map(|n| stage::stdio(options, &format!("s{n}"), 20)).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    let daemon = Daemon::start(options, &blocks).await?;
    report.fact("listening after exec, 10 stdio servers", format!("{:.0} ms", daemon.listening_ms));
    report.fact("first complete list after exec, 10 stdio servers", format!("{:.0} ms", daemon.ready_ms));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = process::resident_mib(daemon.pid());
    report.fact("idle, 10 stdio servers", format!("{idle:.1} MiB"));

    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        // The connection goes, the session stays.
        Client::open(daemon.address).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sessions = process::resident_mib(daemon.pid());
    let each_kib = (sessions - idle) * 1024.0 / as_f64(SESSIONS);
    report.fact("more for each idle client session", format!("{each_kib:.1} KiB"));

    for _ in 0..SESSIONS {
        let mut client = Client::open(daemon.address).await?;
        let stream = client.listen().await?;
        clients.push((client, stream));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let streams = process::resident_mib(daemon.pid());
    report.fact("with 1000 open GET streams besides", format!("{streams:.1} MiB"));
    Ok(())
}
