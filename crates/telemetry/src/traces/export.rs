//! The task that takes spans to the collector: in batches, a few attempts each, and never for long.
//!
//! While it tries, spans wait in the queue; what has no room there is dropped by whoever ends it. A batch that is not taken is
//! lost and counted. The log says once that the collector is away, and once that it is back.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::otlp::{self, Ended};
use super::{Carrier, NotTaken, Out};
use crate::Metrics;

/// Spans that are sent at once.
const BATCH_MAX: usize = 512;

/// How long the first of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(2);

/// How long a collector may take over a batch.
const CARRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts at a batch.
const ATTEMPTS: u32 = 3;

/// Before the second attempt; twice that before the third.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest wait that a collector may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Exports until nobody can end a span any more.
pub(super) async fn export(
    mut waiting: mpsc::Receiver<Out>,
    carrier: impl Carrier,
    service: (String, &'static str),
    metrics: Metrics,
) {
    let mut is_away = false;
    loop {
        let (mut batch, mut settled) = (Vec::new(), Vec::new());
        let more = gather(&mut waiting, &mut batch, &mut settled).await;
        if !batch.is_empty() {
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            // Whoever waits for the end waits for one attempt.
            let attempts = if settled.is_empty() { ATTEMPTS } else { 1 };
            match deliver(&carrier, &batch, (&service.0, service.1), attempts).await {
                Ok(()) => {
                    metrics.spans("exported", count);
                    if std::mem::take(&mut is_away) {
                        tracing::info!("the collector of traces takes them again");
                    }
                }
                Err(why) => {
                    metrics.spans("failed", count);
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!(reason = why.text, "the collector of traces does not take them; they are lost");
                    }
                }
            }
        }
        for done in settled {
            let _ = done.send(());
        }
        if !more {
            return;
        }
    }
}

/// Waits for a span, and a little for others. Returns whether there may be more.
async fn gather(
    waiting: &mut mpsc::Receiver<Out>,
    batch: &mut Vec<Ended>,
    settled: &mut Vec<tokio::sync::oneshot::Sender<()>>,
) -> bool {
    let mut until = None;
    while batch.len() < BATCH_MAX {
        let next = match until {
            None => Ok(waiting.recv().await),
            Some(until) => timeout_at(until, waiting.recv()).await,
        };
        match next {
            Ok(Some(Out::Ended(ended))) => {
                until.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
                batch.push(*ended);
            }
            Ok(Some(Out::Settle(done))) => {
                settled.push(done);
                return true;
            }
            Ok(None) => return false,
            Err(_elapsed) => return true,
        }
    }
    true
}

async fn deliver(
    carrier: &impl Carrier,
    batch: &[Ended],
    service: (&str, &str),
    attempts: u32,
) -> Result<(), NotTaken> {
    let text = otlp::encode(batch, service);
    let mut attempt = 0;
    loop {
        let taken = timeout(CARRY_TIMEOUT, carrier.carry(text.clone())).await.unwrap_or_else(|_elapsed| {
            let text = format!("no answer within {} s", CARRY_TIMEOUT.as_secs());
            Err(NotTaken { again: true, after: None, text })
        });
        attempt += 1;
        match taken {
            Err(why) if why.again && attempt < attempts => {
                sleep(why.after.unwrap_or(PAUSE * attempt).min(PAUSE_MAX)).await;
            }
            over => return over,
        }
    }
}
