//! The command line: what can be asked for, and the help that says so.
//!
//! Only words are defined here. `main` gives each command to its module: those under [`Ask`] question the running
//! daemon over its socket, the others work without one.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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

const ADD_EXAMPLES: &str = "\
The server is started or asked as the daemon would do it, and what it offers is told. One that cannot be used is not
written. The rest of the file stays as it is, comments included.

Examples:
  trunkline add linear --url https://mcp.linear.app/mcp
  trunkline add ide --url http://127.0.0.1:64342/sse --transport sse
  trunkline add search --url https://search.test/mcp --header 'X-Key=${env:SEARCH_KEY}'
  trunkline add git -e 'TOKEN=${env:GIT_TOKEN}' -- npx -y some-git-server";

const SIGNED_IN: &str = "\
If you signed in to it, sign out first (`trunkline logout`): its tokens are kept under its name.";

const STATUS_EXAMPLES: &str = "\
Exits with 0 if every enabled server is ready, with 1 if one is not or no daemon runs.
For scripts:
  trunkline status --json | jq -r '.servers[] | select(.state != \"ready\") | .name'";

const TOOLS_EXAMPLES: &str = "\
Examples:
  trunkline tools                            of all servers
  trunkline tools linear                     of one
  trunkline tools linear --json              with descriptions and schemas";

const RELOAD_EXAMPLES: &str = "\
The daemon does this by itself when the file changes, and upon SIGHUP; secrets that are read
from files of their own are not watched. What did not change keeps its connection or process.
If anything is wrong with the configuration, nothing changes, and the command exits with 78.";

const EXPLAIN_EXAMPLES: &str = "\
A server and a client that speak different revisions of the protocol, or declare different things, cannot share
everything. This lists what is missing for each client seen since the daemon started: due to the client's revision, to
a capability that one side lacks, to a filter in the configuration, or to the server itself.

Examples:
  trunkline explain linear
  trunkline explain linear --client codex-mcp-client";

const LOGIN_EXAMPLES: &str = "\
The daemon waits ten minutes for you to come back from the browser, which must run on this machine. It keeps the tokens
and refreshes them; each server is signed in to once, for all clients.

Examples:
  trunkline login linear
  trunkline login linear --no-browser";

const CALL_EXAMPLES: &str = "\
Text is printed as it is, anything else as JSON. Exits with 1 if the tool reports an error.

Examples:
  trunkline call memory__read_graph
  trunkline call files__read_file '{\"path\": \"/tmp/notes.txt\"}'";

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
    /// Read the configuration and say what is wrong with it
    Check,
    /// Try a server, and write it into the configuration
    #[command(after_help = ADD_EXAMPLES)]
    Add(Add),
    #[command(flatten)]
    Edit(Edit),
    #[command(flatten)]
    Ask(Ask),
    /// Print the JSON schema of the configuration, for editors
    Schema,
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

/// A server: where it is, and what it is given.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What it is called; its tools are called `NAME__TOOL` by clients
    pub(crate) name: String,
    /// Its address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) url: Option<String>,
    /// How it is spoken to at its address; found out if it is not told
    #[arg(long, value_name = "auto|http|sse", requires = "url")]
    pub(crate) transport: Option<String>,
    /// A header of each request to it, as often as needed; references such as `${env:NAME}` are replaced
    #[arg(long, value_name = "KEY=VALUE", requires = "url")]
    pub(crate) header: Vec<String>,
    /// The variable of the daemon that holds its bearer token
    #[arg(long, value_name = "VARIABLE", requires = "url")]
    pub(crate) bearer_env: Option<String>,
    /// A variable of its process, as often as needed; references such as `${env:NAME}` are replaced
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// The directory that its process starts in
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) cwd: Option<PathBuf>,
    /// Write it without trying it
    #[arg(long)]
    pub(crate) untried: bool,
    /// Its command and arguments, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// A change of the configuration's servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Edit {
    /// Take a server out of the configuration
    #[command(after_help = SIGNED_IN)]
    Remove {
        /// The server, by its name in the configuration
        server: String,
    },
    /// Switch a server on
    Enable {
        /// The server, by its name in the configuration
        server: String,
    },
    /// Switch a server off, and keep what is written about it
    Disable {
        /// The server, by its name in the configuration
        server: String,
    },
    /// Call a server otherwise; its tools get other names by that
    #[command(after_help = SIGNED_IN)]
    Rename {
        /// The server, by its name in the configuration
        server: String,
        /// What it is to be called
        to: String,
    },
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

/// What the running daemon is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Show each server: its state, and what to do about those that are not ready
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Print the daemon's own report, as /health has it
        #[arg(long)]
        json: bool,
    },
    /// List the tools, by the names clients see
    #[command(after_help = TOOLS_EXAMPLES)]
    Tools {
        /// Only those of this server
        server: Option<String>,
        /// Print names, descriptions and schemas as JSON
        #[arg(long)]
        json: bool,
    },
    /// Call a tool through the daemon, as a client would
    #[command(after_help = CALL_EXAMPLES)]
    Call {
        /// The tool, by the name clients see
        name: String,
        /// Its arguments, a JSON object
        #[arg(default_value = "{}", hide_default_value = true)]
        arguments: String,
        /// Print the whole result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what happened to a server lately, and what it wrote to its standard error
    Logs {
        /// Only this server
        server: Option<String>,
    },
    /// Say what of a server a client cannot have, and why
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// The server, by its name in the configuration
        server: String,
        /// Only for clients that call themselves so
        #[arg(long, value_name = "NAME")]
        client: Option<String>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign in to a server that wants it, in a browser
    #[command(after_help = LOGIN_EXAMPLES)]
    Login {
        /// The server, by its name in the configuration
        server: String,
        /// Only print the address, and open nothing
        #[arg(long)]
        no_browser: bool,
    },
    /// Sign out of a server, and have its tokens revoked
    Logout {
        /// The server, by its name in the configuration
        server: String,
    },
    /// Read the configuration anew and say what changed
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,
    /// Close a server's connection or process and start it anew
    Restart {
        /// The server, by its name in the configuration
        server: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use insta::assert_snapshot;

    use super::*;

    fn help_of(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut command = &mut command;
        for name in path {
            command = command.find_subcommand_mut(name).expect("a command");
        }
        command.render_long_help().to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_says_what_to_do_first() {
        assert_snapshot!(help_of(&[]), @r#"
        One local URL in front of every MCP server you use

        Usage: trunkline [OPTIONS] <COMMAND>

        Commands:
          serve    Run the daemon in the foreground
          check    Read the configuration and say what is wrong with it
          add      Try a server, and write it into the configuration
          remove   Take a server out of the configuration
          enable   Switch a server on
          disable  Switch a server off, and keep what is written about it
          rename   Call a server otherwise; its tools get other names by that
          status   Show each server: its state, and what to do about those that are not ready
          tools    List the tools, by the names clients see
          call     Call a tool through the daemon, as a client would
          logs     Show what happened to a server lately, and what it wrote to its standard error
          explain  Say what of a server a client cannot have, and why
          login    Sign in to a server that wants it, in a browser
          logout   Sign out of a server, and have its tokens revoked
          reload   Read the configuration anew and say what changed
          restart  Close a server's connection or process and start it anew
          schema   Print the JSON schema of the configuration, for editors
          help     Print this message or the help of the given subcommand(s)

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          -h, --help
                  Print help

          -V, --version
                  Print version

        Try it:
          trunkline serve --demo             serves a small demo server; nothing else is needed
          trunkline call demo__add '{"a": 2, "b": 3}'

        Use it:
          1. Write your servers into ~/.config/trunkline/config.toml, as Codex has them, or have
             `trunkline add` try and write each:
                 [mcp_servers.linear]
                 url = "https://mcp.linear.app/mcp"
                 bearer_token_env_var = "LINEAR_API_KEY"
          2. trunkline check                 says what is wrong with the file, if anything is
          3. trunkline serve                 runs the daemon
          4. Give every client the one URL http://127.0.0.1:6270/mcp

        Exit codes: 0 fine, 1 failed, 2 wrong usage, 70 hung, 75 address or state directory taken,
        78 configuration wrong.
        "#);
    }

    #[test]
    fn each_command_explains_itself() {
        assert_snapshot!(help_of(&["serve"]), @r"
        Run the daemon in the foreground

        Usage: trunkline serve [OPTIONS]

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

              --demo
                  Serve a small demo server instead of those configured

              --listen <[ADDRESS:]PORT>
                  Listen here instead: a port, or a loopback address and port

          -h, --help
                  Print help

        Examples:
          trunkline serve                            as configured
          trunkline serve --demo                     a demo server instead, to try it out
          trunkline serve --listen 7000              another port
          TRUNKLINE_LOG__LEVEL=debug trunkline serve
                                                     any key of the configuration can be a variable
        ");
        assert_snapshot!(help_of(&["status"]), @r#"
        Show each server: its state, and what to do about those that are not ready

        Usage: trunkline status [OPTIONS]

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

              --json
                  Print the daemon's own report, as /health has it

          -h, --help
                  Print help

        Exits with 0 if every enabled server is ready, with 1 if one is not or no daemon runs.
        For scripts:
          trunkline status --json | jq -r '.servers[] | select(.state != "ready") | .name'
        "#);
        assert_snapshot!(help_of(&["tools"]), @r"
        List the tools, by the names clients see

        Usage: trunkline tools [OPTIONS] [SERVER]

        Arguments:
          [SERVER]
                  Only those of this server

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

              --json
                  Print names, descriptions and schemas as JSON

          -h, --help
                  Print help

        Examples:
          trunkline tools                            of all servers
          trunkline tools linear                     of one
          trunkline tools linear --json              with descriptions and schemas
        ");
        assert_snapshot!(help_of(&["call"]), @r#"
        Call a tool through the daemon, as a client would

        Usage: trunkline call [OPTIONS] <NAME> [ARGUMENTS]

        Arguments:
          <NAME>
                  The tool, by the name clients see

          [ARGUMENTS]
                  Its arguments, a JSON object

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

              --json
                  Print the whole result as JSON

          -h, --help
                  Print help

        Text is printed as it is, anything else as JSON. Exits with 1 if the tool reports an error.

        Examples:
          trunkline call memory__read_graph
          trunkline call files__read_file '{"path": "/tmp/notes.txt"}'
        "#);
        assert_snapshot!(help_of(&["logs"]), @r"
        Show what happened to a server lately, and what it wrote to its standard error

        Usage: trunkline logs [OPTIONS] [SERVER]

        Arguments:
          [SERVER]
                  Only this server

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          -h, --help
                  Print help
        ");
        assert_snapshot!(help_of(&["restart"]), @r"
        Close a server's connection or process and start it anew

        Usage: trunkline restart [OPTIONS] <SERVER>

        Arguments:
          <SERVER>
                  The server, by its name in the configuration

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          -h, --help
                  Print help
        ");
    }

    #[test]
    fn the_help_of_reload_says_that_it_is_seldom_needed() {
        assert_snapshot!(help_of(&["reload"]), @r"
        Read the configuration anew and say what changed

        Usage: trunkline reload [OPTIONS]

        Options:
              --config <FILE>
                  Read this configuration, in place of $TRUNKLINE_CONFIG or ~/.config/trunkline/config.toml

          -h, --help
                  Print help

        The daemon does this by itself when the file changes, and upon SIGHUP; secrets that are read
        from files of their own are not watched. What did not change keeps its connection or process.
        If anything is wrong with the configuration, nothing changes, and the command exits with 78.
        ");
    }

    #[test]
    fn a_guarded_command_keeps_its_own_flags() {
        let cli = Cli::try_parse_from(["trunkline", "__guard", "3", "--", "npx", "--config", "x", "-y"]);
        let Command::Guard { args } = cli.expect("parsed").command else { panic!("another command") };
        assert_eq!(args, ["3", "--", "npx", "--config", "x", "-y"]);
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_the_command() {
        for line in [["trunkline", "--config", "x.toml", "check"], ["trunkline", "check", "--config", "x.toml"]] {
            assert_eq!(Cli::try_parse_from(line).expect("parsed").config, Some(PathBuf::from("x.toml")));
        }
    }
}
