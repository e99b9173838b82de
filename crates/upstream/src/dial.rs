//! [`dial`]: from a server's configuration to a connection that is open in the server's own era, or to a sentence that
//! says what stood in the way.
//!
//! What a server speaks is found out by asking (`era.rs` says what an answer means), unless the configuration says it
//! or an earlier connection showed it. A refusal for want of a credential, an overloaded server and a dead network
//! prove nothing and end the attempt; the supervisor decides when the next one is made.
//!
//! `child.rs` opens a process, `ladder.rs` climbs down to what stands behind a URL, `words.rs` has the sentences.

pub(crate) mod child;
mod ladder;
mod secrets;
mod words;

use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, timeout};
use trunkline_config::{Connect, Server};
use trunkline_telemetry::redact::Scrubber;
use trunkline_wire::{Revision, ServerName};

use crate::environment::Environment;
use crate::era::{Memory, Way};
use crate::error::DialError;
use crate::limits::{FIRST_START, LATER_START};
use crate::transport::Dialed;

use ladder::Ladder;

/// The revision that a server is first asked by.
const NEWEST: Revision = Revision::V2026_07_28;

/// The id of the first request. The ids of the connection go on from there.
const FIRST_ID: u64 = 1;

/// What an attempt to connect goes by.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) name: &'a ServerName,
    pub(crate) server: &'a Server,
    /// It never was ready since the daemon started.
    pub(crate) first_start: bool,
    pub(crate) environment: &'a Environment,
    /// What earlier attempts showed.
    pub(crate) memory: &'a Mutex<Memory>,
}

/// Connects to a server.
///
/// The error is a sentence without the server's name, for people.
pub(crate) async fn dial(order: Order<'_>) -> Result<Dialed, DialError> {
    let looked_up = secrets::looked_up(order.name, order.server, &order.environment.inherited).await?;
    let Some(server) = &looked_up else { return by_transport(order).await };
    // Who failed may repeat what was looked up, which nobody else knows.
    let known = || Scrubber::new(server.secrets.iter().map(|secret| secret.expose().to_owned()));
    by_transport(Order { server, ..order })
        .await
        .map_err(|error| DialError { text: known().scrub(&error.text), ..error })
}

async fn by_transport(order: Order<'_>) -> Result<Dialed, DialError> {
    match &order.server.connect {
        Connect::Http(http) => {
            let limit = order.server.tuning.startup_timeout.unwrap_or(LATER_START);
            let ladder = Ladder::new(order, http);
            // On the heap: with three transports to try, the future is large.
            let climb = Box::pin(ladder.climb());
            timeout(limit, climb).await.unwrap_or_else(|_| Err(ladder.too_slow(limit)))
        }
        Connect::Stdio(stdio) => {
            let usual = if order.first_start { FIRST_START } else { LATER_START };
            let limit = order.server.tuning.startup_timeout.unwrap_or(usual);
            child::open(order, &child::Command(order, stdio), limit).await
        }
    }
}

impl Order<'_> {
    /// The legacy way that was found before and still holds; `None` if the server is to be probed.
    fn shortcut(&self) -> Option<Way> {
        if self.server.era.is_some() {
            return None;
        }
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).shortcut(Instant::now())
    }

    /// Takes note of what an attempt showed.
    fn note(&self, change: impl FnOnce(&mut Memory, Instant)) {
        change(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    }
}

#[cfg(test)]
mod tests;
