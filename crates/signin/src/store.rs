//! [`Store`]: one file for each server's sign-in, shared by every process of this user (reliability 10).
//!
//! A file is read by anybody at any time and is whole whenever it is read. It is changed only by who holds the server's
//! lock, which is the kernel's and so ends with its holder however that ends; the lock is held from reading the record,
//! over the request to the authorization server, to the write. Therefore two refreshes of a rotating token never go out
//! together, and whoever waited finds the new generation and takes it ([`Held::renew`]).
//!
//! Under the lock, still, a write says what generation it follows, and one that would go back is refused: a process that
//! was stopped for longer than a lock can be waited for does no harm when it wakes.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use trunkline_config::StateDir;
use trunkline_wire::ServerName;

use crate::client::Unsigned;
use crate::limits::{LOCK_PATIENCE, LOCK_PAUSE, RECORD_BYTES_MAX};
use crate::record::{Record, Tokens};

/// The sign-ins of this user. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store(Arc<StateDir>);

/// A server's record, while no other process may change it.
#[derive(Debug)]
pub struct Held {
    store: Store,
    server: ServerName,
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
        Self(Arc::new(dir))
    }

    /// What is kept of a server. A file that is not sound is moved aside, which the log tells, and counts as none.
    pub async fn read(&self, server: &ServerName) -> Option<Record> {
        let (store, server) = (self.clone(), server.clone());
        spawn_blocking(move || store.read_now(&server)).await.ok().flatten()
    }

    fn read_now(&self, server: &ServerName) -> Option<Record> {
        let read = self.0.load(&file_of(server), RECORD_BYTES_MAX, |text| Record::read(text, server.as_str()));
        read.unwrap_or_else(|unusable| {
            tracing::warn!(%server, "{unusable}; sign in again with `trunkline login {server}`");
            None
        })
    }

    /// Waits for the server's lock, for as long as a refresh elsewhere may take.
    pub async fn hold(&self, server: &ServerName) -> Result<Held, StoreError> {
        let file = self.0.lockable(&format!("{}.lock", file_of(server)))?;
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

/// What came of a wish for newer tokens.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// These hold now, and are on disk.
    New(Record),
    /// These were fetched, and the disk does not take them: they live as long as this process.
    Unkept(Record, StoreError),
    /// There is nothing to refresh: nobody is signed in.
    SignedOut,
    /// The authorization server takes the refresh token no more. The record is set aside; nobody is signed in.
    Rejected,
    /// It gave none this time; what was there holds as long as it holds.
    Failed(String),
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
        if self.read().await.is_some_and(|there| there.generation >= record.generation) {
            return Err(StoreError::Overtaken);
        }
        let text = record.write(self.server.as_str()).map_err(io::Error::other)?;
        let (dir, name) = (self.store.0.clone(), file_of(&self.server));
        let written = spawn_blocking(move || dir.write(&name, &text)).await;
        Ok(written.unwrap_or_else(|error| Err(io::Error::other(error)))?)
    }

    /// Newer tokens than those of generation `stale`: the ones that another process has fetched meanwhile, or those that
    /// `exchange` fetches, which are on disk before anybody uses them (S-30).
    pub(crate) async fn renew(
        self,
        stale: u64,
        exchange: impl AsyncFnOnce(&Record) -> Result<Tokens, Unsigned>,
    ) -> Renewal {
        let Some(record) = self.read().await.filter(|record| record.tokens.is_some()) else {
            return Renewal::SignedOut;
        };
        if record.generation > stale {
            return Renewal::New(record);
        }
        let next = match exchange(&record).await {
            Ok(tokens) => record.next(Some(tokens)),
            Err(Unsigned::Failed(reason)) => return Renewal::Failed(reason),
            Err(Unsigned::Rejected) => {
                if let Err(error) = self.set_aside(&record).await {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(server = %self.server, error, "a refused sign-in cannot be set aside");
                }
                return Renewal::Rejected;
            }
        };
        match self.write(&next).await {
            Ok(()) => Renewal::New(next),
            Err(error) => Renewal::Unkept(next, error),
        }
    }
}

impl Held {
    /// Keeps the record under another name, for a person to look at, and signs out.
    async fn set_aside(&self, record: &Record) -> Result<(), StoreError> {
        let text = record.write(self.server.as_str()).map_err(io::Error::other)?;
        let (dir, name) = (self.store.0.clone(), format!("{}.refused", file_of(&self.server)));
        let kept = spawn_blocking(move || dir.write(&name, &text)).await;
        kept.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.write(&record.next(None)).await
    }
}

/// A name that every file system takes, and that no two servers share.
fn file_of(server: &ServerName) -> String {
    let hash = Sha256::digest(server.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}-{number:016x}.json", server.namespace())
}

#[cfg(test)]
mod tests;
