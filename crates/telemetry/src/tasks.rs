//! [`spawn`]: the one way to start a task.
//!
//! A task has a name, a span that carries it, and a panic that is logged and counted under it. What the
//! failure means is its owner's business: the handle resolves to an error, as tokio's own does.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Panics by task name. A static, because a task that panics has nothing in hand to report to; the names
/// are literals, so it stays small.
static PANICS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Tasks alive by name. A static for the same reason.
static RUNNING: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Starts `future` as the task `name`, in a span of that name (at debug level: most lines name their server, and a
/// span costs something at each poll).
///
/// A panic is logged and counted (`trunkline_task_panics_total`); the handle then resolves to an error, so
/// that the owner can act.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    // Before the first poll: a task that never gets to run is dropped with what it captured, and counts until then.
    let alive = Alive::enter(name);
    let watched = async move {
        let _alive = alive;
        let _watch = PanicWatch(name);
        future.await;
    };
    #[expect(clippy::disallowed_methods, reason = "this is the helper that all others must use")]
    tokio::spawn(watched.instrument(tracing::debug_span!("task", task = name)))
}

/// Returns how often each task panicked.
pub(crate) fn panics() -> BTreeMap<&'static str, u64> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Returns how many tasks of each name are alive.
pub fn running() -> BTreeMap<&'static str, u64> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A task that is counted as alive until this is dropped. The names stay, at nothing: they are few.
struct Alive(&'static str);

impl Alive {
    fn enter(name: &'static str) -> Self {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self(name)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(count) = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).get_mut(self.0) {
            *count -= 1;
        }
    }
}

/// Lives in the task's frame: dropped while unwinding, it knows that the task panicked.
struct PanicWatch(&'static str);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *PANICS.lock().unwrap_or_else(PoisonError::into_inner).entry(self.0).or_default() += 1;
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_counted_while_they_live_however_they_end() {
        let count = || running().get("counted").copied().unwrap_or_default();
        let (ends, panics) = (spawn("counted", async {}), spawn("counted", async { panic!("as the test wants") }));
        let hangs = spawn("counted", std::future::pending());
        assert_eq!(count(), 3);
        ends.await.expect("ends well");
        assert!(panics.await.is_err());
        assert_eq!(count(), 1);
        hangs.abort();
        assert!(hangs.await.is_err());
        assert_eq!(count(), 0);
    }

    #[tokio::test]
    async fn a_panic_is_counted_under_the_name_of_its_task() {
        let ended = spawn("doomed", async { panic!("as the test wants") }).await;
        assert!(ended.expect_err("it panicked").is_panic());
        assert_eq!(panics().get("doomed"), Some(&1));
        spawn("fine", async {}).await.expect("ends well");
        assert_eq!(panics().get("fine"), None);
    }
}
