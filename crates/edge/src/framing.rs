//! [`Framing`]: watches a head pass by for the one thing that the HTTP library hides.
//!
//! A request with both `Content-Length` and `Transfer-Encoding` is the classic of request smuggling, and is
//! refused here (S-22). The library takes such a request for chunked, drops the length and closes after it,
//! which is allowed and safe, but the handler cannot see it any more. Everything else of that kind it refuses
//! itself: lengths that differ, codings that do not end in `chunked`, folded lines, blanks before a colon. A head
//! that was sent ahead of its turn, behind another request's body, is not looked at: the library's own rule
//! must do there.

/// Long enough for the longer of the two names and its colon.
const PREFIX_BYTES: usize = 20;

/// What has been seen of one head.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    line: [u8; PREFIX_BYTES],
    /// Bytes of the current line, also beyond those kept in `line`.
    length: usize,
    place: Place,
    sized: bool,
    coded: bool,
}

/// Empty lines may stand in front of a request; the first one behind its first line ends the head.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    Behind,
}

impl Framing {
    /// Takes the next bytes of the head; what lies behind its end is passed over.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while self.place != Place::Behind && !bytes.is_empty() {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return self.extend(bytes) };
            self.extend(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    /// Whether the body's length is stated in both ways.
    pub(crate) fn conflicts(&self) -> bool {
        self.sized && self.coded
    }

    fn extend(&mut self, part: &[u8]) {
        let kept = self.length.min(PREFIX_BYTES);
        let room = part.len().min(PREFIX_BYTES - kept);
        self.line[kept..kept + room].copy_from_slice(&part[..room]);
        self.length += part.len();
    }

    fn end_line(&mut self) {
        let kept = &mut self.line[..self.length.min(PREFIX_BYTES)];
        match (kept as &[u8], &self.place) {
            ([] | [b'\r'], Place::Before) => {}
            ([] | [b'\r'], _) => self.place = Place::Behind,
            (_, _) => self.place = Place::Within,
        }
        // Most lines are told by their first letter.
        if matches!(kept, [b'c' | b'C' | b't' | b'T', ..]) {
            kept.make_ascii_lowercase();
            self.sized |= kept.starts_with(b"content-length:");
            self.coded |= kept.starts_with(b"transfer-encoding:");
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conflicts(text: &str, piece: usize) -> bool {
        let mut framing = Framing::default();
        text.as_bytes().chunks(piece).for_each(|bytes| framing.feed(bytes));
        framing.conflicts()
    }

    proptest! {
        #[test]
        fn s22_both_lengths_are_seen_in_any_order_case_and_cut(piece in 1_usize..80) {
            let both = "\r\nPOST / HTTP/1.1\r\nContent-length: 3\r\nHost: a\r\nTRANSFER-Encoding: chunked\r\n\r\n";
            prop_assert!(conflicts(both, piece));
            let turned = "POST / HTTP/1.1\nTransfer-Encoding:chunked\nx-long-name-of-a-header: 1\ncontent-length:3\n\n";
            prop_assert!(conflicts(turned, piece));
        }

        #[test]
        fn one_length_or_names_in_a_body_are_fine(piece in 1_usize..80) {
            let body = "POST / HTTP/1.1\r\nContent-Length: 60\r\n\r\n\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n";
            prop_assert!(!conflicts(body, piece));
            let other = "GET / HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Lengthy: 2\r\n\r\n";
            prop_assert!(!conflicts(other, piece));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..30) {
            let mut framing = Framing::default();
            bytes.chunks(piece).for_each(|bytes| framing.feed(bytes));
        }
    }
}
