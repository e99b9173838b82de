//! The watchdog: a live process is not a live service.
//!
//! A task feels the pulse: the scheduler must come in time, and the daemon must answer `/health/live` on its own
//! listener. Only then does it beat. A service manager that watches hears each beat, and restarts the daemon when they
//! stay away. Where none watches, a plain thread, which needs neither scheduler nor lock, ends the process.
//!
//! The thread has no clock: it counts its own ticks since the last beat. Whoever stops the process, or the whole machine,
//! stops the ticks with it, so that waking up is never taken for a wedge.
//!
//! Three states are not for a restart to mend, and are not asked about: while the daemon stops there is no listener, while as
//! many connections are open as may be, it would have to wait like everybody, and without file descriptors left it cannot even
//! ask. A restart then would take everybody's connections for nothing: they come back.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
#[cfg(debug_assertions)]
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};
use trunkline_telemetry::Metrics;

use crate::limits::{ASKING_TAKES, BEAT, LAG_MAX, TICK};
use crate::{exit, live};

/// What feels the pulse, and what is told of it.
pub(crate) struct Watchdog {
    /// Where the daemon listens now; one address is asked.
    pub(crate) address: watch::Receiver<Option<SocketAddr>>,
    /// The connections that may still be opened.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    /// How many ticks without a beat are a wedge.
    pub(crate) patience: u64,
}

/// Says that the daemon stops: nothing listens any more, and that is as it should be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub(crate) fn begun(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Watchdog {
    /// Watches from now on.
    pub(crate) fn start(self) -> Stopping {
        let stopping = Stopping::default();
        let beats = Arc::new(AtomicU64::new(0));
        if sd_notify::watchdog_enabled().is_none() {
            let (beats, patience) = (Arc::clone(&beats), self.patience);
            let spawned = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
                if until_wedged(&beats, patience, || std::thread::sleep(TICK)) {
                    exit::abort("nothing moves any more; ending, so that it can be started again");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!("no thread for the watchdog: {error}");
            }
        }
        trunkline_telemetry::spawn("watchdog", self.beat(beats, stopping.clone()));
        stopping
    }

    async fn beat(self, beats: Arc<AtomicU64>, stopping: Stopping) {
        loop {
            let due = Instant::now() + BEAT;
            sleep(BEAT).await;
            let lag = due.elapsed();
            self.metrics.loop_lag(lag.as_secs_f64());
            if lag < LAG_MAX && self.answers(&stopping).await {
                beats.fetch_add(1, Ordering::Relaxed);
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }

    /// Whether the daemon answers itself, or need not.
    async fn answers(&self, stopping: &Stopping) -> bool {
        let is_excused = || {
            stopping.0.load(Ordering::Relaxed)
                || self.slots.available_permits() == 0
                || lacks_descriptors(|| File::open("/dev/null"))
        };
        let here = *self.address.borrow();
        let Some(address) = here.filter(|_| !is_excused()) else { return true };
        match live::ask(address).await {
            Ok(pid) if pid == std::process::id() => true,
            _ if is_excused() => true,
            Ok(pid) => {
                tracing::warn!(%address, pid, "another trunkline answers on this one's listener");
                false
            }
            Err(error) => {
                tracing::warn!(%address, %error, "the daemon does not answer itself");
                false
            }
        }
    }
}

/// Whether there are fewer descriptors than asking takes: both ends of the connection, and the look-up of whose it is.
fn lacks_descriptors<T>(mut open: impl FnMut() -> io::Result<T>) -> bool {
    let opened: io::Result<Vec<T>> = (0..ASKING_TAKES).map(|_| open()).collect();
    let errnos = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    opened.is_err_and(|error| errnos.contains(&error.raw_os_error()))
}

/// Counts ticks; true once `patience` of them passed without a beat.
fn until_wedged(beats: &AtomicU64, patience: u64, mut tick: impl FnMut()) -> bool {
    let (mut seen, mut silent) = (beats.load(Ordering::Relaxed), 0);
    loop {
        tick();
        let now = beats.load(Ordering::Relaxed);
        silent = if now == seen { silent + 1 } else { 0 };
        seen = now;
        if silent >= patience {
            return true;
        }
    }
}

/// Blocks every thread of the scheduler `after` this time, and for a minute: what a wedge looks like (F-42).
#[cfg(debug_assertions)]
pub(crate) fn wedge_after(after: Duration) {
    trunkline_telemetry::spawn("wedge", async move {
        sleep(after).await;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..2 * threads {
            trunkline_telemetry::spawn("wedge", async { std::thread::sleep(Duration::from_mins(1)) });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn r38_only_silence_for_all_the_patience_is_a_wedge() {
        let beats = AtomicU64::new(0);
        let mut ticks = 0;
        let wedged = until_wedged(&beats, 30, || {
            ticks += 1;
            // Beats that come rarely are beats; at the hundredth tick they end.
            if ticks % 29 == 0 && ticks < 100 {
                beats.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(wedged);
        assert_eq!(ticks, 87 + 30);
    }

    fn watchdog(address: Option<SocketAddr>, permits: usize) -> Watchdog {
        let address = watch::channel(address).1;
        Watchdog { address, slots: Arc::new(Semaphore::new(permits)), metrics: Metrics::new(), patience: 30 }
    }

    #[tokio::test]
    async fn r38_a_listener_that_does_not_answer_is_no_beat_unless_it_need_not() {
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = deaf.local_addr().expect("bound");
        drop(deaf);
        let running = Stopping::default();
        assert!(!watchdog(Some(address), 1).answers(&running).await);
        assert!(watchdog(Some(address), 0).answers(&running).await, "full is not wedged");
        running.begun();
        assert!(watchdog(Some(address), 1).answers(&running).await, "nothing listens while it stops");
    }

    #[test]
    fn r38_a_daemon_without_descriptors_left_is_not_wedged() {
        let left = |mut left: usize, errno: rustix::io::Errno| {
            lacks_descriptors(move || {
                left = left.checked_sub(1).ok_or(errno)?;
                Ok::<_, io::Error>(())
            })
        };
        assert!(left(0, rustix::io::Errno::MFILE) && left(ASKING_TAKES - 1, rustix::io::Errno::NFILE));
        assert!(!left(ASKING_TAKES, rustix::io::Errno::MFILE));
        assert!(!left(0, rustix::io::Errno::NOENT), "nothing to open is another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn r38_the_lag_of_the_scheduler_is_shown() {
        let dog = watchdog(None, 1);
        let metrics = dog.metrics.clone();
        let beats = Arc::new(AtomicU64::new(0));
        let task = trunkline_telemetry::spawn("watchdog", dog.beat(Arc::clone(&beats), Stopping::default()));
        tokio::task::yield_now().await;
        // Nobody was polled for five seconds: three of them too many.
        tokio::time::advance(Duration::from_secs(5)).await;
        tokio::task::yield_now().await;
        assert!(metrics.render().contains("trunkline_loop_lag_seconds 3"), "{}", metrics.render());
        assert_eq!(beats.load(Ordering::Relaxed), 0, "late is not well");
        sleep(BEAT).await;
        tokio::task::yield_now().await;
        assert_eq!(beats.load(Ordering::Relaxed), 1);
        task.abort();
    }
}
