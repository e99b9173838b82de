//! `make bench`: Trunkline beside a direct connection and a bare hyper proxy, in one run, on loopback.
//!
//! Everything measured is a process of its own: the fast upstream (the tests' fake server), the bare proxy (this
//! binary in a hidden mode) and the real daemon. The contenders of a row take turns, several rounds long, so that
//! a machine whose speed drifts bends all of them; the table shows medians, and ratios of medians. How an
//! older daemon compares, if one is named, is told by many short pairs of turns: `turns.rs`.

mod health;
mod load;
mod process;
mod proxy;
mod report;
mod sections;
mod stage;
mod turns;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use load::Failure;
use report::Report;

/// Clients that post at once, in the rows about small calls.
const CLIENTS: [usize; 3] = [1, 32, 256];

#[derive(Parser)]
#[command(about = "Measures Trunkline beside a direct connection and a bare proxy")]
struct Options {
    /// The daemon to measure.
    #[arg(long, default_value = "target/release/trunkline")]
    trunkline: PathBuf,
    /// Another daemon, an older one, that takes its turn right beside the first: the table then says how they compare.
    #[arg(long)]
    against: Option<PathBuf>,
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
    /// Measures only the sections whose name has this in it: small, eras, shapes, large, lists, health, asleep, memory.
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
        sections::small_calls(options, &mut report).await?;
    }
    if wanted("eras") {
        sections::eras(options, &mut report).await?;
    }
    if wanted("shapes") {
        sections::shapes(options, &mut report).await?;
    }
    if wanted("large") {
        sections::large_results(options, &mut report).await?;
    }
    if wanted("lists") {
        sections::lists(options, &mut report).await?;
    }
    if wanted("health") {
        sections::health_under_load(options, &mut report).await?;
    }
    if wanted("asleep") {
        sections::asleep(options, &mut report).await?;
    }
    if wanted("memory") {
        sections::start_and_memory(options, &mut report).await?;
    }
    Ok(report)
}
