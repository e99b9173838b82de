//! The configuration in force as the door sees it, and the owner's way to have it read anew.
//!
//! Whoever reads and applies configurations stands outside and publishes here what is in force. The door takes each
//! request by the value of the moment; what it keeps for longer (names, places, listeners) follows in [`follow`].

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use trunkline_config::Config;

use crate::body::Body;
use crate::{Edge, reply};

/// The configuration of a running daemon. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What is in force.
    pub current: watch::Receiver<Arc<Config>>,
    /// Where that came from.
    pub origin: watch::Receiver<Origin>,
    /// Asks to have it read anew; the answer says what came of it. Bounded: who finds it full is told to wait.
    pub reload: mpsc::Sender<oneshot::Sender<Reloaded>>,
}

/// Where the configuration in force came from, and whether a newer one was refused. Field names are an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Origin {
    /// When it was read, in milliseconds since 1970.
    pub loaded_at_unix_ms: u64,
    /// The file; none if all is at its default or in variables.
    pub path: Option<String>,
    /// Why the file as it is now is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What came of a reload. Field names are an interface: the command line reads them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// What was changed, one sentence each. Empty: the configuration is as it was.
    pub changed: Vec<String>,
    /// What differs and holds only from the next start on, by key.
    pub after_restart: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Why nothing was changed.
    pub error: Option<String>,
    /// It is the configuration that is wrong, and not the machine.
    pub invalid: bool,
}

impl Configuration {
    /// One that stays as it is.
    pub fn fixed(config: Config) -> Self {
        let (reload, _) = mpsc::channel(1);
        let (_, current) = watch::channel(Arc::new(config));
        let (_, origin) = watch::channel(Origin::default());
        Self { current, origin, reload }
    }

    /// What is in force now.
    pub(crate) fn now(&self) -> Arc<Config> {
        self.current.borrow().clone()
    }

    /// Has the configuration read anew, and tells the owner what came of it.
    pub(crate) async fn reload(&self) -> Response<Body> {
        let unavailable = |text: &str| {
            let refused = reply::json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": text }));
            reply::with_retry_after(refused, Duration::from_secs(1))
        };
        let (done, outcome) = oneshot::channel();
        if self.reload.try_send(done).is_err() {
            return unavailable("the configuration is being read already, or the daemon is stopping; try again");
        }
        match outcome.await {
            Ok(reloaded) => reply::json(StatusCode::OK, &reloaded),
            Err(_) => unavailable("the daemon is stopping"),
        }
    }
}

/// Has places and names follow the configuration for as long as the daemon serves.
pub(crate) async fn follow(edge: &Edge, slots: &Semaphore) {
    let mut current = edge.configuration.current.clone();
    let limits = current.borrow_and_update().limits.clone();
    let mut in_flight = Sized::new(&edge.in_flight, limits.in_flight);
    let mut connections = Sized::new(slots, limits.connections);
    loop {
        // A place that is not free yet is no reason not to hear of the next configuration, which may want it back.
        let changed = tokio::select! {
            biased;
            changed = current.changed() => changed.is_ok(),
            () = in_flight.settled() => true,
            () = connections.settled() => true,
        };
        if !changed {
            return std::future::pending().await;
        }
        let config = current.borrow_and_update().clone();
        edge.go_by(&config);
        in_flight.resize(config.limits.in_flight);
        connections.resize(config.limits.connections);
    }
}

/// Places whose number changes: added at once, and taken away as they come free.
struct Sized<'a> {
    places: &'a Semaphore,
    wanted: usize,
    /// To be taken away.
    surplus: usize,
}

impl<'a> Sized<'a> {
    fn new(places: &'a Semaphore, wanted: usize) -> Self {
        Self { places, wanted, surplus: 0 }
    }

    fn resize(&mut self, wanted: usize) {
        let more = wanted.saturating_sub(self.wanted);
        let kept = more.min(self.surplus);
        self.surplus += self.wanted.saturating_sub(wanted);
        self.surplus -= kept;
        self.places.add_permits(more - kept);
        self.wanted = wanted;
    }

    /// Takes the surplus away, whenever it is free; never ends where there is none. Safe to drop.
    async fn settled(&mut self) {
        let surplus = u32::try_from(self.surplus).unwrap_or(u32::MAX);
        match self.places.acquire_many(surplus).await {
            Ok(taken) if surplus > 0 => {
                taken.forget();
                self.surplus = 0;
            }
            Ok(_) | Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r36_places_are_added_at_once_and_taken_away_as_they_come_free() {
        let places = Semaphore::new(2);
        let mut sized = Sized::new(&places, 2);
        sized.resize(4);
        assert_eq!(places.available_permits(), 4);
        let busy = places.acquire_many(3).await.expect("open");
        sized.resize(2);
        assert!(futures_util::poll!(Box::pin(sized.settled())).is_pending(), "one is free, two have to go");
        drop(busy);
        sized.settled().await;
        assert_eq!(places.available_permits(), 2);
        assert!(futures_util::poll!(Box::pin(sized.settled())).is_pending(), "there is nothing left to do");
    }

    #[tokio::test(start_paused = true)]
    async fn r36_places_that_were_not_taken_away_yet_can_be_given_back() {
        let places = Semaphore::new(4);
        let mut sized = Sized::new(&places, 4);
        let busy = places.acquire_many(4).await.expect("open");
        sized.resize(1);
        assert!(futures_util::poll!(Box::pin(sized.settled())).is_pending());
        sized.resize(5);
        assert_eq!(places.available_permits(), 1);
        drop(busy);
        assert_eq!(places.available_permits(), 5);
    }
}
