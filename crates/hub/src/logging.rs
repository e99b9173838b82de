//! Log messages of servers: from which level on, and under whose name (mcp-protocol 5.7, 6.5).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::time::Instant;
use trunkline_wire::{Json, Method, Notification, Object, ServerName};

pub(crate) use trunkline_upstream::LogLevel;

use crate::Hub;
use crate::limits::LEVEL_LINGER;

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

/// The levels that modern requests want, per server.
pub(crate) type Running = HashMap<ServerName, BTreeMap<LogLevel, Wanted>>;

/// How many requests want a level. The wish outlives the last one by a while: a server is told of a level only after a
/// second's quiet, and the next request of the same client, which mostly wants the same, would come too late again.
#[derive(Debug)]
pub(crate) struct Wanted {
    requests: usize,
    until: Instant,
}

/// A modern request that wants log messages, as long as it runs.
pub(crate) struct Raised {
    hub: Weak<Hub>,
    server: ServerName,
    level: LogLevel,
}

impl Raised {
    /// Counts a request to `server` that wants messages from `level` on.
    pub(crate) fn by(hub: &Arc<Hub>, server: &ServerName, level: LogLevel) -> Self {
        let is_new = {
            let mut running = hub.levels();
            let levels = running.entry(server.clone()).or_default();
            let before = levels.keys().next().copied();
            let wanted = levels.entry(level).or_insert(Wanted { requests: 0, until: Instant::now() });
            wanted.requests += 1;
            before.is_none_or(|before| level < before)
        };
        if is_new {
            apply(hub);
        }
        Self { hub: Arc::downgrade(hub), server: server.clone(), level }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let mut running = hub.levels();
        if let Some(wanted) = running.get_mut(&self.server).and_then(|levels| levels.get_mut(&self.level)) {
            wanted.requests = wanted.requests.saturating_sub(1);
            wanted.until = Instant::now() + LEVEL_LINGER;
        }
    }
}

/// Forgets the wishes that nobody had for a while.
pub(crate) fn settle(hub: &Hub, now: Instant) {
    let fell = {
        let mut running = hub.levels();
        let before: usize = running.values().map(BTreeMap::len).sum();
        for levels in running.values_mut() {
            levels.retain(|_, wanted| wanted.requests > 0 || now < wanted.until);
        }
        running.retain(|_, levels| !levels.is_empty());
        before != running.values().map(BTreeMap::len).sum::<usize>()
    };
    if fell {
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
    for upstream in hub.fleet().all().iter() {
        upstream.want_log_level([wanted, most_verbose(&running, upstream.name())].into_iter().flatten().min());
    }
}

/// The most verbose level that modern requests want of a server.
fn most_verbose(running: &Running, server: &ServerName) -> Option<LogLevel> {
    running.get(server)?.keys().next().copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fakes;

    #[tokio::test(start_paused = true)]
    async fn a_modern_request_raises_its_servers_level_while_it_runs_and_a_while_beyond() {
        let hub = fakes::hub(&[("git", fakes::server())], &trunkline_config::Config::default());
        let git = ServerName::new("git").expect("a name");
        let level = |hub: &Hub| most_verbose(&hub.levels(), &git);
        let error = Raised::by(&hub, &git, LogLevel::Error);
        let debug = Raised::by(&hub, &git, LogLevel::Debug);
        let again = Raised::by(&hub, &git, LogLevel::Debug);
        drop(debug);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(level(&hub), Some(LogLevel::Debug), "one still runs");
        drop(again);
        assert_eq!(level(&hub), Some(LogLevel::Debug), "the next may come");
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(level(&hub), Some(LogLevel::Error));
        drop(error);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert!(hub.levels().is_empty());
    }

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
