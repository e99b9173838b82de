//! What the tests stand on: the real daemon in a process of its own, servers beside it, plain HTTP clients.
//!
//! Nothing here is typed after the protocol and nothing uses the crates under test: requests are text, answers
//! are looked at as text or as generic JSON. Waits have one generous limit each, as a guard against hanging;
//! no test asserts how long something took.

pub(crate) mod activator;
pub(crate) mod answers;
pub(crate) mod anyone;
pub(crate) mod asking;
pub(crate) mod authority;
pub(crate) mod census;
pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod fake;
pub(crate) mod http;
pub(crate) mod modern;
pub(crate) mod parts;
pub(crate) mod person;
pub(crate) mod pipes;
pub(crate) mod proxy;
pub(crate) mod sse;

use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// How long anything may take before a test gives up on it. Far beyond what is normal, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until the closure returns something. `what` says in the failure what was awaited.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(what, waiting).await
}

/// A future that must end, whatever it takes.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for: {what}"))
}

/// A value as a TOML basic string. Rust's escapes for printable text are TOML's.
pub(crate) fn quoted(value: impl AsRef<Path>) -> String {
    format!("{:?}", value.as_ref().to_str().expect("a UTF-8 path"))
}

/// A list as a TOML array of strings.
pub(crate) fn array<T: Debug>(values: &[T]) -> String {
    format!("{values:?}")
}
