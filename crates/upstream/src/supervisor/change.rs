//! What a supervisor does when the configuration of its server was changed.
//!
//! Timeouts, limits and names need nothing here: they are read where they are used. A changed way to reach the server
//! needs a new connection. A child stops first, since it may hold locks or ports that the new one wants; calls that run
//! on it end first, and new ones wait. A server behind a URL is connected to beside the old connection, which serves on
//! until the new one is ready. If that does not come about, the new one takes over all the same: what is shown is then
//! the truth about the configuration that is in force.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};
use trunkline_config::{Connect, Parts, Server};

use super::rest::drained;
use super::{Dialer, Supervisor, dial};
use crate::error::{DialError, DialErrorKind, Disposition};
use crate::handle::Shared;
use crate::limits::{RETIRING_MAX, SWAP_PAUSE, SWAP_WAIT};
use crate::link::Link;
use crate::lists::Lists;
use crate::offer::Kinds;
use crate::refresh::Refresh;
use crate::state::{Event, Phase, Rules};

/// A connection by the new configuration, with its lists.
pub(super) type Replacement = Result<(Opened, Lists), DialError>;

/// An old connection, and the end of it under way.
pub(super) struct Retiring {
    link: Arc<Link>,
    ending: BoxFuture<'static, ()>,
}

impl Drop for Retiring {
    /// As with the supervisor's own connection: what ends without having been closed must not be left open.
    fn drop(&mut self) {
        self.link.abandon();
    }
}

/// A connection that nobody owns yet: given up if it is not taken.
pub(super) struct Opened(Option<Arc<Link>>);

impl Opened {
    fn take(mut self) -> Option<Arc<Link>> {
        self.0.take()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.abandon();
        }
    }
}

impl Supervisor {
    /// The configuration was changed, perhaps several times: does what leads from the one in use to the newest.
    pub(super) fn reconfigured(&mut self) {
        let new = self.shared.server();
        let old = std::mem::replace(&mut self.in_use, new.clone());
        self.state = self.state.clone().under(Rules::of(&new.tuning));
        if !new.enabled {
            if old.enabled {
                self.apply(Event::Disabled, "disabled");
            }
            return;
        }
        if matches!(self.state.phase, Phase::Disabled | Phase::Draining { .. } | Phase::Stopped) {
            self.cause = None;
            self.recall(&new);
            return self.apply(Event::Enabled, "enabled");
        }
        if Parts::between(&old, &new).is_some_and(|parts| parts.reconnect) {
            self.change_over(&new);
        }
    }

    fn change_over(&mut self, new: &Server) {
        let serves = matches!(self.state.phase, Phase::Ready { .. } | Phase::Suspect { .. }) && self.link.is_some();
        if serves && matches!(new.connect, Connect::Http(_)) {
            tracing::info!(server = %self.shared.name, "connecting anew beside the old connection: it was configured anew");
            self.replacing = Some(replacement(self.shared.clone(), self.dialer.clone(), self.last_lists(new)));
        } else {
            self.begin_anew("its configuration was changed, and calls that run end first".into());
        }
    }

    fn begin_anew(&mut self, cause: Arc<str>) {
        self.cause = Some(cause);
        self.apply(Event::Reconfigured, "reconfigured");
    }

    /// The new connection stands, or will not.
    pub(super) fn replaced(&mut self, replacement: Replacement) {
        let (link, lists) = match replacement {
            Ok((opened, lists)) => match opened.take() {
                Some(link) => (link, lists),
                None => return,
            },
            Err(error) => {
                self.shared.environment.metrics.dial(&self.shared.name, error.label());
                return self.begin_anew(error.text.into());
            }
        };
        let shared = self.shared.clone();
        shared.environment.metrics.dial(&shared.name, "ok");
        shared.first().restarts.fetch_add(1, Ordering::Relaxed);
        shared.timeouts.store(0, Ordering::Relaxed);
        if let Some(old) = self.drop_work() {
            self.retire(old);
        }
        self.attend(link);
        self.cause = None;
        self.apply(Event::Replaced, "replaced");
        self.publish(self.state.phase, "replaced");
        self.offer(lists);
        // What changed before this connection was attended to.
        self.refresh.changed(Kinds::ALL, Instant::now());
        self.tell(true);
    }

    /// Lets a connection end by itself beside the one that took its place. There are few at a time: of many, the oldest
    /// is cut short.
    fn retire(&mut self, link: Arc<Link>) {
        if self.retiring.len() >= RETIRING_MAX {
            self.retiring[0].link.abandon();
        }
        let leaving = link.clone();
        let ending = Box::pin(async move {
            drained(&leaving).await;
            leaving.close().await;
        });
        self.retiring.push(Retiring { link, ending });
    }

    /// Has all old connections end now, calls or not.
    pub(super) fn cut_retiring(&mut self) {
        self.retiring.iter().for_each(|old| old.link.abandon());
    }

    /// Starts the refresh of lists and the listen of a connection that is in use from now on.
    pub(super) fn attend(&mut self, link: Arc<Link>) {
        // From the first: what changes while the lists are being read must not be missed.
        self.listening = link.modern().map(|_| {
            let listening = crate::listening::listen(self.shared.clone(), link.clone());
            Box::pin(listening) as BoxFuture<'static, ()>
        });
        self.link = Some(link);
        self.made_by = self.in_use.clone();
        self.refresh = Refresh::default();
    }
}

/// Waits for one of the old connections to be gone, and takes it out; never ends where there is none.
pub(super) async fn one_gone(retiring: &mut Vec<Retiring>) {
    poll_fn(|cx| {
        let gone = retiring.iter_mut().position(|old| old.ending.poll_unpin(cx).is_ready());
        match gone {
            Some(at) => {
                drop(retiring.swap_remove(at));
                Poll::Ready(())
            }
            None => Poll::Pending,
        }
    })
    .await;
}

/// Connects by the new configuration and fetches the lists, again and again for a while: the server may be about to
/// come up, too. What a person must mend is not tried twice.
fn replacement(shared: Arc<Shared>, dialer: Arc<dyn Dialer>, last: Lists) -> BoxFuture<'static, Replacement> {
    Box::pin(async move {
        let until = Instant::now() + SWAP_WAIT;
        loop {
            let error = match timeout_at(until, connected(&shared, &dialer, &last)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => error,
                Err(_elapsed) => {
                    let text = format!("no connection by its new configuration within {} s", SWAP_WAIT.as_secs());
                    return Err(DialError::new(DialErrorKind::Timeout, text));
                }
            };
            if error.disposition() != Disposition::Backoff || Instant::now() + SWAP_PAUSE >= until {
                return Err(error);
            }
            tracing::debug!(server = %shared.name, reason = %error.text, "not ready by its new configuration yet");
            sleep(error.retry_after.unwrap_or_default().max(SWAP_PAUSE)).await;
        }
    })
}

async fn connected(shared: &Arc<Shared>, dialer: &Arc<dyn Dialer>, last: &Lists) -> Replacement {
    let fresh = dial(shared.clone(), dialer.clone()).await?;
    let server = shared.server();
    let link = Link::open(&shared.name, shared.key(), shared.declared(), fresh, &shared.environment);
    let opened = Opened(Some(link.clone()));
    let lists = Lists::fetch(&link, Kinds::ALL, last, server.tuning.list_timeout).await;
    match lists.unanswered(link.capabilities) {
        None => Ok((opened, lists)),
        Some(why) => {
            let text = format!("its lists could not be had: {why}");
            link.close().await;
            Err(DialError::new(DialErrorKind::Timeout, text))
        }
    }
}
