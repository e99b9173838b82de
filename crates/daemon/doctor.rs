//! `trunkline doctor`: looks at everything between a client and the servers, and says of each thing that is wrong what it
//! is, why, and the command that mends it.
//!
//! With a running daemon its own word is taken for the servers; without one each is tried for a moment, as the daemon would
//! run it. Either way the same table says what helps (`edge::advice`). Nothing is changed: no file is written, and no
//! sign-in begun.

mod clients;
mod commands;
mod home;
mod port;
mod report;
mod running;
mod service;
mod trial;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use trunkline_config::{Listen, Loaded, Sources};

use self::clients::Served;
use self::report::{Finding, Mark, Report};
use self::running::Running;
use crate::check;
use crate::clients::Surroundings;
use crate::exit::{self, Failure};
use crate::{import, render, stateful};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The help's last words.
pub(crate) const EXAMPLES: &str = "\
With a running daemon its own word is taken for the servers; without one each is tried for a
moment. Nothing is changed. Exits with 0 if all is well, with 1 if there is a finding. Each has a
code that stays the same; docs/errors.md has more on it.

For scripts:
  trunkline doctor --json | jq -r '.findings[] | \"\\(.code) \\(.server // \"\")\"'";

/// How the doctor looks.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// How long a server may take to answer where it has to be tried
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
}

/// Looks, prints, and says by the exit code whether all is well.
pub(crate) fn run(doctor: &Doctor, sources: &Sources, state_dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(Err(Failure::failed(format!("no runtime: {error}")))),
    };
    let outcome = runtime.block_on(examine(sources, state_dir, Duration::from_secs(doctor.wait)));
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(report) => {
            let text = if doctor.json { report.json(VERSION) } else { report.text(VERSION) };
            exit::printed(&text, report.findings.is_empty())
        }
        Err(failure) => exit::report(Err(failure)),
    }
}

async fn examine(sources: &Sources, state_dir: &Path, patience: Duration) -> Result<Report, Failure> {
    let mut report = Report::default();
    let env = &sources.env;
    let loaded = configuration(sources, &mut report);
    home::state(state_dir, &mut report);
    let running = running::ask(state_dir).await;
    let usual = Listen::default();
    let listen = loaded.as_ref().map_or(&usual, |loaded| &loaded.config.listen);
    if let Some(running) = &running {
        running.examine(VERSION, loaded.as_ref(), &mut report);
    } else {
        report.note("daemon", Mark::Absent, "does not run; `trunkline serve` runs it");
        port::examine(listen, &mut report).await;
    }
    let of_service = service::examine(env, &mut report);
    let port = running.as_ref().and_then(served_port).unwrap_or(listen.port);
    let mut explained = Vec::new();
    if let Some(Loaded { config, .. }) = &loaded {
        let of_daemon = running.as_ref().and_then(|running| home::variables(running.report.pid));
        let (variables, whose) = match (of_daemon, of_service) {
            (Some(variables), _) => (variables, "the daemon's PATH"),
            (None, Some(path)) => (home::with_path(env, path), "the service's PATH"),
            (None, None) => (env.clone(), "your PATH"),
        };
        let before = report.findings.len();
        commands::examine(config, &variables, whose, &mut report);
        explained = report.findings[before..].to_vec();
        let enabled = config.servers.iter().filter(|(_, server)| server.enabled);
        for hint in enabled.filter_map(|(name, server)| stateful::hint(name.as_str(), server)) {
            report.note("sharing", Mark::Absent, hint);
        }
    }
    match (running, &loaded) {
        (Some(running), _) => running.servers(&explained, &mut report),
        (None, Some(loaded)) => {
            trial::run(loaded.config.clone(), (env, state_dir), patience, &explained, &mut report).await?;
        }
        (None, None) => report.note("servers", Mark::Absent, "not tried, for want of a configuration"),
    }
    let wants_token = loaded.as_ref().is_some_and(|loaded| !loaded.config.auth.tokens.is_empty());
    let config = sources.file.clone().unwrap_or_else(|| trunkline_config::default_config_path(env));
    let servers = import::configured(&config, sources).map(|(servers, _)| servers).unwrap_or_default();
    clients::examine(&Surroundings::here(env), &Served { servers, config, wants_token }, port, &mut report);
    report.sort();
    Ok(report)
}

fn configuration(sources: &Sources, report: &mut Report) -> Option<Loaded> {
    match trunkline_config::load(sources) {
        Ok(loaded) => {
            let count = render::counted(loaded.config.servers.len(), "server");
            if let Some(path) = &loaded.path {
                report.note("config", Mark::Well, format!("{}: {count}", path.display()));
            } else {
                let path = trunkline_config::default_config_path(&sources.env);
                let says = format!("{} is not there; `trunkline add` writes it", path.display());
                report.note("config", Mark::Absent, says);
            }
            let holders = check::holders(&loaded.config.auth);
            if !holders.is_empty() {
                let each: Vec<String> = holders.iter().map(|(name, reaches)| format!("{name} ({reaches})")).collect();
                report.note("door", Mark::Well, format!("wants a token: {}", each.join(", ")));
            }
            Some(loaded)
        }
        Err(errors) => {
            let advice = "Mend what is named; a running daemon goes on with what it read before.";
            let finding = |error: &_| Finding::error("TL-CONFIG", format!("{error}"), advice).by("trunkline check");
            let findings: Vec<Finding> = errors.0.iter().map(finding).collect();
            report.part("config", render::counted(findings.len(), "problem"), findings);
            None
        }
    }
}

/// The port that the daemon is at, by its own account.
fn served_port(running: &Running) -> Option<u16> {
    running.report.listen.iter().find_map(|url| url::Url::parse(url).ok()?.port_or_known_default())
}
