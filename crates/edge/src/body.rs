//! [`Body`]: what a response carries, either one text or a stream of pieces.
//!
//! One concrete type instead of a boxed trait object, so that the common answer, one piece of JSON, costs
//! no allocation of its own. A body also tells its connection when the response is over: see [`Phase`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};
use trunkline_wire::Text;

/// A response body.
pub(crate) struct Body {
    content: Content,
    busy: Option<Busy>,
}

enum Content {
    Whole(std::array::IntoIter<Bytes, 3>),
    Stream(BoxStream<'static, Bytes>),
}

/// Where a connection stands, shared by its socket and its responses: the socket must know whether silence
/// means a slow head or a working server (see `socket`).
#[derive(Debug, Default)]
pub(crate) struct Phase {
    heads: AtomicU32,
    busy: AtomicBool,
    conflict: AtomicBool,
}

/// Lives as long as a request is being answered.
struct Busy(Arc<Phase>);

impl Phase {
    /// Number of heads that have been read completely.
    pub(crate) fn heads(&self) -> u32 {
        self.heads.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Notes that the head being read states the length of its body in two ways.
    pub(crate) fn note_conflict(&self) {
        self.conflict.store(true, Ordering::Relaxed);
    }

    /// Whether that was noted. Once it was, the connection is not to be trusted any more.
    pub(crate) fn is_conflict(&self) -> bool {
        self.conflict.load(Ordering::Relaxed)
    }

    /// Notes that a head is complete and its request is being answered.
    pub(crate) fn begin(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

impl Body {
    /// No content.
    pub(crate) fn empty() -> Self {
        Self::whole(Text::default())
    }

    /// One text, with a known length. Its pieces go out in one write, and no piece is copied.
    pub(crate) fn whole(text: impl Into<Text>) -> Self {
        Self { content: Content::Whole(text.into().into_pieces().into_iter()), busy: None }
    }

    /// Pieces as they come.
    pub(crate) fn stream(pieces: BoxStream<'static, Bytes>) -> Self {
        Self { content: Content::Stream(pieces), busy: None }
    }

    /// Marks `phase` as no longer busy when this body has gone.
    pub(crate) fn ending(mut self, phase: Arc<Phase>) -> Self {
        self.busy = Some(Busy(phase));
        self
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Whole(pieces) => {
                Poll::Ready(pieces.find(|piece| !piece.is_empty()).map(|piece| Ok(Frame::data(piece))))
            }
            Content::Stream(pieces) => {
                pieces.poll_next_unpin(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(pieces) if left(pieces) == 0)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(pieces) => SizeHint::with_exact(left(pieces)),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// Bytes still to come.
fn left(pieces: &std::array::IntoIter<Bytes, 3>) -> u64 {
    pieces.as_slice().iter().map(|piece| piece.len() as u64).sum()
}
