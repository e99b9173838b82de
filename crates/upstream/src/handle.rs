//! [`Upstream`]: the handle by which everyone else reaches a server.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use trunkline_config::Server;
use trunkline_wire::{Json, Method, Notification, Object, Outcome, ServerName};

use crate::environment::LogLevel;
use crate::error::{CallError, CallErrorKind};
use crate::offer::Offer;
use crate::status::{StateView, Status};

/// A configured server. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Upstream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: ServerName,
    server: Server,
    states: watch::Sender<StateView>,
    offers: watch::Sender<Arc<Offer>>,
}

/// A request for a server.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked.
    pub method: Method,
    /// Its `params`, with names and URIs that are the server's own and without a progress token.
    pub params: Object,
    /// Whether the caller wants progress.
    pub progress: bool,
    /// Who asks.
    pub caller: CallerFacts,
}

/// What a server's places are shared out by. Small; grows with lanes.
#[derive(Debug, Clone, Default)]
pub struct CallerFacts {
    /// The client session, for logs.
    pub client: Option<Arc<str>>,
}

/// A request on its way. Dropping it tells the server, if that may be working on it.
#[derive(Debug)]
pub struct Call {
    error: CallError,
}

/// What comes back on a [`Call`].
#[derive(Debug)]
pub enum CallEvent {
    /// Progress, with the gateway's own token, or a log message of this call.
    Notice(Notification),
    /// The server's answer, `result` or `error`, as sent. The last event.
    Done(Result<Json, Json>),
    /// There will be no answer. The last event.
    Failed(CallError),
}

impl Upstream {
    pub(crate) fn new(name: ServerName, server: Server) -> Self {
        let state = if server.enabled { "starting" } else { "disabled" };
        let view = StateView { state, cause: None, since: Instant::now(), next_attempt: None };
        Self(Arc::new(Shared {
            name,
            server,
            states: watch::Sender::new(view),
            offers: watch::Sender::new(Arc::default()),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.0.name
    }

    /// Its configuration.
    pub fn config(&self) -> &Server {
        &self.0.server
    }

    /// What it offers now.
    pub fn offer(&self) -> Arc<Offer> {
        self.0.offers.borrow().clone()
    }

    /// What it offers, now and later.
    pub fn offers(&self) -> watch::Receiver<Arc<Offer>> {
        self.0.offers.subscribe()
    }

    /// All that is shown of it.
    pub fn status(&self) -> Status {
        let view = self.0.states.borrow().clone();
        let offer = self.offer();
        Status {
            state: view.state,
            reason: view.cause.map(|cause| cause.to_string()),
            retry_in: view.next_attempt.map(|at| at.saturating_duration_since(Instant::now())),
            since: view.since.elapsed(),
            transport: None,
            revision: offer.revision,
            identity: offer.identity.clone(),
            pid: None,
            in_flight: 0,
            restarts: 0,
            get_stream: None,
            tools: offer.tools.len(),
            prompts: offer.prompts.len(),
            resources: offer.resources.len(),
            templates: offer.templates.len(),
            complaints: offer.complaints.clone(),
            stale: false,
        }
    }

    /// The state it is in, now and later.
    pub fn states(&self) -> watch::Receiver<StateView> {
        self.0.states.subscribe()
    }

    /// Whether it was ready at any time since the daemon started.
    pub fn ever_ready(&self) -> bool {
        false
    }

    /// Sends a request: waits for the server to be ready and for a free place, both within bounds.
    ///
    /// Dropping the future gives the request up; if the server may be working on it, it is told.
    #[expect(clippy::unused_async, reason = "the waiting comes with the link")]
    pub async fn call(&self, _ask: Ask) -> Result<Call, CallError> {
        Err(self.away())
    }

    /// Closes the connection and opens a new one at once, whatever the state.
    pub fn restart(&self) {}

    /// Sets the most verbose level that any client wants; it is asked for again on each new connection
    /// (mcp-protocol 6.5).
    pub fn want_log_level(&self, _level: Option<LogLevel>) {}

    /// Subscribes to a resource, and again on each new connection. Returns the server's answer.
    #[expect(clippy::unused_async, reason = "the waiting comes with the link")]
    pub async fn subscribe(&self, _uri: &str) -> Result<Result<Json, Json>, CallError> {
        Err(self.away())
    }

    /// Ends a subscription. Returns the server's answer.
    #[expect(clippy::unused_async, reason = "the waiting comes with the link")]
    pub async fn unsubscribe(&self, _uri: &str) -> Result<Result<Json, Json>, CallError> {
        Err(self.away())
    }

    fn away(&self) -> CallError {
        CallError {
            server: self.0.name.clone(),
            kind: CallErrorKind::Unavailable,
            outcome: Outcome::NotSent,
            text: format!("server `{}` is starting", self.0.name),
            retryable: true,
            retry_after: None,
        }
    }
}

impl Call {
    /// Waits for the next event. Safe to drop and call again; not to be called after the last event.
    #[expect(clippy::unused_async, reason = "the waiting comes with the link")]
    pub async fn next(&mut self) -> CallEvent {
        CallEvent::Failed(self.error.clone())
    }
}
