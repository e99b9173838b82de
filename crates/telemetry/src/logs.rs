//! The log: one line per event on stderr, as text for people or JSON for machines.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, target, message, fields.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts the log of this process. `level` is a level or a list of directives (`info,trunkline_upstream=debug`).
///
/// Only the first call has an effect.
pub fn init(level: &str, format: Format) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second log can only come from a test that starts two daemons in one process.
    let _ = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().try_init(),
    };
}

/// Returns how many lines were collapsed or went over the budget.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}
