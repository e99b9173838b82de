//! Which era a message belongs to, and whether a modern request's headers agree with its body (mcp-protocol 3.3, 3.4).
//!
//! The body decides, headers only cross-check: a request that claims a revision in `_meta` is modern, whatever its
//! headers, and is refused if they say something else. What is checked here, in the order of 3.4, is all that HTTP
//! adds; what a method wants of its `params` is the hub's business. Every refusal carries its request's id.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use trunkline_hub::{Envelope, Hub, Params, View};
use trunkline_wire::headers::{self, Mismatch};
use trunkline_wire::{Era, Json, Message, Method, Notification, Request as Call, Revision, RpcError, code};

/// The header that names the revision, in both eras.
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(headers::PROTOCOL_VERSION);

const METHOD: HeaderName = HeaderName::from_static(headers::METHOD);
const NAME: HeaderName = HeaderName::from_static(headers::NAME);

/// The header that names a legacy session.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// A request that HTTP refuses, with its error.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) error: RpcError,
}

/// In whose terms a message is to be answered.
#[derive(Debug)]
pub(crate) enum Speech {
    /// A session's.
    Legacy,
    /// A modern request, with its `params` read.
    Modern(Params),
    /// A notification of a modern client: nothing is notified over HTTP in this era, where closing the connection is
    /// how a request is cancelled. Ids of different clients are often the same (mcp-protocol 6.1), so that one named
    /// here could be somebody else's.
    Notice,
}

/// Finds the era of a message: rows 5 to 13 of mcp-protocol 3.3.
pub(crate) fn speech(headers: &HeaderMap, message: &Message) -> Result<Speech, Refused> {
    match message {
        Message::Request(call) => of_request(headers, call),
        Message::Notification(notification) => Ok(of_notification(headers, notification)),
        // Modern clients answer nothing: they retry.
        Message::Response(_) => Ok(Speech::Legacy),
    }
}

fn of_request(headers: &HeaderMap, call: &Call) -> Result<Speech, Refused> {
    let in_session = headers.contains_key(SESSION_ID);
    let Some(params) = Envelope::claim_of(call.params.as_ref()) else {
        let names_modern = headers.get(PROTOCOL_VERSION).is_some_and(names_modern);
        let modern_alone = matches!(call.method, Method::Discover | Method::SubscriptionsListen);
        // A client that falls back to `initialize` may leave its version header in place.
        let claims = call.method != Method::Initialize && (names_modern || modern_alone && !in_session);
        return if claims { Err(no_envelope(call)) } else { Ok(Speech::Legacy) };
    };
    let claim = params.claim().and_then(Json::decode_str);
    let named = claim.as_deref().unwrap_or_default();
    if call.method == Method::Initialize && !Revision::is_modern(named) {
        return Ok(Speech::Legacy);
    }
    match Revision::parse(named).map(Revision::era) {
        Some(Era::Legacy) if in_session => Ok(Speech::Legacy),
        // No revision of that era can be claimed by a single request.
        Some(Era::Legacy) => Err(unsupported(named)),
        Some(Era::Modern) | None => Ok(Speech::Modern(params)),
    }
}

fn of_notification(headers: &HeaderMap, notification: &Notification) -> Speech {
    let claims = Envelope::claim_of(notification.params.as_ref()).is_some();
    if claims || headers.get(PROTOCOL_VERSION).is_some_and(names_modern) { Speech::Notice } else { Speech::Legacy }
}

/// Checks a modern request against its headers: steps 1 to 6 and 10 of mcp-protocol 3.4. Returns its envelope.
pub(crate) fn admit(
    hub: &Hub,
    view: &View,
    headers: &HeaderMap,
    call: &Call,
    params: Params,
) -> Result<Envelope, Refused> {
    let envelope = Envelope::read(params).map_err(bad_envelope)?;
    let params = envelope.params().members();
    verbatim(headers, &PROTOCOL_VERSION, envelope.claim())?;
    if !Revision::MODERN.iter().any(|revision| revision.as_str() == envelope.claim()) {
        return Err(unsupported(envelope.claim()));
    }
    verbatim(headers, &METHOD, call.method.as_str())?;
    // Without a name in the body there is nothing to compare: the hub says that it is missing.
    if let Some(name) = headers::name_key(&call.method).and_then(|key| params.get_str(key)) {
        headers::check(headers::NAME, &name, values(headers, &NAME))?;
        if call.method == Method::ToolsCall {
            let wanted = hub.param_headers(view, &name);
            if !wanted.is_empty() {
                let arguments = params.get_object("arguments").unwrap_or_default();
                headers::check_params(&wanted, &arguments, |name| {
                    headers.get_all(name).iter().map(HeaderValue::as_bytes)
                })?;
            }
        }
    }
    Ok(envelope)
}

/// Whether the value of a version header names a modern revision.
pub(crate) fn names_modern(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| Revision::is_modern(text.trim()))
}

/// The status of an error toward a modern client, where no stream was begun (mcp-protocol 3.4).
pub(crate) fn status_of(code: i64) -> StatusCode {
    match code {
        code::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_PROTOCOL_VERSION => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    }
}

/// Checks a header that says `wanted` as it is.
fn verbatim(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> Result<(), Refused> {
    match headers::only(name.as_str(), values(headers, name))? {
        Some(said) if said == wanted.as_bytes() => Ok(()),
        Some(_) => Err(Mismatch::Different(name.as_str().into()).into()),
        None => Err(Mismatch::Missing(name.as_str().into()).into()),
    }
}

fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}

/// A request that is modern by its headers or its method, and by its body is not: the text names what it lacks.
fn no_envelope(call: &Call) -> Refused {
    let read = Params::read(call.params.as_ref()).ok().and_then(|params| Envelope::read(params).err());
    bad_envelope(read.unwrap_or_else(|| RpcError::new(code::INVALID_PARAMS, "`params._meta` cannot be read")))
}

fn bad_envelope(error: RpcError) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, error }
}

impl From<Mismatch> for Refused {
    fn from(mismatch: Mismatch) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: RpcError::new(code::HEADER_MISMATCH, mismatch.to_string()) }
    }
}

fn unsupported(claim: &str) -> Refused {
    let supported = Revision::MODERN.map(Revision::as_str);
    let shown = trunkline_telemetry::redact::printable(claim, 64);
    let text = format!("revision {shown} cannot be claimed by a request; {} can", supported.join(", "));
    let data = Some(json!({ "supported": supported, "requested": claim }));
    let error = RpcError { code: code::UNSUPPORTED_PROTOCOL_VERSION, message: text, data };
    Refused { status: StatusCode::BAD_REQUEST, error }
}
