//! The commands that question the running daemon: their words and their help.

use clap::Subcommand;

const STATUS_EXAMPLES: &str = "\
Exits with 0 if every enabled server is ready, with 1 if one is not or no daemon runs.
For scripts:
  trunkline status --json | jq -r '.servers[] | select(.state != \"ready\") | .name'";

const TOOLS_EXAMPLES: &str = "\
Examples:
  trunkline tools                            of all servers
  trunkline tools linear                     of one
  trunkline tools --find 'create an issue'   that fit these words, the best first
  trunkline tools --profile work             as clients of /mcp/work see them
  trunkline tools linear --json              with descriptions and schemas
  trunkline tools --tokens                   what each server's definitions weigh
  trunkline tools linear --tokens            what each tool's weighs";

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
  trunkline login linear --no-browser
  trunkline login linear --device            where there is no browser, as over ssh";

const CALL_EXAMPLES: &str = "\
Text is printed as it is, anything else as JSON. Exits with 1 if the tool reports an error.

Examples:
  trunkline call memory__read_graph
  trunkline call files__read_file '{\"path\": \"/tmp/notes.txt\"}'";

/// What the running daemon is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Show each server: its state, and what to do about those that are not ready
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Print the daemon's own report, as /health has it
        #[arg(long)]
        json: bool,
        /// Show it again every two seconds, until Ctrl-C
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// List the tools, by the names clients see
    #[command(after_help = TOOLS_EXAMPLES)]
    Tools {
        /// Only those of this server
        server: Option<String>,
        /// Only those that fit these words, the best first
        #[arg(long, value_name = "WORDS")]
        find: Option<String>,
        /// Only those that this profile shows, under its names
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Say how many tokens the definitions are, and how many with `expose = "search"`
        #[arg(long, conflicts_with = "find")]
        tokens: bool,
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
        /// Enter a code on another device: for machines without a browser
        #[arg(long, conflicts_with = "no_browser")]
        device: bool,
    },
    /// Sign out of a server, and have its tokens revoked
    Logout {
        /// The server, by its name in the configuration
        server: String,
    },
    /// Show which tools are not as they were pinned, and take what is new
    #[command(after_help = crate::pins::EXAMPLES)]
    Pins(crate::pins::Pins),
    /// Read the configuration anew and say what changed
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,
    /// Close a server's connection or process and start it anew
    Restart {
        /// The server, by its name in the configuration
        server: String,
    },
}
