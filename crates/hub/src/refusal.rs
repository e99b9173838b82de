//! Why the gateway itself says no, and in which form a client hears it.
//!
//! [`Refusal`] is for requests that `edge` answers with an HTTP status of its own. Everything else is answered
//! in-band, and one function, [`dress`], decides whether a failure of the gateway is a tool result or an error
//! (mcp-protocol 2.4). Nobody else in this crate writes codes of faults.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use trunkline_config::ErrorForm;
use trunkline_wire::{
    Era, Fault, FaultCode, Id, Json, Lack, Method, Object, Outcome, Response, RpcError, ServerName, code, key,
};

use crate::gates::Whose;
use crate::limits::ANSWER_WAIT;
use crate::pins::Why;

/// A request that is refused as a whole. `edge` adds the HTTP status of mcp-protocol 3.9 and 3.14.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session was ended, or never was: 404.
    #[error("session not found")]
    UnknownSession,
    /// `initialize` in a session that has begun: 400.
    #[error("the session is initialized already")]
    SecondInitialize,
    /// `params` of `initialize` cannot be read: 400.
    #[error("`initialize` cannot be read: {0}")]
    BadInitialize(String),
    /// `Last-Event-ID` is none that this gateway gives: 400.
    #[error("`Last-Event-ID` is not an event id of this gateway")]
    ForeignEventId,
    /// Sessions are begun faster than any real client does: 429 with `Retry-After`.
    #[error("too many new sessions, try again in {} s", retry_after.as_secs().max(1))]
    TooManySessions {
        /// When the next one may be begun.
        retry_after: Duration,
    },
    /// The daemon is stopping: 503 with `Retry-After`.
    #[error("the gateway is stopping")]
    ShuttingDown,
}

impl Refusal {
    /// The JSON-RPC error that goes with the status.
    pub fn error(&self) -> RpcError {
        match self {
            Self::UnknownSession => RpcError::new(code::SESSION_NOT_FOUND, self.to_string()),
            Self::SecondInitialize | Self::BadInitialize(_) => RpcError::new(code::INVALID_REQUEST, self.to_string()),
            Self::ForeignEventId => RpcError::new(code::BAD_SESSION_REQUEST, self.to_string()),
            Self::TooManySessions { retry_after } => Fault {
                code: FaultCode::Overloaded,
                server: None,
                text: self.to_string(),
                outcome: Outcome::NotSent,
                retryable: true,
                retry_after_ms: Some(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX)),
            }
            .to_error(),
            Self::ShuttingDown => shutting_down().to_error(),
        }
    }

    /// The whole answer to the request `id` (mcp-protocol 2.1: an error carries its request's id).
    pub fn response(&self, id: Option<Id>) -> Bytes {
        Response::error(id, self.error().to_json()).encode()
    }

    /// What `Retry-After` says, where the status wants it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManySessions { retry_after } => Some(*retry_after),
            Self::ShuttingDown => Some(RESTART_WAIT),
            Self::UnknownSession | Self::SecondInitialize | Self::BadInitialize(_) | Self::ForeignEventId => None,
        }
    }
}

/// How long whoever comes while the daemon stops is to wait: a planned restart is over by then (reliability 8).
const RESTART_WAIT_MS: u64 = 2000;
const RESTART_WAIT: Duration = Duration::from_millis(RESTART_WAIT_MS);

/// Turns a fault into the outcome of a request of `method`: a tool result that the model can read, or an error.
pub(crate) fn dress(method: &Method, fault: &Fault, form: ErrorForm) -> Result<Json, Json> {
    if *method != Method::ToolsCall || form == ErrorForm::Protocol {
        return Err(fault.to_error().to_json());
    }
    Ok(Json::encode(&json!({
        "content": [{ "type": "text", "text": fault.text }],
        "isError": true,
        "_meta": { (key::FAULT): fault.data() },
    })))
}

/// What is wrong with a call of one of the gateway's own tools, or with what it leads to: the model can mend it.
pub(crate) fn for_the_model(why: &str, form: ErrorForm) -> Result<Json, Json> {
    match form {
        ErrorForm::Protocol => Err(invalid_params(why)),
        ErrorForm::Result => {
            Ok(Json::encode(&json!({ "content": [{ "type": "text", "text": why }], "isError": true })))
        }
    }
}

/// A client's text, cut for an error message.
pub(crate) fn shown(text: &str) -> String {
    trunkline_telemetry::redact::printable(text, 128)
}

/// The daemon stops and takes no new work.
pub(crate) fn shutting_down() -> Fault {
    Fault {
        code: FaultCode::ShuttingDown,
        server: None,
        text: "the gateway is stopping and did not pass the request on; repeat it once it is back".to_owned(),
        outcome: Outcome::NotSent,
        retryable: true,
        retry_after_ms: Some(RESTART_WAIT_MS),
    }
}

/// The daemon stops, and its drain is over before the server has answered (reliability 8).
pub(crate) fn cut_short(server: &ServerName) -> Fault {
    Fault {
        code: FaultCode::ShuttingDown,
        server: Some(server.clone()),
        text: format!(
            "the gateway stopped before server `{server}` had answered, and told it to give up; check what was done \
             before you repeat it"
        ),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    }
}

/// The answers came for a call that waited for them in a process that is no more (mcp-protocol 5.9 rule 14).
pub(crate) fn lost_with_the_process(server: &ServerName) -> Fault {
    Fault {
        code: FaultCode::OutcomeUnknown,
        server: Some(server.clone()),
        text: format!(
            "the call was lost: it waited at server `{server}` for these answers, and the gateway was restarted meanwhile; \
             check what was done before you call it again"
        ),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    }
}

/// Arguments that a client may not give (`tools.TOOL` in the configuration): its model reads what to leave out.
pub(crate) fn wrong_arguments(text: &str, form: ErrorForm) -> Result<Json, Json> {
    match form {
        ErrorForm::Result => {
            Ok(Json::encode(&json!({ "content": [{ "type": "text", "text": text }], "isError": true })))
        }
        ErrorForm::Protocol => Err(invalid_params(text.to_owned())),
    }
}

/// More calls of a tool at a time than its `tools.TOOL.in_flight` allows.
pub(crate) fn too_many_at_once(server: &ServerName, whose: &Whose, count: usize, waited: Duration) -> Fault {
    let calls = if count == 1 { "one call" } else { "so many calls" };
    let takes = if matches!(whose, Whose::Token(_)) { "is good for" } else { "takes" };
    let text = format!(
        "{} {takes} {calls} at a time ({count}) and did not become free within {} s; try again",
        told(whose),
        waited.as_secs_f64().ceil()
    );
    over(server, text, Duration::from_secs(1))
}

/// More calls within a minute than `per_minute` of a token, a tool or its server allows.
pub(crate) fn too_fast(server: &ServerName, whose: &Whose, count: u32, wait: Duration) -> Fault {
    let calls = if count == 1 { "one call" } else { "calls" };
    let used = if matches!(whose, Whose::Token(_)) { "used" } else { "called" };
    let text = format!(
        "{} is {used} too often: the configuration allows {count} {calls} a minute; try again in {} s",
        told(whose),
        wait.as_secs_f64().ceil()
    );
    over(server, text, wait)
}

/// Whose limit it is.
fn told(whose: &Whose) -> String {
    match whose {
        Whose::Token(name) => format!("token `{name}`"),
        Whose::Server(server) => format!("server `{server}`"),
        Whose::Tool(server, tool) => {
            format!("tool `{}` of server `{server}`", trunkline_telemetry::redact::printable(tool, 128))
        }
    }
}

fn over(server: &ServerName, text: String, wait: Duration) -> Fault {
    Fault {
        code: FaultCode::Overloaded,
        server: Some(server.clone()),
        text,
        outcome: Outcome::NotSent,
        retryable: true,
        retry_after_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// The tool is not as it was pinned, and its server's configuration says `pin = "block"` (S-15).
pub(crate) fn quarantined(server: &ServerName, tool: &str, why: Why) -> Fault {
    Fault {
        code: FaultCode::ToolQuarantined,
        server: Some(server.clone()),
        text: format!(
            "tool `{}` was not called, since {}; a person has to look at the change (`trunkline pins diff {server}`) and to \
             take it (`trunkline pins accept {server}`)",
            trunkline_telemetry::redact::printable(tool, 128),
            why.text()
        ),
        outcome: Outcome::NotSent,
        retryable: false,
        retry_after_ms: None,
    }
}

/// The request went through too many gateways: most likely they form a circle (R-34).
pub(crate) fn too_many_hops(server: &ServerName) -> Fault {
    Fault {
        code: FaultCode::UpstreamProtocolError,
        server: Some(server.clone()),
        text: format!(
            "server `{server}` was not asked: the request passed too many gateways already, so one of them is probably \
             configured as its own server"
        ),
        outcome: Outcome::NotSent,
        retryable: false,
        retry_after_ms: None,
    }
}

/// A failure for want of something that the client would have to offer, or its user to do.
fn missing(server: &ServerName, text: String) -> Fault {
    Fault {
        code: FaultCode::ClientCapabilityMissing,
        server: Some(server.clone()),
        text,
        outcome: Outcome::Failed,
        retryable: false,
        retry_after_ms: None,
    }
}

/// The server wants to ask what this client cannot be asked.
pub(crate) fn lacking(server: &ServerName, lack: Lack) -> Fault {
    needs(server, lack.name())
}

/// The server needs a capability that this client does not have.
pub(crate) fn needs(server: &ServerName, need: &str) -> Fault {
    let need = trunkline_telemetry::redact::printable(need, 100);
    missing(
        server,
        format!("server `{server}` needs `{need}`, which this client does not offer; use a client that does"),
    )
}

/// The server asks, and nobody is there who could answer.
pub(crate) fn nobody_to_ask(server: &ServerName) -> Fault {
    missing(
        server,
        format!("server `{server}` wants to ask something, and nobody is behind this call; make it from a client"),
    )
}

/// So many calls of this client wait for answers that one more may not (R-24).
pub(crate) fn too_many_wait(server: &ServerName, waiting: usize) -> Fault {
    Fault {
        code: FaultCode::Overloaded,
        server: Some(server.clone()),
        text: format!(
            "server `{server}` wants to ask something during this call, but {waiting} calls of this client wait for answers \
             already, and that is its share; answer those, or let them end by themselves within {} min. The call was begun \
             and then cancelled: check what was done before you call it again",
            ANSWER_WAIT.as_secs() / 60
        ),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    }
}

/// Who was asked answered with an error where no error can be passed on.
pub(crate) fn declined(server: &ServerName, method: &Method, error: &Json) -> Fault {
    let said = Object::parse(error).ok().and_then(|error| error.get_str("message")).unwrap_or_default();
    let said = trunkline_telemetry::redact::printable(&said, 300);
    missing(server, format!("server `{server}` asked for `{method}`, and the client refused: {said}"))
}

/// The person did not agree to visit a URL that the server needs visited.
pub(crate) fn not_visited(server: &ServerName) -> Fault {
    missing(server, format!("declined by the user: server `{server}` needs a page visited first"))
}

/// The server needs URLs visited, and this client cannot show them by itself.
pub(crate) fn url_first(server: &ServerName, urls: &[Json]) -> Fault {
    let each = urls.iter().filter_map(|url| Object::parse(url).ok()).map(|url| {
        let (message, address) = (url.get_str("message").unwrap_or_default(), url.get_str("url").unwrap_or_default());
        let shown = |text: &str| trunkline_telemetry::redact::printable(text, 2000);
        format!("{}: {}", shown(&message), shown(&address))
    });
    let each = each.collect::<Vec<_>>().join("; ");
    missing(server, format!("server `{server}` needs a page visited first, then the same call again: {each}"))
}

/// A modern server asked its caller for what the request did not declare (mcp-protocol 5.10).
pub(crate) fn undeclared(server: &ServerName, lack: Lack) -> Fault {
    Fault {
        code: FaultCode::UpstreamProtocolError,
        server: Some(server.clone()),
        text: format!("server `{server}` asked for `{}`, which the client did not declare", lack.name()),
        outcome: Outcome::Failed,
        retryable: false,
        retry_after_ms: None,
    }
}

/// A server wants to send the person behind a call to a page that is neither of this machine nor spoken to by TLS (S-40).
pub(crate) fn unsafe_page(server: &ServerName) -> Fault {
    Fault {
        code: FaultCode::UpstreamProtocolError,
        server: Some(server.clone()),
        text: format!(
            "server `{server}` wants to send you to a page that is not reached by https; the address is not passed on"
        ),
        outcome: Outcome::Failed,
        retryable: false,
        retry_after_ms: None,
    }
}

/// A modern server says something of a task that its revision does not allow; `what`, for people.
pub(crate) fn odd_task(server: &ServerName, what: &str) -> Fault {
    Fault {
        code: FaultCode::UpstreamProtocolError,
        server: Some(server.clone()),
        text: format!(
            "server `{server}` {what}; see `trunkline logs {server}`, and check what was done before you repeat it"
        ),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    }
}

/// A result that no modern client could read: it is no object, or has a key twice.
pub(crate) fn unreadable(method: &Method) -> Fault {
    Fault {
        code: FaultCode::UpstreamProtocolError,
        server: None,
        text: format!(
            "the server's answer to {} cannot be read: it is no object, or has a key twice; check what was done before \
             you repeat it",
            method.label()
        ),
        outcome: Outcome::Failed,
        retryable: false,
        retry_after_ms: None,
    }
}

/// The stream to be resumed is gone, and with it the answer to `request`.
pub(crate) fn replay_gone(request: Id) -> Bytes {
    let fault = Fault {
        code: FaultCode::ReplayGone,
        server: None,
        text: "the answer to this request is no longer held; check what was done before you repeat it".to_owned(),
        outcome: Outcome::Unknown,
        retryable: false,
        retry_after_ms: None,
    };
    Response::error(Some(request), fault.to_error().to_json()).encode()
}

/// The client cancelled the request itself (mcp-protocol 2.8 note a).
pub(crate) fn cancelled(request: Id) -> Bytes {
    Response::error(Some(request), RpcError::new(code::REQUEST_CANCELLED, "request cancelled").to_json()).encode()
}

/// `-32602` with this sentence.
pub(crate) fn invalid_params(message: impl Into<String>) -> Json {
    RpcError::new(code::INVALID_PARAMS, message).to_json()
}

/// No server has this resource. Each era has its own number for that (mcp-protocol 2.4, G-32).
pub(crate) fn unknown_resource(uri: &str, era: Era) -> Json {
    RpcError {
        code: match era {
            Era::Legacy => code::RESOURCE_NOT_FOUND,
            Era::Modern => code::INVALID_PARAMS,
        },
        message: "no server here offers this resource".to_owned(),
        data: Some(json!({ "uri": uri })),
    }
    .to_json()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_tool_call_is_a_result_unless_configured_otherwise() {
        let fault = shutting_down();
        let result = dress(&Method::ToolsCall, &fault, ErrorForm::Result).expect("a result");
        let value: serde_json::Value = result.decode().expect("JSON");
        assert_eq!(value["isError"], true);
        assert_eq!(value["content"][0]["text"], fault.text);
        assert_eq!(value["_meta"]["dev.trunkline/fault"]["name"], "SHUTTING_DOWN");
        assert!(value.get("structuredContent").is_none());
        assert!(dress(&Method::ToolsCall, &fault, ErrorForm::Protocol).is_err());
        let error = dress(&Method::ResourcesRead, &fault, ErrorForm::Result).expect_err("an error");
        let value: serde_json::Value = error.decode().expect("JSON");
        assert_eq!(value["code"], -31005);
        assert_eq!(value["data"]["outcome"], "not_sent");
    }

    #[test]
    fn a_refusal_carries_the_id_of_its_request() {
        let text = Refusal::UnknownSession.response(Some(Id::from(7)));
        assert!(text.starts_with(br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32001,"#));
    }
}
