//! Telling a server what clients want: the log level, and on a new connection their subscriptions.

use std::sync::Arc;
use std::time::Duration;

use trunkline_wire::{Json, Method, Object, ServerName};

use super::Supervisor;
use crate::link::Link;
use crate::repeat;

impl Supervisor {
    /// Tells the server the wanted log level, and on a new connection the subscriptions (mcp-protocol 6.5, 6.6).
    pub(super) fn tell(&mut self, all: bool) {
        self.level_due = None;
        let Some(link) = self.link.clone() else { return };
        let wishes = self.shared.wishes().clone();
        let limit = self.shared.server().tuning.read_timeout;
        let server = self.shared.name.clone();
        self.telling = Some(Box::pin(async move {
            if link.modern().is_some() {
                return;
            }
            if let Some(level) = wishes.level.filter(|_| link.capabilities.logging) {
                say(&link, &server, Method::LoggingSetLevel, ("level", level.as_str()), limit).await;
            }
            let subscriptions = wishes.subscriptions.iter().filter(|_| all && link.capabilities.subscribe);
            for uri in subscriptions {
                say(&link, &server, Method::ResourcesSubscribe, ("uri", uri), limit).await;
            }
        }));
    }
}

/// Sends one request whose answer only matters to the log.
async fn say(link: &Arc<Link>, server: &ServerName, method: Method, (key, value): (&str, &str), limit: Duration) {
    let params: Object = [(key, Json::from(value))].into_iter().collect();
    match repeat::ask(link, method.clone(), &params, limit).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => tracing::debug!(%server, %method, "refused by the server"),
        Err(broken) => tracing::debug!(%server, %method, fault = ?broken.fault, "not told"),
    }
}
