//! What the operator wants: the configuration, read from all its sources, checked, with secrets in place.
//!
//! [`load`] is the one way in. It reads built-in defaults, the file, `TRUNKLINE_*` variables and flags, in this
//! order, and gives back a [`Config`] that the rest of the program can take at its word, or every problem it
//! found ([`ConfigErrors`]). The vocabulary of a server is Codex's own: a `[mcp_servers.NAME]` block of a Codex
//! `config.toml` works unchanged.
//!
//! # What this crate does not do
//! * It changes no file and starts nothing.
//! * It prints no value: error texts name keys, and secrets print as `***`.
//! * It reads the environment only from what it is given, so that a test needs none of its own.

mod error;
mod expose;
mod listen;
mod secret;
mod server;
mod tuning;

use trunkline_wire::ServerName;

pub use error::{ConfigError, ConfigErrors, Source};
pub use expose::Expose;
pub use listen::Listen;
pub use secret::Secret;
pub use server::{Connect, Http, HttpTransport, Server, Stdio};
pub use tuning::{Limits, Tuning};

/// The effective configuration: defaults merged in, checked, secrets resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// Limits of the whole gateway.
    pub limits: Limits,
    /// The form of the gateway's own failures.
    pub errors: ErrorForm,
    /// What is logged.
    pub log: Log,
    /// All servers in the order of the file, disabled ones included. The order is that of the lists clients get.
    pub servers: Vec<(ServerName, Server)>,
}

/// The form a failed `tools/call` takes when the failure is the gateway's (`errors`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorForm {
    /// A tool result with `isError`, which the model reads.
    #[default]
    Result,
    /// A JSON-RPC error.
    Protocol,
}

/// `[log]`: what is logged, to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// The least severe level shown.
    pub level: LogLevel,
    /// One line per event, for people or for machines.
    pub format: LogFormat,
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
