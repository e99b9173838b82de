//! What a person sees of a session: who it is, since when, and what it is at. Never its id.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::Revision;

use super::Session;
use crate::View;

/// A client, as it is shown to the owner of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// What it calls itself, and a number that no other has in this process.
    pub label: Arc<str>,
    /// What it calls itself.
    pub name: Box<str>,
    /// Its version; empty if it did not say.
    pub version: Box<str>,
    /// The revision it speaks.
    pub revision: Revision,
    /// What it sees.
    pub view: View,
    /// The port of this machine from which it was last heard of; 0: nobody knows.
    pub port: u16,
    /// How it is connected.
    pub by: ConnectedBy,
    /// For how long it has been known to this process.
    pub age: Duration,
    /// How long ago it was last heard of.
    pub idle: Duration,
    /// Requests being worked on. Of a client without a session nobody counts them by client.
    pub requests: Option<usize>,
    /// Standing streams.
    pub streams: usize,
}

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectedBy {
    /// A session over streamable HTTP.
    Session,
    /// The older pair of stream and posts.
    Pair,
    /// Each request for itself (2026-07-28): it is known by what it calls itself.
    Stateless,
}

impl Session {
    /// Notes from which port of this machine a request of it came; 0: from elsewhere.
    pub fn came_from(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    /// What is shown of it.
    pub(crate) fn connected(&self, now: Instant) -> Connected {
        let (requests, streams) = self.load();
        Connected {
            label: self.label(),
            name: self.facts.name.clone(),
            version: self.facts.version.clone(),
            revision: self.facts.revision,
            view: self.view.clone(),
            port: self.port.load(Ordering::Relaxed),
            by: if self.facts.one_stream { ConnectedBy::Pair } else { ConnectedBy::Session },
            age: now.saturating_duration_since(self.born),
            idle: now.saturating_duration_since(self.used()),
            requests: Some(requests),
            streams,
        }
    }
}
