//! [`ServerMetrics`]: what the path of a call counts.

use prometheus::{Histogram, IntCounter, IntGauge};
use trunkline_wire::{Method, ServerName};

use super::{Metrics, OK};

/// The series that a call touches, resolved for one server.
///
/// What is counted here after [`Metrics::forget`](super::Metrics::forget) is not shown.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    pub(super) server: ServerName,
    pub(super) calls_ok: IntCounter,
    pub(super) request_seconds: Histogram,
    pub(super) inflight: IntGauge,
    pub(super) queue_depth: IntGauge,
    pub(super) ready_wait: Histogram,
    pub(super) notices_dropped: IntCounter,
    pub(super) all: Metrics,
}

impl ServerMetrics {
    /// As [`Metrics::request`](super::Metrics::request).
    pub fn request(&self, method: &Method, outcome: &'static str, seconds: f64) {
        if *method == Method::ToolsCall && outcome == OK {
            self.calls_ok.inc();
        } else {
            self.all.of(&self.server, |series, name| {
                series.requests.with_label_values(&[name, method.label(), outcome]).inc();
            });
        }
        self.request_seconds.observe(seconds);
    }

    /// As [`Metrics::inflight`](super::Metrics::inflight).
    pub fn inflight(&self, delta: i64) {
        self.inflight.add(delta);
    }

    /// As [`Metrics::queue_depth`](super::Metrics::queue_depth).
    pub fn queue_depth(&self, delta: i64) {
        self.queue_depth.add(delta);
    }

    /// As [`Metrics::ready_wait`](super::Metrics::ready_wait).
    pub fn ready_wait(&self, seconds: f64) {
        self.ready_wait.observe(seconds);
    }

    /// As [`Metrics::notice_dropped`](super::Metrics::notice_dropped).
    pub fn notice_dropped(&self) {
        self.notices_dropped.inc();
    }
}
