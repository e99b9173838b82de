//! The `trunkline` binary: which command goes to which module.

mod activation;
mod add;
mod ask;
mod check;
mod cli;
mod clients;
mod confirm;
mod connect;
mod demo;
mod doctor;
mod dump;
mod edit;
mod exit;
mod generate;
mod import;
mod init;
mod lifecycle;
mod limits;
mod listening;
mod live;
mod lock;
mod login;
mod pins;
mod reload;
mod render;
mod service;
mod state;
mod stateful;
mod stdio;
mod stop;
mod swap;
mod tokens;
mod vitals;
mod watch;
mod watchdog;

use std::process::ExitCode;

use clap::Parser;
use trunkline_config::{Flags, LogFormat, Sources};
use trunkline_telemetry::logs;

use crate::cli::{Cli, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Variables that are not text cannot be configuration.
    let env: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let state_dir = trunkline_config::state_dir(&env);
    let sources = |listen| Sources { file: cli.config.clone(), env: env.clone(), flags: Flags { listen } };
    match cli.command {
        Command::Serve(serve) => self::serve(serve, &sources, lifecycle::Place { state_dir, inherited: env.clone() }),
        Command::Check => check::run(&sources(None)),
        Command::Add(add) => printed(add::run(&add, &sources(None))),
        Command::Import(import) => printed(import::run(&import, &sources(None))),
        Command::Connect(connect) => printed(connect::run(&connect, &sources(None), &state_dir)),
        Command::Stdio(stdio) => stdio::run(&stdio, sources(None), state_dir),
        Command::Edit(edit) => printed(edit::run(&edit, &sources(None))),
        Command::Ask(ask) => ask::run(&ask, &state_dir),
        Command::Doctor(doctor) => doctor::run(&doctor, &sources(None), &state_dir),
        Command::Service(service) => service::run(&service, &sources(None), &state_dir),
        Command::Init => printed(init::run(&sources(None))),
        Command::Schema { markdown } => {
            let text = if markdown { trunkline_config::reference() } else { trunkline_config::schema() };
            printed(Ok(text))
        }
        Command::Completions { shell } => printed(Ok(generate::completions(shell))),
        Command::Man(man) => printed(generate::manual(&man)),
        Command::Guard { args } => trunkline_upstream::guard::main(args),
        Command::Demo => exit::report(demo::serve().map_err(|error| Failure::failed(error.to_string()))),
    }
}

fn printed(outcome: Result<String, Failure>) -> ExitCode {
    match outcome {
        Ok(text) => exit::printed(&text, true),
        Err(failure) => exit::report(Err(failure)),
    }
}

fn serve(serve: cli::Serve, sources: &dyn Fn(Option<String>) -> Sources, place: lifecycle::Place) -> ExitCode {
    let handed = match activation::take(&place.inherited) {
        Ok(handed) => handed,
        Err(failure) => return exit::report(Err(failure)),
    };
    let sources = sources(serve.listen);
    let loaded = match trunkline_config::load(&sources) {
        Ok(loaded) => loaded,
        Err(errors) => return exit::report(Err(Failure::config(errors.to_string()))),
    };
    let format = match loaded.config.log.format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    logs::init(loaded.config.log.level.as_str(), format);
    lifecycle::serve(lifecycle::Serve {
        loaded,
        sources,
        place,
        handed,
        demo: serve.demo,
        ready_file: serve.ready_file,
        watchdog_ticks: serve.watchdog_sec,
        #[cfg(debug_assertions)]
        wedge_after: serve.wedge_after_ms.map(std::time::Duration::from_millis),
        #[cfg(debug_assertions)]
        die_at: serve.die_at,
    })
}
