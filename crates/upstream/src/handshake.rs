//! What a server said of itself when the connection was opened.

use trunkline_wire::{Json, Object, Revision};

/// The result of `initialize`.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    /// The agreed revision, one of the four with a handshake.
    pub(crate) revision: Revision,
    /// `serverInfo`, as sent.
    pub(crate) identity: Option<Json>,
    /// `capabilities`; empty if the server sent none.
    pub(crate) capabilities: Object,
    /// `instructions`, if there are any.
    pub(crate) instructions: Option<String>,
}
