//! The command line: what can be asked for, and the help that says so.
//!
//! Only words are defined here. `main` gives each command to its module: those under [`Ask`] question the running
//! daemon over its socket, the others work without one. A command with words of its own has them beside what it does, or
//! in a file below this one.

mod ask;
mod servers;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::ask::Ask;
pub(crate) use self::servers::{Add, Edit};

const CONFIG_HELP: &str = "Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml";

const EXAMPLES: &str = "\
Try it:
  trunkline serve --demo             serves a small demo server; nothing else is needed
  trunkline call demo__add '{\"a\": 2, \"b\": 3}'

Use it:
  1. Write your servers into ~/.config/trunkline/config.toml, as Codex has them, or have
     `trunkline add` try and write each:
         [mcp_servers.linear]
         url = \"https://mcp.linear.app/mcp\"
         bearer_token_env_var = \"LINEAR_API_KEY\"
  2. trunkline check                 says what is wrong with the file, if anything is
  3. trunkline serve                 runs the daemon
  4. Give every client the one URL http://127.0.0.1:6270/mcp

Exit codes: 0 fine, 1 failed, 2 wrong usage, 70 hung, 75 address or state directory taken,
78 configuration wrong.";

const SERVE_EXAMPLES: &str = "\
Examples:
  trunkline serve                            as configured
  trunkline serve --demo                     a demo server instead, to try it out
  trunkline serve --listen 7000              another port
  TRUNKLINE_LOG__LEVEL=debug trunkline serve
                                             any key of the configuration can be a variable";

/// One local URL in front of every MCP server you use
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, after_help = EXAMPLES, max_term_width = 120)]
pub(crate) struct Cli {
    /// The configuration to read.
    #[arg(long, global = true, value_name = "FILE", help = CONFIG_HELP)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Write a first configuration, with comments, where there is none
    Init,
    /// Read the configuration and say what is wrong with it
    Check,
    /// Try a server, and write it into the configuration
    #[command(after_help = servers::ADD_EXAMPLES)]
    Add(Add),
    /// Take over the servers that other clients have
    #[command(after_help = crate::import::EXAMPLES)]
    Import(crate::import::Import),
    /// Give a client the one URL, in its own file
    #[command(after_help = crate::connect::EXAMPLES)]
    Connect(crate::connect::Connect),
    /// Speak to a client over standard input and output
    #[command(after_help = crate::stdio::EXAMPLES)]
    Stdio(crate::stdio::Stdio),
    #[command(flatten)]
    Edit(Edit),
    #[command(flatten)]
    Ask(Ask),
    /// Look for what is wrong between clients and servers, and say what mends it
    #[command(after_help = crate::doctor::EXAMPLES)]
    Doctor(crate::doctor::Doctor),
    /// Run the daemon as a service of yours, started at login
    #[command(after_help = crate::service::EXAMPLES)]
    Service(crate::service::Service),
    /// Print the JSON schema of the configuration, for editors
    Schema {
        /// Print the reference for people instead, as docs/configuration.md has it
        #[arg(long)]
        markdown: bool,
    },
    /// Print what makes a shell complete the commands
    #[command(after_help = crate::generate::COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: crate::generate::Shell,
    },
    /// Print a page of the manual
    #[command(after_help = crate::generate::MAN_EXAMPLES)]
    Man(crate::generate::Man),
    /// Watch over a child process; started by the daemon itself.
    #[command(name = "__guard", hide = true)]
    Guard {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Be the demo server; started by `serve --demo`.
    #[command(name = "__demo", hide = true)]
    Demo,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Serve a small demo server instead of those configured
    #[arg(long)]
    pub(crate) demo: bool,
    /// Listen here instead: a port, or a loopback address and port
    #[arg(long, value_name = "[ADDRESS:]PORT")]
    pub(crate) listen: Option<String>,
    /// Write the URL into this file once it is served; with port 0 nobody can know it beforehand
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_READY_FILE", hide = true)]
    pub(crate) ready_file: Option<PathBuf>,
    /// End the process when nothing moves for so long, where no service manager watches over it
    #[arg(long, value_name = "SECONDS", default_value_t = 30, hide = true)]
    pub(crate) watchdog_sec: u64,
    /// Block every thread of the scheduler after this time: for tests of the watchdog
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) wedge_after_ms: Option<u64>,
    /// Die where the first refresh of a sign-in has come as far as this: for tests of what is left then
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "STEP", hide = true, value_parser = crate::login::step)]
    pub(crate) die_at: Option<trunkline_signin::Step>,
}

#[cfg(test)]
mod tests;
