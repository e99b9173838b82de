//! [`Shelf`]: the last good offer of each server, kept for the next process.
//!
//! One file per server holds its lists as the server wrote them, what it said of itself, and what was found out about its
//! era. It is read when the server is first heard of, so that clients get the whole catalogue before any server is up,
//! and written beside everything else when something of it changed. A file that cannot be used costs that one server its
//! head start and nothing else.
//!
//! What a file holds is of one server: it names it, and a digest of how it is reached, salted since that may hold
//! secrets. Another server under the same name starts empty.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{collections::HashMap, mem};

use sha2::{Digest, Sha256};
use trunkline_config::{Connect, Secret, StateDir, wall_clock};
use trunkline_telemetry::{Metrics, Saver};
use trunkline_wire::ServerName;

use crate::era::Memory;
use crate::handle::{Kept, Shared};
use crate::limits::{SHELF_FILE_BYTES_MAX, SHELF_FILES_MAX, SHELF_QUIET};
use crate::offer::Offer;
use crate::saved;

/// What is kept of servers. Cloning shares it.
#[derive(Clone)]
pub struct Shelf(Option<Arc<Board>>);

struct Board {
    dir: StateDir,
    waiting: Arc<Mutex<Waiting>>,
    saver: Saver,
}

/// What is to be written, by server. As many as changed within [`SHELF_QUIET`].
type Waiting = HashMap<ServerName, Volume>;

/// What is kept of one server.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    /// How it is reached: see [`Connect::signature`].
    pub(crate) signature: Secret,
    /// Its last good offer.
    pub(crate) offer: Arc<Offer>,
    /// What was found out about its era.
    pub(crate) era: Memory,
}

impl Shelf {
    /// Nothing is kept.
    pub fn none() -> Self {
        Self(None)
    }

    /// Keeps in `dir`. Files of servers that were heard of longest ago go, if there are very many.
    pub fn at(dir: StateDir, metrics: Metrics) -> Self {
        let mut files = dir.files().unwrap_or_default();
        files.sort_unstable_by_key(|(_, written)| std::cmp::Reverse(*written));
        for (name, _) in files.iter().skip(SHELF_FILES_MAX) {
            if let Err(error) = dir.remove(name) {
                tracing::debug!(name, %error, "an old file of the catalogue cannot be removed");
            }
        }
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let write = {
            let (dir, waiting) = (dir.clone(), Arc::clone(&waiting));
            move || write(&dir, &waiting)
        };
        let saver = Saver::new("catalogue", SHELF_QUIET, metrics, write);
        Self(Some(Arc::new(Board { dir, waiting, saver })))
    }

    /// What is kept of the server of this name, if it is this server.
    pub(crate) fn take(&self, name: &ServerName, connect: &Connect) -> Option<Volume> {
        let Board { dir, .. } = &**self.0.as_ref()?;
        let signature = connect.signature();
        let read = dir.load(&file_of(name), SHELF_FILE_BYTES_MAX, |body| saved::read(body, name, &signature));
        match read {
            Ok(volume) => volume.flatten(),
            Err(unusable) => {
                tracing::warn!(server = %name, "{unusable}; the server is listed once it is up");
                None
            }
        }
    }

    /// Keeps this of a server, a moment later.
    pub(crate) fn put(&self, name: &ServerName, volume: Volume) {
        if let Some(board) = &self.0 {
            lock(&board.waiting).insert(name.clone(), volume);
            board.saver.changed();
        }
    }

    /// Waits until everything is on disk, if the disk takes it.
    pub async fn settled(&self) {
        if let Some(board) = &self.0 {
            let _ = board.saver.settled().await;
        }
    }
}

impl Shared {
    /// Offers the server that is reached so as an earlier process knew it, unless it was looked for that before. For one that
    /// was switched off when it became known. Says whether there was anything.
    pub(crate) fn recall(&self, connect: &Connect) -> bool {
        if self.looked_up.swap(true, Ordering::Relaxed) {
            return false;
        }
        let Some(Volume { offer, era, signature }) = self.environment.shelf.take(&self.name, connect) else {
            return false;
        };
        *self.era.lock().unwrap_or_else(PoisonError::into_inner) = era;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((offer.clone(), era, signature));
        self.offers.send_replace(offer);
        self.offers_changed.send_modify(|count| *count = count.wrapping_add(1));
        true
    }

    /// Keeps the offer, which came by `connect`, for the next process, unless that was done.
    pub(crate) fn keep_offer(&self, connect: &Connect) {
        let offer = self.offers.borrow().clone();
        let era = *self.era.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = connect.signature();
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            // The same lists by another credential are to be found again under that one.
            let is_same = |(known, of, by): &Kept| Arc::ptr_eq(known, &offer) && *of == era && *by == signature;
            if kept.as_ref().is_some_and(is_same) {
                return;
            }
            *kept = Some((offer.clone(), era, signature.clone()));
        }
        self.environment.shelf.put(&self.name, Volume { signature, offer, era });
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Shelf").field(&self.0.as_ref().map(|board| &board.dir)).finish()
    }
}

/// Writes what waits. What the disk does not take goes on waiting, unless something newer does.
fn write(dir: &StateDir, waiting: &Mutex<Waiting>) -> io::Result<()> {
    let mut failed = None;
    let volumes = mem::take(&mut *lock(waiting));
    for (name, volume) in volumes {
        let text = match saved::write(&name, &volume, wall_clock()) {
            Ok(text) if text.len() <= SHELF_FILE_BYTES_MAX => text,
            // It will not get smaller by waiting.
            Ok(_) => {
                tracing::warn!(server = %name, "what the server offers is too large to be kept for the next start");
                continue;
            }
            Err(error) => {
                tracing::warn!(server = %name, %error, "what the server offers cannot be kept for the next start");
                continue;
            }
        };
        if let Err(error) = dir.write(&file_of(&name), &text) {
            failed = Some(error);
            lock(waiting).entry(name).or_insert(volume);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A name that every file system takes, and that no two servers share.
fn file_of(name: &ServerName) -> String {
    let hash = Sha256::digest(name.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}-{number:016x}.json", name.namespace())
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
