//! Error bodies: every JSON-RPC code that we emit, and [`Fault`], a failure of the gateway itself.
//!
//! The gateway's own codes lie outside the range that JSON-RPC and the protocol reserve (reliability 2); a
//! test holds them there. How a fault is dressed, as a tool result or as an error, is the hub's business.

use serde::Serialize;

use crate::json::Json;
use crate::names::ServerName;

/// JSON-RPC codes that the gateway emits besides those of [`FaultCode`].
pub mod code {
    /// The body is not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// The body is no JSON-RPC message, or not one that is allowed here.
    pub const INVALID_REQUEST: i64 = -32600;
    /// Nobody answers this method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Unknown tool, prompt, cursor or level.
    pub const INVALID_PARAMS: i64 = -32602;
    /// A bug of the gateway.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// A modern server needs a URL visited first, toward 2025-11-25 clients only (mcp-protocol 5.11).
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
    /// A modern request's headers and body disagree.
    pub const HEADER_MISMATCH: i64 = -32020;
    /// A modern request lacks a client capability that its answer needs.
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    /// A modern request claims a revision that is not spoken here.
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
    /// Unknown resource, toward legacy clients only.
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// The session is not known; SDK clients know the number (mcp-protocol 2.4).
    pub const SESSION_NOT_FOUND: i64 = -32001;
    /// The session id is missing or the version header is unsupported; same reason.
    pub const BAD_SESSION_REQUEST: i64 = -32000;
    /// The person behind a client said no, or is not there any more (mcp-protocol 2.4).
    pub const USER_REJECTED: i64 = -1;
    /// The client itself cancelled this request (mcp-protocol 2.8).
    pub const REQUEST_CANCELLED: i64 = -32800;
}

/// A JSON-RPC error object of our own making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RpcError {
    /// One of [`code`] or a [`FaultCode`].
    pub code: i64,
    /// One sentence for people.
    pub message: String,
    /// What programs read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Returns the error object's text.
    pub fn to_json(&self) -> Json {
        Json::encode(self)
    }
}

/// What went wrong inside or behind the gateway (reliability 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum FaultCode {
    /// Not sent: starting, backing off, spawn failed.
    UpstreamUnavailable = -31001,
    /// Sent, and no final answer came.
    OutcomeUnknown = -31002,
    /// The deadline passed.
    UpstreamTimeout = -31003,
    /// A limit or queue is full; not sent.
    Overloaded = -31004,
    /// The daemon is stopping.
    ShuttingDown = -31005,
    /// A person must sign in, or set a key, first.
    UpstreamAuthRequired = -31006,
    /// Malformed, oversized, wrong-typed or unrecognised answer.
    UpstreamProtocolError = -31007,
    /// The tool's definition changed since it was pinned.
    ToolQuarantined = -31008,
    /// The stream to be resumed is no longer held.
    ReplayGone = -31009,
    /// The server needs something of the client that it does not offer.
    ClientCapabilityMissing = -31010,
}

impl FaultCode {
    /// All of them, for tests and documentation.
    pub const ALL: [Self; 10] = [
        Self::UpstreamUnavailable,
        Self::OutcomeUnknown,
        Self::UpstreamTimeout,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::UpstreamAuthRequired,
        Self::UpstreamProtocolError,
        Self::ToolQuarantined,
        Self::ReplayGone,
        Self::ClientCapabilityMissing,
    ];

    /// The code on the wire.
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::Overloaded => "OVERLOADED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::UpstreamAuthRequired => "UPSTREAM_AUTH_REQUIRED",
            Self::UpstreamProtocolError => "UPSTREAM_PROTOCOL_ERROR",
            Self::ToolQuarantined => "TOOL_QUARANTINED",
            Self::ReplayGone => "REPLAY_GONE",
            Self::ClientCapabilityMissing => "CLIENT_CAPABILITY_MISSING",
        }
    }
}

/// How far a failed request got: what a caller must know before it tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It never left the gateway.
    NotSent,
    /// The server refused it before doing anything.
    Refused,
    /// It was sent; whether it was done is not known.
    Unknown,
    /// It was done, or tried, and failed.
    Failed,
}

/// A failure that the gateway itself reports (mcp-protocol 2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub code: FaultCode,
    /// The server it concerns, if it concerns one.
    pub server: Option<ServerName>,
    /// One sentence a person or a model can act on: server, what happened, what to do.
    pub text: String,
    /// How far the request got.
    pub outcome: Outcome,
    /// Whether the same request may work later.
    pub retryable: bool,
    /// When to try again, in milliseconds, if that is known.
    pub retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FaultBody<'a> {
    code: i64,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a ServerName>,
    outcome: Outcome,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Fault {
    /// The object for `_meta["dev.trunkline/fault"]` and for an error's `data`.
    ///
    /// # Panics
    /// Never: the body has only strings, numbers and booleans.
    pub fn data(&self) -> serde_json::Value {
        let body = FaultBody {
            code: self.code.code(),
            name: self.code.name(),
            server: self.server.as_ref(),
            outcome: self.outcome,
            retryable: self.retryable,
            retry_after_ms: self.retry_after_ms,
        };
        serde_json::to_value(body).expect("a flat body serialises")
    }

    /// The fault as a JSON-RPC error.
    pub fn to_error(&self) -> RpcError {
        RpcError { code: self.code.code(), message: self.text.clone(), data: Some(self.data()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_codes_stay_out_of_the_reserved_range() {
        for fault in FaultCode::ALL {
            assert!(!(-32768..=-32000).contains(&fault.code()), "{}", fault.name());
        }
    }

    #[test]
    fn a_fault_says_all_that_a_caller_needs() {
        let fault = Fault {
            code: FaultCode::UpstreamUnavailable,
            server: ServerName::new("git").ok(),
            text: "server `git` is restarting, next attempt in 4 s".into(),
            outcome: Outcome::NotSent,
            retryable: true,
            retry_after_ms: Some(4000),
        };
        assert_eq!(
            fault.data().to_string(),
            r#"{"code":-31001,"name":"UPSTREAM_UNAVAILABLE","outcome":"not_sent","retryAfterMs":4000,"retryable":true,"server":"git"}"#
        );
    }
}
