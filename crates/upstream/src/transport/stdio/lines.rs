//! [`Lines`]: a byte stream cut into lines, with a bound on each and on all.
//!
//! Every byte is looked at once. A short line is copied out of the read buffer, so that what keeps the message keeps
//! nothing else; a long one takes the buffer with it and is never copied. The buffer of a long line is charged to
//! the budget, and given back with the last clone of the line. One that grows beyond two mebibytes moves into a mapping
//! of its own, in which there is room for the longest allowed, and is read there: the allocator would double it again
//! and again, and keep what it was for later. A line beyond the bound, or beyond the budget, is thrown away as it comes
//! in, but for its ends: they show which request it answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use memmap2::{MmapMut, MmapOptions};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;
use trunkline_wire::{Budget, Charge};

/// Read buffer of one stream: what a pipe holds.
const BUFFER_BYTES: usize = 64 * 1024;

/// Smallest room to read into. Below it the rest of a line moves to the front of the buffer.
const ROOM_BYTES_MIN: usize = 16 * 1024;

/// Longest line that is copied rather than given the buffer.
const COPY_BYTES_MAX: usize = 32 * 1024;

/// From this size on a line gets memory of its own. A shorter one costs less in the allocator's, which keeps it.
const MAPPED_BYTES_MIN: usize = 2 * 1024 * 1024;

/// Kept of each end of a line that is thrown away.
pub(crate) const END_BYTES: usize = 4 * 1024;

/// A line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// As it came.
    Whole(Bytes),
    /// Thrown away while it came in.
    Discarded {
        /// Its first bytes.
        head: Bytes,
        /// Its last bytes.
        tail: Bytes,
        /// Its length.
        bytes: u64,
        /// Whether the budget was spent, and not the line too long.
        no_room: bool,
    },
}

/// Cuts what `input` yields into lines.
pub(crate) struct Lines<R> {
    input: R,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    line_bytes_max: usize,
    budget: Budget,
    /// Held for what the buffer holds beyond its usual size.
    charge: Option<Charge>,
    /// The beginning of a very long line, which stands before what is in the buffer.
    mapped: Option<Mapped>,
    discarding: Option<Discarding>,
}

/// A very long line, as far as it was read.
struct Mapped {
    memory: MmapMut,
    filled: usize,
}

struct Discarding {
    head: Bytes,
    tail: Vec<u8>,
    bytes: u64,
    no_room: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R, line_bytes_max: usize, budget: Budget) -> Self {
        let buffer = BytesMut::with_capacity(BUFFER_BYTES);
        Self { input, buffer, scanned: 0, line_bytes_max, budget, charge: None, mapped: None, discarding: None }
    }

    /// Returns the next line, or `None` at the end. A last line without line end is no line: its writer died over it.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Line>>> {
        loop {
            if let Some(line) = self.take_line() {
                return Poll::Ready(Ok(Some(line)));
            }
            self.make_room();
            if ready!(poll_read_buf(Pin::new(&mut self.input), context, &mut self.buffer))? == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Whether the stream stopped amid a line.
    pub(crate) fn amid_a_line(&self) -> bool {
        !self.buffer.is_empty() || self.mapped.is_some() || self.discarding.is_some()
    }

    fn take_line(&mut self) -> Option<Line> {
        let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            self.hold_or_discard();
            return None;
        };
        let buffered = self.scanned + found;
        let length = self.mapped().len() + buffered;
        self.scanned = 0;
        if self.discarding.is_some() || length > self.line_bytes_max {
            let discarding = self.discard(buffered);
            self.buffer.advance(1);
            let Discarding { head, tail, bytes, no_room } = discarding;
            return Some(Line::Discarded { head, tail: tail.into(), bytes, no_room });
        }
        if length <= COPY_BYTES_MAX {
            let line = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length + 1);
            return Some(Line::Whole(line));
        }
        let line = if let Some(mut mapped) = self.mapped.take() {
            mapped.push(&self.buffer[..buffered]);
            self.buffer.advance(buffered + 1);
            LongLine::Mapped(mapped)
        } else {
            let mut line = self.buffer.split_to(buffered + 1);
            line.truncate(buffered);
            // What came in with the end of the line moves to a new buffer: the old one is the line's now.
            self.renew_buffer();
            LongLine::Buffer(line)
        };
        Some(Line::Whole(match (self.charge.take(), line) {
            (None, LongLine::Buffer(line)) => line.freeze(),
            (charge, line) => Bytes::from_owner(Charged { line, _charge: charge }),
        }))
    }

    /// Decides on the line whose end is not yet there.
    fn hold_or_discard(&mut self) {
        let buffered = self.buffer.len();
        let length = self.mapped().len() + buffered;
        if self.discarding.is_some() || length > self.line_bytes_max {
            self.discarding = Some(self.discard(buffered));
            self.scanned = 0;
            return;
        }
        let held = self.charge.as_ref().map_or(0, Charge::bytes);
        let owed = length.saturating_sub(BUFFER_BYTES + held);
        if owed == 0 {
            return;
        }
        let charged = match &mut self.charge {
            Some(charge) => charge.grow(owed),
            None => self.budget.charge(owed).map(|charge| self.charge = Some(charge)),
        };
        if charged.is_err() || (length >= MAPPED_BYTES_MIN && self.map().is_err()) {
            let discarding = self.discard(buffered);
            self.discarding = Some(Discarding { no_room: true, ..discarding });
            self.scanned = 0;
        }
    }

    /// Moves what the buffer holds behind what is mapped.
    fn map(&mut self) -> io::Result<()> {
        let mapped = match &mut self.mapped {
            Some(mapped) => mapped,
            None => self.mapped.insert(Mapped::new(self.line_bytes_max)?),
        };
        mapped.push(&self.buffer);
        self.buffer.clear();
        self.scanned = 0;
        if self.buffer.capacity() > BUFFER_BYTES {
            self.renew_buffer();
        }
        Ok(())
    }

    /// The part of the line that stands before the buffer.
    fn mapped(&self) -> &[u8] {
        self.mapped.as_ref().map_or(&[], Mapped::as_ref)
    }

    /// Throws away `length` bytes of the buffer, what stands before them, and the extra room.
    fn discard(&mut self, length: usize) -> Discarding {
        let (before, gone) = (self.mapped.take(), self.buffer.split_to(length));
        let before = before.as_ref().map_or(&[][..], Mapped::as_ref);
        let mut discarding = self.discarding.take().unwrap_or_else(|| {
            let head: Bytes = before.iter().chain(&gone).take(END_BYTES).copied().collect();
            Discarding { head, tail: Vec::new(), bytes: 0, no_room: false }
        });
        for part in [before, &gone] {
            discarding.bytes += part.len() as u64;
            discarding.tail.extend_from_slice(&part[part.len().saturating_sub(END_BYTES)..]);
        }
        discarding.tail.drain(..discarding.tail.len().saturating_sub(END_BYTES));
        drop(gone);
        self.charge = None;
        if self.buffer.capacity() > BUFFER_BYTES || self.buffer.capacity() < ROOM_BYTES_MIN {
            self.renew_buffer();
        }
        discarding
    }

    /// Moves what is buffered to a buffer of the usual size.
    fn renew_buffer(&mut self) {
        let mut fresh = BytesMut::with_capacity(BUFFER_BYTES);
        fresh.extend_from_slice(&self.buffer);
        self.buffer = fresh;
    }

    /// Makes room to read into. A buffer that is full of one line doubles, so that growing costs little.
    fn make_room(&mut self) {
        if self.buffer.capacity() - self.buffer.len() < ROOM_BYTES_MIN {
            self.buffer.reserve(ROOM_BYTES_MIN);
        }
    }
}

impl Mapped {
    /// Memory for a line of at most `most` bytes. What stays unused of it is never touched, and costs nothing.
    fn new(most: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(most).no_reserve_swap().map_anon()?;
        Ok(Self { memory, filled: 0 })
    }

    /// Adds to the line. Whoever calls has seen to it that it does not grow beyond its bound.
    fn push(&mut self, bytes: &[u8]) {
        self.memory[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

/// Where a long line lies.
enum LongLine {
    Buffer(BytesMut),
    Mapped(Mapped),
}

/// A long line and what it is charged.
struct Charged {
    line: LongLine,
    _charge: Option<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        match &self.line {
            LongLine::Buffer(line) => line,
            LongLine::Mapped(line) => line.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Yields its chunks one by one, as reads of a pipe would.
    struct Chunks(Vec<Vec<u8>>);

    impl AsyncRead for Chunks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(first) = self.0.first_mut() {
                let n = first.len().min(into.remaining());
                into.put_slice(&first[..n]);
                first.drain(..n);
                if first.is_empty() {
                    self.0.remove(0);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    async fn all<R: AsyncRead + Unpin>(mut lines: Lines<R>) -> Vec<Line> {
        let mut got = Vec::new();
        while let Some(line) = poll_fn(|context| lines.poll_next(context)).await.expect("readable") {
            got.push(line);
        }
        got
    }

    fn text(line: &Line) -> &[u8] {
        match line {
            Line::Whole(text) => text,
            Line::Discarded { .. } => panic!("discarded"),
        }
    }

    fn budget() -> Budget {
        Budget::new(64 << 20)
    }

    #[tokio::test]
    async fn a_long_line_is_charged_until_its_last_clone_is_dropped() {
        let budget = budget();
        let (mut writer, reader) = tokio::io::duplex(1 << 16);
        let mut lines = Lines::new(reader, 64 << 20, budget.clone());
        let big = vec![b'x'; 3 << 20];
        let feed = async {
            writer.write_all(&big).await.expect("room");
            writer.write_all(b"\nsmall\n").await.expect("room");
            drop(writer);
        };
        let read = async {
            let first = poll_fn(|context| lines.poll_next(context)).await.expect("readable").expect("a line");
            let second = poll_fn(|context| lines.poll_next(context)).await.expect("readable").expect("a line");
            (first, second)
        };
        let ((), (first, second)) = tokio::join!(feed, read);
        assert_eq!(text(&first), big);
        assert_eq!(text(&second), b"small");
        assert!(budget.used() >= (3 << 20) - BUFFER_BYTES - COPY_BYTES_MAX * 4, "{}", budget.used());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_line_beyond_the_bound_leaves_its_ends_and_the_next_line() {
        let mut long = b"{\"id\":7,".to_vec();
        long.extend(vec![b'x'; 300_000]);
        long.extend(b"}\nnext\n");
        let got = all(Lines::new(Chunks(long.chunks(5000).map(<[u8]>::to_vec).collect()), 100_000, budget())).await;
        let [Line::Discarded { head, tail, bytes, no_room }, next] = &got[..] else { panic!("{}", got.len()) };
        assert!(head.starts_with(b"{\"id\":7,") && tail.ends_with(b"x}") && tail.len() == END_BYTES);
        assert_eq!((*bytes, *no_room), (300_009, false));
        assert_eq!(text(next), b"next");
    }

    #[tokio::test]
    async fn a_very_long_line_beyond_the_bound_leaves_its_ends_too() {
        let mut long = b"{\"id\":7,".to_vec();
        long.extend(vec![b'x'; 5 << 20]);
        long.extend(b"}\nnext\n");
        let chunks = long.chunks(50_000).map(<[u8]>::to_vec).collect();
        let got = all(Lines::new(Chunks(chunks), 3 << 20, budget())).await;
        let [Line::Discarded { head, tail, bytes, .. }, next] = &got[..] else { panic!("{}", got.len()) };
        assert!(head.starts_with(b"{\"id\":7,xx") && tail.ends_with(b"x}") && tail.len() == END_BYTES);
        assert_eq!((*bytes, text(next)), ((5 << 20) + 9, &b"next"[..]));
    }

    #[tokio::test]
    async fn very_long_lines_come_whole_and_what_follows_them_too() {
        let sizes = [MAPPED_BYTES_MIN - 1, MAPPED_BYTES_MIN, 3 << 20, 7, 5 << 20, 4_000_000];
        let lines: Vec<Vec<u8>> =
            sizes.iter().zip(b'a'..).map(|(size, letter)| [vec![letter; *size], b"\n".to_vec()].concat()).collect();
        let chunks = lines.concat().chunks(60_007).map(<[u8]>::to_vec).collect();
        let budget = budget();
        let mut input = Lines::new(Chunks(chunks), 5 << 20, budget.clone());
        for line in &lines {
            let got = poll_fn(|context| input.poll_next(context)).await.expect("readable").expect("a line");
            assert!(text(&got) == &line[..line.len() - 1], "{} bytes", line.len());
            assert!(input.buffer.capacity() <= BUFFER_BYTES * 2, "{}", input.buffer.capacity());
        }
        assert!(!input.amid_a_line());
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_line_without_room_in_the_budget_is_discarded_and_holds_none() {
        let budget = Budget::new(100_000);
        let mut long = vec![b'x'; 300_000];
        long.push(b'\n');
        let got = all(Lines::new(Chunks(vec![long]), 64 << 20, budget.clone())).await;
        assert!(matches!(got[..], [Line::Discarded { no_room: true, bytes: 300_000, .. }]));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn half_a_line_at_the_end_is_no_line() {
        let mut lines = Lines::new(Chunks(vec![b"whole\nhal".to_vec()]), 1000, budget());
        assert!(poll_fn(|context| lines.poll_next(context)).await.expect("readable").is_some());
        assert!(poll_fn(|context| lines.poll_next(context)).await.expect("readable").is_none());
        assert!(lines.amid_a_line());
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_reads_fall(
            sizes in proptest::collection::vec(0_usize..90_000, 1..8),
            chunk in 1_usize..70_000,
        ) {
            let wanted: Vec<Vec<u8>> = sizes.iter().enumerate()
                .map(|(at, size)| vec![b'a' + u8::try_from(at).expect("few"); *size]).collect();
            let mut stream = Vec::new();
            for line in &wanted {
                stream.extend(line);
                stream.push(b'\n');
            }
            let chunks = stream.chunks(chunk).map(<[u8]>::to_vec).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let budget = budget();
            let got = runtime.block_on(all(Lines::new(Chunks(chunks), 80_000, budget.clone())));
            prop_assert_eq!(got.len(), wanted.len());
            for (got, wanted) in got.iter().zip(&wanted) {
                match got {
                    Line::Whole(text) => prop_assert_eq!(text, wanted),
                    Line::Discarded { bytes, .. } => {
                        prop_assert!(wanted.len() > 80_000);
                        prop_assert_eq!(*bytes, wanted.len() as u64);
                    }
                }
            }
            drop(got);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
