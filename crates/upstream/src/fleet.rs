//! [`Fleet`]: all configured servers, each under a supervisor of its own that is started again if it panics.
//!
//! The servers are published in one `watch`: readers take the list of the moment and never wait, and a reload puts the
//! next one in its place ([`Fleet::apply`]). A server that leaves the configuration is out of the list at once, while its
//! calls end; one that comes back meanwhile is the same one again, so that two processes never run by one name.
//!
//! A server can be paused ([`Fleet::pause`]): it counts as switched off until it is resumed, whatever else is reloaded. That
//! stands in no file, so nothing is run that the configuration does not say, and the next process begins as it says.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trunkline_config::Server;
use trunkline_signin::SignIn;
use trunkline_telemetry::spawn;
use trunkline_wire::ServerName;

use crate::dial::{self, Order};
use crate::environment::Environment;
use crate::error::DialError;
use crate::handle::{Upstream, mark};
use crate::lanes::{self, Lanes};
use crate::limits::SUPERVISOR_RESTART;
use crate::supervisor::{Dialer, supervise};
use crate::transport::{Dialed, client};
use crate::wake::{self, Cause};

/// All configured servers, in the order of the configuration.
pub struct Fleet(Arc<Roster>);

struct Roster {
    servers: watch::Sender<Arc<[Upstream]>>,
    offers_changed: watch::Sender<u64>,
    environment: Environment,
    dialer: Arc<dyn Dialer>,
    /// Nothing waits any more, and nothing is put: the daemon stops.
    draining: CancellationToken,
    stop: CancellationToken,
    /// Every server with a task, those that are leaving included. Held while the list changes.
    posts: Mutex<Vec<Post>>,
    /// Servers that are paused, as they are configured. Locked after `posts`.
    paused: Mutex<HashMap<ServerName, Server>>,
}

/// A server and the task that keeps its supervisor running.
struct Post {
    upstream: Upstream,
    keeper: JoinHandle<()>,
}

impl Fleet {
    /// Starts a supervisor for each server. Returns at once; nothing is connected yet.
    pub fn start(servers: &[(ServerName, Server)], environment: Environment) -> Arc<Self> {
        Self::start_with(servers, environment, Arc::new(Ladder))
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
        self.0.environment.metrics.wake_event();
        client::renew_common();
        for upstream in self.all().iter() {
            lanes::raise(&upstream.0, mark::WAKE);
        }
    }

    pub(crate) fn start_with(
        servers: &[(ServerName, Server)],
        environment: Environment,
        dialer: Arc<dyn Dialer>,
    ) -> Arc<Self> {
        let fleet = Self(Arc::new(Roster {
            servers: watch::Sender::new(Arc::from([])),
            offers_changed: watch::Sender::new(0),
            environment,
            dialer,
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            posts: Mutex::default(),
            paused: Mutex::default(),
        }));
        fleet.put(servers);
        Arc::new(fleet)
    }

    /// Makes these the servers, in this order. Those that are equal to before keep their connection; what becomes of the
    /// others stands in `supervisor/change.rs`. Returns at once. Does nothing once the fleet drains: what it runs then is to
    /// end in its own time, and nothing new begins.
    pub fn apply(&self, servers: &[(ServerName, Server)]) {
        self.put(servers);
        self.changed();
    }

    fn put(&self, servers: &[(ServerName, Server)]) {
        let roster = &self.0;
        let mut posts = roster.posts();
        if roster.is_ending() {
            return;
        }
        let before = self.all();
        // What left the configuration, or is off there, is nothing that could be resumed.
        let goes = |name: &ServerName| servers.iter().any(|(other, server)| other == name && server.enabled);
        roster.paused().retain(|name, _| goes(name));
        let now: Arc<[Upstream]> = servers
            .iter()
            .map(|(name, server)| {
                let held = roster.paused().get_mut(name).map(|kept| kept.clone_from(server));
                let server = if held.is_some() { &off(server) } else { server };
                let upstream = roster.place(&mut posts, name, server);
                upstream.0.paused.store(held.is_some(), Ordering::Release);
                upstream
            })
            .collect();
        for gone in before.iter().filter(|upstream| !listed(&now, upstream)) {
            gone.remove();
        }
        roster.servers.send_replace(now);
    }

    /// All servers, disabled ones too, in the order of the configuration.
    pub fn all(&self) -> Arc<[Upstream]> {
        self.0.servers.borrow().clone()
    }

    /// The server of this name.
    pub fn get(&self, name: &str) -> Option<Upstream> {
        self.0.servers.borrow().iter().find(|upstream| upstream.name().as_str() == name).cloned()
    }

    /// Has a server end and stay off until it is resumed. Returns whether it runs by the configuration: one that does not,
    /// or is not there, has nothing to pause.
    pub fn pause(&self, name: &str) -> bool {
        let _posts = self.0.posts();
        let Some(upstream) = self.get(name).filter(|_| !self.0.is_ending()) else { return false };
        if upstream.is_paused() {
            return true;
        }
        let server = upstream.config();
        if !server.enabled {
            return false;
        }
        self.0.paused().insert(upstream.name().clone(), Server::clone(&server));
        upstream.0.paused.store(true, Ordering::Release);
        upstream.reconfigure(off(&server));
        self.changed();
        true
    }

    /// Has a paused server go on, as it is configured by now. Returns whether it was paused.
    pub fn resume(&self, name: &str) -> bool {
        let _posts = self.0.posts();
        let Some(upstream) = self.get(name).filter(|_| !self.0.is_ending()) else { return false };
        let Some(server) = self.0.paused().remove(upstream.name()) else { return false };
        upstream.0.paused.store(false, Ordering::Release);
        upstream.reconfigure(server);
        self.changed();
        true
    }

    fn changed(&self) {
        self.0.offers_changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Who holds the tokens of servers that want a sign-in.
    pub fn signin(&self) -> Option<&SignIn> {
        self.0.environment.signin.as_ref()
    }

    /// Counts the changes of any server's offer, and those of the list of servers.
    pub fn offers_changed(&self) -> watch::Receiver<u64> {
        self.0.offers_changed.subscribe()
    }

    /// Lets no request wait any more, neither for a server to be ready nor for a free place: the daemon stops, and what
    /// was not sent by now is refused. Requests that servers work on go on.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Closes all connections, all at the same time, and returns when no child is left.
    pub async fn stop(&self) {
        let posts = {
            let mut posts = self.0.posts();
            self.0.stop.cancel();
            std::mem::take(&mut *posts)
        };
        // A keeper that panicked was logged by `spawn`; there is nothing left of it to close.
        let _ = join_all(posts.into_iter().map(|post| post.keeper)).await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Fleet").field(&self.all()).finish()
    }
}

impl Roster {
    /// Whether the daemon stops: nothing new begins any more.
    fn is_ending(&self) -> bool {
        self.draining.is_cancelled() || self.stop.is_cancelled()
    }

    fn posts(&self) -> MutexGuard<'_, Vec<Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<ServerName, Server>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of this name with this configuration: the one that is there, or is just leaving, or a new one.
    fn place(self: &Arc<Self>, posts: &mut Vec<Post>, name: &ServerName, server: &Server) -> Upstream {
        let known = posts.iter().map(|post| &post.upstream).find(|upstream| upstream.name() == name);
        if let Some(upstream) = known {
            if *upstream.config() != *server || !listed(&self.servers.borrow(), upstream) {
                upstream.reconfigure(server.clone());
            }
            return upstream.clone();
        }
        let environment = self.environment.clone();
        let (changed, draining) = (self.offers_changed.clone(), self.draining.clone());
        let lanes = Lanes::new(server.sharing, self.dialer.clone(), self.stop.clone());
        let upstream = Upstream::new(name.clone(), server.clone(), environment, changed, draining, lanes);
        let keeper = keep(upstream.clone(), self.dialer.clone(), self.stop.clone(), Arc::downgrade(self));
        posts.push(Post { upstream: upstream.clone(), keeper: spawn("server", keeper) });
        upstream
    }

    /// The supervisor of a server has ended. Says whether it is wanted again; if not, nothing is left of the server.
    fn ended(&self, upstream: &Upstream) -> bool {
        let mut posts = self.posts();
        if self.stop.is_cancelled() {
            return false;
        }
        if listed(&self.servers.borrow(), upstream) {
            return true;
        }
        posts.retain(|post| !post.upstream.is(upstream));
        self.environment.metrics.forget(upstream.name());
        self.environment.journal.forget(upstream.name());
        false
    }
}

/// The same, switched off.
fn off(server: &Server) -> Server {
    Server { enabled: false, ..server.clone() }
}

fn listed(servers: &[Upstream], upstream: &Upstream) -> bool {
    servers.iter().any(|other| other.is(upstream))
}

/// Runs a server's supervisor, again after a panic, and again if the server came back while it ended.
async fn keep(upstream: Upstream, dialer: Arc<dyn Dialer>, stop: CancellationToken, roster: Weak<Roster>) {
    loop {
        let supervisor = supervise(upstream.0.clone(), dialer.clone(), stop.clone());
        if spawn("supervisor", supervisor).await.is_err() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SUPERVISOR_RESTART) => {}
            }
        }
        if !stop.is_cancelled() && !upstream.0.is_listed() {
            // With a server go its lanes, and its name is free when nothing is left of them. If it comes back before that, it
            // does not wait for them.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = upstream.0.returned() => {}
                () = upstream.0.lanes.gone() => {}
            }
        }
        if stop.is_cancelled() {
            upstream.0.lanes.gone().await;
        }
        if !roster.upgrade().is_some_and(|roster| roster.ended(&upstream)) {
            return;
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

#[cfg(test)]
mod tests;
