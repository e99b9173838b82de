//! [`Saver`]: writes state to disk beside everything else.
//!
//! Whoever changed something says so and goes on; the write happens on a thread where waiting for a disk delays nobody.
//! The first change is written at once, those that come meanwhile together and a while later. A write that fails is
//! logged, counted and made again with the next change: what the daemon does never depends on a disk.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::{Metrics, spawn};

/// Writes one kind of state whenever it changed. Cloning shares it.
#[derive(Clone)]
pub struct Saver(Arc<Shared>);

struct Shared {
    name: &'static str,
    quiet: Duration,
    metrics: Metrics,
    write: Arc<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Changes that were told.
    wanted: AtomicU64,
    /// How many of them are on disk, or would be if the disk had taken them.
    done: watch::Sender<u64>,
    at_work: Mutex<bool>,
}

impl Saver {
    /// A saver that calls `write`, which may block, at most once per `quiet`. `name` is a literal, for logs and metrics.
    pub fn new(
        name: &'static str,
        quiet: Duration,
        metrics: Metrics,
        write: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            name,
            quiet,
            metrics,
            write: Arc::new(write),
            wanted: AtomicU64::new(0),
            done: watch::Sender::new(0),
            at_work: Mutex::new(false),
        }))
    }

    /// Says that something changed. Waits for nothing.
    pub fn changed(&self) {
        self.0.wanted.fetch_add(1, Ordering::SeqCst);
        let mut at_work = self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if !*at_work {
            *at_work = true;
            spawn("saver", work(self.0.clone()));
        }
    }

    /// Waits until what changed so far is written, or was tried to be.
    pub async fn settled(&self) {
        let wanted = self.0.wanted.load(Ordering::SeqCst);
        // The sender lives as long as this.
        let _ = self.0.done.subscribe().wait_for(|done| *done >= wanted).await;
    }
}

impl fmt::Debug for Saver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Saver").field(&self.0.name).finish()
    }
}

async fn work(shared: Arc<Shared>) {
    loop {
        let wanted = shared.wanted.load(Ordering::SeqCst);
        let write = shared.write.clone();
        let written = spawn_blocking(move || write()).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        shared.metrics.state_write(shared.name, written.is_ok());
        if let Err(error) = written {
            tracing::warn!(state = shared.name, %error, "state cannot be written; a restart would not know of it");
        }
        shared.done.send_replace(wanted);
        {
            let mut at_work = shared.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.wanted.load(Ordering::SeqCst) == wanted {
                *at_work = false;
                return;
            }
        }
        tokio::time::sleep(shared.quiet).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_that_come_together_are_written_together_and_none_is_lost() {
        let (state, written): (Arc<AtomicU64>, Arc<Mutex<Vec<u64>>>) = Default::default();
        let (read, log) = (state.clone(), written.clone());
        let saver = Saver::new("test", Duration::from_secs(1), Metrics::new(), move || {
            log.lock().expect("sound").push(read.load(Ordering::SeqCst));
            Ok(())
        });
        for _ in 0..1000 {
            state.fetch_add(1, Ordering::SeqCst);
            saver.changed();
        }
        saver.settled().await;
        let writes = written.lock().expect("sound").clone();
        assert!(writes.len() <= 2 && writes.last() == Some(&1000), "{writes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_nothing_is_counted_and_keeps_nobody_waiting() {
        let metrics = Metrics::new();
        let refuse = || Err(io::Error::other("full"));
        let saver = Saver::new("test", Duration::from_secs(1), metrics.clone(), refuse);
        saver.changed();
        saver.settled().await;
        assert!(metrics.render().contains(r#"trunkline_state_writes_total{outcome="failed",state="test"} 1"#));
    }
}
