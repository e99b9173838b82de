//! [`Gates`]: how many tool calls there may be, at a time and within a minute: of a tool, of a server, of the holder of a token.
//!
//! How many requests a server works on at a time is `upstream`'s to say, and fair between clients; what is here is asked before,
//! and only where the configuration says so. Who must wait does so for as long as for a place at the server, and hears when it is
//! worth to come again if that is not enough.
//!
//! What costs nothing is asked first: all turns, which say at once how long they would take and are waited for together; then
//! places, those of the holder before those of the tool, so that whoever waits for his own keeps nobody else out. A call keeps
//! its places until it is over, while a person is asked too, as it keeps the one at its server: a tool that bears one call at a
//! time has begun that one. Its turns are spent once its server may have seen it; a call that came to nothing before gives them
//! back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use trunkline_config::{Allowance, ToolRules};
use trunkline_telemetry::Metrics;
use trunkline_upstream::Upstream;
use trunkline_wire::{Fault, ServerName};

use crate::Hub;
use crate::client::Caller;
use crate::pace::{Pace, Rate};
use crate::refusal;

/// What is limited of all servers, tools and tokens. How much that is, the configuration's length bounds.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    places: Limited<Semaphore>,
    paces: Limited<Pace>,
}

/// By whom it limits: the number it was made for, and what counts.
type Limited<T> = Mutex<HashMap<Whose, (usize, Arc<T>)>>;

/// Whose calls are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// Those of whoever holds the tokens of this name.
    Token(Box<str>),
    /// Those of a server.
    Server(ServerName),
    /// Those of a tool, by the server's own name of it.
    Tool(ServerName, Box<str>),
}

/// How many of them there may be.
#[derive(Debug)]
struct Limit {
    whose: Whose,
    in_flight_max: Option<usize>,
    per_minute: Option<u32>,
}

/// A tool call that is to be made.
#[derive(Debug, Clone, Copy)]
struct Wish<'a> {
    /// Where it goes.
    upstream: &'a Upstream,
    /// What holds for its tool.
    rules: Option<&'a ToolRules>,
    /// Who makes it, and how many he may make, where a token says so.
    holder: Option<(&'a str, Allowance)>,
}

/// Leave to call. Its places are given back on drop; its turns are spent then, unless they were given back before.
#[derive(Debug, Default)]
pub(crate) struct Leave(Option<Box<Held>>);

/// What a call took on its way. Given back as a whole as long as it waits for more.
#[derive(Debug, Default)]
struct Held {
    turns: Vec<Arc<Pace>>,
    #[expect(dead_code, reason = "held, and given back on drop")]
    places: Vec<OwnedSemaphorePermit>,
}

/// How the calls of a token stand that is good for so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// Calls under way, where their number is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// How many there may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<usize>,
    /// How many there may be within a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Calls that were refused since the start.
    pub refused: u64,
}

impl Hub {
    /// Waits for leave to send a server something for this caller; tool calls alone are limited.
    pub(crate) async fn leave(
        &self,
        upstream: &Upstream,
        is_tool: bool,
        rules: Option<&ToolRules>,
        caller: Option<&Caller>,
    ) -> Result<Leave, Fault> {
        if !is_tool {
            return Ok(Leave::default());
        }
        let owner = caller.and_then(Caller::owner);
        let holder = owner.and_then(|owner| Some((owner, self.rules().allowance(owner)?)));
        self.gates().enter(Wish { upstream, rules, holder }, self.metrics()).await
    }
}

impl Gates {
    /// Waits for leave to make the call. Costs nothing where nothing is limited.
    async fn enter(&self, wish: Wish<'_>, metrics: &Metrics) -> Result<Leave, Fault> {
        let limits = wish.limits();
        if limits.is_empty() {
            return Ok(Leave::default());
        }
        let (server, patience) = (wish.upstream.name(), wish.upstream.config().tuning.queue_wait);
        let now = Instant::now();
        let until = now + patience;
        let mut turns = Turns::default();
        let mut wait = std::time::Duration::ZERO;
        for Limit { whose, per_minute, .. } in &limits {
            let Some(count) = *per_minute else { continue };
            let rate = Rate::per_minute(count);
            let pace = of(&self.paces, whose, count as usize, || Pace::new(rate, now));
            match pace.take(rate, patience, now) {
                Ok(its) => wait = wait.max(its),
                Err(wait) => {
                    whose.refused(server, metrics, "per_minute");
                    return Err(refusal::too_fast(server, whose, count, wait));
                }
            }
            turns.0.push(pace);
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let mut places = Vec::new();
        for Limit { whose, in_flight_max, .. } in &limits {
            let Some(most) = *in_flight_max else { continue };
            let all = of(&self.places, whose, most, || Semaphore::new(most));
            match timeout_at(until, all.acquire_owned()).await {
                Ok(place) => places.push(place.expect("never closed")),
                Err(_elapsed) => {
                    whose.refused(server, metrics, "in_flight");
                    return Err(refusal::too_many_at_once(server, whose, most, patience));
                }
            }
        }
        Ok(Leave(Some(Box::new(Held { turns: std::mem::take(&mut turns.0), places }))))
    }

    /// How the calls of a token stand that is good for so many.
    pub(crate) fn holder(&self, name: &str, allowance: Allowance, metrics: &Metrics) -> Holder {
        let Allowance { in_flight_max, per_minute } = allowance;
        let in_flight = in_flight_max.map(|most| {
            let all = of(&self.places, &Whose::Token(name.into()), most, || Semaphore::new(most));
            most.saturating_sub(all.available_permits())
        });
        Holder { name: name.to_owned(), in_flight, in_flight_max, per_minute, refused: metrics.token_refusals(name) }
    }
}

impl Wish<'_> {
    /// What limits it, the holder first.
    fn limits(&self) -> Vec<Limit> {
        let Self { upstream, rules, holder } = self;
        let rules = rules.filter(|rules| rules.limits_calls());
        let server_wide = upstream.config().tuning.per_minute;
        let mut limits = Vec::new();
        if let Some((token, Allowance { in_flight_max, per_minute })) = *holder {
            limits.push(Limit { whose: Whose::Token(token.into()), in_flight_max, per_minute });
        }
        if server_wide.is_some() {
            let whose = Whose::Server(upstream.name().clone());
            limits.push(Limit { whose, in_flight_max: None, per_minute: server_wide });
        }
        if let Some(ToolRules { tool, in_flight_max, per_minute, .. }) = rules {
            let whose = Whose::Tool(upstream.name().clone(), tool.clone());
            limits.push(Limit { whose, in_flight_max: *in_flight_max, per_minute: *per_minute });
        }
        limits
    }
}

impl Whose {
    /// Counts a refusal.
    fn refused(&self, server: &ServerName, metrics: &Metrics, limit: &'static str) {
        match self {
            Self::Token(token) => metrics.token_refused(token, limit),
            Self::Server(_) => metrics.call_refused(server, "server", limit),
            Self::Tool(..) => metrics.call_refused(server, "tool", limit),
        }
    }
}

impl Leave {
    /// The call came to nothing, and its server knows nothing of it: its turns are another's.
    pub(crate) fn give_turns_back(&mut self) {
        if let Some(held) = &mut self.0 {
            drop(Turns(std::mem::take(&mut held.turns)));
        }
    }
}

/// Turns that are given back on drop.
#[derive(Debug, Default)]
struct Turns(Vec<Arc<Pace>>);

impl Drop for Turns {
    fn drop(&mut self) {
        self.0.iter().for_each(|pace| pace.give_back());
    }
}

/// What counts for this number. Another number than before makes a new one; who is inside the old one stays there.
fn of<T>(all: &Limited<T>, whose: &Whose, number: usize, new: impl Fn() -> T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let known = all.entry(whose.clone()).or_insert_with(|| (number, Arc::new(new())));
    if known.0 != number {
        *known = (number, Arc::new(new()));
    }
    known.1.clone()
}

#[cfg(test)]
mod tests;
