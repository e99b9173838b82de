//! Bounds on label values that come from outside the configuration (S-37).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use trunkline_wire::ServerName;

/// Label value that stands for all names beyond the bound.
pub(crate) const OTHER: &str = "other";

/// Tools that get a label of their own: enough for every tool that people call, and a bound on the series.
pub(crate) const TOOLS_MAX: usize = 500;

/// A set of `(server, tool)` pairs that may be labels: first come, first served, up to a limit.
#[derive(Debug)]
pub(crate) struct BoundedTools {
    limit: usize,
    known: Mutex<HashSet<(ServerName, Box<str>)>>,
}

impl BoundedTools {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// Returns `tool` if it has, or now gets, a place; else [`OTHER`].
    pub(crate) fn label<'a>(&self, server: &ServerName, tool: &'a str) -> &'a str {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server.clone(), Box::from(tool));
        if known.contains(&key) {
            return tool;
        }
        if known.len() >= self.limit {
            return OTHER;
        }
        known.insert(key);
        tool
    }

    /// Frees the places of a server.
    pub(crate) fn forget(&self, server: &ServerName) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _)| owner != server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_share_one_label_until_a_place_is_free() {
        let (git, web) = (ServerName::new("git").expect("name"), ServerName::new("web").expect("name"));
        let tools = BoundedTools::new(2);
        assert_eq!(tools.label(&git, "a"), "a");
        assert_eq!(tools.label(&web, "a"), "a");
        assert_eq!(tools.label(&web, "b"), OTHER);
        assert_eq!(tools.label(&git, "a"), "a");
        tools.forget(&git);
        assert_eq!(tools.label(&web, "b"), "b");
    }
}
