//! Signing in as the gateway itself, without a person, where the configuration says so (`oauth.client_credentials`,
//! mcp-protocol 7.8): a token is fetched when the first request wants one, and another when that has ended.
//!
//! There is nothing that rotates, so nothing can be lost: no mark is made, and a token that the disk does not take is as good.

use std::sync::Arc;

use tokio::time::Instant;

use crate::client::{self, Unsigned, Wish};
use crate::fetch::Fetcher;
use crate::key::Key;
use crate::limits::REFRESH_PAUSE;
use crate::record::Record;
use crate::store::{Held, StoreError};

/// Nobody comes back by it; the standard wants one of every client.
const NO_WAY_BACK: &str = "http://127.0.0.1/oauth/callback";

impl Key {
    /// Whether the gateway signs in to this server by itself.
    pub(crate) fn is_by_itself(&self) -> bool {
        self.0.oauth.client_credentials
    }

    /// Whether a record is the gateway's own, where it signs in by itself: a person's tokens are none of it.
    pub(crate) fn is_own(&self, record: &Record) -> bool {
        !self.is_by_itself() || self.0.oauth.client_id.as_ref() == Some(&record.client.id)
    }

    /// Why there is no token, if the last attempt to get one failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.now().failure.clone()
    }

    /// Gets a token that is newer than `stale`: another process's, or one of its own.
    pub(crate) async fn renew_by_itself(&self, stale: u64, held: Held) {
        let server = &self.0.server;
        let there = held.read().await;
        let before = there.as_ref().map_or(0, |there| there.generation);
        if before > stale && there.as_ref().is_some_and(|there| there.tokens.is_some() && self.is_own(there)) {
            return self.adopt(there);
        }
        let fetched = match self.fetch_by_itself().await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(%server, reason = %error, "the gateway cannot sign in by itself");
                let mut now = self.now();
                now.failure = Some(error.to_string());
                now.pause_until = Some(Instant::now() + REFRESH_PAUSE);
                return;
            }
        };
        let record = Record { generation: before.max(stale) + 1, ..fetched };
        match held.write(&record).await {
            Ok(()) => tracing::info!(%server, generation = record.generation, "the gateway signed in by itself"),
            Err(error @ (StoreError::Io(_) | StoreError::Locked | StoreError::Overtaken)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(%server, error, "the token cannot be written; the next start fetches another");
            }
        }
        self.adopt(Some(record));
        self.now().failure = None;
    }

    async fn fetch_by_itself(&self) -> Result<Record, Unsigned> {
        let shared = Arc::clone(&self.0);
        let fetcher = Fetcher::new(&shared.endpoint, shared.ca_file.as_deref()).await;
        let challenge = self.challenge();
        let wish = Wish {
            endpoint: &shared.endpoint,
            challenge: challenge.as_deref(),
            redirect: NO_WAY_BACK,
            oauth: &shared.oauth,
            known: None,
            by_device: false,
            fetcher: fetcher.map_err(|error| Unsigned::Failed(error.to_string()))?,
        };
        Box::pin(client::by_itself(wish)).await
    }
}
