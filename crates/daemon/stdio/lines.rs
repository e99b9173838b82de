//! Lines of standard input and output: one message each, bounded, nothing else between them.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

use crate::limits::BRIDGE_LINE_BYTES_MAX;

/// What was between two line ends.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Text(Bytes),
    /// Longer than a message may be; it was passed over.
    TooLong,
}

/// The lines of a reader.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), max: BRIDGE_LINE_BYTES_MAX }
    }

    /// The next line; `None` at the end, which is also where reading fails. What follows the last line end is a line too.
    pub(super) async fn next(&mut self) -> Option<Line> {
        let mut line = BytesMut::new();
        let mut too_long = false;
        loop {
            let chunk = self.reader.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                return match (too_long, line.is_empty()) {
                    (true, _) => Some(Line::TooLong),
                    (false, true) => None,
                    (false, false) => Some(Line::Text(line.freeze())),
                };
            }
            let end = memchr_newline(chunk);
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if line.len() + part.len() > self.max {
                too_long = true;
                line = BytesMut::new();
            }
            if !too_long {
                line.extend_from_slice(part);
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Some(if too_long { Line::TooLong } else { Line::Text(line.freeze()) });
            }
        }
    }
}

fn memchr_newline(chunk: &[u8]) -> Option<usize> {
    chunk.iter().position(|byte| *byte == b'\n')
}

/// A message without line ends: in JSON they can only be blanks between its parts.
pub(super) fn on_one_line(text: Bytes) -> Bytes {
    if text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
    } else {
        text
    }
}

/// Writes what is queued, until nobody queues any more.
pub(super) async fn write(mut queue: mpsc::Receiver<Bytes>, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(line) = queue.recv().await {
        out.write_all(&line).await?;
        out.write_all(b"\n").await?;
        if queue.is_empty() {
            out.flush().await?;
        }
    }
    out.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_last_needs_no_end() {
        let mut lines = Lines::new(&b"one\n\n0123456789ab\nlast"[..]);
        lines.max = 10;
        let mut read = Vec::new();
        while let Some(line) = lines.next().await {
            read.push(line);
        }
        let text = |text: &'static str| Line::Text(Bytes::from(text));
        assert_eq!(read, [text("one"), text(""), Line::TooLong, text("last")]);
        assert_eq!(on_one_line("{\r\n\"a\":\n1}".into()), "{  \"a\": 1}");
    }
}
