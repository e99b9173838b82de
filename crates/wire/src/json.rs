//! [`Json`]: one JSON value exactly as its writer wrote it, shared by reference count.
//!
//! A `Json` is made in two ways only: by the parser, from text that was checked, or by this crate's own
//! writers. So whoever holds one may splice it into a larger text without looking at it again.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::limits::DEPTH_MAX;
use crate::scan::{Flaw, Scanner};

/// One valid JSON value as text. Cloning shares the buffer; equality is equality of the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

/// Why a text is not a message, a value, or an object that the gateway is willing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The value is JSON but not what is needed in this place.
    #[error("{0}")]
    NotRpc(&'static str),
    /// A key stands twice in an object that the gateway reads: two readers could see two values.
    #[error("key `{0}` is repeated")]
    RepeatedKey(Box<str>),
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

impl Malformed {
    /// Returns the JSON-RPC code for this defect: parse error or invalid request (mcp-protocol 2.4).
    pub fn code(&self) -> i64 {
        match self {
            Self::NotJson(_) => crate::code::PARSE_ERROR,
            Self::NotRpc(_) | Self::RepeatedKey(_) | Self::TooDeep => crate::code::INVALID_REQUEST,
        }
    }
}

impl Json {
    /// Checks that `text` is one JSON value, nested no deeper than [`DEPTH_MAX`].
    ///
    /// White space around the value is cut off; inside it stays.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, Malformed> {
        let text = text.into();
        let value = check(&text)?;
        Ok(Self(text.slice_ref(value)))
    }

    /// Takes a text that is known to be one JSON value, because this program wrote or checked it.
    ///
    /// Debug builds check it.
    pub fn trusted(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        debug_assert!(serde_json::from_slice::<IgnoredAny>(&text).is_ok(), "trusted text must be JSON");
        Self(text)
    }

    /// Takes a literal, such as `{}`.
    pub fn literal(text: &'static str) -> Self {
        Self::trusted(Bytes::from_static(text.as_bytes()))
    }

    /// Writes a value of our own as JSON text.
    ///
    /// # Panics
    /// If the value has a map with keys that are not strings, which no type here has.
    pub fn encode(value: &impl Serialize) -> Self {
        Self(serde_json::to_vec(value).expect("our own values serialise").into())
    }

    /// Reads the value into a type of ours. For the few keys that the gateway acts on, never for a payload.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        serde_json::from_slice(&self.0).map_err(|error| Malformed::NotJson(error.to_string()))
    }

    /// Returns the string this value is, unescaped, or `None` if it is no string.
    pub fn decode_str(&self) -> Option<String> {
        if let Some(plain) = self.plain_str() {
            return Some(plain.to_owned());
        }
        (self.0.first() == Some(&b'"')).then(|| self.decode().ok()).flatten()
    }

    /// Returns the string this value is, if it is one without escapes: then it stands there as it is.
    pub(crate) fn plain_str(&self) -> Option<&str> {
        let text = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if memchr::memchr(b'\\', text).is_some() {
            return None;
        }
        std::str::from_utf8(text).ok()
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Gives up the wrapper, keeps the text.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// Returns the text without CR and LF, as line framing and SSE need it.
    ///
    /// Raw line ends can stand only between tokens of valid JSON, so a space takes their place. Free where
    /// there are none.
    pub fn on_one_line(&self) -> Bytes {
        on_one_line(self.0.clone())
    }

    pub(crate) fn unchecked(text: Bytes) -> Self {
        Self(text)
    }
}

pub(crate) fn on_one_line(text: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &text).is_none() {
        return text;
    }
    let mut line = text.to_vec();
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.into()
}

impl fmt::Debug for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may hold secrets: a debug print shows the size alone (reliability 10).
        write!(out, "Json({} bytes)", self.0.len())
    }
}

impl From<&str> for Json {
    /// Writes a string as a JSON string.
    fn from(text: &str) -> Self {
        if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            return Self::encode(&text);
        }
        // Most have nothing to escape: names, URIs, words of the protocol.
        let mut quoted = Vec::with_capacity(text.len() + 2);
        for piece in [&b"\""[..], text.as_bytes(), b"\""] {
            quoted.extend_from_slice(piece);
        }
        Self(quoted.into())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

/// Checks that `text` is one JSON value, nested no deeper than [`DEPTH_MAX`] (S-21); returns it without the white
/// space around it.
///
/// In one pass, without recursion, so that no parser's own recursion ever meets a hostile depth.
pub(crate) fn check(text: &[u8]) -> Result<&[u8], Malformed> {
    check_utf8(text)?;
    let mut scanner = Scanner::new(text);
    scanner.value().and_then(|value| scanner.end().map(|()| value)).map_err(|flaw| malformed(flaw, text))
}

pub(crate) fn check_utf8(text: &[u8]) -> Result<(), Malformed> {
    std::str::from_utf8(text).map(drop).map_err(|error| Malformed::NotJson(error.to_string()))
}

/// Says what is wrong with a text that the scanner refused.
pub(crate) fn malformed(flaw: Flaw, text: &[u8]) -> Malformed {
    match flaw {
        Flaw::TooDeep => Malformed::TooDeep,
        Flaw::Syntax => Malformed::NotJson(match serde_json::from_slice::<IgnoredAny>(text) {
            Err(error) => error.to_string(),
            // To the grammar alone half a surrogate pair is fine, even in a key.
            Ok(_) => "a key is no Unicode text".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text_as_it_was() {
        let text = r#" {"b":18446744073709551616,"a":1.50e+3 ,"é":"\u00e9"} "#;
        let json = Json::parse(text).expect("valid");
        assert_eq!(json.as_bytes(), text.trim().as_bytes());
    }

    #[test]
    fn refuses_hostile_depth_but_not_brackets_in_strings() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(Json::parse(deep), Err(Malformed::TooDeep));
        let text = format!(r#"{{"a":"{}\"["}}"#, "[".repeat(500));
        assert!(Json::parse(text).is_ok());
    }

    #[test]
    fn a_string_is_read_with_and_without_escapes_and_nothing_else_is() {
        for (text, string) in [
            (r#""a b""#, Some("a b")),
            (r#""""#, Some("")),
            (r#""\u0061\"""#, Some("a\"")),
            (r#""\\""#, Some("\\")),
            ("7", None),
            ("{}", None),
        ] {
            assert_eq!(Json::literal(text).decode_str().as_deref(), string, "{text}");
        }
    }

    #[test]
    fn puts_pretty_text_on_one_line() {
        let json = Json::parse("{\r\n \"a\": \"x\\n\"\n}").expect("valid");
        assert_eq!(&json.on_one_line()[..], b"{   \"a\": \"x\\n\" }");
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(format!("{:?}", Json::from("secret")), "Json(8 bytes)");
    }
}
