//! [`Secret`]: a text that is not for eyes.
//!
//! It is compared like any text, so that a changed key shows as a changed server, but it prints as `***`
//! whatever prints it. The one way out is [`Secret::expose`], which is easy to search for.

use std::fmt;
use std::sync::Arc;

/// A value that may hold a password, key or token. Prints as `***`; cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire or a child's environment. Never for a log, an error or a label.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}
