//! What can still be read of a message that cannot be read: is it an answer, and to which request?
//!
//! The answer to a call may be too long or no proper JSON. Its caller should hear so now and not when its time is up
//! (R-28), so the ends of the text are searched for the members of its envelope. Writers put the id at either end,
//! before the result or after it.

use bytes::Bytes;
use trunkline_wire::{Id, Json, Object};

/// The members of an envelope that were found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hint {
    /// It says that it is JSON-RPC.
    pub(super) is_rpc: bool,
    /// It has a method, so it is no answer.
    pub(super) has_method: bool,
    /// Its id, if it is a number as we mint them.
    pub(super) id: Option<u64>,
}

/// Looks into the first and the last bytes of a message, which may overlap.
pub(super) fn look(head: &[u8], tail: &[u8]) -> Hint {
    let mut hint = Hint::default();
    read_head(head, &mut hint);
    read_tail(tail, &mut hint);
    hint
}

fn note(hint: &mut Hint, key: &[u8], value: &[u8]) {
    match key {
        b"jsonrpc" => hint.is_rpc = true,
        b"method" => hint.has_method = true,
        b"id" => {
            let id = Json::parse(Bytes::copy_from_slice(value)).and_then(Id::new);
            hint.id = hint.id.or(id.ok().and_then(|id| id.minted()));
        }
        _ => {}
    }
}

/// Reads members from the front, for as long as their values are plain.
fn read_head(text: &[u8], hint: &mut Hint) {
    let Some(mut rest) = text.trim_ascii_start().strip_prefix(b"{") else { return };
    loop {
        rest = rest.trim_ascii_start();
        let Some((key, after)) = take_string(rest) else { return };
        let Some(value) = after.trim_ascii_start().strip_prefix(b":") else { return };
        let value = value.trim_ascii_start();
        if key == b"method" {
            hint.has_method = true;
            return;
        }
        let length = match value.first() {
            Some(b'"') => match take_string(value) {
                Some((_, after)) => value.len() - after.len(),
                None => return,
            },
            Some(b'{' | b'[') | None => return,
            Some(_) => match value.iter().position(|byte| matches!(byte, b',' | b'}')) {
                Some(end) => end,
                None => return,
            },
        };
        note(hint, key, value[..length].trim_ascii());
        let Some(next) = value[length..].trim_ascii_start().strip_prefix(b",") else { return };
        rest = next;
    }
}

/// Reads the members behind the last value that is an object or an array.
fn read_tail(text: &[u8], hint: &mut Hint) {
    let Some(text) = text.trim_ascii_end().strip_suffix(b"}") else { return };
    let Some(from) = memchr::memrchr2(b'}', b']', text) else { return };
    let Some(members) = text[from + 1..].trim_ascii_start().strip_prefix(b",") else { return };
    let object = [b"{", members, b"}"].concat();
    let Ok(members) = Json::parse(object).and_then(|json| Object::parse(&json)) else { return };
    for key in ["jsonrpc", "method", "id"] {
        if let Some(value) = members.get(key) {
            note(hint, key.as_bytes(), value.as_bytes());
        }
    }
}

/// Takes a string without escapes, which all keys that matter are.
fn take_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', inner)?;
    (inner[end] == b'"').then(|| (&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hint(text: &str) -> Hint {
        let bytes = text.as_bytes();
        look(&bytes[..bytes.len().min(60)], &bytes[bytes.len().saturating_sub(60)..])
    }

    #[test]
    fn finds_the_id_at_either_end() {
        let filler = "x".repeat(200);
        for text in [
            format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"t":"{filler}"}}}}"#),
            format!(r#"{{ "id" : "7" , "jsonrpc":"2.0","result":{{"t":"{filler}"}}}}"#),
            format!(r#"{{"result":{{"content":[{{"t":"{filler}"}}]}},"jsonrpc":"2.0","id":7}}"#),
            format!(r#"{{"result":{{"t":"{filler}"}},"id":7,"jsonrpc":"2.0"}} "#),
        ] {
            assert_eq!(hint(&text), Hint { is_rpc: true, has_method: false, id: Some(7) }, "{text}");
        }
    }

    #[test]
    fn is_not_fooled_by_what_a_result_holds() {
        let filler = "x".repeat(200);
        let text = format!(r#"{{"result":{{"t":"{filler},\"id\":9}}"}}}}"#);
        assert_eq!(hint(&text).id, None);
        let text = format!(r#"{{"result":{{"id":9,"t":"{filler}"}}}}"#);
        assert_eq!(hint(&text).id, None);
    }

    #[test]
    fn tells_a_request_from_an_answer() {
        let filler = "x".repeat(200);
        assert!(hint(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"x","params":{{"t":"{filler}"}}}}"#)).has_method);
        assert!(hint(&format!(r#"{{"params":{{"t":"{filler}"}},"method":"x","id":7}}"#)).has_method);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in proptest::collection::vec(any::<u8>(), 0..80), tail in ".{0,60}") {
            look(&head, tail.as_bytes());
        }
    }
}
