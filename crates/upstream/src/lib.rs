//! Servers, supervised: connections to upstream MCP servers that come back by themselves.

mod error;

pub use error::{CallError, CallErrorKind};
