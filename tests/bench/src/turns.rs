//! Who takes part in a row, and the turns they take.
//!
//! Each contender is measured a few times, in turns, and the table shows medians. That bends all of them alike when the
//! machine's speed drifts within minutes, but it does not show a twentieth: for that, an older daemon (`--against`) takes
//! its turn right before or right after the new one, [`PAIRS`] times for a moment each, and what is kept is the
//! median of the ratios within each pair.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Bytes;

use crate::load::{Crowd, Failure, MCP, Measured, Speech, as_f64};
use crate::report::{self, Beside, Ratio, Row};
use crate::stage::{Both, Proxy};
use crate::{Options, process};

/// Pairs of turns beside an older daemon.
const PAIRS: usize = 200;
/// How long each turn of a pair lasts.
const MOMENT: Duration = Duration::from_millis(100);

/// A process that stands between client and server.
#[derive(Clone, Copy)]
pub(crate) struct Middle {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
}

/// One place where a client may knock.
#[derive(Clone)]
pub(crate) struct Contender {
    label: &'static str,
    address: SocketAddr,
    tool: &'static str,
    path: &'static str,
    middle: Option<Middle>,
    rival: Option<Rival>,
    is_modern: bool,
}

/// Who takes the other turn of each pair.
#[derive(Clone, Copy)]
struct Rival {
    middle: Middle,
    path: &'static str,
    tool: &'static str,
}

impl Contender {
    /// Nothing in between.
    pub(crate) fn direct(label: &'static str, address: SocketAddr) -> Self {
        Self { label, address, tool: "size", path: MCP, middle: None, rival: None, is_modern: false }
    }

    pub(crate) fn bare(label: &'static str, proxy: &Proxy) -> Self {
        let middle = Middle { address: proxy.address, pid: proxy.pid() };
        Self { middle: Some(middle), ..Self::direct(label, proxy.address) }
    }

    /// Through the daemon, and the older one if there is one.
    pub(crate) fn through(label: &'static str, daemons: &Both, tool: &'static str) -> Self {
        let middle = daemons.daemon.middle();
        let rival = daemons.rival.as_ref().map(|daemon| Rival { middle: daemon.middle(), path: MCP, tool });
        Self { tool, middle: Some(middle), rival, ..Self::direct(label, middle.address) }
    }

    /// With clients of the modern era.
    pub(crate) fn modern(self) -> Self {
        Self { is_modern: true, ..self }
    }

    /// The same with another tool.
    pub(crate) fn of(self, tool: &'static str) -> Self {
        Self { tool, ..self }
    }

    pub(crate) fn named(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    /// At another path.
    pub(crate) fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// In pairs with another one, who speaks as this one does.
    pub(crate) fn beside(self, other: &Self) -> Self {
        let rival = other.middle.map(|middle| Rival { middle, path: other.path, tool: other.tool });
        Self { rival, ..self }
    }

    fn speech(&self) -> Speech {
        if self.is_modern { Speech::Modern(self.tool) } else { Speech::Legacy }
    }

    /// A call of the fast tool.
    pub(crate) fn call(&self, bytes: usize) -> Bytes {
        let envelope = if self.is_modern { ENVELOPE } else { "" };
        let params = format!(r#"{{"name":"{}","arguments":{{"bytes":{bytes}}}{envelope}}}"#, self.tool);
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#).into()
    }
}

/// What each request of a modern client says of itself.
const ENVELOPE: &str = concat!(
    r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#
);

/// Lets every contender have its turn, as often as the options say; returns the median calls a second, latency in
/// microseconds and CPU microseconds a call of each. `bytes`: what an answer has at least.
pub(crate) async fn take(
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
    let mut crowds = Vec::new();
    for contender in &contenders {
        crowds.push(Crowd::open(contender.address, contender.path, clients, contender.speech()).await?);
    }
    let time = Duration::from_millis(options.millis);
    let mut found: Vec<Vec<(Measured, f64)>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..options.rounds {
        for ((&contender, crowd), found) in contenders.iter().zip(&mut crowds).zip(&mut found) {
            let used = || contender.middle.map_or(0.0, |middle| process::cpu_seconds(middle.pid));
            let before = used();
            let measured = crowd.run(time, &body(contender), bytes).await;
            let measured = measured.map_err(|error| format!("{} at {clients} clients: {error}", contender.label))?;
            let cpu_us = (used() - before) * 1e6 / as_f64(measured.calls.max(1));
            found.push((measured, cpu_us));
        }
    }
    let mut rows = Vec::new();
    for ((&contender, crowd), rounds) in contenders.iter().zip(&mut crowds).zip(found) {
        let beside = match contender.rival {
            Some(rival) => {
                let other = Contender { tool: rival.tool, path: rival.path, rival: None, ..*contender };
                let mut against = Crowd::open(rival.middle.address, other.path, clients, other.speech()).await?;
                let middle = contender.middle.unwrap_or(rival.middle);
                let mut new = Side::new(crowd, middle, body(contender));
                let mut old = Side::new(&mut against, rival.middle, body(&other));
                Some(in_pairs(&mut new, &mut old, bytes).await?)
            }
            None => None,
        };
        rows.push(Row {
            label: contender.label,
            per_second: report::median(rounds.iter().map(|(measured, _)| measured.per_second())),
            median_us: report::median(rounds.iter().map(|(measured, _)| measured.median_us())),
            cpu_us: contender.middle.map(|_| report::median(rounds.iter().map(|(_, cpu)| *cpu))),
            peak_mib: contender.middle.map(|middle| process::peak_mib(middle.pid)),
            beside,
        });
    }
    Ok(rows)
}

/// One of a pair, and what it has used.
struct Side<'a> {
    crowd: &'a mut Crowd,
    pid: u32,
    body: Bytes,
    calls: usize,
    cpu_seconds: f64,
}

impl<'a> Side<'a> {
    fn new(crowd: &'a mut Crowd, middle: Middle, body: Bytes) -> Self {
        Self { crowd, pid: middle.pid, body, calls: 0, cpu_seconds: 0.0 }
    }

    /// Has its turn; returns its calls a second.
    async fn turn(&mut self, bytes: usize) -> Result<f64, Failure> {
        let before = process::cpu_seconds(self.pid);
        let measured = self.crowd.run(MOMENT, &self.body, bytes).await?;
        self.cpu_seconds += process::cpu_seconds(self.pid) - before;
        self.calls += measured.calls;
        Ok(measured.per_second())
    }

    fn cpu_per_call(&self) -> f64 {
        self.cpu_seconds / as_f64(self.calls.max(1))
    }
}

/// How much faster the one is than the other, and how much more of a processor a call takes.
async fn in_pairs(new: &mut Side<'_>, old: &mut Side<'_>, bytes: usize) -> Result<Beside, Failure> {
    let mut ratios = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        // Whoever comes second finds the machine as the first left it.
        let (fresh, older) = if pair % 2 == 0 {
            let fresh = new.turn(bytes).await?;
            (fresh, old.turn(bytes).await?)
        } else {
            let older = old.turn(bytes).await?;
            (new.turn(bytes).await?, older)
        };
        ratios.push(fresh / older);
    }
    Ok(Beside { throughput: Ratio::of(ratios), cpu: new.cpu_per_call() / old.cpu_per_call() })
}
