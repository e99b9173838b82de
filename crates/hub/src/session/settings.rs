//! What the client of a session has set or said once: its log level, its subscriptions, its directories.

use std::sync::Arc;

use tokio::sync::OnceCell;
use trunkline_upstream::LaneKey;
use trunkline_wire::ServerName;

use super::{Session, Subscribed};
use crate::lanes::Source;
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::logging::LogLevel;

impl Session {
    /// What the client has set: its log level, and what it subscribed to, as far as that takes `bytes_max`. `None` if the
    /// session has ended, which took them away.
    pub(crate) fn settings(&self, bytes_max: usize) -> Option<(Option<LogLevel>, Vec<Subscribed>)> {
        let state = self.lock();
        if state.ended {
            return None;
        }
        let mut left = bytes_max;
        let fits = |(server, uri): &&(ServerName, Box<str>)| {
            let room = left.checked_sub(server.as_str().len() + uri.len());
            left = room.unwrap_or(left);
            room.is_some()
        };
        let kept = state.subscriptions.keys().filter(fits).map(|(server, uri)| (server.as_str().into(), uri.clone()));
        Some((state.level, kept.collect()))
    }

    /// The level the client set, if it did.
    pub(crate) fn level(&self) -> Option<LogLevel> {
        self.lock().level
    }

    /// The client wants log messages from this level on.
    pub(crate) fn set_level(&self, level: LogLevel) {
        self.lock().level = Some(level);
    }

    /// Notes a subscription. `None` if the session has too many, else whether it is new.
    pub(crate) fn subscribe(&self, source: &Source, uri: &str) -> Option<bool> {
        let mut state = self.lock();
        let key = (source.server.clone(), uri.into());
        let known = state.subscriptions.contains_key(&key);
        if state.ended || (state.subscriptions.len() >= SUBSCRIPTIONS_MAX && !known) {
            return None;
        }
        if !known {
            state.subscriptions.insert(key, source.lane.clone());
        }
        Some(!known)
    }

    /// On which lane the client subscribed to this, if it did. Its directories may have changed since.
    pub(crate) fn subscribed_on(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        let state = self.lock();
        if state.subscriptions.is_empty() {
            return None;
        }
        state.subscriptions.get(&(server.clone(), uri.into())).cloned()
    }

    /// What the client subscribed to at a server, and on which lanes.
    pub(crate) fn subscribed_at(&self, server: &ServerName) -> Vec<(Box<str>, LaneKey)> {
        let state = self.lock();
        let here = state.subscriptions.iter().filter(|((name, _), _)| name == server);
        here.map(|((_, uri), lane)| (uri.clone(), lane.clone())).collect()
    }

    /// A subscription is on another lane from now on. Says whether it was on that one.
    pub(crate) fn shift(&self, from: &Source, to: &Source, uri: &str) -> bool {
        let mut state = self.lock();
        let lane = state.subscriptions.get_mut(&(from.server.clone(), uri.into())).filter(|lane| **lane == from.lane);
        lane.map(|lane| *lane = to.lane.clone()).is_some()
    }

    /// Forgets a subscription. Says on which lane there was one.
    pub(crate) fn unsubscribe(&self, server: &ServerName, uri: &str) -> Option<LaneKey> {
        self.lock().subscriptions.remove(&(server.clone(), uri.into()))
    }

    /// The client's directories, once somebody asked it for them.
    pub(crate) fn roots(&self) -> Arc<OnceCell<Arc<[String]>>> {
        Arc::clone(self.lock().roots.get_or_insert_default())
    }

    /// The client's directories as far as they are known: as it said, or last said, or as they were noted.
    pub(crate) fn known_roots(&self) -> Arc<[String]> {
        let state = self.lock();
        let said = state.roots.as_ref().and_then(|roots| roots.get());
        said.or(state.noted_roots.as_ref()).cloned().unwrap_or_else(|| Arc::from([]))
    }

    /// What its directories were when it subscribed to something, in an earlier life. It is asked for those of now when that
    /// next matters.
    pub(crate) fn recall_roots(&self, roots: &[String]) {
        self.lock().noted_roots = Some(roots.into());
    }

    /// The client says that its directories are others now: it is asked again when that next matters.
    pub(crate) fn roots_changed(&self) {
        let mut state = self.lock();
        let said = state.roots.take().and_then(|roots| roots.get().cloned());
        state.noted_roots = said.or(state.noted_roots.take());
    }
}
