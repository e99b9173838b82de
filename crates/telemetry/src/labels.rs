//! Bounds on label values that come from outside the configuration (S-37).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use trunkline_wire::ServerName;

/// Label value that stands for all names beyond the bound.
pub(crate) const OTHER: &str = "other";

/// Tools that get a label of their own: enough for every tool that people call, and a bound on the series.
pub(crate) const TOOLS_MAX: usize = 500;

/// A set of `(server, tool)` pairs that may be labels: first come, first served, up to a limit.
#[derive(Debug)]
pub(crate) struct BoundedTools {
    limit: usize,
    known: Mutex<Known>,
}

/// Tools by server, each with its counter of successes once there was one, so that a call that succeeds costs two
/// lookups.
type Known = HashMap<ServerName, HashMap<Box<str>, Option<IntCounter>>>;

impl BoundedTools {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// Counts a success of `tool` if it had one before: on the path of every call. Says whether it did.
    pub(crate) fn succeeded_again(&self, server: &ServerName, tool: &str) -> bool {
        let known = self.known();
        let counter = known.get(server).and_then(|tools| tools.get(tool)).and_then(Option::as_ref);
        if let Some(counter) = counter {
            counter.inc();
        }
        counter.is_some()
    }

    /// Counts the first success of `tool`, or one of a tool without a place; `resolve` finds the counter for a label.
    pub(crate) fn succeeded(&self, server: &ServerName, tool: &str, resolve: impl Fn(&str) -> IntCounter) {
        let label = self.label(server, tool);
        let counter = resolve(label);
        counter.inc();
        if label == tool
            && let Some(place) = self.known().get_mut(server).and_then(|tools| tools.get_mut(tool))
        {
            *place = Some(counter);
        }
    }

    /// Returns `tool` if it has, or now gets, a place; else [`OTHER`].
    pub(crate) fn label<'a>(&self, server: &ServerName, tool: &'a str) -> &'a str {
        let mut known = self.known();
        if known.get(server).is_some_and(|tools| tools.contains_key(tool)) {
            return tool;
        }
        if known.values().map(HashMap::len).sum::<usize>() >= self.limit {
            return OTHER;
        }
        known.entry(server.clone()).or_default().insert(tool.into(), None);
        tool
    }

    /// Frees the places of a server.
    pub(crate) fn forget(&self, server: &ServerName) {
        self.known().remove(server);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s37_names_beyond_the_bound_share_one_label_until_a_place_is_free() {
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
