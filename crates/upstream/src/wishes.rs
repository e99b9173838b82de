//! What clients want of a server that each new connection must be told again: the log level and subscriptions
//! (mcp-protocol 6.5, 6.6). With lanes, each has its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use trunkline_wire::{Json, Method, Object, Outcome, RpcError, code};

use crate::call::{Ask, Call, CallEvent, CallerFacts};
use crate::environment::LogLevel;
use crate::error::{CallError, CallErrorKind};
use crate::handle::{Shared, Upstream, mark};
use crate::lanes::{Hold, LaneKey};
use crate::limits::{LISTEN_WAIT, READY_WAIT, SUBSCRIPTIONS_MAX};
use crate::link::Link;

/// What became of a subscription that is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The server has it.
    Stands,
    /// The server is away; it is told with its next connection.
    Later,
    /// The server does not take it any more.
    Refused,
}

/// What clients want that a new connection must be told again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Most verbose log level.
    pub(crate) level: Option<LogLevel>,
    /// URIs subscribed to.
    pub(crate) subscriptions: BTreeSet<String>,
}

impl Upstream {
    /// Sets the most verbose level that any client wants; it is asked for again on each new connection
    /// (mcp-protocol 6.5).
    pub fn want_log_level(&self, level: Option<LogLevel>) {
        for lane in self.0.all_lanes() {
            let changed = std::mem::replace(&mut lane.wishes().level, level) != level;
            if changed && level.is_some() {
                lane.marks.raise(mark::LEVEL);
            }
        }
    }

    /// Subscribes to a resource for this caller, or those who share his lane. Returns the server's answer; if it is a yes,
    /// the subscription is made again on each new connection.
    ///
    /// # Errors
    /// As [`Upstream::call`]; the subscription is not remembered then.
    pub async fn subscribe(&self, uri: &str, caller: &CallerFacts) -> Result<Result<Json, Json>, CallError> {
        let (lane, hold) = self.0.lane_of(caller).await?;
        lane.subscribe(uri, hold).await
    }

    /// Makes a subscription again that the server once took, of a session that came back: wished for at once, so that
    /// the next connection is told in any case, and asked for now if there is one.
    pub async fn renew(&self, uri: &str, caller: &CallerFacts) -> Renewed {
        match self.0.lane_of(caller).await {
            Ok((lane, hold)) => lane.renew(uri, hold).await,
            // It could not be told again later either: nobody keeps it.
            Err(_) => Renewed::Refused,
        }
    }

    /// Ends a subscription of those who share this lane. Returns the server's answer.
    ///
    /// # Errors
    /// As [`Upstream::call`]; it is not made again on the next connection in any case.
    pub async fn unsubscribe(&self, uri: &str, lane: &LaneKey) -> Result<Result<Json, Json>, CallError> {
        match self.0.present_lane(lane) {
            Some((lane, hold)) => lane.unsubscribe(uri, hold).await,
            // With the lane went its subscriptions.
            None => Ok(Ok(Json::literal("{}"))),
        }
    }
}

impl Shared {
    async fn subscribe(self: &Arc<Self>, uri: &str, hold: Option<Hold>) -> Result<Result<Json, Json>, CallError> {
        let room = {
            let subscriptions = &self.wishes().subscriptions;
            subscriptions.len() < SUBSCRIPTIONS_MAX || subscriptions.contains(uri)
        };
        if !room {
            let text = format!("server `{}` has {SUBSCRIPTIONS_MAX} subscriptions already", self.name);
            return Err(self.error(CallErrorKind::Overloaded, Outcome::NotSent, text));
        }
        if let Some(link) = self.modern().await? {
            if !link.capabilities.subscribe {
                return Ok(Err(RpcError::new(code::METHOD_NOT_FOUND, "no subscriptions to resources").to_json()));
            }
            self.wishes().subscriptions.insert(uri.to_owned());
            let number = self.listen.changed();
            self.listen.stands(number, LISTEN_WAIT).await;
            return Ok(Ok(Json::literal("{}")));
        }
        // Remembered only now: a refused one must not come back with the next connection, nor a failed one, of which
        // its client was told, take one of the places for ever.
        let answer = self.ask(Method::ResourcesSubscribe, uri, hold).await;
        if let Ok(Ok(_)) = &answer {
            self.wishes().subscriptions.insert(uri.to_owned());
        }
        answer
    }

    async fn renew(self: &Arc<Self>, uri: &str, hold: Option<Hold>) -> Renewed {
        {
            let subscriptions = &mut self.wishes().subscriptions;
            if subscriptions.len() >= SUBSCRIPTIONS_MAX && !subscriptions.contains(uri) {
                return Renewed::Refused;
            }
            subscriptions.insert(uri.to_owned());
        }
        self.listen.changed();
        let era = self.usable().map(|link| link.modern().is_some());
        match era {
            None => Renewed::Later,
            // The listen tells it, and tells it again on the next connection.
            Some(true) => Renewed::Stands,
            Some(false) => match self.ask(Method::ResourcesSubscribe, uri, hold).await {
                Ok(Ok(_)) => Renewed::Stands,
                Ok(Err(_)) => {
                    self.wishes().subscriptions.remove(uri);
                    Renewed::Refused
                }
                Err(_) => Renewed::Later,
            },
        }
    }

    async fn unsubscribe(self: &Arc<Self>, uri: &str, hold: Option<Hold>) -> Result<Result<Json, Json>, CallError> {
        self.wishes().subscriptions.remove(uri);
        self.listen.changed();
        if self.modern().await?.is_some() {
            return Ok(Ok(Json::literal("{}")));
        }
        self.ask(Method::ResourcesUnsubscribe, uri, hold).await
    }

    /// The connection, if the server is a modern one: its subscriptions go by one listen.
    async fn modern(&self) -> Result<Option<Arc<Link>>, CallError> {
        let link = self.ready(Instant::now() + READY_WAIT).await?;
        Ok(link.modern().is_some().then_some(link))
    }

    async fn ask(
        self: &Arc<Self>,
        method: Method,
        uri: &str,
        hold: Option<Hold>,
    ) -> Result<Result<Json, Json>, CallError> {
        let params = [("uri", Json::from(uri))].into_iter().collect::<Object>();
        let ask = Ask::new(method, params);
        let mut call = Call::begin(self.clone(), hold, ask).await?;
        loop {
            match call.next().await {
                CallEvent::Notice(_) | CallEvent::Beat | CallEvent::Asked(_) | CallEvent::Withdrawn(_) => {}
                CallEvent::Done(answer) => return Ok(answer),
                CallEvent::Failed(error) => return Err(error),
            }
        }
    }
}
