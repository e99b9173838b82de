//! Log messages of servers: from which level on, and under whose name (mcp-protocol 5.7, 6.5).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use trunkline_wire::{Json, Method, Notification, Object, ServerName};

pub(crate) use trunkline_upstream::LogLevel;

use crate::Hub;

/// What a session gets of its own calls before it ever set a level.
pub(crate) const DEFAULT_LEVEL: LogLevel = LogLevel::Warning;

/// Rewrites a log message for a caller who wants messages from `wanted` on; `None` if this one is beneath it.
///
/// `logger` names the server, so that a client behind which many servers stand can tell them apart. A level
/// that no revision knows passes: better one line too many.
pub(crate) fn message(params: &Json, server: &ServerName, wanted: LogLevel) -> Option<Bytes> {
    let params = Object::parse(params).ok()?;
    let level = params.get_str("level").as_deref().and_then(LogLevel::parse);
    if level.is_some_and(|level| level < wanted) {
        return None;
    }
    Some(named(params, server))
}

/// Rewrites a log message whose level was looked at already.
pub(crate) fn named(mut params: Object, server: &ServerName) -> Bytes {
    let logger = match params.get_str("logger") {
        Some(logger) if !logger.is_empty() => format!("{server}/{logger}"),
        _ => server.to_string(),
    };
    params.set("logger", Json::from(logger.as_str()));
    Notification { method: Method::LogMessage, params: Some(params.to_json()) }.encode()
}

/// The levels that running modern requests want, per server: how many want each.
pub(crate) type Running = HashMap<ServerName, BTreeMap<LogLevel, usize>>;

/// A modern request that wants log messages, as long as it runs.
pub(crate) struct Raised {
    hub: Weak<Hub>,
    server: ServerName,
    level: LogLevel,
}

impl Raised {
    /// Counts a request to `server` that wants messages from `level` on.
    pub(crate) fn by(hub: &Arc<Hub>, server: &ServerName, level: LogLevel) -> Self {
        count(hub, server, |counts| *counts.entry(level).or_default() += 1);
        Self { hub: Arc::downgrade(hub), server: server.clone(), level }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        count(&hub, &self.server, |counts| {
            let left = counts.get(&self.level).map_or(0, |count| count.saturating_sub(1));
            if left == 0 {
                counts.remove(&self.level)
            } else {
                counts.insert(self.level, left)
            };
        });
    }
}

/// Changes the counts of a server, and asks it for another level if that makes a difference.
fn count(hub: &Hub, server: &ServerName, change: impl FnOnce(&mut BTreeMap<LogLevel, usize>)) {
    let differs = {
        let mut running = hub.levels();
        let counts = running.entry(server.clone()).or_default();
        let before = counts.keys().next().copied();
        change(counts);
        let differs = counts.keys().next().copied() != before;
        if counts.is_empty() {
            running.remove(server);
        }
        differs
    };
    if differs {
        apply(hub);
    }
}

/// Asks each server for the most verbose level that any session wants, or any modern request now running on it
/// (mcp-protocol 6.5).
pub(crate) fn apply(hub: &Hub) {
    let running = hub.levels();
    let mut wanted: Option<LogLevel> = None;
    hub.each_session(|session| {
        let level = session.level();
        wanted = [wanted, level].into_iter().flatten().min();
    });
    for upstream in hub.fleet().all() {
        let by_requests = running.get(upstream.name()).and_then(|counts| counts.keys().next().copied());
        upstream.want_log_level([wanted, by_requests].into_iter().flatten().min());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(params: &'static str, wanted: LogLevel) -> String {
        let server = ServerName::new("git").expect("a name");
        let bytes = message(&Json::literal(params), &server, wanted);
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text")).unwrap_or_default()
    }

    #[test]
    fn a_message_names_its_server_and_keeps_the_rest() {
        assert_eq!(
            sent(r#"{"level":"error","logger":"db","data":{"n":1e2},"v":0}"#, DEFAULT_LEVEL),
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","logger":"git/db","data":{"n":1e2},"v":0}}"#
        );
        assert!(sent(r#"{"level":"error","data":1}"#, DEFAULT_LEVEL).contains(r#""logger":"git""#));
    }

    #[test]
    fn each_session_gets_its_own_level_and_warnings_by_default() {
        assert_eq!(sent(r#"{"level":"info","data":1}"#, DEFAULT_LEVEL), "");
        assert_ne!(sent(r#"{"level":"info","data":1}"#, LogLevel::Debug), "");
        assert_eq!(sent(r#"{"level":"error","data":1}"#, LogLevel::Alert), "");
        assert_ne!(sent(r#"{"level":"trace","data":1}"#, DEFAULT_LEVEL), "");
    }
}
