//! [`Records`]: what is known of sessions beyond what their ids say (mcp-protocol 3.9).
//!
//! A session's id says who the client is. What came after its birth stands here: that it was ended, the log level and the
//! subscriptions it has, that it was used again after days; and facts that made an id too long. Most sessions have no
//! record at all, so ten thousand that only come and go cost neither memory nor a write. Ends are kept apart, in
//! `ends.rs`: there are far more of them, and none may be forgotten in favour of what is merely convenient.
//!
//! One small file holds all records. It is written beside the calls, whole, a moment after something changed; a process
//! that is killed within that moment forgets the last change and nothing else. A file that cannot be read at the start is
//! read again before it is written.

mod ends;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trunkline_config::{LoadError, StateDir};
use trunkline_telemetry::{Metrics, Saver};

use crate::limits::{RECORDS_BYTES_MAX, RECORDS_MAX, RECORDS_QUIET};
use crate::seal::Carried;
use crate::session::Subscribed;
use ends::{Ends, Task};

const FILE: &str = "sessions.json";

/// What a record takes besides its texts, roughly, in memory and on disk.
const RECORD_BYTES: usize = 128;

/// What came after the birth of a session that lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// When it was in use for certain, in seconds of the Unix age.
    pub used: u64,
    /// The log level that its client set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Box<str>>,
    /// What its client subscribed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscribed>,
    /// Its client's directories when it did: on whose lanes that is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// What its id had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
}

/// All records, by the nonces of the ids.
#[derive(Debug)]
pub(crate) struct Records {
    table: Arc<Mutex<Table>>,
    saver: Option<Saver>,
}

#[derive(Debug, Default)]
struct Table {
    /// Shared, so that the writer takes them all within microseconds and puts them into words without the lock.
    by_nonce: HashMap<Arc<str>, Arc<Record>>,
    /// The same, those used longest ago first.
    by_use: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
    changed: bool,
    ends: Ends,
    /// Whether it is known which books there are.
    listed: bool,
    /// Files that are to be read, since the system did not let them be yet.
    unread: BTreeSet<String>,
}

impl Records {
    /// The records of `dir`; without one, none that outlive the process.
    pub(crate) fn new(dir: Option<StateDir>, metrics: Metrics) -> Self {
        let Some(dir) = dir else { return Self { table: Arc::default(), saver: None } };
        let mut table = Table { unread: [FILE.to_owned()].into(), ..Table::default() };
        table.read(&dir);
        let complete = table.is_complete();
        let table = Arc::new(Mutex::new(table));
        let shared = Arc::clone(&table);
        let saver = Saver::new("sessions", RECORDS_QUIET, metrics, move || write(&dir, &shared));
        if !complete {
            saver.changed();
        }
        Self { table, saver: Some(saver) }
    }

    /// What is known of a session, which may be nothing; `None` if it is over.
    pub(crate) fn of(&self, nonce: &str) -> Option<Record> {
        let table = self.lock();
        let known = || table.by_nonce.get(nonce).map(|record| Record::clone(record)).unwrap_or_default();
        (!table.ends.has(nonce)).then(known)
    }

    /// A session is over, by its client or for being idle, and stays so.
    pub(crate) fn over(&self, nonce: &str, now: u64) {
        let mut table = self.lock();
        table.remove(nonce);
        if table.ends.add(nonce, now) {
            drop(table);
            self.changed();
        }
    }

    /// Changes the record of a session that lives. One that is over stays so; one that says nothing is not begun.
    pub(crate) fn change(&self, nonce: &str, change: impl FnOnce(&mut Record)) {
        // All under one lock: a copy that was read before the end would undo it.
        let mut table = self.lock();
        if table.ends.has(nonce) {
            return;
        }
        let before = table.by_nonce.get(nonce);
        let mut record = before.map(|record| Record::clone(record)).unwrap_or_default();
        change(&mut record);
        let nothing = Record { used: record.used, ..Record::default() };
        let needless = before.is_none() && record == nothing && record.used == 0;
        if before.is_some_and(|before| **before == record) || needless {
            return;
        }
        table.put(nonce, record);
        drop(table);
        self.changed();
    }

    /// Forgets what nobody can ask for any more: ids live for `lifetime` after their last use.
    pub(crate) fn prune(&self, now: u64, lifetime: Duration) {
        let mut table = self.lock();
        let past = |used: u64| now.saturating_sub(used) > lifetime.as_secs();
        while let Some((_, nonce)) = table.by_use.first().filter(|(used, _)| past(*used)).cloned() {
            table.remove(&nonce);
        }
        if table.ends.prune(now, lifetime.as_secs()) {
            drop(table);
            self.changed();
        }
    }

    /// Waits until what changed so far is on disk, or a write of it has failed.
    pub(crate) async fn settled(&self) {
        if let Some(saver) = &self.saver {
            saver.settled().await;
        }
    }

    fn changed(&self) {
        if let Some(saver) = &self.saver {
            saver.changed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    fn put(&mut self, nonce: &str, record: Record) {
        self.remove(nonce);
        let nonce: Arc<str> = nonce.into();
        self.bytes += record.bytes();
        self.by_use.insert((record.used, Arc::clone(&nonce)));
        self.by_nonce.insert(Arc::clone(&nonce), Arc::new(record));
        self.changed = true;
        while self.bytes > RECORDS_BYTES_MAX || self.by_nonce.len() > RECORDS_MAX {
            // What was used longest ago; if need be what came now.
            let Some(oldest) = self.by_use.iter().find(|(_, it)| *it != nonce).or(self.by_use.first()).cloned() else {
                return;
            };
            self.remove(&oldest.1);
        }
    }

    fn remove(&mut self, nonce: &str) {
        if let Some((nonce, record)) = self.by_nonce.remove_entry(nonce) {
            self.by_use.remove(&(record.used, nonce));
            self.bytes -= record.bytes();
            self.changed = true;
        }
    }

    /// Reads what is not read yet, as far as the system lets it.
    fn read(&mut self, dir: &StateDir) {
        if !self.listed {
            match dir.files() {
                Ok(files) => {
                    self.listed = true;
                    let books = files.into_iter().map(|(name, _)| name).filter(|name| ends::is_book(name));
                    self.unread.extend(books.inspect(|name| self.ends.keep_clear_of(name)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the state directory cannot be read; ended sessions may come back");
                }
            }
        }
        for file in mem::take(&mut self.unread) {
            match self.read_file(dir, &file) {
                Ok(()) => {}
                Err(error) if error.may_pass() => {
                    tracing::warn!("{error}; until it can be, what it says of earlier sessions is not known");
                    self.unread.insert(file);
                }
                Err(unusable) => {
                    tracing::warn!(
                        "{unusable}; what it said of earlier sessions (levels, subscriptions, ends) is lost"
                    );
                }
            }
        }
    }

    fn read_file(&mut self, dir: &StateDir, file: &str) -> Result<(), LoadError> {
        if file != FILE {
            return dir.load(file, ends::FILE_BYTES_MAX, |body| self.ends.read(file, body)).map(drop);
        }
        let parse = |body: &[u8]| serde_json::from_slice::<HashMap<Box<str>, Record>>(body).ok();
        // Room for the escapes of JSON.
        let records = dir.load(file, 2 * RECORDS_BYTES_MAX, parse)?;
        self.merge(records.unwrap_or_default());
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.listed && self.unread.is_empty()
    }

    /// What this process knows is newer.
    fn merge(&mut self, records: HashMap<Box<str>, Record>) {
        let before = self.changed;
        for (nonce, record) in records {
            if !self.by_nonce.contains_key(&*nonce) && !self.ends.has(&nonce) {
                self.put(&nonce, record);
            }
        }
        self.changed = before;
    }
}

/// Writes what changed. What the disk did not take is to be written still.
fn write(dir: &StateDir, table: &Mutex<Table>) -> io::Result<()> {
    let (records, tasks) = {
        let mut table = lock(table);
        table.read(dir);
        let changed = table.changed && !table.unread.contains(FILE);
        table.changed &= !changed;
        // Before that their numbers may be those of others.
        let tasks = if table.listed { table.ends.take_tasks() } else { Vec::new() };
        (changed.then(|| table.by_nonce.clone()), tasks)
    };
    let mut outcome = Ok(());
    // The ends first: whoever finds them does not mind a record.
    for (file, task) in tasks {
        let done = match task {
            Task::Write(body) => dir.write(&file, &body),
            Task::Remove => match dir.remove(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        };
        if done.is_err() {
            lock(table).ends.failed(&file);
        }
        outcome = outcome.and(done);
    }
    if let Some(records) = records {
        let records: HashMap<&str, &Record> = records.iter().map(|(nonce, record)| (&**nonce, &**record)).collect();
        let text = serde_json::to_vec(&records).map_err(io::Error::other);
        let done = text.and_then(|text| dir.write(FILE, &text));
        if done.is_err() {
            lock(table).changed = true;
        }
        outcome = outcome.and(done);
    }
    outcome.and(if lock(table).is_complete() { Ok(()) } else { Err(io::Error::other("some of it cannot be read")) })
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    fn bytes(&self) -> usize {
        let subscriptions: usize = self.subscriptions.iter().map(|(server, uri)| server.len() + uri.len() + 8).sum();
        let roots: usize = self.roots.iter().map(|root| root.len() + 4).sum();
        RECORD_BYTES + subscriptions + roots + self.carried.as_ref().map_or(0, Carried::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let made = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::open(made.path().join("state")).expect("our own");
        (made, state)
    }

    fn records(dir: &StateDir) -> Records {
        Records::new(Some(dir.clone()), Metrics::new())
    }

    fn debug(record: &mut Record) {
        record.used = 5;
        record.level = Some("debug".into());
    }

    #[tokio::test]
    async fn r5_what_changed_after_birth_is_there_for_the_next_process() {
        let (_keep, dir) = dir();
        let first = records(&dir);
        first.change("a", |record| {
            debug(record);
            record.subscriptions.push(("git".into(), "file:///a".into()));
        });
        first.change("b", debug);
        first.over("b", 7);
        first.change("b", debug);
        first.settled().await;
        let next = records(&dir);
        assert!(first.of("a").is_some_and(|record| record.subscriptions.len() == 1));
        assert_eq!(next.of("a"), first.of("a"));
        assert_eq!(next.of("b"), None, "once over it stays over");
        next.prune(20, Duration::from_secs(14));
        assert_eq!((next.of("a"), next.of("b")), (Some(Record::default()), None));
        next.prune(22, Duration::from_secs(14));
        assert_eq!(next.of("b"), Some(Record::default()));
    }

    #[tokio::test]
    async fn r25_sessions_that_only_come_and_go_leave_no_record_and_cause_no_write() {
        let (keep, dir) = dir();
        let records = records(&dir);
        for number in 0..10_000 {
            records.change(&number.to_string(), |record| record.subscriptions.clear());
        }
        records.settled().await;
        assert!(records.lock().by_nonce.is_empty() && !keep.path().join("state").join(FILE).exists());
    }

    #[tokio::test]
    async fn r25_what_is_kept_is_bounded_and_what_was_used_longest_ago_goes_first() {
        let records = Records::new(None, Metrics::new());
        for number in 0..2 * RECORDS_MAX as u64 {
            records.change(&number.to_string(), |record| record.used = number + 1);
        }
        assert_eq!(records.lock().by_nonce.len(), RECORDS_MAX);
        let used = |nonce: &str| records.of(nonce).expect("not over").used;
        assert_eq!((used("0"), used(&RECORDS_MAX.to_string())), (0, 1 + RECORDS_MAX as u64));
        let long: Box<str> = "x".repeat(RECORDS_BYTES_MAX / 2).into();
        for nonce in ["a", "b", "c"] {
            // The clock may have gone back: it is the newest all the same.
            records.change(nonce, |record| record.subscriptions.push(("git".into(), long.clone())));
            assert!(
                records.lock().bytes <= RECORDS_BYTES_MAX && !records.of(nonce).expect("kept").subscriptions.is_empty()
            );
        }
        let table = records.lock();
        assert_eq!(table.by_nonce.len(), table.by_use.len());
        assert_eq!(table.by_nonce.values().map(|record| record.bytes()).sum::<usize>(), table.bytes);
    }

    /// Nobody who goes on living costs another his end.
    #[tokio::test]
    async fn r5_an_ended_session_stays_ended_however_many_end_after_it() {
        let (_keep, dir) = dir();
        let first = records(&dir);
        for number in 0..3 * RECORDS_MAX as u64 {
            first.over(&number.to_string(), number + 1);
            first.change(&format!("lives {number}"), debug);
        }
        first.settled().await;
        let next = records(&dir);
        assert!((0..3 * RECORDS_MAX).all(|number| next.of(&number.to_string()).is_none()));
    }

    /// F-41.
    #[tokio::test]
    async fn r37_records_that_are_none_are_set_aside_and_the_start_goes_on() {
        let (keep, dir) = dir();
        dir.write(FILE, br#"["not", "records"]"#).expect("written");
        dir.write("ended-3", b"not whole").expect("written");
        assert_eq!(records(&dir).of("a"), Some(Record::default()));
        assert!(["sessions.json.bad", "ended-3.bad"].iter().all(|file| keep.path().join("state").join(file).exists()));
    }

    #[tokio::test(start_paused = true)]
    async fn r5_an_end_that_the_disk_did_not_take_is_written_when_it_does() {
        let (keep, dir) = dir();
        let first = records(&dir);
        // Nobody can write the file while a directory has its place for the time being.
        let partial = keep.path().join("state/.ended-1.partial");
        std::fs::create_dir(&partial).expect("made");
        first.over("a", 7);
        first.settled().await;
        assert!(records(&dir).of("a").is_some());
        std::fs::remove_dir(&partial).expect("removed");
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert!(records(&dir).of("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn r37_what_cannot_be_read_at_this_moment_is_read_later_and_not_written_over() {
        let (keep, dir) = dir();
        let first = records(&dir);
        first.change("a", debug);
        first.change("b", debug);
        first.over("c", 7);
        first.settled().await;
        let (state, away) = (keep.path().join("state"), keep.path().join("away"));
        std::fs::rename(&state, &away).and_then(|()| std::fs::write(&state, "no directory")).expect("moved");
        let next = records(&dir);
        next.change("a", |record| record.level = Some("alert".into()));
        next.over("d", 8);
        assert!(next.of("c").is_some());
        std::fs::remove_file(&state).and_then(|()| std::fs::rename(&away, &state)).expect("back");
        tokio::time::sleep(Duration::from_mins(2)).await;
        for known in [next, records(&dir)] {
            let level = |nonce| known.of(nonce).expect("lives").level;
            assert_eq!((level("a"), level("b")), (Some("alert".into()), Some("debug".into())));
            assert!(known.of("c").is_none() && known.of("d").is_none());
        }
    }
}
