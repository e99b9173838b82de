//! What can befall a connection, as data.

use std::ops::Range;
use std::time::Duration;

/// How a connection fares, each way for itself. The default is fair.
#[derive(Clone, Default, Debug)]
pub(crate) struct Weather {
    /// From the client to the server.
    pub(crate) up: Flow,
    /// From the server to the client.
    pub(crate) down: Flow,
}

/// One way of a connection.
#[derive(Clone, Default, Debug)]
pub(crate) struct Flow {
    /// Each portion is kept this long; drawn anew each time.
    pub(crate) delay: Option<Range<Duration>>,
    /// At most this many bytes in one write, each flushed by itself.
    pub(crate) slice: Option<usize>,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) hole: Option<Hole>,
    pub(crate) cut: Option<Cut>,
}

/// After each portion of so many bytes or fewer, this pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    pub(crate) bytes: usize,
    pub(crate) pause: Duration,
}

/// Nothing gets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hole {
    /// Nothing is read: the writer fills the kernel's buffers and then waits. Goes on when the hole closes.
    Hold,
    /// Everything is read and lost. When the hole closes, the connection is reset: it can no longer make sense.
    Swallow,
}

/// After so many bytes since this weather began, and not before a further byte comes, the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) after: usize,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// RST to both.
    Reset,
    /// FIN to both.
    Close,
    /// FIN to the receiver of this way; the other way goes on.
    HalfClose,
}

/// What meets new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    Open,
    /// Nobody listens.
    Refuse,
    /// Accepted and reset.
    Reset,
    /// The kernel accepts, nobody else does; served once the door opens.
    Silent,
}

impl Weather {
    /// The same both ways.
    pub(crate) fn both(flow: &Flow) -> Weather {
        Weather { up: flow.clone(), down: flow.clone() }
    }

    /// Everything that is sent is lost, in silence.
    pub(crate) fn swallowing() -> Weather {
        Weather::both(&Flow { hole: Some(Hole::Swallow), ..Flow::default() })
    }

    /// Nothing passes until the weather changes.
    pub(crate) fn holding() -> Weather {
        Weather::both(&Flow { hole: Some(Hole::Hold), ..Flow::default() })
    }

    /// Requests get through; of what the server says only so many bytes do, then the end.
    pub(crate) fn cutting_answers(after: usize, end: End) -> Weather {
        Weather { up: Flow::default(), down: Flow { cut: Some(Cut { after, end }), ..Flow::default() } }
    }

    /// Of what the client says only so many bytes get through, then the end.
    pub(crate) fn cutting_requests(after: usize, end: End) -> Weather {
        Weather { up: Flow { cut: Some(Cut { after, end }), ..Flow::default() }, down: Flow::default() }
    }

    /// Portions wait between these times, both ways.
    pub(crate) fn delaying(delay: Range<Duration>) -> Weather {
        Weather::both(&Flow { delay: Some(delay), ..Flow::default() })
    }

    /// Portions of at most so many bytes, both ways.
    pub(crate) fn slicing(bytes: usize) -> Weather {
        Weather::both(&Flow { slice: Some(bytes), ..Flow::default() })
    }

    /// So many bytes per pause, both ways.
    pub(crate) fn throttling(bytes: usize, pause: Duration) -> Weather {
        Weather::both(&Flow { throttle: Some(Throttle { bytes, pause }), ..Flow::default() })
    }
}
