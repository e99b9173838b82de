//! [`Saver`]: writes state to disk beside everything else.
//!
//! Whoever changed something says so and goes on; the write happens on a thread where waiting for a disk delays nobody.
//! The first change is written at once, those that come meanwhile together and a while later. A write that fails is
//! logged, counted and made again, after a pause that grows to a minute, or sooner if somebody waits for it: a disk that
//! was full for a while has cost nothing in the end, and what the daemon does never depends on one.
//!
//! What `write` is to write it finds itself, so a failed write must leave it there.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::{Metrics, spawn};

/// The pause after the first failed write. It doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause: a disk that has room again is noticed within it.
const PAUSE_MAX: Duration = Duration::from_mins(1);

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
    reached: watch::Sender<Reached>,
    /// Somebody waits: the pause after a failure is cut short.
    hurry: Notify,
    at_work: Mutex<bool>,
}

/// How many of the changes a write has met.
#[derive(Clone, Copy, Default)]
struct Reached {
    tried: u64,
    written: u64,
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
            reached: watch::Sender::default(),
            hurry: Notify::new(),
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

    /// Waits until what changed so far is written, or was tried to be once more. Says whether it is written.
    pub async fn settled(&self) -> bool {
        let mut reached = self.0.reached.subscribe();
        let mut wanted = self.0.wanted.load(Ordering::SeqCst);
        let Reached { tried, written } = *reached.borrow_and_update();
        if written >= wanted {
            return true;
        }
        if tried >= wanted {
            // Nothing is under way but a pause.
            wanted = self.0.wanted.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.hurry.notify_one();
        }
        // The sender lives as long as this.
        let reached = reached.wait_for(|reached| reached.tried >= wanted).await;
        reached.is_ok_and(|reached| reached.written >= wanted)
    }
}

impl fmt::Debug for Saver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Saver").field(&self.0.name).finish()
    }
}

async fn work(shared: Arc<Shared>) {
    let mut pause = PAUSE_MIN;
    loop {
        let wanted = shared.wanted.load(Ordering::SeqCst);
        let write = shared.write.clone();
        let written = spawn_blocking(move || write()).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        shared.metrics.state_write(shared.name, written.is_ok());
        shared.reached.send_modify(|reached| {
            reached.tried = wanted;
            reached.written = if written.is_ok() { wanted } else { reached.written };
        });
        if let Err(error) = written {
            let again_in = pause.as_secs();
            tracing::warn!(state = shared.name, %error, again_in, "state cannot be written; a restart now would not know of it");
            sleep(shared.quiet).await;
            let _ = timeout(pause, shared.hurry.notified()).await;
            pause = PAUSE_MAX.min(2 * pause);
            continue;
        }
        pause = PAUSE_MIN;
        {
            let mut at_work = shared.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.wanted.load(Ordering::SeqCst) == wanted {
                *at_work = false;
                return;
            }
        }
        sleep(shared.quiet).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::time::Instant;

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

    /// A saver whose disk takes nothing while the flag stands, and how many writes were tried.
    fn failing(quiet: Duration, metrics: Metrics) -> (Saver, Arc<AtomicBool>, Arc<AtomicU64>) {
        let (full, tries): (Arc<AtomicBool>, Arc<AtomicU64>) = (Arc::new(true.into()), Arc::default());
        let (refuse, count) = (full.clone(), tries.clone());
        let saver = Saver::new("test", quiet, metrics, move || {
            count.fetch_add(1, Ordering::SeqCst);
            if refuse.load(Ordering::SeqCst) { Err(io::Error::other("full")) } else { Ok(()) }
        });
        (saver, full, tries)
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_nothing_is_counted_and_keeps_nobody_waiting() {
        let metrics = Metrics::new();
        let (saver, ..) = failing(Duration::from_secs(1), metrics.clone());
        saver.changed();
        assert!(!saver.settled().await);
        assert!(metrics.render().contains(r#"trunkline_state_writes_total{outcome="failed",state="test"} 1"#));
    }

    #[tokio::test(start_paused = true)]
    async fn r37_a_write_that_failed_is_made_again_without_another_change_ever_more_seldom() {
        let (saver, full, tries) = failing(Duration::from_millis(100), Metrics::new());
        saver.changed();
        assert!(!saver.settled().await);
        // Two waits of a minute at the least are in it: 1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + ...
        sleep(Duration::from_mins(10)).await;
        let before = tries.load(Ordering::SeqCst);
        assert!((10..20).contains(&before), "{before}");
        full.store(false, Ordering::SeqCst);
        sleep(PAUSE_MAX + Duration::from_secs(1)).await;
        assert_eq!(tries.load(Ordering::SeqCst), before + 1, "written, and that is the end of it");
        let asked = Instant::now();
        assert!(saver.settled().await);
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_write_that_failed_has_it_tried_at_once() {
        let (saver, full, _) = failing(Duration::from_millis(100), Metrics::new());
        saver.changed();
        sleep(Duration::from_mins(5)).await;
        full.store(false, Ordering::SeqCst);
        let before = Instant::now();
        assert!(saver.settled().await);
        assert!(before.elapsed() <= Duration::from_millis(100), "{:?}", before.elapsed());
    }
}
