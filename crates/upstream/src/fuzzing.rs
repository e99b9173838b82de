//! What holds for whatever a child prints. The fuzz target `lines` looks for bytes that break it; the bytes once found are
//! replayed here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use trunkline_wire::Budget;

use crate::transport::stdio::lines::{END_BYTES, Line, Lines};

/// No more is printed than this, lest a few bytes of input take seconds.
const STREAM_BYTES_MAX: usize = 4 << 20;

/// Nor more often than this is it read.
const READS_MAX: usize = 20_000;

/// Bounds of a line: below and above what is copied, buffered and mapped.
const LINE_BYTES_MAX: [usize; 6] = [1, 100, 5000, 40_000, 200_000, 3 << 20];

/// Lines come as they were printed, however the reads fall; one beyond the bound leaves its ends; and what they were charged is
/// given back. The first two bytes are the bound of a line and the size of a read. Each two after them are a byte and how often it is
/// printed.
pub fn lines(input: &[u8]) {
    let [bound, size, recipe @ ..] = input else { return };
    let bound = LINE_BYTES_MAX[usize::from(*bound) % LINE_BYTES_MAX.len()];
    let size = (usize::from(*size) + 1).pow(2);
    // Small reads of much take long and show nothing that they do not show of less.
    let most = STREAM_BYTES_MAX.min(size * READS_MAX);
    let mut stream = Vec::new();
    for step in recipe.chunks_exact(2) {
        let times = usize::from(step[1] >> 2) * [1, 90, 7000, 90_000][usize::from(step[1] & 3)];
        stream.resize((stream.len() + times).min(most), step[0]);
    }
    let mut printed: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let rest = printed.pop().unwrap_or_default();

    let ample = Budget::new(usize::MAX / 2);
    let (lines, amid) = read(&stream, size, bound, &ample);
    assert_eq!((lines.len(), amid), (printed.len(), !rest.is_empty()));
    for (line, printed) in lines.iter().zip(&printed) {
        match line {
            Line::Whole(line) => assert!(line == printed && line.len() <= bound, "another line"),
            Line::Discarded { head, tail, bytes, no_room } => {
                assert!(printed.len() > bound && !no_room, "there was room");
                assert_eq!(*bytes, printed.len() as u64);
                // Of the beginning there is what was there when the line became too long.
                let (begun, kept) = (END_BYTES.min(bound + 1), printed.len().min(END_BYTES));
                assert!(printed.starts_with(head) && (begun..=END_BYTES).contains(&head.len()), "another beginning");
                assert!(tail == &printed[printed.len() - kept..], "another end");
            }
        }
    }
    drop(lines);
    assert_eq!(ample.used(), 0, "something is still charged");

    let scarce = Budget::new(size * 10);
    let (lines, _) = read(&stream, size, bound, &scarce);
    assert_eq!(lines.len(), printed.len(), "a line too many or too few");
    for (line, printed) in lines.iter().zip(&printed) {
        match line {
            Line::Whole(line) => assert!(line == printed, "another line"),
            Line::Discarded { bytes, .. } => assert_eq!(*bytes, printed.len() as u64),
        }
    }
    drop(lines);
    assert_eq!(scarce.used(), 0, "something is still charged");
}

/// All lines of a stream, and whether it ends amid one.
fn read(stream: &[u8], size: usize, bound: usize, budget: &Budget) -> (Vec<Line>, bool) {
    let mut lines = Lines::new(Reads { stream, size }, bound, budget.clone());
    let mut context = Context::from_waker(Waker::noop());
    let mut got = Vec::new();
    while let Poll::Ready(Ok(Some(line))) = lines.poll_next(&mut context) {
        got.push(line);
    }
    (got, lines.amid_a_line())
}

/// A pipe whose reads yield so many bytes.
struct Reads<'a> {
    stream: &'a [u8],
    size: usize,
}

impl AsyncRead for Reads<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.stream.split_at(self.size.min(into.remaining()).min(self.stream.len()));
        into.put_slice(now);
        self.stream = later;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn lines_come_as_they_were_printed() {
        super::replay::replay("lines", super::lines);
    }
}
