//! Server-sent events: a bounded decoder and an encoder (mcp-protocol 3.10, 4.10).
//!
//! Own code, because the crates for it put no bound on one event and copy every event at least once. The
//! decoder takes chunks as they come from the network, looks at each byte once, and hands out `data` as a
//! slice of the chunk when one chunk holds the line. It never fails as a whole: an event beyond the limit is
//! skipped and reported, and the next one is read as if nothing had been.
//!
//! The encoder writes fields that are the gateway's own. What came from a peer can only become `data`, on
//! one line, so no peer can inject an event (S-18).

use std::mem;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A comment, as keep-alive: clients ignore it, connections stay open.
pub const COMMENT: &[u8] = b":\n\n";

/// One event of a stream.
///
/// Reported when it has data, or an `id` or `retry`, which count without data too: the priming event of
/// 2025-11-25 has an id and nothing else (mcp-protocol 4.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type; `None` is `message`, the default.
    pub event: Option<Box<str>>,
    /// The data lines, joined with LF.
    pub data: Bytes,
    /// The id to resume after; an empty one says that there is none any more.
    pub id: Option<Box<str>>,
    /// Milliseconds to wait before a reconnect.
    pub retry: Option<u64>,
}

/// An event was skipped because it is larger than the decoder's limit. The events after it are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {limit} bytes")]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
    /// The id that the event had shown before it grew too large: a stream resumed from before it would bring
    /// it again.
    pub id: Option<Box<str>>,
}

/// Turns chunks of a stream into events.
///
/// ```
/// use trunkline_wire::sse::Decoder;
///
/// let mut decoder = Decoder::new(1024);
/// decoder.push("data: 1\n\ndata: 2".into());
/// assert_eq!(decoder.next().map(|event| event.expect("small").data), Some("1".into()));
/// assert!(decoder.next().is_none());
/// decoder.push("2\n\n".into());
/// assert_eq!(decoder.next().map(|event| event.expect("small").data), Some("22".into()));
/// ```
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What was pushed and not looked at.
    input: Bytes,
    /// The beginning of a line whose end has not come.
    line: BytesMut,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet, so the line may begin with a byte order mark.
    first_line: bool,
    draft: Draft,
    /// Set while an event that is too large goes by: whether its current line has any byte.
    skipping: Option<bool>,
}

/// The event that is being read.
#[derive(Debug, Default)]
struct Draft {
    event: Event,
    /// Where data goes from its second line on.
    joined: BytesMut,
    data_lines: usize,
    /// Bytes of the lines that are kept.
    held: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Decoder {
    /// A decoder for events of at most `limit` bytes, counted over the lines of one event.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            input: Bytes::new(),
            line: BytesMut::new(),
            after_cr: false,
            first_line: true,
            draft: Draft::default(),
            skipping: None,
        }
    }

    /// Takes the next chunk. Drain the iterator before the next push: what is left of a chunk is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.input.is_empty() {
            self.input = chunk;
        } else {
            self.input = [mem::take(&mut self.input), chunk].concat().into();
        }
    }

    /// Bytes held back for an event that is not complete: what the holder charges to the budget (R-25).
    pub fn held(&self) -> usize {
        self.input.len() + self.line.len() + self.draft.held
    }

    /// Cuts the next complete line off the input, without its end. `None`: more input is needed.
    fn next_line(&mut self) -> Option<Bytes> {
        if self.after_cr && !self.input.is_empty() {
            self.after_cr = false;
            if self.input[0] == b'\n' {
                self.input.advance(1);
            }
        }
        let Some(at) = memchr::memchr2(b'\n', b'\r', &self.input) else {
            self.line.put(mem::take(&mut self.input));
            return None;
        };
        self.after_cr = self.input[at] == b'\r';
        let end = self.input.split_to(at);
        self.input.advance(1);
        if self.line.is_empty() {
            return Some(end);
        }
        self.line.put(end);
        Some(self.line.split().freeze())
    }

    /// Lets the rest of a large event go by; returns whether its end was reached.
    fn skip(&mut self, mut line_has_bytes: bool) -> bool {
        while let Some(line) = self.next_line() {
            if line.is_empty() && !line_has_bytes {
                self.skipping = None;
                return true;
            }
            line_has_bytes = false;
        }
        line_has_bytes |= !self.line.is_empty();
        self.line.clear();
        self.skipping = Some(line_has_bytes);
        false
    }

    fn too_large(&mut self, line_has_bytes: bool) -> TooLarge {
        self.line = BytesMut::new();
        self.skipping = Some(line_has_bytes);
        TooLarge { limit: self.limit, id: mem::take(&mut self.draft).event.id }
    }
}

impl Iterator for Decoder {
    type Item = Result<Event, TooLarge>;

    /// Returns the next event of what was pushed. `None`: more is needed; what is held then is incomplete
    /// and, if the stream ends here, to be discarded.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(line_has_bytes) = self.skipping
            && !self.skip(line_has_bytes)
        {
            return None;
        }
        while let Some(mut line) = self.next_line() {
            if self.draft.held + line.len() > self.limit {
                return Some(Err(self.too_large(false)));
            }
            if mem::take(&mut self.first_line) && line.starts_with(BYTE_ORDER_MARK) {
                line.advance(BYTE_ORDER_MARK.len());
            }
            if !line.is_empty() {
                self.draft.take_line(&line);
            } else if let Some(event) = mem::take(&mut self.draft).finish() {
                return Some(Ok(event));
            }
        }
        (self.draft.held + self.line.len() > self.limit).then(|| Err(self.too_large(true)))
    }
}

impl Draft {
    fn take_line(&mut self, line: &Bytes) {
        let colon = memchr::memchr(b':', line);
        let name = &line[..colon.unwrap_or(line.len())];
        let mut value = line.slice(colon.map_or(line.len(), |at| at + 1)..);
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match name {
            b"data" => self.take_data(value),
            b"event" => self.event.event = Some(text(&value)).filter(|kind| !kind.is_empty()),
            b"id" if !value.contains(&0) => self.event.id = Some(text(&value)),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                self.event.retry = text(&value).parse().ok().or(self.event.retry);
            }
            // Comments, and fields that nobody defined: not kept, so not counted.
            _ => return,
        }
        self.held += line.len();
    }

    fn take_data(&mut self, value: Bytes) {
        self.data_lines += 1;
        if self.data_lines == 1 {
            self.event.data = value;
            return;
        }
        if self.data_lines == 2 {
            self.joined.put(mem::take(&mut self.event.data));
        }
        self.joined.put_u8(b'\n');
        self.joined.put(value);
    }

    fn finish(mut self) -> Option<Event> {
        if self.data_lines > 1 {
            self.event.data = self.joined.freeze();
        }
        let counts = !self.event.data.is_empty() || self.event.id.is_some() || self.event.retry.is_some();
        counts.then_some(self.event)
    }
}

fn text(value: &[u8]) -> Box<str> {
    String::from_utf8_lossy(value).into()
}

/// Appends one event of the default type. With no data it is a priming event.
///
/// `data` is one JSON text; line ends in it become spaces, which is what they are to JSON. In an `id`, what
/// would end the line or void the field is left out.
pub fn encode(out: &mut BytesMut, id: Option<&str>, retry: Option<u64>, data: &[u8]) {
    // The longest fixed parts: field names, a retry of 20 digits and the line ends.
    out.reserve(data.len() + id.map_or(0, str::len) + 64);
    if let Some(id) = id {
        put_field(out, "id", id);
    }
    if let Some(retry) = retry {
        put_field(out, "retry", &retry.to_string());
    }
    put_data(out, data);
}

/// Appends one event of the type `event`, as the 2024-11-05 pair has them (mcp-protocol 3.13).
pub fn encode_named(out: &mut BytesMut, event: &str, data: &[u8]) {
    out.reserve(data.len() + event.len() + 24);
    put_field(out, "event", event);
    put_data(out, data);
}

fn put_field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.put_u8(b'\n');
}

fn put_data(out: &mut BytesMut, data: &[u8]) {
    out.put_slice(if data.is_empty() { b"data:" } else { b"data: " });
    let from = out.len();
    out.put_slice(data);
    if memchr::memchr2(b'\n', b'\r', data).is_some() {
        for byte in &mut out[from..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
