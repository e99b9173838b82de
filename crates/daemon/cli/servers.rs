//! The commands that write the configuration's servers: their words and their help.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) const ADD_EXAMPLES: &str = "\
The server is started or asked as the daemon would do it, and what it offers is told. One that cannot be used is not
written. The rest of the file stays as it is, comments included.

Examples:
  trunkline add linear --url https://mcp.linear.app/mcp
  trunkline add ide --url http://127.0.0.1:64342/sse --transport sse
  trunkline add search --url https://search.test/mcp --header 'X-Key=${env:SEARCH_KEY}'
  trunkline add git -e 'TOKEN=${env:GIT_TOKEN}' -- npx -y some-git-server";

const SIGNED_IN: &str = "\
If you signed in to it, sign out first (`trunkline logout`): its tokens are kept under its name.";

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
