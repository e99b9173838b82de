//! What goes wrong between the gateway and a server: [`DialError`] for a connection that does not come about,
//! [`CallError`] for a request that gets no answer of the server.
//!
//! Both carry the finished sentence for a person or a model, because only here is it known what was seen and what
//! may help. A server's own JSON-RPC error is no error in this sense: it crosses as it is.

use std::time::Duration;

use trunkline_wire::{Fault, FaultCode, Outcome, ServerName};

/// Why a request got no answer from its server. Turned into a [`Fault`] for clients by [`CallError::fault`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    /// The server that was asked.
    pub server: ServerName,
    /// What went wrong, by what can be done about it.
    pub kind: CallErrorKind,
    /// How far the request got.
    pub outcome: Outcome,
    /// One sentence that names the server, what happened, and the next step.
    pub text: String,
    /// Whether the same request may work later.
    pub retryable: bool,
    /// When, if that is known.
    pub retry_after: Option<Duration>,
}

/// The kinds of [`CallError`], one per gateway code that a server can cause (reliability 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallErrorKind {
    /// Not sent: the server is away.
    Unavailable,
    /// Sent, and no final answer came.
    OutcomeUnknown,
    /// The deadline passed.
    Timeout,
    /// A limit or queue is full; not sent.
    Overloaded,
    /// The daemon is stopping.
    ShuttingDown,
    /// A person must sign in, or set a key, first.
    AuthRequired,
    /// Malformed, oversized or unrecognised answer.
    Protocol,
}

impl CallErrorKind {
    /// The code on the wire.
    pub fn code(self) -> FaultCode {
        match self {
            Self::Unavailable => FaultCode::UpstreamUnavailable,
            Self::OutcomeUnknown => FaultCode::OutcomeUnknown,
            Self::Timeout => FaultCode::UpstreamTimeout,
            Self::Overloaded => FaultCode::Overloaded,
            Self::ShuttingDown => FaultCode::ShuttingDown,
            Self::AuthRequired => FaultCode::UpstreamAuthRequired,
            Self::Protocol => FaultCode::UpstreamProtocolError,
        }
    }
}

impl CallError {
    /// The error as clients see it.
    pub fn fault(&self) -> Fault {
        Fault {
            code: self.kind.code(),
            server: Some(self.server.clone()),
            text: self.text.clone(),
            outcome: self.outcome,
            retryable: self.retryable,
            retry_after_ms: self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Why a connection to a server did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct DialError {
    /// What kind of failure: decides how soon the next attempt is made.
    pub(crate) kind: DialErrorKind,
    /// A full sentence for people without final stop: phase, what was seen, the next step. No secret.
    pub(crate) text: String,
    /// When the server asked to be tried again.
    pub(crate) retry_after: Option<Duration>,
}

/// The kinds of [`DialError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialErrorKind {
    /// The command or the URL in the configuration cannot work: no such file, not executable, a value is missing.
    Config,
    /// The process could not be started for want of something that may come back: memory, process ids.
    Spawn,
    /// The child exited before the handshake was done.
    Exited,
    /// A phase took too long.
    Timeout,
    /// No connection: refused, reset, name not found.
    Connect,
    /// The server's certificate is not trusted, or TLS failed otherwise.
    Tls,
    /// An HTTP status that ends the attempt.
    Http(u16),
    /// An answer to the handshake that is none.
    Handshake,
    /// No revision in common.
    Revision,
    /// The server wants a credential, or another one.
    Auth,
}

/// What follows from a failed dial (reliability 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// May pass by itself: try again soon.
    Backoff,
    /// A person must set a key or sign in.
    NeedsAuth,
    /// A person must change the configuration.
    Misconfigured,
}

impl DialError {
    /// A failure of this kind.
    pub(crate) fn new(kind: DialErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None }
    }

    /// The same, with the server's own word on when to try again.
    pub(crate) fn retry_after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }

    /// What follows from it. A status of the 4xx family at connect is a fault of the configuration, but
    /// for those that say "later".
    pub(crate) fn disposition(&self) -> Disposition {
        match self.kind {
            DialErrorKind::Auth | DialErrorKind::Http(401 | 403) => Disposition::NeedsAuth,
            DialErrorKind::Http(408 | 425 | 429) => Disposition::Backoff,
            DialErrorKind::Config | DialErrorKind::Revision | DialErrorKind::Http(400..=499) => {
                Disposition::Misconfigured
            }
            DialErrorKind::Spawn
            | DialErrorKind::Exited
            | DialErrorKind::Timeout
            | DialErrorKind::Connect
            | DialErrorKind::Tls
            | DialErrorKind::Http(_)
            | DialErrorKind::Handshake => Disposition::Backoff,
        }
    }

    /// The kind as a label of metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        match self.kind {
            DialErrorKind::Config => "config",
            DialErrorKind::Spawn => "spawn",
            DialErrorKind::Exited => "exited",
            DialErrorKind::Timeout => "timeout",
            DialErrorKind::Connect => "connect",
            DialErrorKind::Tls => "tls",
            DialErrorKind::Http(_) => "http",
            DialErrorKind::Handshake => "handshake",
            DialErrorKind::Revision => "revision",
            DialErrorKind::Auth => "auth",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r15_what_a_person_must_change_is_not_hammered() {
        let follows = |kind| DialError::new(kind, "x").disposition();
        for status in [400, 404, 405, 410] {
            assert_eq!(follows(DialErrorKind::Http(status)), Disposition::Misconfigured, "{status}");
        }
        for status in [401, 403] {
            assert_eq!(follows(DialErrorKind::Http(status)), Disposition::NeedsAuth, "{status}");
        }
        for status in [429, 500, 502, 503] {
            assert_eq!(follows(DialErrorKind::Http(status)), Disposition::Backoff, "{status}");
        }
        assert_eq!(follows(DialErrorKind::Config), Disposition::Misconfigured);
        assert_eq!(follows(DialErrorKind::Exited), Disposition::Backoff);
    }
}
