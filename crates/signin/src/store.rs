//! [`Store`]: one file for each server's sign-in, shared by every process of this user (reliability 10).
//!
//! A file is read by anybody at any time and is whole whenever it is read. It is changed only by who holds the server's
//! lock, which is the kernel's and so ends with its holder however that ends. What is done under it is [`Held::renew`]'s
//! (`renew.rs`) for refreshes, and the desk's for logins.
//!
//! Under the lock, still, a write says what generation it follows, and one that would go back is refused: a process that
//! was stopped for longer than a lock can be waited for does no harm when it wakes.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use trunkline_config::{StateDir, Written};
use trunkline_telemetry::Metrics;
use trunkline_wire::ServerName;

use crate::limits::{LOCK_PATIENCE, LOCK_PAUSE, MARK_BYTES_MAX, RECORD_BYTES_MAX};
use crate::record::{Mark, Record};

/// The sign-ins of this user. Cloning shares it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    dir: StateDir,
    metrics: Metrics,
    watch: Box<dyn Fn(Step) + Send + Sync>,
}

/// How far a refresh has come: the points where a test ends the process (F-66).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is on disk that the authorization server will be asked, and it was not.
    Marked,
    /// It has answered, and nothing of that is on disk.
    Answered,
    /// The new record is being written.
    Writing(Written),
}

impl Step {
    /// All of them, in their order, by name.
    pub const ALL: [(&str, Self); 5] = [
        ("marked", Self::Marked),
        ("answered", Self::Answered),
        ("written", Self::Writing(Written::Whole)),
        ("synced", Self::Writing(Written::Synced)),
        ("renamed", Self::Writing(Written::Renamed)),
    ];
}

/// A server's record, while no other process may change it.
#[derive(Debug)]
pub struct Held {
    store: Store,
    pub(crate) server: ServerName,
    /// Unlocked by the kernel when it is closed.
    _lock: File,
}

/// Why a record could not be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has held it all the time.
    #[error("another process has held the sign-in of this server for {} s", LOCK_PATIENCE.as_secs())]
    Locked,
    /// Another process has changed it meanwhile.
    #[error("the sign-in was changed by another process meanwhile")]
    Overtaken,
    /// The system said no.
    #[error("the file of the sign-in cannot be used")]
    Io(#[from] io::Error),
}

impl Store {
    /// The store in this directory.
    pub fn at(dir: StateDir) -> Self {
        Self::watched(dir, Metrics::new(), |_| {})
    }

    /// The same, where writes are counted; `watch` hears how far each refresh has come.
    pub fn watched(dir: StateDir, metrics: Metrics, watch: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { dir, metrics, watch: Box::new(watch) }))
    }

    /// What is kept of a server. A file that is not sound is moved aside, which the log tells, and counts as none.
    pub async fn read(&self, server: &ServerName) -> Option<Record> {
        let (store, server) = (self.clone(), server.clone());
        spawn_blocking(move || store.read_now(&server)).await.ok().flatten()
    }

    fn read_now(&self, server: &ServerName) -> Option<Record> {
        let read = self.0.dir.load(&file_of(server), RECORD_BYTES_MAX, |text| Record::read(text, server.as_str()));
        read.unwrap_or_else(|unusable| {
            tracing::warn!(%server, "{unusable}; sign in again with `trunkline login {server}`");
            None
        })
    }

    /// The mark of a refresh of `generation` whose answer nobody has kept so far. It is of a process that has ended, or of
    /// one that asks at this moment: only who holds the lock can tell.
    pub(crate) async fn mark(&self, server: &ServerName, generation: u64) -> Option<Mark> {
        let (store, name) = (self.clone(), mark_of(server));
        let read = spawn_blocking(move || store.0.dir.load(&name, MARK_BYTES_MAX, Mark::read)).await;
        // Without it one refresh is made that might have waited; the record is what counts.
        read.ok()?.ok().flatten().filter(|mark| mark.generation == generation)
    }

    /// Waits for the server's lock, for as long as a refresh elsewhere may take.
    pub async fn hold(&self, server: &ServerName) -> Result<Held, StoreError> {
        let file = self.0.dir.lockable(&format!("{}.lock", file_of(server)))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Held { store: self.clone(), server: server.clone(), _lock: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() >= LOCK_PATIENCE => return Err(StoreError::Locked),
                Err(TryLockError::WouldBlock) => sleep(LOCK_PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Store").field(&self.0.dir).finish()
    }
}

impl Held {
    /// The record as it is now.
    pub async fn read(&self) -> Option<Record> {
        self.store.read(&self.server).await
    }

    /// Makes this the record. It is on disk when this returns, or the old one still is.
    ///
    /// # Errors
    /// A record is there that is as new or newer, or the system said no.
    pub async fn write(&self, record: &Record) -> Result<(), StoreError> {
        self.write_next(record, |_, _| {}).await
    }

    /// The same for what a refresh brought.
    pub(crate) async fn write_refreshed(&self, record: &Record) -> Result<(), StoreError> {
        self.write_next(record, |store, step| (store.0.watch)(Step::Writing(step))).await
    }

    async fn write_next(&self, record: &Record, watch: fn(&Store, Written)) -> Result<(), StoreError> {
        if self.read().await.is_some_and(|there| there.generation >= record.generation) {
            return Err(StoreError::Overtaken);
        }
        let written = self.put(file_of(&self.server), self.text(record)?, watch).await;
        self.store.0.metrics.state_write("signin", written.is_ok());
        written
    }

    /// The tokens of this generation were good for a request: those before it are of no use any more.
    pub(crate) async fn proven(&self, generation: u64) -> Result<(), StoreError> {
        match self.read().await.filter(|there| there.generation == generation && there.previous.is_some()) {
            Some(there) => {
                self.put(file_of(&self.server), self.text(&Record { previous: None, ..there })?, |_, _| {}).await
            }
            None => Ok(()),
        }
    }

    /// Keeps the record under another name, and puts `next` in its place.
    pub(crate) async fn set_aside(&self, record: &Record, next: &Record) -> Result<(), StoreError> {
        self.put(format!("{}.refused", file_of(&self.server)), self.text(record)?, |_, _| {}).await?;
        self.write(next).await
    }

    /// The mark of a refresh of `generation` that is without an answer. The lock is held, so whoever made it has ended, or
    /// got no answer.
    pub(crate) async fn mark(&self, generation: u64) -> Option<Mark> {
        self.store.mark(&self.server, generation).await
    }

    /// Makes it known to whoever comes after this process that the authorization server is asked.
    pub(crate) async fn set_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        self.put(mark_of(&self.server), mark.write(), |_, _| {}).await
    }

    /// Takes the mark back: what was asked changed nothing there. It may come back after a power cut, which costs nothing.
    pub(crate) async fn take_mark(&self) {
        let (store, name) = (self.store.clone(), mark_of(&self.server));
        let _ = spawn_blocking(move || store.0.dir.remove(&name)).await;
    }

    pub(crate) fn reached(&self, step: Step) {
        (self.store.0.watch)(step);
    }

    fn text(&self, record: &Record) -> io::Result<Vec<u8>> {
        record.write(self.server.as_str()).map_err(io::Error::other)
    }

    async fn put(&self, name: String, text: Vec<u8>, watch: fn(&Store, Written)) -> Result<(), StoreError> {
        let store = self.store.clone();
        let written = spawn_blocking(move || store.0.dir.write_watched(&name, &text, |step| watch(&store, step)));
        Ok(written.await.unwrap_or_else(|error| Err(io::Error::other(error)))?)
    }
}

/// A name that every file system takes, and that no two servers share.
pub(crate) fn file_of(server: &ServerName) -> String {
    let hash = Sha256::digest(server.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}-{number:016x}.json", server.namespace())
}

fn mark_of(server: &ServerName) -> String {
    format!("{}.asked", file_of(server))
}

#[cfg(test)]
mod tests;
