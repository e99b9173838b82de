//! In-memory byte pipes: what a child's stdin and stdout are to the stdio transport.

use tokio::io::DuplexStream;

/// One end of a pair of pipes. Dropping `writer` is end of file at the other end, as when stdin is closed.
#[derive(Debug)]
pub struct End {
    /// What the other end wrote.
    pub reader: DuplexStream,
    /// Goes to the other end's reader.
    pub writer: DuplexStream,
}

/// Makes two connected ends. Each direction holds `capacity` bytes; then its writer waits, as on a real pipe
/// (65 536 bytes on Linux).
pub fn pipes(capacity: usize) -> (End, End) {
    let (here_writer, there_reader) = tokio::io::duplex(capacity);
    let (there_writer, here_reader) = tokio::io::duplex(capacity);
    (End { reader: here_reader, writer: here_writer }, End { reader: there_reader, writer: there_writer })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn directions_are_separate_and_closing_one_is_end_of_file() {
        let (mut here, mut there) = pipes(16);
        here.writer.write_all(b"hello").await.expect("room");
        drop(here.writer);
        let mut text = String::new();
        there.reader.read_to_string(&mut text).await.expect("text");
        assert_eq!(text, "hello");
        there.writer.write_all(b"still open").await.expect("the other way is open");
    }
}
