//! [`Held::renew`]: one refresh, from the record as it is on disk to the next one (reliability 10).
//!
//! The lock is held from reading the record, over the request to the authorization server, to the write. Therefore two
//! refreshes of a rotating token never go out together, and whoever waited finds the new generation and takes it.
//!
//! No lock helps against an end between the authorization server's answer and the write: the old refresh token may have
//! been used up, and nobody has the new one. So before the request a *mark* is made durable. Whoever finds one asks once
//! more, at once, since authorization servers that forgive a repetition do so for seconds; then no sooner than after a
//! pause. It costs the last minutes of an access token where repetition revokes all that was granted, and there a person
//! has to sign in either way. From a mark alone it cannot be told whether the request went out at all.
//!
//! The tokens before the newest stay in the record until the newest were good for a request. If these are refused without
//! having been good for anything, those before are tried, once: the authorization server may have forgotten what it gave.

use trunkline_config::wall_clock;

use crate::client::Unsigned;
use crate::limits::REFRESH_PAUSE;
use crate::record::{Mark, Record, Tokens};
use crate::store::{Held, Step, StoreError};

/// What came of a wish for newer tokens.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// These hold now, and are on disk.
    New(Record),
    /// These were fetched, and the disk does not take them: they live as long as this process.
    Unkept(Record, StoreError),
    /// There is nothing to refresh: nobody is signed in.
    SignedOut,
    /// The authorization server takes the refresh token no more. The record is set aside; nobody is signed in.
    Rejected(Why),
    /// It gave none this time; what was there holds as long as it holds.
    Failed(String),
}

/// What a person should know of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The authorization server gave no reason.
    Untold,
    /// An earlier answer was lost, and with it, probably, the token that would have been taken.
    AnswerLost,
    /// The registration is over, there or by its date.
    Unregistered,
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Untold => "the authorization server takes the refresh token no more",
            Self::AnswerLost => {
                "the authorization server takes the refresh token no more: the answer that held the next one was lost"
            }
            Self::Unregistered => {
                "the authorization server does not know the gateway any more; the next sign-in registers it anew"
            }
        })
    }
}

impl Held {
    /// Newer tokens than those of generation `stale`: the ones that another process has fetched meanwhile, or those that
    /// `exchange` fetches, which are on disk before anybody uses them (S-30). `unkept` is what this process has and the
    /// disk has not.
    pub(crate) async fn renew<F>(self, stale: u64, unkept: Option<Record>, exchange: impl Fn(Record) -> F) -> Renewal
    where
        F: Future<Output = Result<Tokens, Unsigned>>,
    {
        // The disk's old token may have been used up for what is not on the disk.
        let newest = [self.read().await, unkept].into_iter().flatten().max_by_key(|record| record.generation);
        let Some(record) = newest.filter(|record| record.tokens.is_some()) else {
            return Renewal::SignedOut;
        };
        if record.generation > stale {
            return Renewal::New(record);
        }
        let before = self.mark(record.generation).await;
        if before.as_ref().is_some_and(Mark::is_fresh) {
            return Renewal::Failed("the authorization server was asked a moment ago and gave no answer".to_owned());
        }
        if before.is_some() {
            tracing::warn!(server = %self.server, "the answer to the last refresh was lost; the authorization server is asked once more");
        }
        if let Err(error) = self.set_mark(&Mark::after(before.as_ref(), record.generation)).await {
            // A disk that takes nothing must not end a sign-in before its time.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(server = %self.server, error, "it cannot be written down that the token is being refreshed");
        }
        self.reached(Step::Marked);
        // A refusal after a lost answer needs no other explanation.
        let previous = record.previous.clone().filter(|_| before.is_none());
        let next = match fetch(&record, previous, &exchange).await {
            Ok(tokens) => record.next(Some(tokens)),
            Err(Unsigned::Unheard(reason)) => return Renewal::Failed(reason),
            Err(Unsigned::Failed(reason)) => {
                self.take_mark().await;
                return Renewal::Failed(reason);
            }
            Err(Unsigned::Rejected) => {
                let why = if before.is_some() { Why::AnswerLost } else { Why::Untold };
                return self.refused(&record, record.next(None), why).await;
            }
            Err(Unsigned::Unregistered) => {
                return self.refused(&record, record.unregistered(), Why::Unregistered).await;
            }
        };
        self.reached(Step::Answered);
        match self.write_refreshed(&next).await {
            Ok(()) => Renewal::New(next),
            Err(error) => Renewal::Unkept(next, error),
        }
    }
}

impl Held {
    /// Keeps what was refused for a person to look at, and signs out.
    async fn refused(&self, record: &Record, next: Record, why: Why) -> Renewal {
        if let Err(error) = self.set_aside(record, &next).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(server = %self.server, error, "a refused sign-in cannot be set aside");
        }
        Renewal::Rejected(why)
    }
}

/// By the refresh token of the record, or else, if that was good for nothing so far, by the one before it.
async fn fetch<F>(record: &Record, previous: Option<Tokens>, exchange: impl Fn(Record) -> F) -> Result<Tokens, Unsigned>
where
    F: Future<Output = Result<Tokens, Unsigned>>,
{
    match (exchange(record.clone()).await, previous) {
        (Err(Unsigned::Rejected), Some(previous)) => {
            exchange(Record { tokens: Some(previous), ..record.clone() }).await
        }
        (fetched, _) => fetched,
    }
}

impl Mark {
    /// The mark for one more request with the tokens of `generation`.
    fn after(before: Option<&Self>, generation: u64) -> Self {
        Self { generation, at: wall_clock(), times: before.map_or(0, |before| before.times).saturating_add(1) }
    }

    /// Whether it is too early to ask again: the one repetition that goes out at once was made, and a moment ago.
    fn is_fresh(&self) -> bool {
        let now = wall_clock();
        self.times > 1 && (self.at..self.at.saturating_add(REFRESH_PAUSE.as_secs())).contains(&now)
    }
}

#[cfg(test)]
mod tests;
