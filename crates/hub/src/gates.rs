//! [`Gates`]: how many tool calls there may be, of a tool at a time and within a minute, and of a server within a minute.
//!
//! How many requests a server works on at a time is `upstream`'s to say, and fair between clients; what is here is asked before,
//! and only where the configuration says so. Who must wait does so for as long as for a place at the server, and hears when it is
//! worth to come again if that is not enough. What is counted is calls that begin: one to which a
//! modern client comes back with answers has given its place back and goes on without one; that of a legacy client keeps it while its
//! person is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use trunkline_config::ToolRules;
use trunkline_upstream::Upstream;
use trunkline_wire::{Fault, ServerName};

use crate::pace::{Pace, Rate};
use crate::refusal;

/// The gates of all servers and tools that have any. Their number is bounded by the configuration's length.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<Key, Arc<Gate>>>);

/// A server, or one of its tools by the server's own name of it.
type Key = (ServerName, Option<Box<str>>);

/// A way in.
#[derive(Debug)]
struct Gate {
    places: Option<(usize, Arc<Semaphore>)>,
    pace: Option<(u32, Pace)>,
}

/// Leave to call, given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Leave(#[expect(dead_code, reason = "held, and given back on drop")] Option<OwnedSemaphorePermit>);

impl Gates {
    /// Waits for leave to send a server something; tool calls alone are limited. Costs nothing where nothing is.
    pub(crate) async fn enter(
        &self,
        upstream: &Upstream,
        is_tool: bool,
        rules: Option<&ToolRules>,
    ) -> Result<Leave, Fault> {
        let tuning = &upstream.config().tuning;
        let rules = rules.filter(|rules| rules.limits_calls());
        if !is_tool || (tuning.per_minute.is_none() && rules.is_none()) {
            return Ok(Leave::default());
        }
        let until = Instant::now() + tuning.queue_wait;
        let name = upstream.name();
        let place = match rules {
            Some(rules) => {
                let tool = &*rules.tool;
                let gate = self.gate(name, Some(tool), rules.in_flight_max, rules.per_minute);
                let place = gate.place(until).await.map_err(|()| {
                    refusal::too_many_at_once(name, tool, rules.in_flight_max.unwrap_or_default(), tuning.queue_wait)
                })?;
                gate.turn(until).await.map_err(|(count, wait)| refusal::too_fast(name, Some(tool), count, wait))?;
                place
            }
            None => None,
        };
        if tuning.per_minute.is_some() {
            let gate = self.gate(name, None, None, tuning.per_minute);
            gate.turn(until).await.map_err(|(count, wait)| refusal::too_fast(name, None, count, wait))?;
        }
        Ok(Leave(place))
    }

    /// The gate of these numbers. Other numbers than before make a new one; who is inside stays there.
    fn gate(&self, server: &ServerName, tool: Option<&str>, places: Option<usize>, rate: Option<u32>) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry((server.clone(), tool.map(Box::from))).or_insert_with(|| Gate::new(places, rate));
        if gate.places.as_ref().map(|(count, _)| *count) != places
            || gate.pace.as_ref().map(|(count, _)| *count) != rate
        {
            *gate = Gate::new(places, rate);
        }
        gate.clone()
    }
}

impl Gate {
    fn new(places: Option<usize>, rate: Option<u32>) -> Arc<Self> {
        let places = places.map(|count| (count, Arc::new(Semaphore::new(count))));
        let pace = rate.map(|count| (count, Pace::new(Rate::per_minute(count), Instant::now())));
        Arc::new(Self { places, pace })
    }

    /// Waits for a place, in the order of coming.
    async fn place(&self, until: Instant) -> Result<Option<OwnedSemaphorePermit>, ()> {
        let Some((_, places)) = &self.places else { return Ok(None) };
        let place = timeout_at(until, places.clone().acquire_owned()).await.map_err(drop)?;
        Ok(Some(place.expect("never closed")))
    }

    /// Waits for its turn. Fails with the rate and with how long it would be.
    async fn turn(&self, until: Instant) -> Result<(), (u32, Duration)> {
        let Some((count, pace)) = &self.pace else { return Ok(()) };
        let now = Instant::now();
        let patience = until.saturating_duration_since(now);
        let wait = pace.take(Rate::per_minute(*count), patience, now).map_err(|wait| (*count, wait))?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
