//! What can be seen of a server from outside: [`StateView`], published at each change, and [`Status`], the whole
//! picture for `status` and `/health`. The sentences that say why a server is away are written here, once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::{Json, Revision};

use crate::offer::Complaint;

/// The state a server is in, as its supervisor published it.
#[derive(Debug, Clone)]
pub struct StateView {
    /// The name of the state (reliability 6).
    pub state: &'static str,
    /// What was seen last that keeps it from being ready.
    pub cause: Option<Arc<str>>,
    /// Since when it is in this state.
    pub since: Instant,
    /// When it is tried again, if that is planned.
    pub next_attempt: Option<Instant>,
}

/// All that is shown of a server.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name of the state (reliability 6).
    pub state: &'static str,
    /// If it is not ready, one sentence: server, phase, what was seen, next step.
    pub reason: Option<String>,
    /// Time to the next attempt, if one is planned.
    pub retry_in: Option<Duration>,
    /// How long it has been in this state.
    pub since: Duration,
    /// `stdio`, `http` or `sse`, while connected.
    pub transport: Option<&'static str>,
    /// The agreed revision.
    pub revision: Option<Revision>,
    /// `serverInfo`, as sent.
    pub identity: Option<Json>,
    /// Process id of the child.
    pub pid: Option<u32>,
    /// Requests the server is working on.
    pub in_flight: usize,
    /// Connections made after the first.
    pub restarts: u64,
    /// State of the GET stream, over streamable HTTP.
    pub get_stream: Option<&'static str>,
    /// Tools offered.
    pub tools: usize,
    /// Prompts offered.
    pub prompts: usize,
    /// Resources offered.
    pub resources: usize,
    /// Resource templates offered.
    pub templates: usize,
    /// What was left out of the offer, and why.
    pub complaints: Vec<Complaint>,
    /// Whether the offer is one of an earlier connection.
    pub stale: bool,
}
