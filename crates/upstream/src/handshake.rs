//! The legacy handshake, the same over all three transports (mcp-protocol 4.11): `initialize`, its answer, and
//! `notifications/initialized`. And [`Handshake`], what a server said of itself, in either era (see `discover.rs`).
//!
//! The transport differs only in where the answer comes from, so [`finish`] takes what sending `initialize` gave.
//! Pings of the server are answered meanwhile; its other requests are refused, since nobody is there yet to answer
//! them, and its notices are skipped: the lists are read afterwards anyway.

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use trunkline_config::Declared;
use trunkline_telemetry::redact;
use trunkline_wire::{
    Era, Id, Json, Message, Method, Notification, Object, Request, Response, Revision, RpcError, code,
};

use crate::envelope::CLIENT_INFO;
use crate::questions;
use crate::transport::failure::Failure;
use crate::transport::{FaultPoint, MessageStream, Outgoing, SendError, Sent, Transport};

/// What a server said of itself when the connection was opened.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    /// The agreed revision.
    pub(crate) revision: Revision,
    /// `serverInfo`, as sent.
    pub(crate) identity: Option<Json>,
    /// `capabilities`; empty if the server sent none.
    pub(crate) capabilities: Object,
    /// `instructions`, if there are any.
    pub(crate) instructions: Option<String>,
}

/// Why there was no handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missed {
    /// A message could not be sent, or not over HTTP answered.
    Failed(Failure),
    /// As above, where only the transport knows more.
    Unsent(SendError),
    /// The stream of the answer ended before it, with this text.
    Ended(String),
    /// The answer came and could not be read, with this text.
    Garbled(String),
    /// The server refused, but knows a revision that we know too.
    OtherRevision(Revision),
    /// The server refused: code and message.
    Refused(i64, String),
    /// The server wants a revision that we do not speak.
    UnknownRevision(String),
    /// The server refused `initialize` as modern servers do, naming these revisions: it is to be asked anew.
    ModernOnly(String),
    /// The configuration says that the server is modern, and it is not; what it did instead.
    NotModern(String),
    /// The answer is none.
    Unreadable(String),
}

/// The request that opens a connection, with the id `id`.
pub(crate) fn initialize(id: u64, revision: Revision, declared: &Declared) -> Outgoing {
    let params: Object = [
        ("protocolVersion", Json::from(revision.as_str())),
        ("capabilities", questions::declaration(declared)),
        ("clientInfo", Json::literal(CLIENT_INFO)),
    ]
    .into_iter()
    .collect();
    let request = Request { id: Id::from(id), method: Method::Initialize, params: Some(params.to_json()) };
    Outgoing::new(request.encode(), Some(id), Method::Initialize)
}

/// Waits for the answer to `initialize`, which was sent with `id` and gave `sent`, and completes the handshake.
pub(crate) async fn finish(
    transport: &dyn Transport,
    shared: &mut MessageStream,
    sent: Sent,
    id: u64,
) -> Result<Handshake, Missed> {
    let response = match sent {
        Sent::Reply(Message::Response(response)) => response,
        Sent::Reply(Message::Request(_) | Message::Notification(_)) => {
            return Err(Missed::Unreadable("answered `initialize` with a message of its own".to_owned()));
        }
        Sent::OnOwnStream(mut stream) => answer(transport, &mut stream, id, &mut None).await?,
        Sent::OnSharedStream => answer(transport, shared, id, &mut None).await?,
    };
    complete(transport, response).await
}

/// Completes the handshake with the answer to `initialize`.
pub(crate) async fn complete(transport: &dyn Transport, response: Response) -> Result<Handshake, Missed> {
    let handshake = match response.outcome {
        Ok(result) => read(&result)?,
        Err(error) => return Err(refusal(&error)),
    };
    transport.agreed(handshake.revision);
    let text = Notification { method: Method::Initialized, params: None }.encode();
    if let Err(error) = transport.send(Outgoing::new(text, None, Method::Initialized)).await {
        // Some servers answer 404 to it and work all the same (clients.md 5). A dead connection shows by itself.
        if matches!(error.fault, FaultPoint::NothingSent | FaultPoint::SessionGone | FaultPoint::NeedsAuth) {
            return Err(Missed::Unsent(error));
        }
        tracing::debug!(seen = error.text, "notifications/initialized was not accepted");
    }
    Ok(handshake)
}

/// Reads `stream` up to the answer to the request `id`; the last answer to another one goes into `other`.
pub(crate) async fn answer(
    transport: &dyn Transport,
    stream: &mut MessageStream,
    id: u64,
    other: &mut Option<Response>,
) -> Result<Response, Missed> {
    let mut seen = None;
    while let Some(next) = stream.next().await {
        match next {
            Ok(Message::Response(response)) if response.id.as_ref().and_then(Id::minted) == Some(id) => {
                return Ok(response);
            }
            Ok(Message::Request(request)) => {
                let method = request.method.clone();
                let reply = Outgoing::new(reply(request), None, method);
                transport.send(reply).await.map_err(Missed::Unsent)?;
            }
            Ok(Message::Response(response)) => *other = Some(response),
            Ok(Message::Notification(_)) => {}
            // A line that is no message, on a stream that goes on: noise of a launcher, perhaps.
            Err(broken) if broken.fault == FaultPoint::Unreadable && broken.request.is_none() => {
                seen = Some(broken.text);
            }
            Err(broken) if broken.fault == FaultPoint::Unreadable => {
                if broken.request == Some(id) {
                    return Err(Missed::Garbled(broken.text));
                }
            }
            Err(broken) => return Err(Missed::Ended(broken.text)),
        }
    }
    Err(seen.map_or_else(
        || Missed::Ended("the connection was closed before an answer came".to_owned()),
        Missed::Unreadable,
    ))
}

/// What a server hears that asks something before the handshake is done.
fn reply(request: Request) -> Bytes {
    if request.method == Method::Ping {
        return Response::result(request.id, Json::literal("{}")).encode();
    }
    let error = RpcError::new(code::METHOD_NOT_FOUND, "not available before the handshake is done");
    Response::error(Some(request.id), error.to_json()).encode()
}

fn read(result: &Json) -> Result<Handshake, Missed> {
    let result = Object::parse(result)
        .map_err(|malformed| Missed::Unreadable(format!("answered `initialize` with a bad result: {malformed}")))?;
    let Some(wanted) = result.get_str("protocolVersion") else {
        return Err(Missed::Unreadable("answered `initialize` without a `protocolVersion`".to_owned()));
    };
    let revision = Revision::parse(&wanted)
        .filter(|revision| revision.era() == Era::Legacy)
        .ok_or_else(|| Missed::UnknownRevision(redact::printable(&wanted, 40)))?;
    Ok(Handshake {
        revision,
        identity: result.get("serverInfo").filter(|info| info.is_object()).cloned(),
        capabilities: result.get_object("capabilities").unwrap_or_default(),
        instructions: result.get_str("instructions").filter(|text| !text.trim().is_empty()),
    })
}

/// Reads the error that answered `initialize`. It may name the revisions that the server knows (mcp-protocol 4.6 B).
fn refusal(error: &Json) -> Missed {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        code: i64,
        #[serde(default)]
        message: String,
        #[serde(default)]
        data: serde_json::Value,
    }
    let Ok(refusal) = error.decode::<Refusal>() else {
        return Missed::Unreadable("answered `initialize` with an error that is none".to_owned());
    };
    let supported: Vec<&str> =
        refusal.data["supported"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    let common = supported.iter().filter_map(|text| Revision::parse(text)).filter(|found| found.era() == Era::Legacy);
    match common.max() {
        Some(revision) => Missed::OtherRevision(revision),
        None if refusal.code == code::UNSUPPORTED_PROTOCOL_VERSION => {
            Missed::ModernOnly(redact::printable(&supported.join(", "), 200))
        }
        None if !supported.is_empty() => Missed::UnknownRevision(redact::printable(&supported.join(", "), 200)),
        None => Missed::Refused(refusal.code, redact::printable(&refusal.message, 500)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &'static str) -> Json {
        Json::literal(text)
    }

    #[test]
    fn all_four_legacy_revisions_are_accepted_and_no_other() {
        for revision in Revision::ALL {
            let result = Json::encode(&serde_json::json!({"protocolVersion": revision, "capabilities": {}}));
            assert_eq!(read(&result).is_ok(), revision.era() == Era::Legacy, "{revision}");
        }
        assert!(matches!(read(&literal(r#"{"protocolVersion":"2030-01-01"}"#)), Err(Missed::UnknownRevision(_))));
        assert!(matches!(read(&literal("{}")), Err(Missed::Unreadable(_))));
    }

    #[test]
    fn a_refusal_that_names_a_common_revision_can_be_met() {
        let error = literal(r#"{"code":-32602,"message":"no","data":{"supported":["2024-11-05","2025-03-26","x"]}}"#);
        assert_eq!(refusal(&error), Missed::OtherRevision(Revision::V2025_03_26));
        let modern = literal(r#"{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}"#);
        assert_eq!(refusal(&modern), Missed::ModernOnly("2026-07-28".to_owned()));
        let foreign = literal(r#"{"code":-32602,"message":"no","data":{"supported":["2031-01-01"]}}"#);
        assert_eq!(refusal(&foreign), Missed::UnknownRevision("2031-01-01".to_owned()));
        assert_eq!(refusal(&literal(r#"{"code":-1,"message":"no"}"#)), Missed::Refused(-1, "no".to_owned()));
    }

    #[test]
    fn the_request_is_one_that_a_server_understands() {
        let out = initialize(7, Revision::V2025_11_25, &Declared::default());
        let Ok(Message::Request(request)) = Message::parse(&out.text) else { panic!("a request") };
        assert_eq!(request.id.minted(), Some(7));
        assert_eq!(request.params().expect("an object").get_str("protocolVersion").as_deref(), Some("2025-11-25"));
    }
}
