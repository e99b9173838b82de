//! Signals, and the walk through a stop (reliability 8).
//!
//! TERM and INT stop, a second one stops sooner; QUIT writes to the log what is running and stops nothing. Signals are
//! caught before the first server is started, so that one which comes early finds a daemon that can end in order.
//!
//! The walk only cancels tokens and waits; what each step means is done by `edge`, `hub` and `upstream`. A thread outside
//! the runtime ends the process if all that hangs.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use trunkline_edge::Steps;
use trunkline_hub::Hub;

use crate::dump;
use crate::exit::{self, Failure};
use crate::limits::{CLOSE_AT_MOST, DOORS, FAST_STOP};

/// The signals that mean something.
pub(crate) struct Signals {
    term: Signal,
    interrupt: Signal,
    quit: Signal,
}

/// What a person or the service manager wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The end.
    Stop,
    /// A look at what is running.
    Dump,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let caught = |kind| signal(kind).map_err(|error| Failure::failed(format!("signals cannot be caught: {error}")));
        Ok(Self {
            term: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            quit: caught(SignalKind::quit())?,
        })
    }

    /// The next one. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Wanted {
        tokio::select! {
            biased;
            _ = self.term.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.quit.recv() => Wanted::Dump,
        }
    }

    /// Waits for the next signal that wants the daemon to end.
    async fn stop(&mut self, hub: &Hub) {
        while self.next().await == Wanted::Dump {
            dump::log(hub);
        }
    }
}

/// Waits for the first signal to stop, calls `begun`, and walks through the drain. Returns once all that is left to do is
/// to wait for the connections and close the servers; a second signal is still heard.
pub(crate) async fn on_signal(
    mut signals: Signals,
    hub: Arc<Hub>,
    drain: Duration,
    steps: Steps,
    begun: impl FnOnce(),
) {
    signals.stop(&hub).await;
    tracing::info!("stopping: running calls have {} s", drain.as_secs());
    begun();
    end_at_last(drain + CLOSE_AT_MOST);
    steps.doors.cancel();
    let walk = trunkline_telemetry::spawn("drain", async move {
        sleep(DOORS).await;
        hub.drain();
        steps.soft.cancel();
        tokio::select! {
            () = sleep(drain) => tracing::warn!("calls still running after the drain are cut"),
            () = signals.stop(&hub) => {
                tracing::info!("stopping at once: running calls are cut");
                end_at_last(FAST_STOP);
            }
        }
        hub.cut();
        steps.hard.cancel();
        // Whoever asks a third time has asked already; the dump may still help.
        loop {
            signals.stop(&hub).await;
            end_at_last(FAST_STOP);
        }
    });
    // It goes on beside the rest of the stop, and ends with the process.
    drop(walk);
}

/// Starts the thread that ends the process if the orderly way hangs. Of several the first counts.
fn end_at_last(after: Duration) {
    let spawned = std::thread::Builder::new().name("end-at-last".into()).spawn(move || {
        std::thread::sleep(after);
        exit::abort("the stop hung and is cut short");
    });
    if let Err(error) = spawned {
        tracing::warn!("no timer thread for the stop: {error}");
    }
}
