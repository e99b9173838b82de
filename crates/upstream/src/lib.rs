//! Servers, supervised: connections to upstream MCP servers that come back by themselves.

mod dial;
mod environment;
mod error;
mod fleet;
mod handle;
mod handshake;
mod offer;
mod status;
mod transport;

pub use environment::{Environment, GuardProgram, LogLevel, ServerNotice};
pub use error::{CallError, CallErrorKind};
pub use fleet::Fleet;
pub use handle::{Ask, Call, CallEvent, CallerFacts, Upstream};
pub use offer::{Capabilities, Complaint, Entry, Offer};
pub use status::{StateView, Status};
pub use transport::process::{guard, instance, sweep};
