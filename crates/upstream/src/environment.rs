//! What the fleet needs of the process around it, and what it tells it unasked.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use trunkline_config::Limits;
use trunkline_signin::SignIn;
use trunkline_telemetry::{Journal, Metrics, spawn};
use trunkline_wire::{Budget, Json, ServerName};

use crate::lanes::LaneKey;
use crate::shelf::Shelf;
use crate::transport::process::{Groups, Predecessors};

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
    /// What is kept of servers for the next process.
    pub shelf: Shelf,
    /// Who holds the tokens of servers that want a sign-in. `None`: nobody can sign in.
    pub signin: Option<SignIn>,
    /// How a child's guard is started.
    pub guard: GuardProgram,
    /// The daemon's own variables, of which children get those on the allow-list (S-32).
    pub inherited: Vec<(String, String)>,
}

/// The program under whose eye a child runs: the gateway's own binary in its guard mode (reliability 9, rule 1).
#[derive(Debug, Clone)]
pub struct GuardProgram {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// Guards are started from when this says so, or nobody is left to say it.
    gate: Option<watch::Receiver<bool>>,
    /// From which control group theirs are cut.
    groups: Option<Arc<Groups>>,
}

impl GuardProgram {
    /// A binary, and the arguments that put it into that mode; what follows them goes to
    /// [`guard::main`](crate::guard::main).
    pub fn new(path: impl Into<PathBuf>, args: impl IntoIterator<Item = &'static str>) -> Self {
        Self { path: path.into(), args: args.into_iter().map(str::to_owned).collect(), gate: None, groups: None }
    }

    /// The running binary, even after an upgrade replaced its file. It must lead `__guard` to the guard.
    pub fn this_binary() -> std::io::Result<Self> {
        Ok(Self::new(crate::transport::process::own_program()?, ["__guard"]))
    }

    /// Has every start wait until nothing is left of the daemons before this one: the guards that live end their trees,
    /// then what no guard watches over is ended, then what is left in control groups. Returns at once.
    #[must_use]
    pub fn after(self, predecessors: Option<Predecessors>, metrics: Metrics) -> Self {
        let (gate, opened) = watch::channel(false);
        let groups = self.groups.clone();
        spawn("predecessors", async move {
            if let Some(predecessors) = predecessors {
                predecessors.sweep(&metrics).await;
            }
            if let Some(groups) = groups {
                // It ends processes and waits for the kernel.
                let found = tokio::task::spawn_blocking(move || groups.clear()).await.unwrap_or_default();
                if found > 0 {
                    metrics.orphans_swept(found);
                    tracing::warn!(found, "killed processes that were left in control groups");
                }
            }
            let _ = gate.send(true);
        });
        Self { gate: Some(opened), ..self }
    }

    /// Gives each child a control group of its own, if the service manager delegated one to this process. Moves the
    /// process aside in it, so it is for the start of a daemon.
    #[must_use]
    pub fn in_groups(self) -> Self {
        Self { groups: Groups::take().map(Arc::new), ..self }
    }

    #[cfg(test)]
    pub(crate) fn in_these(self, groups: Groups) -> Self {
        Self { groups: Some(Arc::new(groups)), ..self }
    }

    /// Whether children's limits of memory and processes are enforced.
    pub fn enforces_limits(&self) -> bool {
        self.groups.is_some()
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_deref()
    }

    /// Waits for the gate, if there is one.
    pub(crate) async fn opened(&self) {
        if let Some(gate) = &self.gate {
            let _ = gate.clone().wait_for(|open| *open).await;
        }
    }
}

/// Something a server said that belongs to no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerNotice {
    /// `notifications/resources/updated`.
    ResourceUpdated {
        /// Who said it.
        server: ServerName,
        /// On whose lane: others do not hear of it.
        lane: LaneKey,
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
        /// On whose lane: others do not hear of it.
        lane: LaneKey,
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
