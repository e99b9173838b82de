//! Servers, supervised: connections to upstream MCP servers that come back by themselves.

mod backoff;
mod call;
mod deadline;
mod dial;
mod environment;
mod error;
#[cfg(test)]
mod fakes;
mod fleet;
mod flight;
mod handle;
mod handshake;
mod limits;
mod link;
mod lists;
mod mailbox;
mod offer;
mod pending;
mod refresh;
mod retry;
mod signals;
mod state;
mod status;
mod supervisor;
mod transport;

pub use call::{Ask, Call, CallEvent, CallerFacts};
pub use environment::{Environment, GuardProgram, LogLevel, ServerNotice};
pub use error::{CallError, CallErrorKind};
pub use fleet::Fleet;
pub use handle::Upstream;
pub use offer::{Capabilities, Complaint, Entry, Offer};
pub use status::{StateView, Status};
pub use transport::process::{guard, instance, sweep};
