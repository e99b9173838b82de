//! The part of [`Metrics`] that speaks of processes, servers' and the own one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use trunkline_wire::ServerName;

use super::{Metrics, whole};
use crate::ledger::{TreeAccount, Usage};

/// How long whoever asks waits for figures that are being read. A machine with very many processes must not delay a
/// probe; the figures shown are then those of the last time.
const PATIENCE: Duration = Duration::from_millis(10);

impl Metrics {
    /// A server's process tree began, under the guard with this pid. It is counted until the account is dropped. If it
    /// is not the server's first, it is counted as a restart, by how the last one ended.
    pub fn tree(&self, server: &ServerName, guard: u32) -> TreeAccount {
        let (account, before) = self.0.ledger.open(server, guard);
        if let Some(reason) = before {
            self.of(server, |series, name| series.child_restarts.with_label_values(&[name, reason]).inc());
        }
        account
    }

    /// Processes that had escaped their guard were found by their marker and killed.
    pub fn orphans_swept(&self, count: usize) {
        self.0.series.orphans_swept.inc_by(count as u64);
    }

    /// Reads anew what the processes of all servers cost. Takes milliseconds of system calls: for a thread that may
    /// block.
    pub fn measure(&self) {
        self.0.ledger.measure();
    }

    /// Reads anew what the processes of all servers cost, unless that is known well enough, and waits for it a moment. All
    /// who ask at the same time wait for one reading: on a machine where it takes long they would add up.
    pub async fn measured(&self) {
        if self.0.ledger.is_fresh() {
            return;
        }
        let Ok(turn) = Arc::clone(&self.0.reading).try_lock_owned() else {
            let _ = timeout(PATIENCE, self.0.reading.lock()).await;
            return;
        };
        let metrics = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            metrics.measure();
            drop(turn);
        });
        let _ = timeout(PATIENCE, reading).await;
    }

    /// What the processes of a server cost; `None` for one without processes, or where the system does not tell.
    pub fn usage(&self, server: &ServerName) -> Option<Usage> {
        self.0.ledger.usage(server)
    }

    /// How near the process is to its memory bound: 0, 1 or 2.
    pub fn memory_pressure(&self, degree: u8) {
        self.0.series.memory_pressure.set(degree.into());
    }

    /// Puts the figures of the ledger into the series.
    pub(super) fn show_processes(&self) {
        self.0.series.children.set(whole(self.0.ledger.trees()));
        for server in self.0.ledger.seen() {
            self.of(&server, |series, name| {
                let Some(usage) = self.0.ledger.usage(&server) else { return };
                let name = [name];
                let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
                series.resident_bytes.with_label_values(&name).set(signed(usage.resident_bytes));
                series.open_fds.with_label_values(&name).set(signed(usage.open_fds));
                series.processes.with_label_values(&name).set(signed(usage.processes));
                let cpu = series.cpu_seconds.with_label_values(&name);
                cpu.inc_by((usage.cpu_seconds - cpu.get()).max(0.0));
            });
        }
    }
}
