//! The protocol as data: messages are text with a typed head.
//!
//! The gateway reads the envelope of a JSON-RPC message and the few keys that it acts on. Everything else
//! (`params`, `result`, `error`) stays the text the peer sent, shared by reference count, so that fields
//! nobody knows, numbers beyond 2^53 and unusual key order arrive unchanged.
//!
//! Reading order: [`Json`] is one value as text; [`Object`] a shallow view that keeps order; [`Message`] the
//! envelope, [`Text`] what goes out of it; [`Method`] the one table of what each method is; [`Fault`] every error body we emit;
//! [`headers`] what modern HTTP repeats outside the body.
//!
//! Absences that hold: no I/O, no clock, no randomness, no task, no decoded mirror of a payload.

mod abilities;
mod budget;
mod fault;
mod id;
mod json;
mod message;
mod meta;
mod method;
mod names;
mod needle;
mod object;
mod revision;
mod scan;
mod text;

pub mod extensions;
pub mod headers;
pub mod limits;
pub mod sse;

pub use abilities::{Abilities, Lack};
pub use budget::{Budget, Charge, OutOfBudget, Pressure};
pub use fault::{Fault, FaultCode, Outcome, RpcError, code};
pub use id::Id;
pub use json::{Json, Malformed};
pub use message::{Message, Notification, Request, Response, parse_batch};
pub use meta::{key, progress_token};
pub use method::{Class, Method, Owner};
pub use names::{ExposedName, NameError, ServerName};
pub use needle::Needle;
pub use object::Object;
pub use revision::{Era, Revision};
pub use text::Text;
