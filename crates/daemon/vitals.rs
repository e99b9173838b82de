//! What the daemon watches of itself and its children: its own memory every second, theirs every ten.
//!
//! Own memory is compared with `limits.memory_bytes` and told to all who hold buffers. Children's figures are
//! taken for the sake of their processor time, which would be lost with them; whoever looks at the others has them
//! read anew. Nothing here frees or ends anything.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use trunkline_telemetry::{Metrics, resident_bytes};
use trunkline_wire::{Budget, Pressure};

/// Between two readings of the own memory: one small file. Buffers of the whole budget can fill within a second, but
/// those are counted exactly; what is watched here grows slowly.
const TICK: Duration = Duration::from_secs(1);

/// Readings of the own memory for one of the children's, which takes a file per process of the machine.
const TICKS_PER_LEDGER: u32 = 10;

/// Parts in a hundred of the bound at which each degree of pressure begins, and at which it ends: memory that goes up
/// and down around a threshold must not make the gateway flutter.
const SHRINK: (usize, usize) = (80, 75);
const REFUSE: (usize, usize) = (90, 85);

/// Starts to watch. Ends with the runtime.
pub(crate) fn watch(metrics: Metrics, budget: Budget, memory_bytes: usize) {
    trunkline_telemetry::spawn("vitals", async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut left = TICKS_PER_LEDGER;
        loop {
            ticks.tick().await;
            if let Some(resident) = resident_bytes().and_then(|bytes| usize::try_from(bytes).ok()) {
                tell(&budget, &metrics, resident, memory_bytes);
            }
            left -= 1;
            if left == 0 {
                left = TICKS_PER_LEDGER;
                let metrics = metrics.clone();
                // Done before the next is due, or that one waits.
                let _ = tokio::task::spawn_blocking(move || metrics.measure()).await;
            }
        }
    });
}

/// Tells the holders of buffers what a reading of the own memory means, and people when that changes.
fn tell(budget: &Budget, metrics: &Metrics, resident: usize, bound: usize) {
    let before = budget.pressure();
    let now = pressure(before, resident, bound);
    metrics.memory_pressure(now as u8);
    if now == before {
        return;
    }
    budget.press(now);
    let (mib, of) = (resident >> 20, bound >> 20);
    match now {
        Pressure::None => tracing::info!("memory is at {mib} of {of} MiB again (`limits.memory_bytes`)"),
        Pressure::Shrink => tracing::warn!("memory is at {mib} of {of} MiB (`limits.memory_bytes`): less is kept"),
        Pressure::Refuse => {
            tracing::warn!("memory is at {mib} of {of} MiB (`limits.memory_bytes`): new requests are refused");
        }
    }
}

fn pressure(before: Pressure, resident: usize, bound: usize) -> Pressure {
    let over = |(begins, ends): (usize, usize), degree: Pressure| {
        let percent = if before >= degree { ends } else { begins };
        resident >= (bound / 100).saturating_mul(percent)
    };
    if over(REFUSE, Pressure::Refuse) {
        Pressure::Refuse
    } else if over(SHRINK, Pressure::Shrink) {
        Pressure::Shrink
    } else {
        Pressure::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r25_memory_presses_from_80_and_90_percent_on_and_lets_go_a_little_below() {
        let budget = Budget::new(1000);
        let metrics = Metrics::new();
        let mut told = Vec::new();
        for resident in [10, 79, 80, 76, 74, 89, 90, 86, 84, 76, 95, 10] {
            tell(&budget, &metrics, resident * 1000, 100_000);
            told.push(budget.pressure() as u8);
        }
        assert_eq!(told, [0, 0, 1, 1, 0, 1, 2, 2, 1, 1, 2, 0]);
        tell(&budget, &metrics, 95_000, 100_000);
        assert!(metrics.render().contains("trunkline_memory_pressure 2"), "{}", metrics.render());
    }
}
