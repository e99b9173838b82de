//! [`ServerName`] and [`ExposedName`]: names that went through their rules once and are only looked up after.
//!
//! Which exposed name a tool gets is decided in the hub's catalogue; here stand the characters and lengths
//! that any name toward clients keeps (mcp-protocol 6.9, S-14).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The name of a configured server: its key in `[mcp_servers]`, as the operator wrote it.
///
/// Shown in status, logs, metrics and errors. What of it enters a tool's name is [`ServerName::namespace`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

/// Why a text cannot name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing usable is left of it.
    #[error("a server name needs at least one letter or digit of a-z, A-Z, 0-9")]
    Empty,
    /// Longer than [`ServerName::LENGTH_MAX`].
    #[error("a server name has at most {} characters", ServerName::LENGTH_MAX)]
    TooLong,
    /// Holds a control character.
    #[error("a server name holds no control characters")]
    Control,
}

impl ServerName {
    /// Longest key accepted from a configuration.
    pub const LENGTH_MAX: usize = 64;
    /// Longest namespace, so that 26 of a name's 48 characters stay for the tool (mcp-protocol 6.9 rule 1).
    pub const NAMESPACE_LENGTH_MAX: usize = 20;

    /// Takes a configuration key as a server's name.
    pub fn new(key: &str) -> Result<Self, NameError> {
        if key.chars().count() > Self::LENGTH_MAX {
            return Err(NameError::TooLong);
        }
        if key.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        if namespace(key).is_empty() {
            return Err(NameError::Empty);
        }
        Ok(Self(key.into()))
    }

    /// The name as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part in front of `__` in the names of this server's tools: only `[A-Za-z0-9_-]`, no `__`, no
    /// separator at either end, a letter first, at most 20 characters.
    pub fn namespace(&self) -> String {
        namespace(&self.0)
    }
}

/// Brings a configuration key, or a configured prefix, into the form of a namespace. May return nothing.
fn namespace(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for wanted in key.chars() {
        let kept = if wanted.is_ascii_alphanumeric() || wanted == '-' { wanted } else { '_' };
        let doubled = matches!(kept, '_' | '-') && out.ends_with(['_', '-']);
        if !doubled {
            out.push(kept);
        }
    }
    let mut name = out.trim_matches(['_', '-']).to_owned();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, 's');
    }
    name.truncate(ServerName::NAMESPACE_LENGTH_MAX);
    name.truncate(name.trim_end_matches(['_', '-']).len());
    name
}

impl fmt::Display for ServerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ServerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The name of a tool or prompt as clients see it: `[A-Za-z0-9_-]` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExposedName(Arc<str>);

impl ExposedName {
    /// Takes a finished name. `None` if it is empty or holds another character than `[A-Za-z0-9_-]`.
    pub fn new(name: &str) -> Option<Self> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        (!name.is_empty() && name.chars().all(fine)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as Codex folds it: `-` reads as `_` (clients.md 3). Two names must differ in this form.
    pub fn folded(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl fmt::Display for ExposedName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Borrow<str> for ExposedName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_namespace_is_what_every_client_accepts() {
        let of = |key: &str| ServerName::new(key).expect("a name").namespace();
        assert_eq!(of("linear"), "linear");
        assert_eq!(of("my.server--2"), "my_server-2");
        assert_eq!(of("__x__"), "x");
        assert_eq!(of("1password"), "s1password");
        assert_eq!(of("a-very-long-name-of-a-server"), "a-very-long-name-of");
        assert_eq!(ServerName::new("--"), Err(NameError::Empty));
        assert_eq!(ServerName::new("a\nb"), Err(NameError::Control));
    }

    proptest! {
        #[test]
        fn any_accepted_key_makes_a_good_namespace(key in ".{0,70}") {
            if let Ok(name) = ServerName::new(&key) {
                let space = name.namespace();
                prop_assert!(!space.contains("__") && space.len() <= ServerName::NAMESPACE_LENGTH_MAX);
                prop_assert!(space.starts_with(|c: char| c.is_ascii_alphabetic()));
                prop_assert!(!space.ends_with(['_', '-']));
                prop_assert!(ExposedName::new(&space).is_some());
            }
        }
    }
}
