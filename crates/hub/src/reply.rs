//! [`Reply`]: what a transport is given for one message of a client.

use futures_util::stream::BoxStream;
use trunkline_wire::Text;

use crate::refusal::Refusal;
use crate::replay::Event;

/// A stream of events for one reply. Dropping it is a lost connection: no cancellation in a legacy session, but one
/// for a modern client.
pub type EventStream = BoxStream<'static, Event>;

/// What the client's `Accept` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`. Without it notices of a call are dropped.
    pub sse: bool,
}

/// The answer to one message.
pub enum Reply {
    /// A notification or response was taken.
    Accepted,
    /// A whole JSON-RPC message.
    One(Text),
    /// A whole JSON-RPC error toward a modern client, for whom a transport may have a status for its code.
    Error {
        /// The code that stands in the message.
        code: i64,
        /// The message.
        message: Text,
    },
    /// Notices, then the answer, which is the last event.
    Events(EventStream),
    /// Notices for as long as the client listens, without an end of their own: the stream of a
    /// `subscriptions/listen`.
    Listening {
        /// The acknowledgement, then notices.
        events: EventStream,
        /// The answer to the request, with which the stream ends in good order when the gateway stops.
        last: Text,
        /// Tells this listen from others.
        number: u64,
    },
    /// Refused as a whole.
    Refused(Refusal),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepted => out.write_str("Accepted"),
            Self::One(message) => write!(out, "One({} bytes)", message.len()),
            Self::Error { code, message } => write!(out, "Error({code}, {} bytes)", message.len()),
            Self::Events(_) => out.write_str("Events"),
            Self::Listening { number, .. } => write!(out, "Listening({number})"),
            Self::Refused(refusal) => write!(out, "Refused({refusal:?})"),
        }
    }
}
