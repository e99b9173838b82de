//! Seeing whether a server is there: what is sent, and what counts as an answer.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trunkline_config::Connect;
use trunkline_wire::{Method, Object};

use super::Supervisor;
use crate::limits::PROBE_SPACING;
use crate::lists;
use crate::transport::client::Address;

impl Supervisor {
    /// Whether the way to it is the network's, and not this machine's own.
    pub(super) fn is_remote(&self) -> bool {
        match &self.shared.server().connect {
            Connect::Http(http) => !Address::new(http.url.clone()).is_some_and(|address| address.is_loopback()),
            Connect::Stdio(_) => false,
        }
    }

    /// Connections that rest are not used again, nor is a probe waited for that may have gone over one.
    pub(super) fn renew(&mut self) {
        self.probing = None;
        if let Some(link) = &self.link {
            link.transport.renew();
        }
    }

    /// Pings; a modern server is asked who it is instead. Any answer is a sign of life, an error too, and so is anything
    /// else that comes meanwhile. But a modern server that does not know
    /// the question is none any more. What is refused at once counts only after a while.
    pub(super) fn probe(&mut self, limit: Duration) {
        let Some(link) = self.link.clone().filter(|_| self.probing.is_none()) else { return };
        self.probing = Some(Box::pin(async move {
            let begun = Instant::now();
            let method = if link.modern().is_some() { Method::Discover } else { Method::Ping };
            let missed = match link.request(method, &Object::new(), limit).await {
                Err(broken) if link.heard() <= begun => broken.text,
                Ok(Err(error)) if link.modern().is_some() && lists::is_method_not_found(&error) => {
                    "does not know `server/discover` any more".to_owned()
                }
                Ok(_) | Err(_) => return Ok(()),
            };
            sleep_until(begun + PROBE_SPACING).await;
            Err(missed)
        }));
    }
}
