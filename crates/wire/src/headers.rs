//! What a modern HTTP request says in headers besides its body (mcp-protocol 3.5): `Mcp-Method`, `Mcp-Name`, and one
//! `Mcp-Param-*` per argument that the tool's schema annotates with `x-mcp-header`.
//!
//! Both hops use it: toward servers the headers are written, from clients they are checked against the body. Here are
//! names and texts alone; whoever has a header map brings a closure.
//!
//! A schema is only searched for annotations: nothing of it is understood, and no `$ref` is followed.

mod annotations;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::method::Method;
use crate::object::Object;

pub use annotations::{Annotated, BadAnnotation, annotated, param_headers};

/// Names the revision, as the body's claim does.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Names the method, as it is.
pub const METHOD: &str = "mcp-method";
/// Names what the request is about: see [`name_key`]. In the form of [`encode`].
pub const NAME: &str = "mcp-name";
/// Begins the name of a header that repeats an argument. The values are in the form of [`encode`].
pub const PARAM_PREFIX: &str = "mcp-param-";

const OPENING: &str = "=?base64?";
const CLOSING: &str = "?=";

/// Beyond it a number is not the same to every reader.
const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// An argument that a header repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// The whole name of the header, in lower case.
    pub name: Box<str>,
    /// Where the argument stands: a key of `arguments`, then a key of that object, and so on.
    pub path: Box<[Box<str>]>,
}

/// Why a request's headers do not agree with its body. The text names the header and shows no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It must be there and is not.
    #[error("header `{0}` is missing")]
    Missing(Box<str>),
    /// It stands there twice, with different values.
    #[error("header `{0}` is repeated with another value")]
    Repeated(Box<str>),
    /// It holds no text, or Base64 that is none.
    #[error("header `{0}` cannot be decoded")]
    Undecodable(Box<str>),
    /// It says something else.
    #[error("header `{0}` differs from the body")]
    Different(Box<str>),
}

/// A header's value is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header value that cannot be decoded")]
pub struct Undecodable;

/// Brings `value` into a form that a header can carry: itself, or Base64 between markers.
pub fn encode(value: &str) -> Cow<'_, str> {
    let visible = |byte: u8| matches!(byte, b' '..=b'~');
    let marked = value.starts_with(OPENING) && value.ends_with(CLOSING);
    let padded = value.starts_with(' ') || value.ends_with(' ');
    // Some HTTP stacks drop a header without a value.
    if value.is_empty() || marked || padded || !value.bytes().all(visible) {
        return format!("{OPENING}{}{CLOSING}", STANDARD.encode(value)).into();
    }
    value.into()
}

/// Returns the text that a header's value stands for.
///
/// # Errors
/// It is no UTF-8, or has both markers and no Base64 of UTF-8 between them.
pub fn decode(value: &[u8]) -> Result<String, Undecodable> {
    let text = std::str::from_utf8(trim(value)).map_err(|_| Undecodable)?;
    match text.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(CLOSING)) {
        Some(coded) => {
            let bytes = STANDARD.decode(coded).map_err(|_| Undecodable)?;
            String::from_utf8(bytes).map_err(|_| Undecodable)
        }
        None => Ok(text.to_owned()),
    }
}

/// The key of `params` that `Mcp-Name` repeats, for the methods that need that header.
pub fn name_key(method: &Method) -> Option<&'static str> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other method is about one named thing")]
    match method {
        Method::ToolsCall | Method::PromptsGet => Some("name"),
        Method::ResourcesRead => Some("uri"),
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => Some("taskId"),
        _ => None,
    }
}

/// The headers that a call with these `arguments` carries: name and value, ready to be sent.
pub fn param_values<'a>(headers: &'a [ParamHeader], arguments: &Object) -> Vec<(&'a str, String)> {
    let value = |header: &'a ParamHeader| {
        let argument = argument(header, arguments)?;
        Some((&*header.name, encode(&argument.text).into_owned()))
    };
    headers.iter().filter_map(value).collect()
}

/// Checks the headers of a call against its `arguments`. `values` finds all values of a header, by its name in lower
/// case.
///
/// # Errors
/// The first header that does not agree. One without an argument, and one that no schema knows, is ignored.
pub fn check_params<'h, V>(
    headers: &[ParamHeader],
    arguments: &Object,
    values: impl Fn(&str) -> V,
) -> Result<(), Mismatch>
where
    V: IntoIterator<Item = &'h [u8]>,
{
    headers.iter().try_for_each(|header| {
        let Some(wanted) = argument(header, arguments) else { return Ok(()) };
        let said = said(&header.name, values(&header.name))?;
        let same = said == wanted.text || wanted.number.is_some() && integer(&said) == wanted.number;
        same.then_some(()).ok_or_else(|| Mismatch::Different(header.name.clone()))
    })
}

/// Checks that the values of the header `name`, in the form of [`encode`], say `wanted`.
///
/// # Errors
/// The header is missing, cannot be decoded, or says something else.
pub fn check<'h>(name: &str, wanted: &str, values: impl IntoIterator<Item = &'h [u8]>) -> Result<(), Mismatch> {
    (said(name, values)? == wanted).then_some(()).ok_or_else(|| Mismatch::Different(name.into()))
}

/// Returns the one value of the header `name`, without the white space around it.
///
/// # Errors
/// It has several that differ.
pub fn only<'h>(name: &str, values: impl IntoIterator<Item = &'h [u8]>) -> Result<Option<&'h [u8]>, Mismatch> {
    let mut values = values.into_iter().map(trim);
    let Some(first) = values.next() else { return Ok(None) };
    if values.all(|other| other == first) { Ok(Some(first)) } else { Err(Mismatch::Repeated(name.into())) }
}

/// What the header `name` says, decoded.
fn said<'h>(name: &str, values: impl IntoIterator<Item = &'h [u8]>) -> Result<String, Mismatch> {
    let value = only(name, values)?.ok_or_else(|| Mismatch::Missing(name.into()))?;
    decode(value).map_err(|Undecodable| Mismatch::Undecodable(name.into()))
}

/// An argument as header text: what it is, whatever its schema wanted.
struct Argument {
    text: String,
    /// If it is a whole number: whoever writes it otherwise says the same.
    number: Option<i64>,
}

/// The argument that a header repeats. `None` where there is none, or where no header can say it.
fn argument(header: &ParamHeader, arguments: &Object) -> Option<Argument> {
    let (last, way) = header.path.split_last()?;
    let value = match way.split_first() {
        None => arguments.get(last)?.clone(),
        Some((first, deeper)) => {
            let mut inner = arguments.get_object(first)?;
            for key in deeper {
                inner = inner.get_object(key)?;
            }
            inner.get(last)?.clone()
        }
    };
    let plain = std::str::from_utf8(value.as_bytes()).ok()?;
    match plain.as_bytes().first()? {
        b'"' => Some(Argument { text: value.decode_str()?, number: None }),
        b't' | b'f' => Some(Argument { text: plain.to_owned(), number: None }),
        b'-' | b'0'..=b'9' => {
            let number = integer(plain);
            let text = number.map_or_else(|| plain.to_owned(), |number| number.to_string());
            Some(Argument { text, number })
        }
        _ => None,
    }
}

/// Reads `42`, `42.0` and `4.2e1` as 42; `None` for what is no integer that every reader knows exactly.
fn integer(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and fits")]
    (number.fract() == 0.0 && number.abs() <= INTEGER_MAX).then_some(number as i64)
}

fn trim(value: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

#[cfg(test)]
mod tests;
