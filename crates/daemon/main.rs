//! The `trunkline` binary: which command goes to which module.
#![expect(dead_code, reason = "the daemon itself is wired with lifecycle.rs")]

mod ask;
mod check;
mod cli;
mod demo;
mod exit;
mod render;

use std::process::ExitCode;

use clap::Parser;
use trunkline_config::{Flags, Sources};

use crate::cli::{Cli, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Variables that are not text cannot be configuration.
    let env: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let state_dir = trunkline_config::state_dir(&env);
    match cli.command {
        Command::Check => check::run(&Sources { file: cli.config, env, flags: Flags::default() }),
        Command::Ask(ask) => ask::run(&ask, &state_dir),
        Command::Schema => {
            render::print(&trunkline_config::schema());
            ExitCode::SUCCESS
        }
        Command::Demo => exit::report(demo::serve().map_err(|error| Failure::failed(error.to_string()))),
        Command::Serve(_) | Command::Guard { .. } => {
            exit::report(Err(Failure::failed("not part of this build yet".to_owned())))
        }
    }
}
