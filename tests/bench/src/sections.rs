//! The sections of the table: which processes stand, and who takes turns before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Bytes;

use crate::load::{Client, Crowd, Failure, MCP, Speech, as_f64};
use crate::report::Report;
use crate::stage::{self, Both, Daemon, Upstream};
use crate::turns::{self, Contender};
use crate::{Options, health, process};

/// Client sessions of the memory rows.
const SESSIONS: usize = 1000;
/// Sessions opened one after the other while all servers sleep.
const OPENED: usize = 500;

pub(crate) async fn small_calls(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let http = Upstream::http(options, "http", 0)?;
    let sse = Upstream::sse(options, "sse")?;
    let proxy = stage::Proxy::start(http.address()?)?;
    let blocks = [&http.config("http"), &sse.config("sse"), &stage::stdio(options, "stdio", 0)];
    let daemons = Both::start(options, &blocks.map(String::as_str)).await?;
    let contenders = [
        Contender::direct("direct", http.address()?),
        Contender::bare("bare proxy", &proxy),
        Contender::through("trunkline, http", &daemons, "http__size"),
        Contender::through("trunkline, stdio", &daemons, "stdio__size"),
        Contender::through("trunkline, sse", &daemons, "sse__size"),
    ];
    for &clients in &options.clients {
        let rows = turns::take(options, &contenders, clients, 1024, |contender| contender.call(1024)).await?;
        report.section(format!("tools/call, 1 KiB result, {clients} clients"), rows);
    }
    Ok(())
}

/// Small calls between clients and servers of both eras, all over HTTP: what crossing costs.
pub(crate) async fn eras(options: &Options, report: &mut Report) -> Result<(), Failure> {
    const CLIENTS: usize = 32;
    let old = Upstream::http(options, "old", 0)?;
    let new = Upstream::modern(options, "new")?;
    let proxy = stage::Proxy::start(old.address()?)?;
    let daemons = Both::start(options, &[&old.config("old"), &new.config("new")]).await?;
    let contenders = [
        // What of a difference is the servers' own.
        Contender::direct("direct, legacy", old.address()?),
        Contender::direct("direct, modern", new.address()?).modern(),
        Contender::bare("bare proxy", &proxy),
        Contender::through("legacy client, legacy server", &daemons, "old__size"),
        Contender::through("modern client, modern server", &daemons, "new__size").modern(),
        Contender::through("legacy client, modern server", &daemons, "new__size"),
        Contender::through("modern client, legacy server", &daemons, "old__size").modern(),
    ];
    let rows = turns::take(options, &contenders, CLIENTS, 1024, |contender| contender.call(1024)).await?;
    report.section(format!("tools/call between eras, 1 KiB result, {CLIENTS} clients"), rows);
    Ok(())
}

/// What it costs that a client is shown a part: small calls at a profile, and of a server with filters, beside plain ones.
pub(crate) async fn shapes(options: &Options, report: &mut Report) -> Result<(), Failure> {
    const CLIENTS: usize = 32;
    // All three blocks lead to one process, and all clients to one daemon: what differs is the shape alone.
    let server = Upstream::http(options, "server", 200)?;
    let proxy = stage::Proxy::start(server.address()?)?;
    let filters = "enabled_tools = [\"e*\", \"size\", \"tool_00*\"]\ndisabled_tools = [\"tool_009*\", \"exit\"]\n";
    let rename = "[mcp_servers.filtered.rename]\nsize = \"weigh\"\n";
    let profile = concat!(
        "[profiles.part]\nservers = [\"plain\", \"filtered\"]\n",
        "enabled_tools = [\"plain__*\", \"filtered__*\", \"weigh\"]\ndisabled_tools = [\"*_01*\", \"*exit*\"]\n",
    );
    let argument = "[mcp_servers.fixed.tools.size.default]\npad = \"x\"\n";
    let blocks = [
        server.config("plain"),
        format!("{}{filters}{rename}{profile}", server.config("filtered")),
        format!("{}{argument}", server.config("fixed")),
    ];
    let daemons = Both::start(options, &blocks.each_ref().map(String::as_str)).await?;
    let plain = || Contender::through("trunkline, plain", &daemons, "plain__size");
    let contenders = [
        Contender::bare("bare proxy", &proxy),
        // The first of them against itself: what the other ratios are worth.
        plain().beside(&plain()),
        Contender::through("server with filters and a renamed tool", &daemons, "weigh").beside(&plain()),
        plain().named("profile with filters").at("/mcp/part").beside(&plain()),
        Contender::through("both", &daemons, "weigh").at("/mcp/part").beside(&plain()),
        Contender::through("tool with an argument put in", &daemons, "fixed__size").beside(&plain()),
    ];
    let rows = turns::take(options, &contenders, CLIENTS, 1024, |contender| contender.call(1024)).await?;
    report.section_beside("plain", format!("tools/call in other shapes, 1 KiB result, {CLIENTS} clients"), rows);
    Ok(())
}

pub(crate) async fn large_results(options: &Options, report: &mut Report) -> Result<(), Failure> {
    for (bytes, clients) in [(1 << 20, 4), (16 << 20, 2)] {
        // Fresh processes, so that the peak of memory is that of this row.
        let http = Upstream::http(options, "http", 0)?;
        let proxy = stage::Proxy::start(http.address()?)?;
        let over_http = Both::start(options, &[&http.config("http")]).await?;
        let over_stdio = Both::start(options, &[&stage::stdio(options, "stdio", 0)]).await?;
        let contenders = [
            Contender::direct("direct", http.address()?),
            Contender::bare("bare proxy", &proxy),
            Contender::through("trunkline, http", &over_http, "http__size"),
            Contender::through("trunkline, stdio", &over_stdio, "stdio__size"),
        ];
        let rows = turns::take(options, &contenders, clients, bytes, |contender| contender.call(bytes)).await?;
        report.section(format!("tools/call, {} MiB result, {clients} clients", bytes >> 20), rows);
    }
    Ok(())
}

pub(crate) async fn lists(options: &Options, report: &mut Report) -> Result<(), Failure> {
    // One server that lists as many tools as ten servers behind the daemon do.
    let single = Upstream::http(options, "single", 1000)?;
    let proxy = stage::Proxy::start(single.address()?)?;
    let ten: Vec<Upstream> =
        (0..10).map(|n| Upstream::http(options, &format!("s{n}"), 100)).collect::<Result<_, _>>()?;
    let blocks: Vec<String> =
        ten.iter().enumerate().map(|(n, server)| server.config(&format!("s{n}"))).collect::<Vec<_>>();
    let daemons = Both::start(options, &blocks.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let contenders = [
        Contender::direct("direct, 1 server", single.address()?),
        Contender::bare("bare proxy, 1 server", &proxy),
        Contender::through("trunkline, 10 servers", &daemons, ""),
    ];
    let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
    let rows = turns::take(options, &contenders, 8, 80_000, |_| body.clone()).await?;
    report.section("tools/list, 1000 tools, 8 clients".into(), rows);
    Ok(())
}

/// R-39: probes beside as many clients as the rows above have at most.
pub(crate) async fn health_under_load(options: &Options, report: &mut Report) -> Result<(), Failure> {
    const CALLERS: usize = 256;
    let upstream = Upstream::http(options, "http", 0)?;
    let daemon = Daemon::start(options, &[&upstream.config("http")]).await?;
    let over = Arc::new(AtomicBool::new(false));
    let probing = std::thread::spawn({
        let (address, over) = (daemon.address, Arc::clone(&over));
        move || health::probe(address, &over)
    });
    let body = Contender::direct("", daemon.address).of("http__size").call(1024);
    let mut crowd = Crowd::open(daemon.address, MCP, CALLERS, Speech::Legacy).await?;
    let loaded = crowd.run(Duration::from_millis(options.millis), &body, 1024).await;
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
pub(crate) async fn asleep(options: &Options, report: &mut Report) -> Result<(), Failure> {
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

pub(crate) async fn start_and_memory(options: &Options, report: &mut Report) -> Result<(), Failure> {
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
