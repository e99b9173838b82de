//! One `[mcp_servers.NAME]`: how to reach a server, how to treat it, what to show of it.
//!
//! The three parts are split by what a change of them costs (architecture 5): a new connection for [`Connect`],
//! nothing but the next call for [`Tuning`], a new catalogue for [`Expose`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use trunkline_wire::{Abilities, Era};
use url::Url;

use crate::expose::Expose;
use crate::late::Late;
use crate::oauth::OAuth;
use crate::secret::Secret;
use crate::sharing::Sharing;
use crate::tuning::Tuning;

/// One configured server, checked, with its secrets in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Whether it is started at all.
    pub enabled: bool,
    /// How to reach it.
    pub connect: Connect,
    /// Which era it speaks. `None`: found out at the first connection (mcp-protocol 4.5, 4.6).
    pub era: Option<Era>,
    /// Who shares a connection to it. A change needs new ones.
    pub sharing: Sharing,
    /// What it is told at the handshake that it may ask.
    pub declared: Declared,
    /// Timeouts and limits.
    pub tuning: Tuning,
    /// What clients see of it.
    pub expose: Expose,
    /// Why it cannot be started although the file is sound: a variable that is not set, a secret's file that
    /// is not there. One sentence that names the variable or file. Such a server is misconfigured and never
    /// dialled; the others are not affected.
    pub problem: Option<String>,
    /// Values that may never appear in a log or an error text: bearer token, headers, whatever a reference brought in, and
    /// what reads like a secret in `env`, `args` and `url`.
    pub secrets: Vec<Secret>,
    /// What each start looks up anew: values with `${cmd:…}`, which read `unresolved` until then, and with `${file:…}`.
    pub late: Option<Arc<Late>>,
}

impl Server {
    /// A server with defaults for all but its address.
    pub fn new(connect: Connect) -> Self {
        Self {
            enabled: true,
            connect,
            era: None,
            sharing: Sharing::Shared,
            declared: Declared::default(),
            tuning: Tuning::default(),
            expose: Expose::default(),
            problem: None,
            secrets: Vec::new(),
            late: None,
        }
    }
}

/// What a legacy server may ask beside forms and URLs (mcp-protocol 6.2). A change needs a new connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// It may ask the model behind a call (`sampling`). Off by default: a server that sees it declared relies on it,
    /// and few clients can serve it.
    pub sampling: bool,
    /// `file://` URIs that it is told when it asks for roots. Empty: it may not ask.
    pub roots: Vec<String>,
    /// What the one client can be asked that a connection is for: declared in the place of the fixed set. No file says it:
    /// `None` but where a lane is one client's alone, who is known when it is opened.
    pub own: Option<Arc<Abilities>>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// A child process, spoken to over its standard input and output.
    Stdio(Stdio),
    /// A URL, by streamable HTTP or legacy HTTP+SSE.
    Http(Http),
}

impl Connect {
    /// Whether the same server is reached by both, perhaps with another key: then what it listed before is its own.
    pub fn leads_to_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdio(one), Self::Stdio(two)) => {
                (&one.command, &one.args, &one.cwd) == (&two.command, &two.args, &two.cwd)
            }
            (Self::Http(one), Self::Http(two)) => (&one.url, one.transport) == (&two.url, two.transport),
            (Self::Stdio(_), Self::Http(_)) | (Self::Http(_), Self::Stdio(_)) => false,
        }
    }

    /// All of it as one text, secrets included: equal for the same way to the same server, and for no other.
    pub fn signature(&self) -> Secret {
        let secrets = |secrets: &mut dyn Iterator<Item = &Secret>| -> Vec<String> {
            secrets.map(|secret| secret.expose().to_owned()).collect()
        };
        // Named one by one: what is added to them must be decided on here.
        let parts = match self {
            Self::Stdio(Stdio { command, args, env, env_vars, cwd, caps: _ }) => {
                let env: Vec<_> = env.iter().map(|(name, value)| (name, value.expose())).collect();
                let cwd = cwd.as_ref().map(|cwd| cwd.to_string_lossy());
                serde_json::to_string(&(command, secrets(&mut args.iter()), env, env_vars, cwd))
            }
            Self::Http(Http { url, transport, bearer, bearer_source: _, headers, ca_file, oauth: _ }) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (name, value.expose())).collect();
                let ca_file = ca_file.as_ref().map(|file| file.to_string_lossy());
                let transport = format!("{transport:?}");
                serde_json::to_string(&(url.as_str(), transport, secrets(&mut bearer.iter()), headers, ca_file))
            }
        };
        Secret::new(parts.expect("texts serialise"))
    }
}

/// A server that is a child process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stdio {
    /// The program: a path or a name to be found in `PATH`. Never given to a shell (S-33).
    pub command: String,
    /// Its arguments, one each.
    pub args: Vec<Secret>,
    /// Variables set for it.
    pub env: BTreeMap<String, Secret>,
    /// Names of the daemon's own variables that are passed on to it, if set.
    pub env_vars: Vec<String>,
    /// Where it is started. `None`: wherever the daemon was.
    pub cwd: Option<PathBuf>,
    /// What it may take.
    pub caps: Caps,
}

/// What a child and all its descendants may take of the machine. Enforced on Linux, where the service manager delegated
/// the daemon's control group to it (reliability 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Memory. `None`: as much as the unit of the daemon may.
    pub memory_bytes: Option<u64>,
    /// Processes and threads together. Far more than any launcher needs, and a stop for one that breeds.
    pub processes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { memory_bytes: None, processes: 512 }
    }
}

impl Stdio {
    /// A program and its arguments.
    pub fn new<'a>(command: impl Into<String>, args: impl IntoIterator<Item = &'a str>) -> Self {
        Self { command: command.into(), args: args.into_iter().map(Secret::new).collect(), ..Self::default() }
    }
}

/// A server behind a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Http {
    /// Its address. It may hold a secret in path or query, hence never printed whole.
    pub url: Url,
    /// Which of the two HTTP transports it speaks.
    pub transport: HttpTransport,
    /// The bearer token of `Authorization`, without the word `Bearer`.
    pub bearer: Option<Secret>,
    /// Where the token comes from, to be named when the server refuses it: an environment variable's name, or
    /// the key `bearer_token`.
    pub bearer_source: Option<String>,
    /// Headers sent with each request.
    pub headers: Vec<(String, Secret)>,
    /// Further certificate authorities to trust for this server: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// How the gateway signs in to it, if it has no token and the server wants one.
    pub oauth: OAuth,
}

impl Http {
    /// A URL without credentials; the transport is found out.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            transport: HttpTransport::Auto,
            bearer: None,
            bearer_source: None,
            headers: Vec::new(),
            ca_file: None,
            oauth: OAuth::default(),
        }
    }
}

/// Prints the address without what may be secret in it.
impl fmt::Debug for Http {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Http")
            .field("url", &format_args!("{}/***", self.url.origin().ascii_serialization()))
            .field("transport", &self.transport)
            .field("bearer", &self.bearer)
            .field("bearer_source", &self.bearer_source)
            .field("headers", &self.headers)
            .field("ca_file", &self.ca_file)
            .field("oauth", &self.oauth)
            .finish()
    }
}

/// Which HTTP transport a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpTransport {
    /// Found out at the first connection (mcp-protocol 4.6).
    #[default]
    Auto,
    /// Streamable HTTP.
    Http,
    /// The legacy pair of an SSE stream and a POST address.
    Sse,
}
