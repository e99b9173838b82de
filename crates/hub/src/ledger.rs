//! [`Ledger`]: what is known of sessions beyond what their ids say (mcp-protocol 3.9).
//!
//! A session's id says who the client is. What came after its birth stands here: that it was ended, the log level and the
//! subscriptions it has, that it was used again after days; and facts that made an id too long. Most sessions have no
//! record at all, so ten thousand that only come and go cost neither memory nor a write.
//!
//! One small file holds all records. It is written beside the calls, whole, a moment after something changed; a process
//! that is killed within that moment forgets the last change and nothing else.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_config::StateDir;
use trunkline_telemetry::{Metrics, Saver};

use crate::limits::{LEDGER_BYTES_MAX, LEDGER_QUIET, LEDGER_RECORDS_MAX};
use crate::seal::Carried;
use crate::session::Subscribed;

const FILE: &str = "sessions.json";

/// What a record takes besides its texts, roughly, in memory and on disk.
const RECORD_BYTES: usize = 128;

/// What came after the birth of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// When it was in use for certain, in seconds of the Unix age.
    pub used: u64,
    /// It was ended, by its client or for being idle.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// The log level that its client set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Box<str>>,
    /// What its client subscribed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscribed>,
    /// What its id had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// All records, by the nonces of the ids.
#[derive(Debug)]
pub(crate) struct Ledger {
    records: Arc<Mutex<Records>>,
    saver: Option<Saver>,
}

#[derive(Debug, Default)]
struct Records {
    by_nonce: HashMap<Box<str>, Record>,
    bytes: usize,
}

impl Ledger {
    /// The records of `dir`; without one, none that outlive the process.
    pub(crate) fn new(dir: Option<StateDir>, metrics: Metrics) -> Self {
        let Some(dir) = dir else { return Self { records: Arc::default(), saver: None } };
        // Room for the escapes of JSON.
        let found = dir.load(FILE, 2 * LEDGER_BYTES_MAX, |body| serde_json::from_slice(body).ok());
        let by_nonce: HashMap<Box<str>, Record> = found
            .unwrap_or_else(|unusable| {
                tracing::warn!("{unusable}; levels and subscriptions of earlier sessions are not restored");
                None
            })
            .unwrap_or_default();
        let bytes = by_nonce.values().map(Record::bytes).sum();
        let records = Arc::new(Mutex::new(Records { by_nonce, bytes }));
        let read = Arc::clone(&records);
        let write = move || {
            let text = {
                let records = read.lock().unwrap_or_else(PoisonError::into_inner);
                serde_json::to_vec(&records.by_nonce).map_err(io::Error::other)?
            };
            dir.write(FILE, &text)
        };
        Self { records, saver: Some(Saver::new("sessions", LEDGER_QUIET, metrics, write)) }
    }

    /// What is known of a session.
    pub(crate) fn get(&self, nonce: &str) -> Option<Record> {
        self.lock().by_nonce.get(nonce).cloned()
    }

    /// A session is over, and stays so.
    pub(crate) fn over(&self, nonce: &str, now: u64) {
        self.put(nonce, Record { used: now, over: true, ..Record::default() });
    }

    /// Changes the record of a session that lives. One that is over stays so; one that says nothing is not begun.
    pub(crate) fn change(&self, nonce: &str, change: impl FnOnce(&mut Record)) {
        // All under one lock: a copy that was read before the end would undo it.
        let mut records = self.lock();
        let before = records.by_nonce.get(nonce);
        let mut record = before.cloned().unwrap_or_default();
        change(&mut record);
        let nothing = Record { used: record.used, ..Record::default() };
        let needless = before.is_none() && record == nothing && record.used == 0;
        if before == Some(&record) || needless || before.is_some_and(|before| before.over) {
            return;
        }
        records.put(nonce, record);
        drop(records);
        self.changed();
    }

    /// Forgets what nobody can ask for any more: ids live for `lifetime` after their last use.
    pub(crate) fn prune(&self, now: u64, lifetime: Duration) {
        let mut records = self.lock();
        let count = records.by_nonce.len();
        records.by_nonce.retain(|_, record| now.saturating_sub(record.used) <= lifetime.as_secs());
        if records.by_nonce.len() != count {
            records.bytes = records.by_nonce.values().map(Record::bytes).sum();
        }
    }

    /// Waits until what changed so far is on disk, if the disk takes it.
    pub(crate) async fn settled(&self) {
        if let Some(saver) = &self.saver {
            saver.settled().await;
        }
    }

    fn put(&self, nonce: &str, record: Record) {
        self.lock().put(nonce, record);
        self.changed();
    }

    fn changed(&self) {
        if let Some(saver) = &self.saver {
            saver.changed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn put(&mut self, nonce: &str, record: Record) {
        self.bytes += record.bytes();
        if let Some(old) = self.by_nonce.insert(nonce.into(), record) {
            self.bytes -= old.bytes();
        }
        while self.bytes > LEDGER_BYTES_MAX || self.by_nonce.len() > LEDGER_RECORDS_MAX {
            self.drop_oldest(nonce);
        }
    }

    /// Drops what was used longest ago, if need be `newest` itself: a session that is over first, for its client does not
    /// come back.
    fn drop_oldest(&mut self, newest: &str) {
        let oldest = self.by_nonce.iter().min_by_key(|(nonce, it)| (***nonce == *newest, !it.over, it.used));
        let Some(nonce) = oldest.map(|(nonce, _)| nonce.clone()) else { return };
        self.bytes -= self.by_nonce.remove(&nonce).map_or(0, |record| record.bytes());
    }
}

impl Record {
    fn bytes(&self) -> usize {
        let subscriptions: usize = self.subscriptions.iter().map(|(server, uri)| server.len() + uri.len() + 8).sum();
        RECORD_BYTES + subscriptions + self.carried.as_ref().map_or(0, Carried::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let made = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::open(made.path()).expect("our own");
        (made, state)
    }

    #[tokio::test]
    async fn r5_what_changed_after_birth_is_there_for_the_next_process() {
        let (_keep, dir) = dir();
        let ledger = Ledger::new(Some(dir.clone()), Metrics::new());
        ledger.change("a", |record| {
            record.used = 5;
            record.level = Some("debug".into());
            record.subscriptions.push(("git".into(), "file:///a".into()));
        });
        ledger.over("b", 7);
        ledger.change("b", |record| record.over = false);
        ledger.settled().await;
        let next = Ledger::new(Some(dir), Metrics::new());
        assert_eq!(next.get("a"), ledger.get("a"));
        assert!(next.get("b").expect("known").over, "once over it stays over");
        next.prune(20, Duration::from_secs(14));
        assert!(next.get("a").is_none() && next.get("b").is_some());
    }

    #[tokio::test]
    async fn r25_sessions_that_only_come_and_go_leave_no_record_and_cause_no_write() {
        let (keep, dir) = dir();
        let ledger = Ledger::new(Some(dir), Metrics::new());
        for number in 0..10_000 {
            ledger.change(&number.to_string(), |record| record.subscriptions.clear());
        }
        ledger.settled().await;
        assert!(ledger.lock().by_nonce.is_empty() && !keep.path().join(FILE).exists());
    }

    #[tokio::test]
    async fn r25_what_is_kept_is_bounded_and_what_is_over_goes_first() {
        let ledger = Ledger::new(None, Metrics::new());
        ledger.change("lives", |record| record.level = Some("info".into()));
        for number in 0..2 * LEDGER_RECORDS_MAX as u64 {
            ledger.over(&number.to_string(), number + 1);
        }
        assert_eq!(ledger.lock().by_nonce.len(), LEDGER_RECORDS_MAX);
        assert!(ledger.get("lives").is_some() && ledger.get("0").is_none());
        let long: Box<str> = "x".repeat(LEDGER_BYTES_MAX / 2).into();
        for nonce in ["a", "b", "c"] {
            ledger.change(nonce, |record| record.subscriptions.push(("git".into(), long.clone())));
            assert!(ledger.lock().bytes <= LEDGER_BYTES_MAX && ledger.get(nonce).is_some());
        }
    }

    /// F-41.
    #[tokio::test]
    async fn r37_a_ledger_that_is_no_ledger_is_set_aside_and_the_start_goes_on() {
        let (keep, dir) = dir();
        dir.write(FILE, br#"["not", "records"]"#).expect("written");
        let ledger = Ledger::new(Some(dir), Metrics::new());
        assert!(ledger.get("a").is_none() && keep.path().join("sessions.json.bad").exists());
    }
}
