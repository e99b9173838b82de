//! [`Gates`]: how many tool calls there may be, of a tool at a time and within a minute, and of a server within a minute.
//!
//! How many requests a server works on at a time is `upstream`'s to say, and fair between clients; what is here is asked before,
//! and only where the configuration says so. Who must wait does so for as long as for a place at the server, and hears when it is
//! worth to come again if that is not enough. A call keeps its place until it is over, while a person is asked too, as it keeps
//! the one at its server: a tool that bears one call at a time has begun that one. A turn that was taken is spent, whatever
//! becomes of the call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use trunkline_config::ToolRules;
use trunkline_upstream::Upstream;
use trunkline_wire::{Fault, ServerName};

use crate::pace::{Pace, Rate};
use crate::refusal;

/// What is limited of all servers and tools. How much that is, the configuration's length bounds.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    places: Limited<Semaphore>,
    paces: Limited<Pace>,
}

/// By whom it limits: the number it was made for, and what counts.
type Limited<T> = Mutex<HashMap<Key, (usize, Arc<T>)>>;

/// A server, or one of its tools by the server's own name of it.
type Key = (ServerName, Option<Box<str>>);

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
        let (server, until) = (upstream.name(), Instant::now() + tuning.queue_wait);
        self.turn(server, None, tuning.per_minute, until).await?;
        let Some(rules) = rules else { return Ok(Leave::default()) };
        self.turn(server, Some(&rules.tool), rules.per_minute, until).await?;
        let Some(most) = rules.in_flight_max else { return Ok(Leave::default()) };
        let places = of(&self.places, (server.clone(), Some(rules.tool.clone())), most, || Semaphore::new(most));
        match timeout_at(until, places.acquire_owned()).await {
            Ok(place) => Ok(Leave(Some(place.expect("never closed")))),
            Err(_elapsed) => Err(refusal::too_many_at_once(server, &rules.tool, most, tuning.queue_wait)),
        }
    }

    /// Waits for a turn of a server or of a tool of it.
    async fn turn(
        &self,
        server: &ServerName,
        tool: Option<&str>,
        per_minute: Option<u32>,
        until: Instant,
    ) -> Result<(), Fault> {
        let Some(count) = per_minute else { return Ok(()) };
        let (rate, now) = (Rate::per_minute(count), Instant::now());
        let pace = of(&self.paces, (server.clone(), tool.map(Box::from)), count as usize, || Pace::new(rate, now));
        let wait = pace.take(rate, until.saturating_duration_since(now), now);
        let wait = wait.map_err(|wait| refusal::too_fast(server, tool, count, wait))?;
        if !wait.is_zero() {
            sleep(wait).await;
        }
        Ok(())
    }
}

/// What counts for this number. Another number than before makes a new one; who is inside the old one stays there.
fn of<T>(all: &Limited<T>, key: Key, number: usize, new: impl Fn() -> T) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let known = all.entry(key).or_insert_with(|| (number, Arc::new(new())));
    if known.0 != number {
        *known = (number, Arc::new(new()));
    }
    known.1.clone()
}

#[cfg(test)]
mod tests;
