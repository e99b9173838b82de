//! [`Message`]: the JSON-RPC envelope, with everything beneath it left as text.
//!
//! The envelope is read as one flat structure of optional members and classified by which are present:
//! raw text does not survive serde's flattened, untagged or tagged forms, which buffer the value first.
//! Outgoing messages are written by hand, and property tests hold them against `serde_json`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::Id;
use crate::json::{Json, Malformed, check, check_utf8, on_one_line};
use crate::limits::BATCH_MAX;
use crate::method::Method;
use crate::object::Object;
use crate::text::Text;

/// One JSON-RPC message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Wants exactly one response.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Answers a request.
    Response(Response),
}

/// A request of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the sender.
    pub id: Id,
    /// What is asked.
    pub method: Method,
    /// The sender's text, an object when present.
    pub params: Option<Json>,
}

/// A notification of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What happened.
    pub method: Method,
    /// The sender's text, an object when present.
    pub params: Option<Json>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The request's id; `None` where the peer could not read it and sent `null`.
    pub id: Option<Id>,
    /// `result` or `error`, as sent.
    pub outcome: Result<Json, Json>,
}

impl Message {
    /// Reads one message. Fails on a batch: see [`parse_batch`].
    pub fn parse(text: &Bytes) -> Result<Self, Malformed> {
        Self::from_value(&Json::unchecked(text.slice_ref(text.trim_ascii())))
    }

    /// Returns the id of a request or response, if it has one that can be read.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Request(request) => Some(&request.id),
            Self::Response(response) => response.id.as_ref(),
            Self::Notification(_) => None,
        }
    }

    /// Returns the message's text, on one line.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Request(request) => request.encode(),
            Self::Notification(notification) => notification.encode(),
            Self::Response(response) => response.encode(),
        }
    }

    fn from_value(value: &Json) -> Result<Self, Malformed> {
        if value.as_bytes().first() == Some(&b'[') {
            return Err(Malformed::NotRpc("a batch is not allowed here"));
        }
        // A text that is no JSON at all is a parse error (-32700), anything else no request (-32600).
        if !value.is_object() {
            Json::parse(value.bytes().clone())?;
            return Err(Malformed::NotRpc("a message is an object"));
        }
        check_utf8(value.as_bytes())?;
        let mut envelope = Object::parse(value)?;
        if envelope.get("jsonrpc").and_then(Json::plain_str) != Some("2.0")
            && envelope.get_str("jsonrpc").as_deref() != Some("2.0")
        {
            return Err(Malformed::NotRpc("`jsonrpc` must be \"2.0\""));
        }
        let id = envelope.remove("id");
        if let Some(method) = envelope.remove("method") {
            let not_a_string = Malformed::NotRpc("`method` must be a string");
            let method = match method.plain_str() {
                Some(plain) => Method::from(plain),
                None => Method::from(method.decode_str().ok_or(not_a_string)?.as_str()),
            };
            let params = envelope.remove("params");
            if params.as_ref().is_some_and(|params| !params.is_object()) {
                return Err(Malformed::NotRpc("`params` must be an object"));
            }
            return match id {
                Some(id) => Ok(Self::Request(Request { id: Id::new(id)?, method, params })),
                None => Ok(Self::Notification(Notification { method, params })),
            };
        }
        let outcome = match (envelope.remove("result"), envelope.remove("error")) {
            (Some(result), None) => Ok(result),
            (None, Some(error)) => Err(error),
            (Some(_), Some(_)) => return Err(Malformed::NotRpc("both `result` and `error`")),
            (None, None) => return Err(Malformed::NotRpc("none of `method`, `result`, `error`")),
        };
        let id = id.filter(|id| id.as_bytes() != b"null").map(Id::new).transpose()?;
        Ok(Self::Response(Response { id, outcome }))
    }
}

/// Reads a body that may be a 2025-03-26 batch: its members, or why one is no message (mcp-protocol 2.3).
///
/// Returns `None` if the body is no array. Fails for an empty batch and one beyond [`BATCH_MAX`].
pub fn parse_batch(text: &Bytes) -> Option<Result<Vec<Result<Message, Malformed>>, Malformed>> {
    let trimmed = text.trim_ascii();
    if trimmed.first() != Some(&b'[') {
        return None;
    }
    if let Err(error) = check(text) {
        return Some(Err(error));
    }
    let members = match serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(trimmed) {
        Ok(members) => members,
        Err(error) => return Some(Err(Malformed::NotJson(error.to_string()))),
    };
    if members.is_empty() {
        return Some(Err(Malformed::NotRpc("a batch has at least one member")));
    }
    if members.len() > BATCH_MAX {
        return Some(Err(Malformed::NotRpc("a batch has at most 50 members")));
    }
    let read =
        |raw: &serde_json::value::RawValue| Message::from_value(&Json::unchecked(text.slice_ref(raw.get().as_bytes())));
    Some(Ok(members.into_iter().map(read).collect()))
}

impl Request {
    /// Returns the request's text, on one line.
    pub fn encode(&self) -> Bytes {
        encode_call(Some(&self.id), &self.method, self.params.as_ref())
    }

    /// Reads `params` as an object; none reads as an empty one.
    pub fn params(&self) -> Result<Object, Malformed> {
        self.params.as_ref().map_or_else(|| Ok(Object::new()), Object::parse)
    }
}

impl Notification {
    /// Returns the notification's text, on one line.
    pub fn encode(&self) -> Bytes {
        encode_call(None, &self.method, self.params.as_ref())
    }

    /// Reads `params` as an object; none reads as an empty one.
    pub fn params(&self) -> Result<Object, Malformed> {
        self.params.as_ref().map_or_else(|| Ok(Object::new()), Object::parse)
    }
}

impl Response {
    /// The answer `result` to the request `id`.
    pub fn result(id: Id, result: Json) -> Self {
        Self { id: Some(id), outcome: Ok(result) }
    }

    /// The answer `error` to the request `id`, if it could be read.
    pub fn error(id: Option<Id>, error: Json) -> Self {
        Self { id, outcome: Err(error) }
    }

    /// Returns the response's text, on one line and in one piece.
    pub fn encode(&self) -> Bytes {
        self.text().into_bytes()
    }

    /// Returns the response's text, on one line, with a large payload shared.
    pub fn text(&self) -> Text {
        let (key, body) = match &self.outcome {
            Ok(result) => (&b",\"result\":"[..], result),
            Err(error) => (&b",\"error\":"[..], error),
        };
        let id = self.id.as_ref().map_or(&b"null"[..], |id| id.json().as_bytes());
        let room = if Text::copies(body.as_bytes().len()) { body.as_bytes().len() } else { 0 };
        let mut out = BytesMut::with_capacity(40 + id.len() + room);
        out.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
        out.put_slice(id);
        out.put_slice(key);
        Text::around(out, body, b"}")
    }
}

fn encode_call(id: Option<&Id>, method: &Method, params: Option<&Json>) -> Bytes {
    let room = params.map_or(0, |params| params.as_bytes().len());
    let mut out = BytesMut::with_capacity(64 + method.as_str().len() + room);
    out.put_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.put_slice(b",\"id\":");
        out.put_slice(id.json().as_bytes());
    }
    out.put_slice(b",\"method\":");
    crate::object::write_str(method.as_str(), &mut out);
    if let Some(params) = params {
        out.put_slice(b",\"params\":");
        out.put_slice(params.as_bytes());
    }
    out.put_u8(b'}');
    on_one_line(out.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &'static str) -> Result<Message, Malformed> {
        Message::parse(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn tells_the_three_forms_apart() {
        let request = parse(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"x":1}}"#);
        assert!(matches!(request, Ok(Message::Request(Request { method: Method::ToolsCall, .. }))));
        let notification = parse(r#"{"method":"notifications/initialized","jsonrpc":"2.0"}"#);
        assert!(matches!(notification, Ok(Message::Notification(_))));
        let response = parse(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}"#);
        assert!(matches!(response, Ok(Message::Response(Response { id: None, outcome: Err(_) }))));
    }

    #[test]
    fn names_what_is_wrong_with_a_body() {
        assert_eq!(parse("{").map_err(|e| e.code()), Err(-32700));
        assert_eq!(parse("nonsense").map_err(|e| e.code()), Err(-32700));
        assert_eq!(parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#).map_err(|e| e.code()), Err(-32700));
        assert_eq!(Message::parse(&Bytes::from_static(b"{\"a\":\"\xff\"}")).map_err(|e| e.code()), Err(-32700));
        for text in [
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            "[]",
            "7",
        ] {
            assert_eq!(parse(text).map_err(|e| e.code()), Err(-32600), "{text}");
        }
    }

    #[test]
    fn a_batch_keeps_its_good_members() {
        let body = Bytes::from_static(br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}, 7]"#);
        let members = parse_batch(&body).expect("an array").expect("a batch");
        assert!(members[0].is_ok() && members[1].is_err());
        assert!(parse_batch(&Bytes::from_static(b"{}")).is_none());
        assert!(parse_batch(&Bytes::from_static(b"[]")).expect("an array").is_err());
    }

    #[test]
    fn payloads_cross_as_text() {
        let text = r#"{"jsonrpc":"2.0","id":9007199254740993,"result":{"z":1.0,"a":18446744073709551616}}"#;
        assert_eq!(parse(text).expect("valid").encode(), text.as_bytes());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(id in ".{0,20}", method in ".{1,30}", value in ".{0,40}") {
            let request = Message::Request(Request {
                id: Id::new(Json::from(id.as_str())).expect("a string is an id"),
                method: Method::from(method.as_str()),
                params: Some([("k", Json::from(value.as_str()))].into_iter().collect::<Object>().to_json()),
            });
            let text = request.encode();
            prop_assert!(!text.contains(&b'\n'));
            prop_assert_eq!(Message::parse(&text), Ok(request));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = Message::parse(&bytes);
            let _ = parse_batch(&bytes);
        }
    }
}
