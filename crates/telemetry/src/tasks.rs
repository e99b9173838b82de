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

/// Starts `future` as the task `name`, in a span of that name (at debug level: most lines name their server, and a
/// span costs something at each poll).
///
/// A panic is logged and counted (`trunkline_task_panics_total`); the handle then resolves to an error, so
/// that the owner can act.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let watched = async move {
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
    async fn a_panic_is_counted_under_the_name_of_its_task() {
        let ended = spawn("doomed", async { panic!("as the test wants") }).await;
        assert!(ended.expect_err("it panicked").is_panic());
        assert_eq!(panics().get("doomed"), Some(&1));
        spawn("fine", async {}).await.expect("ends well");
        assert_eq!(panics().get("fine"), None);
    }
}
