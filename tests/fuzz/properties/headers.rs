//! What holds for any header value, and for any schema with any arguments.
//!
//! Used by the fuzz target, which looks for bytes that break it, and by `crates/wire/tests/corpus.rs`,
//! which replays the bytes once found.

use bytes::Bytes;
use trunkline_wire::headers::{annotated, check_params, decode, encode, param_headers, param_values};
use trunkline_wire::{Json, Object};

/// A value that can be read can be written; a schema that was cleaned is clean; and what is written for arguments
/// passes the check against them. The first line is a value and a schema, the rest the arguments.
pub(crate) fn check(input: &[u8]) {
    let (schema, arguments) = match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &b"{}"[..]),
    };
    if let Ok(text) = decode(schema) {
        let value = encode(&text);
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "no header can carry it");
        assert_eq!(decode(value.as_bytes()), Ok(text), "another text came back");
    }
    let Ok(schema) = Json::parse(Bytes::copy_from_slice(schema)) else { return };
    let found = annotated(&schema);
    assert_eq!(found.bad.is_some(), found.cleaned.is_some(), "what is bad is taken out");
    if let Some(cleaned) = &found.cleaned {
        assert!(Json::parse(cleaned.bytes().clone()).is_ok(), "no JSON any more");
        assert_eq!(param_headers(cleaned).as_ref(), Ok(&found.headers), "not clean");
    }
    let Ok(arguments) = Json::parse(Bytes::copy_from_slice(arguments)) else { return };
    let Ok(arguments) = Object::parse(&arguments) else { return };
    let sent = param_values(&found.headers, &arguments);
    let values = |name: &str| {
        let sent: Vec<&[u8]> =
            sent.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()).collect();
        sent
    };
    assert_eq!(check_params(&found.headers, &arguments, values), Ok(()), "what we write is not what we check");
}
