//! What a running daemon says of itself, read leniently: it may be older or newer than the command that asks it, so what is
//! missing is empty, and what is new is passed over.

use serde::Deserialize;

/// The daemon's report on itself, as far as commands go by it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) status: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: f64,
    pub(crate) listen: Vec<String>,
    pub(crate) sessions: u64,
    pub(crate) in_flight: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) config: InForce,
    pub(crate) servers: Vec<Server>,
}

/// The configuration that is in force.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct InForce {
    pub(crate) path: Option<String>,
    /// Why the file as it is now is not.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) since_seconds: f64,
    pub(crate) transport: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) in_flight: u64,
    pub(crate) stale: bool,
    pub(crate) tools: u64,
    pub(crate) usage: Option<Usage>,
    pub(crate) complaints: Vec<Complaint>,
    pub(crate) lanes: Vec<Lane>,
}

/// A connection that a session or a project has of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Lane {
    pub(crate) owner: String,
    pub(crate) state: String,
    pub(crate) since_seconds: f64,
    pub(crate) pid: Option<u32>,
    pub(crate) in_flight: u64,
}

/// What the processes of a server cost.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// What a server has that cannot be offered, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Complaint {
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Report {
    /// Whether the daemon takes work and every server is well.
    pub(crate) fn is_well(&self) -> bool {
        self.status == "ok" && self.servers.iter().all(Server::is_well)
    }
}

impl Server {
    /// Whether it is ready, asleep until it is needed, or switched off.
    pub(crate) fn is_well(&self) -> bool {
        ["ready", "idle", "disabled"].contains(&self.state.as_str())
    }
}
