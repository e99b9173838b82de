//! Servers, supervised: connections to upstream MCP servers that come back by themselves.
//!
//! # Theory of operation
//!
//! A [`Fleet`] holds one [`Upstream`] per configured server. Behind each enabled one stands a supervisor: a task that
//! walks the pure state machine of `state.rs`, owns the connection, and publishes what others need to know, the state
//! and the [`Offer`]. Nobody waits for it; whoever wants something of it raises a mark.
//!
//! A connection is opened by `dial.rs`, which finds the transport and shakes hands, and becomes a `link.rs`: ids, the
//! table of pending requests, the routing of what arrives. Once its lists are fetched (`lists.rs`), the server is ready
//! and calls may use the link. When it is lost, everything pending on it fails at once, the offer stays, and the
//! machine says when the next attempt is made. No server is ever given up.
//!
//! A [`Call`] is driven by whoever holds it and costs no task. It waits for readiness and for one of the server's
//! places, both within bounds, sends, and then yields notices and one end. What comes back waits in a mailbox: a
//! small ring for notices that may drop, and a place for the end that cannot be crowded out. So a slow client slows
//! nobody else. Dropping a call at any point, or the future that makes it, gives back what it held and tells the
//! server.
//!
//! Reading order: [`Upstream`] and `call.rs`, `state.rs`, `supervisor.rs`, `link.rs`, `transport/mod.rs`.
//!
//! # Absences that hold
//!
//! * No request that may have had an effect is sent twice (`retry.rs`, R-18).
//! * No payload is decoded: `params`, `result` and `error` cross as the peer's own text.
//! * No reader of a connection waits for a client, and no server for another.
//! * One connection per server at any time, or per lane (`lanes.rs`); the next is opened when nothing is left of the last.

mod backoff;
mod breaker;
mod call;
mod deadline;
mod dial;
mod discover;
mod envelope;
mod environment;
mod era;
mod error;
#[cfg(test)]
mod fakes;
mod fleet;
mod flight;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod handshake;
mod lanes;
mod limits;
mod link;
mod listening;
mod lists;
mod mailbox;
mod offer;
mod pending;
mod places;
mod questions;
mod refresh;
mod repeat;
mod retry;
mod saved;
#[cfg(test)]
mod scenarios;
mod shelf;
mod signals;
mod stale;
mod state;
mod status;
#[cfg(feature = "testing")]
pub mod streams;
mod supervisor;
mod tasks;
mod transport;
mod wake;
mod wishes;

pub use call::{Ask, Call, CallEvent, CallerFacts};
pub use environment::{Environment, GuardProgram, LogLevel, ServerNotice};
pub use error::{CallError, CallErrorKind};
pub use fleet::Fleet;
pub use handle::Upstream;
pub use lanes::{LaneKey, Tenure};
pub use offer::{Capabilities, Complaint, Entry, Offer};
pub use questions::{Asked, CallerId, Question};
pub use shelf::Shelf;
pub use status::{LaneStatus, StateView, Status};
pub use transport::collector::Collector;
pub use transport::process::{Predecessors, guard, instance};
pub use transport::stdio::find_program;
pub use wishes::Renewed;
