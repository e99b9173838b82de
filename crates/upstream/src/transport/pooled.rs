//! [`Pooled`]: a client of reqwest's whose pool can be left behind, since it cannot be emptied. Shared by all
//! servers that go the same way, so that one new pool does for all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;

/// A new pool means that the trust store is read anew, which is not done more often than this.
const RENEWAL_SPACING: Duration = Duration::from_secs(10);

type Make = dyn Fn() -> Result<reqwest::Client, Failure> + Send + Sync;

/// A client, and how to make another one like it. Cloning shares it.
#[derive(Clone)]
pub(super) struct Pooled(Arc<Shared>);

struct Shared {
    current: Mutex<(reqwest::Client, Instant)>,
    make: Box<Make>,
}

impl Pooled {
    /// A client that is made, and made again, so.
    pub(super) fn new(
        make: impl Fn() -> Result<reqwest::Client, Failure> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let current = Mutex::new((make()?, Instant::now()));
        Ok(Self(Arc::new(Shared { current, make: Box::new(make) })))
    }

    /// The client as it is now.
    pub(super) fn client(&self) -> reqwest::Client {
        self.current().0.clone()
    }

    /// Uses none of the connections again that rest now, unless the pool is fresh. Those in use go on.
    pub(super) fn renew(&self) {
        let now = Instant::now();
        if self.current().1 + RENEWAL_SPACING > now {
            return;
        }
        // It could be made before; where it cannot be now, the old one serves on, and what rests in it ends within 15 s.
        if let Ok(client) = (self.0.make)() {
            *self.current() = (client, now);
        }
    }

    fn current(&self) -> MutexGuard<'_, (reqwest::Client, Instant)> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pooled {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pooled").finish_non_exhaustive()
    }
}
