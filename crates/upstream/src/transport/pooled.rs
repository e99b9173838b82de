//! [`Pooled`]: a client of reqwest's whose pool can be left behind, since it cannot be emptied, and with it what it
//! knows of the system's trusted certificates. Shared by all servers that go the same way, so that one new pool
//! does for all of them.
//!
//! To make one reads the trust store, which takes tens of milliseconds: that is done beside the tasks that serve, by one
//! at a time, and not more often than a limit says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use trunkline_telemetry::spawn;

use super::failure::Failure;

/// A new pool means that the trust store is read anew, which is not done more often than this.
const RENEWAL_SPACING: Duration = Duration::from_secs(10);

/// The same where all that speaks for it is a certificate that is not trusted: as a rule nothing has changed.
const DISTRUST_SPACING: Duration = Duration::from_mins(1);

type Make = dyn Fn() -> Result<reqwest::Client, Failure> + Send + Sync;

/// How long a request waits for a new pool: reading the trust store takes a fraction of a second where nothing hangs.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// A client, and how to make another one like it. Cloning shares it.
#[derive(Clone)]
pub(super) struct Pooled(Arc<Shared>);

struct Shared {
    current: watch::Sender<Current>,
    make: Arc<Make>,
    /// [`RENEWAL_SPACING`] and [`DISTRUST_SPACING`].
    spacing: (Duration, Duration),
}

struct Current {
    client: reqwest::Client,
    /// When it was made, or one that is to take its place began to be.
    made: Instant,
    work: Work,
}

/// What is being done about a new client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    None,
    /// One is being made; the old one serves meanwhile.
    Beside,
    /// One is being made, and requests wait for it: what rests in the old one may be dead.
    Awaited,
}

impl Pooled {
    /// A client that is made, and made again, so.
    pub(super) fn new(
        make: impl Fn() -> Result<reqwest::Client, Failure> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        Self::spaced(make, (RENEWAL_SPACING, DISTRUST_SPACING))
    }

    /// One that is made anew whenever that is asked for.
    #[cfg(test)]
    pub(super) fn eager(
        make: impl Fn() -> Result<reqwest::Client, Failure> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        Self::spaced(make, (Duration::ZERO, Duration::ZERO))
    }

    /// Whether nobody else has it.
    pub(super) fn is_forsaken(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    #[cfg(test)]
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn spaced(
        make: impl Fn() -> Result<reqwest::Client, Failure> + Send + Sync + 'static,
        spacing: (Duration, Duration),
    ) -> Result<Self, Failure> {
        let current = Current { client: make()?, made: Instant::now(), work: Work::None };
        Ok(Self(Arc::new(Shared { current: watch::Sender::new(current), make: Arc::new(make), spacing })))
    }

    /// The client as it is now, once it may be used.
    pub(super) async fn client(&self) -> reqwest::Client {
        {
            let current = self.0.current.borrow();
            if current.work != Work::Awaited {
                return current.client.clone();
            }
        }
        let made = timeout(STORE_PATIENCE, self.once(|work| work != Work::Awaited)).await;
        // Certificates on a file system that hangs: an old client may still do.
        made.unwrap_or_else(|_| self.0.current.borrow().client.clone())
    }

    /// Uses none of the connections again that rest now, unless the pool is fresh. Those in use go on.
    pub(super) fn renew(&self) {
        self.begin(Work::Awaited, self.0.spacing.0);
    }

    /// A server's certificate is not trusted. Reads the trust store again, in case that somebody has put in what was
    /// missing; returns whether it was read since, so that it is worth while to try again.
    pub(super) async fn distrusted(&self) -> bool {
        let begun = self.begin(Work::Beside, self.0.spacing.1);
        if begun {
            self.once(|work| work == Work::None).await;
        }
        begun
    }

    /// Begins to make a new client, unless the one that is there is younger than `age`. Returns whether one is being made.
    fn begin(&self, wanted: Work, age: Duration) -> bool {
        let now = Instant::now();
        let (mut begins, mut runs) = (false, false);
        // The stamp is set with the decision, so that of many who want one at the same time one makes it.
        self.0.current.send_if_modified(|current| {
            runs = current.work != Work::None;
            begins = !runs && current.made + age <= now;
            if begins {
                (current.made, current.work) = (now, wanted);
            } else if runs && wanted == Work::Awaited {
                current.work = wanted;
            }
            begins
        });
        if begins {
            let renewal = Renewal(self.0.clone());
            let make = self.0.make.clone();
            spawn("trust store", async move {
                if let Ok(made) = tokio::task::spawn_blocking(move || make()).await {
                    renewal.done(made);
                }
            });
        }
        begins || runs
    }

    /// The client, as soon as the work on the next one is such.
    async fn once(&self, such: impl Fn(Work) -> bool) -> reqwest::Client {
        let mut changes = self.0.current.subscribe();
        let seen = changes.wait_for(|current| such(current.work)).await;
        // The sender lives as long as `self`.
        seen.map_or_else(|_| self.0.current.borrow().client.clone(), |current| current.client.clone())
    }
}

/// A new client in the making. Whatever becomes of it, nobody waits for it afterwards.
struct Renewal(Arc<Shared>);

impl Renewal {
    fn done(&self, made: Result<reqwest::Client, Failure>) {
        match made {
            Ok(client) => self.0.current.send_modify(|current| current.client = client),
            // It could be made before: the old one serves on, and what rests in it ends within 15 s.
            Err(failure) => tracing::warn!(reason = %failure, "the trusted certificates are still those read before"),
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.current.send_modify(|current| current.work = Work::None);
    }
}

impl std::fmt::Debug for Pooled {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pooled").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn client() -> reqwest::Client {
        let tls = crate::transport::trust::config(Vec::new()).expect("a trust store");
        #[expect(clippy::disallowed_methods, reason = "it sends nothing")]
        let builder = reqwest::Client::builder();
        builder.no_proxy().tls_backend_preconfigured(tls).build().expect("a client")
    }

    #[tokio::test]
    async fn r20_a_pool_is_renewed_beside_the_tasks_by_one_at_a_time_and_what_is_sent_then_waits_for_it() {
        let (go, gone) = mpsc::channel::<()>();
        let (made, gone) = (Arc::new(AtomicUsize::new(0)), std::sync::Mutex::new(gone));
        let count = made.clone();
        let pooled = Pooled::eager(move || {
            if count.fetch_add(1, Ordering::Relaxed) > 0 {
                let _ = gone.lock().expect("no panic").recv();
            }
            Ok(client())
        });
        let pooled = pooled.expect("made");
        // Neither call blocks, or this test would hang here.
        pooled.renew();
        pooled.renew();
        let waiting = tokio::time::timeout(Duration::from_millis(50), pooled.client());
        assert!(waiting.await.is_err(), "what rests in the old one may be dead");
        go.send(()).expect("it is being made");
        pooled.client().await;
        assert_eq!(made.load(Ordering::Relaxed), 2, "once for both");
    }

    #[tokio::test]
    async fn r20_a_fresh_pool_is_not_renewed() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let pooled = Pooled::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(client())
        });
        let pooled = pooled.expect("made");
        pooled.renew();
        assert!(!pooled.distrusted().await);
        pooled.client().await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
