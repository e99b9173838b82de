//! What a modern request's HTTP headers must say of its body (mcp-protocol 3.4, 3.5).

use http::HeaderMap;
use serde_json::Value;

use crate::message::{Failure, Params};
use crate::modern::claim;
use crate::protocol::Server;
use crate::tools;

/// -32020 for the first header that is missing or says something else. Each refusal is a violation on the desk,
/// and so is a header that has no place here.
pub(crate) fn check(server: &Server, headers: &HeaderMap, method: &str, params: &Params<'_>) -> Result<(), Failure> {
    if headers.contains_key("mcp-session-id") {
        server.desk.note("violations", &format!("{method}: a session id on a modern request"));
    }
    let accept = text(headers, "accept").unwrap_or_default();
    if !accept.contains("application/json") || !accept.contains("text/event-stream") {
        server.desk.note("violations", &format!("{method}: Accept lists not both types: {accept:?}"));
    }
    let outcome = mismatch(server, headers, method, params);
    outcome.map_err(|problem| {
        server.desk.note("violations", &format!("{method}: {problem}"));
        Failure::from((-32020, problem))
    })
}

fn mismatch(server: &Server, headers: &HeaderMap, method: &str, params: &Params<'_>) -> Result<(), String> {
    let Some(claim) = claim(params) else {
        return Ok(());
    };
    equal(headers, "mcp-protocol-version", &claim, false)?;
    equal(headers, "mcp-method", method, false)?;
    match method {
        "tools/call" | "prompts/get" => {
            equal(headers, "mcp-name", params.name.as_deref().unwrap_or_default(), true)?;
        }
        "resources/read" => equal(headers, "mcp-name", params.uri.as_deref().unwrap_or_default(), true)?,
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            equal(headers, "mcp-name", params.task_id.as_deref().unwrap_or_default(), true)?;
        }
        _ => {}
    }
    if method == "tools/call" {
        let arguments: Value = serde_json::from_str(params.arguments()).unwrap_or_default();
        for (header, pointer) in tools::annotated(server, params.subject()) {
            let header = format!("mcp-param-{header}");
            match arguments.pointer(pointer).filter(|value| !value.is_null()) {
                Some(Value::String(value)) => equal(headers, &header, value, true)?,
                Some(value) => equal(headers, &header, &value.to_string(), true)?,
                None if headers.contains_key(&header) => {
                    return Err(format!("{header} is there, its argument {pointer} is not"));
                }
                None => {}
            }
        }
    }
    Ok(())
}

fn equal(headers: &HeaderMap, name: &str, expected: &str, encoded: bool) -> Result<(), String> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(format!("{name} must be there once"));
    };
    let value = value.to_str().map_err(|_| format!("{name} is not ASCII"))?;
    let decoded = match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(inner) if encoded => base64(inner).ok_or_else(|| format!("{name} holds no Base64: {value}"))?,
        _ => value.to_owned(),
    };
    if decoded == expected { Ok(()) } else { Err(format!("{name} is {decoded:?}, the body says {expected:?}")) }
}

/// Padded standard Base64 of UTF-8 text. Written out, so that no crate under test has a say in it.
fn base64(text: &str) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
