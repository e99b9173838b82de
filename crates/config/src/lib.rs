//! What the operator wants: the configuration, read from all its sources, checked, with secrets in place.
//!
//! [`load`] is the one way in. It reads built-in defaults, the file, `TRUNKLINE_*` variables and flags, in this
//! order, and gives back a [`Config`] that the rest of the program can take at its word, or every problem it
//! found ([`ConfigErrors`]). The vocabulary of a server is Codex's own: a `[mcp_servers.NAME]` block of a Codex
//! `config.toml` works unchanged.
//!
//! # What this crate does not do
//! * It changes no file of the operator's and starts nothing. [`StateDir`] is where others keep theirs.
//! * It prints no value: error texts name keys, and secrets print as `***`.
//! * It reads the environment only from what it is given, so that a test needs none of its own.

mod audit;
mod auth;
mod check;
mod clients;
mod diff;
mod error;
mod expose;
mod files;
mod findings;
mod keyring;
mod late;
mod limits;
mod listen;
mod oauth;
mod otel;
mod patterns;
mod profile;
mod reach;
mod reference;
mod schema;
mod secret;
mod server;
mod sharing;
mod sources;
mod state;
mod surface;
mod tool;
mod tuning;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_wire::ServerName;

pub use audit::Audit;
pub use auth::{Allowance, Auth};
pub use diff::{Change, Diff, Parts};
pub use error::{ConfigError, ConfigErrors, Source};
pub use expose::{Expose, PinRule};
pub use late::{Late, SecretCommand};
pub use limits::Limits;
pub use listen::Listen;
pub use oauth::OAuth;
pub use otel::Otel;
pub use patterns::{Filter, Patterns};
pub use profile::Profile;
pub use reach::{Leads, Reach};
pub use reference::reference;
pub use schema::schema;
pub use secret::Secret;
pub use server::{Caps, Connect, Declared, Http, HttpTransport, Server, Stdio};
pub use sharing::Sharing;
pub use sources::{Flags, Sources, default_config_path, state_dir};
pub use state::{LoadError, StateDir, StateDirError, Written, wall_clock};
pub use surface::Surface;
pub use tool::ToolRules;
pub use tuning::{Start, Tuning};

use crate::findings::Findings;
use crate::secret::Resolver;
use crate::sources::Layers;

/// The effective configuration: defaults merged in, checked, secrets resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// Who may connect.
    pub auth: Auth,
    /// Where calls are noted.
    pub audit: Audit,
    /// Where traces go.
    pub otel: Otel,
    /// Limits of the whole gateway.
    pub limits: Limits,
    /// The form of the gateway's own failures.
    pub errors: ErrorForm,
    /// Which tools are listed at `/mcp`.
    pub surface: Surface,
    /// What is logged.
    pub log: Log,
    /// All servers in the order of the file, disabled ones included. The order is that of the lists clients get.
    pub servers: Vec<(ServerName, Server)>,
    /// Parts of what they offer, each at a URL of its own, in the order of their names.
    pub profiles: Vec<(Box<str>, Profile)>,
}

impl Config {
    /// All secrets in it, for a log to mask.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let of_servers = self.servers.iter().flat_map(|(_, server)| &server.secrets);
        let of_collector = self.otel.headers.iter().map(|(_, value)| value);
        of_servers.chain(self.auth.tokens.iter().map(|(_, token)| token)).chain(of_collector)
    }
}

/// A configuration, and what came with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to run by.
    pub config: Config,
    /// The file it came from; `None` if there was none.
    pub path: Option<PathBuf>,
    /// No file says anything: there is none, or it has no key. At a start that means no servers; under a running
    /// daemon it is more likely lost, or half written.
    pub blank: bool,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads, merges and checks the configuration.
///
/// A file that was named, by flag or by `TRUNKLINE_CONFIG`, must be there; without a file at the default path there
/// are simply no servers. Secrets that cannot be had are a server's own [`problem`](Server::problem) and no error.
///
/// # Errors
/// All problems found, each with its place. The process should end with exit code 78, a running daemon should stay
/// with what it has.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let layers = Layers::read(sources).map_err(ConfigErrors)?;
    let mut findings = Findings::new(&layers);
    let file = findings.read_file();
    let resolver = Resolver::new(&sources.env, layers.path.as_deref());

    let (mut auth, limited) = file.auth.check(&resolver, &mut findings);
    let audit = file.audit.check(&resolver);
    let otel = file.otel.check(&resolver, &mut findings);
    file.listen.check(!auth.tokens.is_empty(), &mut findings);
    file.limits.check(&mut findings);
    let servers = check::servers(file.mcp_servers, &file.listen, &resolver, &mut findings);
    expose::check_names(&servers, file.limits.name_chars, &mut findings);
    let top = surface::Said { expose: Some(file.expose), pinned: Some(file.pinned) };
    let surface = top.check(&[], None, &mut findings);
    let profiles = profile::check(file.profiles, &servers, &resolver, (&top, &surface), &mut findings);
    auth.limited = reach::check(limited, &servers, &profiles, &mut findings);
    findings.warnings.extend(clients::ignored_warning(&findings.ignored));

    let Findings { mut errors, warnings, .. } = findings;
    if !errors.is_empty() {
        errors.sort_by_key(ConfigError::place);
        return Err(ConfigErrors(errors));
    }
    let config = Config {
        listen: file.listen,
        auth,
        audit,
        otel,
        limits: file.limits,
        errors: file.errors,
        surface,
        log: file.log,
        servers,
        profiles,
    };
    let blank = layers.is_blank();
    Ok(Loaded { config, path: layers.path, blank, warnings })
}

/// The form a failed `tools/call` takes when the failure is the gateway's (`errors`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorForm {
    /// A tool result with `isError`, which the model reads.
    #[default]
    Result,
    /// A JSON-RPC error.
    Protocol,
}

/// `[log]`: what is logged, to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level shown.
    pub level: LogLevel,
    /// One line per event, for people or for machines.
    pub format: LogFormat,
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// And what may soon.
    Warn,
    /// And what happens to servers and the daemon.
    #[default]
    Info,
    /// And each request.
    Debug,
    /// And each message.
    Trace,
}

impl LogLevel {
    /// The name as written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests;
