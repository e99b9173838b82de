//! [`Text`]: a message as it goes out, with a large payload left where it lies.
//!
//! A result of many megabytes is read into memory once. Copying it into a second buffer, only to put an id in front
//! and a bracket behind, cost a seventh of the CPU of a 1 MiB call and doubled the memory it held; so a large payload
//! stays a piece of its own between the two. A small one is copied: three pieces cost more than a short copy.

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::Id;
use crate::json::{Json, on_one_line};

/// Longest payload that is copied rather than left a piece of its own.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// The text of one message, on one line. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// All of the text, or what stands before the payload.
    head: Bytes,
    payload: Bytes,
    tail: Bytes,
}

impl Text {
    /// The answer to the request `id` whose result is `front`, `middle` and `back`, put one after the other. A large
    /// `middle` stays where it lies.
    pub fn of_result(id: &Id, front: &[u8], middle: &Bytes, back: &[u8]) -> Self {
        let id = id.json().as_bytes();
        let copied = Self::copies(middle.len());
        let room = if copied { middle.len() + back.len() } else { 0 };
        let mut head = BytesMut::with_capacity(40 + id.len() + front.len() + room);
        for piece in [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":", front] {
            head.put_slice(piece);
        }
        if copied {
            for piece in [middle, back, b"}"] {
                head.put_slice(piece);
            }
            return Self::from(on_one_line(head.freeze()));
        }
        let tail = [back, b"}"].concat().into();
        Self { head: on_one_line(head.freeze()), payload: on_one_line(middle.clone()), tail: on_one_line(tail) }
    }

    /// `head`, then `payload` on one line, then `tail`.
    pub(crate) fn around(mut head: BytesMut, payload: &Json, tail: &'static [u8]) -> Self {
        if payload.as_bytes().len() <= COPY_BYTES_MAX {
            head.put_slice(payload.as_bytes());
            head.put_slice(tail);
            return Self::from(on_one_line(head.freeze()));
        }
        Self { head: on_one_line(head.freeze()), payload: payload.on_one_line(), tail: Bytes::from_static(tail) }
    }

    /// Whether a payload of this length will be copied: then the head wants room for it.
    pub(crate) fn copies(bytes: usize) -> bool {
        bytes <= COPY_BYTES_MAX
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len() + self.tail.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces in order. Put one after the other they are the text; some may be empty.
    pub fn into_pieces(self) -> [Bytes; 3] {
        [self.head, self.payload, self.tail]
    }

    /// The text in one piece: copied if it lies in several.
    pub fn into_bytes(self) -> Bytes {
        if self.payload.is_empty() && self.tail.is_empty() {
            return self.head;
        }
        [self.head, self.payload, self.tail].concat().into()
    }
}

impl From<Bytes> for Text {
    fn from(text: Bytes) -> Self {
        Self { head: text, ..Self::default() }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Response;

    proptest! {
        #[test]
        fn a_large_payload_reads_like_a_small_one(extra in 0_usize..40, pretty in any::<bool>()) {
            let space = if pretty { "\r\n" } else { "" };
            let payload = format!("[{space}\"{}\"]", "x".repeat(COPY_BYTES_MAX - 20 + extra));
            let text = Response::result(Id::from(7), Json::trusted(payload.clone())).text();
            let whole = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{}}}"#, payload.replace(['\r', '\n'], " "));
            prop_assert_eq!(text.len(), whole.len());
            prop_assert_eq!(text.into_bytes(), whole);
        }

        #[test]
        fn a_result_in_three_pieces_reads_like_one(extra in 0_usize..40, space in "[ \r\n]{0,2}") {
            let middle = Bytes::from(format!("\"{}\",{space}", "x".repeat(COPY_BYTES_MAX - 20 + extra)));
            let text = Text::of_result(&Id::from(7), b"[", &middle, b"1]");
            let middle = String::from_utf8(middle.to_vec()).expect("text").replace(['\r', '\n'], " ");
            let whole = format!(r#"{{"jsonrpc":"2.0","id":7,"result":[{middle}1]}}"#);
            prop_assert_eq!(text.len(), whole.len());
            prop_assert_eq!(text.into_bytes(), whole);
        }
    }
}
