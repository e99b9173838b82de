//! What the fleet needs of the process around it, and what it tells it unasked.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use trunkline_config::Limits;
use trunkline_telemetry::{Journal, Metrics};
use trunkline_wire::{Budget, Json, ServerName};

/// What every server of the fleet shares. Cloning is cheap but for the inherited variables.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where numbers are counted.
    pub metrics: Metrics,
    /// Where transitions and stderr are kept for people.
    pub journal: Arc<Journal>,
    /// What every buffered byte is charged to.
    pub budget: Budget,
    /// Limits of the whole gateway.
    pub limits: Limits,
    /// Where notices without a call go. Bounded: a notice that finds it full is dropped and counted.
    pub notices: mpsc::Sender<ServerNotice>,
    /// How a child's guard is started.
    pub guard: GuardProgram,
    /// The daemon's own variables, of which children get those on the allow-list (S-32).
    pub inherited: Vec<(String, String)>,
}

/// The program under whose eye a child runs: the gateway's own binary in its guard mode (reliability 9, rule 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardProgram {
    /// The binary.
    pub path: PathBuf,
    /// The arguments that put it into that mode; what follows them goes to [`guard::main`](crate::guard::main).
    pub args: Vec<String>,
}

impl GuardProgram {
    /// The running binary, even after an upgrade replaced its file. It must lead `__guard` to the guard.
    pub fn this_binary() -> std::io::Result<Self> {
        let path = crate::transport::process::own_program()?;
        Ok(Self { path, args: vec!["__guard".to_owned()] })
    }
}

/// Something a server said that belongs to no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerNotice {
    /// `notifications/resources/updated`.
    ResourceUpdated {
        /// Who said it.
        server: ServerName,
        /// The server's own URI of the resource.
        uri: String,
        /// The notification's `params`, as sent.
        params: Json,
    },
    /// `notifications/elicitation/complete`: what a URL led to is done (mcp-protocol 5.11).
    ElicitationComplete {
        /// Who said it.
        server: ServerName,
        /// The notification's `params`, as sent.
        params: Json,
    },
    /// `notifications/message` that did not come on a call's own stream (mcp-protocol 5.7).
    LogMessage {
        /// Who said it.
        server: ServerName,
        /// Its level; `None` if the server named one that no revision knows.
        level: Option<LogLevel>,
        /// The notification's `params`, as sent.
        params: Json,
    },
}

/// Levels of `logging/setLevel`, the most verbose first (mcp-protocol 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 5424")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Notice, "notice"),
        (Self::Warning, "warning"),
        (Self::Error, "error"),
        (Self::Critical, "critical"),
        (Self::Alert, "alert"),
        (Self::Emergency, "emergency"),
    ];

    /// Reads a name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(level, _)| level)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        let row = Self::NAMES.into_iter().find(|(level, _)| *level == self);
        row.expect("every level has a row").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_read_back_and_are_ordered_from_verbose_to_grave() {
        for (level, name) in LogLevel::NAMES {
            assert_eq!(LogLevel::parse(name), Some(level));
            assert_eq!(level.as_str(), name);
        }
        assert_eq!(LogLevel::parse("trace"), None);
        assert!(LogLevel::NAMES.is_sorted());
    }
}
