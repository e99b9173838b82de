//! [`Fleet`]: all configured servers, each under a supervisor of its own that is started again if it panics.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trunkline_config::Server;
use trunkline_telemetry::{Metrics, spawn};
use trunkline_wire::ServerName;

use crate::dial::{self, Order};
use crate::environment::Environment;
use crate::error::DialError;
use crate::handle::{Upstream, mark};
use crate::limits::SUPERVISOR_RESTART;
use crate::supervisor::{Dialer, supervise};
use crate::transport::Dialed;
use crate::wake::{self, Cause};

/// All configured servers, in the order of the configuration.
#[derive(Debug)]
pub struct Fleet {
    servers: Vec<Upstream>,
    metrics: Metrics,
    offers_changed: watch::Sender<u64>,
    stop: CancellationToken,
    keepers: Mutex<Vec<JoinHandle<()>>>,
}

impl Fleet {
    /// Starts a supervisor for each enabled server. Returns at once; nothing is connected yet.
    #[expect(clippy::needless_pass_by_value, reason = "the fleet is where the environment ends up")]
    pub fn start(servers: &[(ServerName, Server)], environment: Environment) -> Arc<Self> {
        let ladder: Arc<dyn Dialer> = Arc::new(Ladder);
        Self::start_with(servers, &environment, &ladder)
    }

    /// From now on has every server looked at when the machine slept or its network changed, as long as the fleet lasts.
    pub fn watch_for_wakes(self: &Arc<Self>) {
        let known = Arc::downgrade(self);
        let woke = move |cause| known.upgrade().inspect(|fleet| fleet.woke(cause)).is_some();
        spawn("wake", wake::watch(wake::look, woke));
    }

    /// Has every server looked at, once: connections that look alive may not be.
    pub(crate) fn woke(&self, cause: Cause) {
        tracing::info!(cause = cause.as_str(), "every server is looked at");
        self.metrics.wake_event();
        for upstream in self.all() {
            upstream.0.marks.raise(mark::WAKE);
        }
    }

    pub(crate) fn start_with(
        servers: &[(ServerName, Server)],
        environment: &Environment,
        dialer: &Arc<dyn Dialer>,
    ) -> Arc<Self> {
        let offers_changed = watch::Sender::new(0);
        let stop = CancellationToken::new();
        let make = |(name, server): &(ServerName, Server)| {
            Upstream::new(name.clone(), server.clone(), environment.clone(), offers_changed.clone())
        };
        let servers: Vec<Upstream> = servers.iter().map(make).collect();
        let enabled = servers.iter().filter(|upstream| upstream.config().enabled);
        let keepers = enabled
            .map(|upstream| spawn("server", keep(upstream.clone(), dialer.clone(), stop.clone())))
            .collect::<Vec<_>>();
        Arc::new(Self {
            servers,
            metrics: environment.metrics.clone(),
            offers_changed,
            stop,
            keepers: Mutex::new(keepers),
        })
    }

    /// All servers, disabled ones too, in the order of the configuration.
    pub fn all(&self) -> &[Upstream] {
        &self.servers
    }

    /// The server of this name.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.servers.iter().find(|upstream| upstream.name().as_str() == name)
    }

    /// Counts the changes of any server's offer.
    pub fn offers_changed(&self) -> watch::Receiver<u64> {
        self.offers_changed.subscribe()
    }

    /// Lets no request wait any more, neither for a server to be ready nor for a free place: the daemon stops, and what
    /// was not sent by now is refused. Requests that servers work on go on.
    pub fn drain(&self) {
        for upstream in &self.servers {
            upstream.0.draining.cancel();
        }
    }

    /// Closes all connections, all at the same time, and returns when no child is left.
    pub async fn stop(&self) {
        self.stop.cancel();
        let keepers = std::mem::take(&mut *self.keepers.lock().unwrap_or_else(PoisonError::into_inner));
        // A keeper that panicked was logged by `spawn`; there is nothing left of it to close.
        let _ = join_all(keepers).await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a server's supervisor, and again after a panic, until it ends by itself.
async fn keep(upstream: Upstream, dialer: Arc<dyn Dialer>, stop: CancellationToken) {
    loop {
        let supervisor = supervise(upstream.0.clone(), dialer.clone(), stop.clone());
        if spawn("supervisor", supervisor).await.is_ok() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SUPERVISOR_RESTART) => {}
        }
    }
}

/// The real way to a server.
struct Ladder;

impl Dialer for Ladder {
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(dial::dial(order))
    }
}
