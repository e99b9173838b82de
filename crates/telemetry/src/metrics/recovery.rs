//! What fails on the way to servers, and what is done about it.

use std::time::Duration;

use trunkline_wire::ServerName;

use super::Metrics;

impl Metrics {
    /// An attempt to connect ended.
    pub fn dial(&self, server: &ServerName, outcome: &'static str) {
        self.of(server, |series, name| series.dials.with_label_values(&[name, outcome]).inc());
    }

    /// A request was sent, and whether it was done will never be known.
    pub fn outcome_unknown(&self, server: &ServerName) {
        self.of(server, |series, name| series.outcome_unknown.with_label_values(&[name]).inc());
    }

    /// The server was left alone by its breaker for so long.
    pub fn breaker_open(&self, server: &ServerName, time: Duration) {
        self.of(server, |series, name| {
            series.breaker_open_seconds.with_label_values(&[name]).inc_by(time.as_secs_f64());
        });
    }

    /// A request is sent again, because of `reason`, one of a fixed set.
    pub fn retry(&self, server: &ServerName, reason: &'static str) {
        self.of(server, |series, name| series.retries.with_label_values(&[name, reason]).inc());
    }

    /// A request could have been sent again, but too many were.
    pub fn retry_budget_exhausted(&self, server: &ServerName) {
        self.of(server, |series, name| series.retry_budget_exhausted.with_label_values(&[name]).inc());
    }

    /// The machine slept, or its network changed.
    pub fn wake_event(&self) {
        self.0.series.wake_events.inc();
    }
}
