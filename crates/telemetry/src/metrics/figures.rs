//! [`Figures`]: what the requests of each server came to since the start, read from the series that count them anyway.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::proto::LabelPair;
use trunkline_wire::{Method, ServerName};

use super::series::SECONDS;
use super::{Metrics, OK};

/// The classes that durations are counted in: one below each edge, and one beyond the last.
const CLASSES: usize = SECONDS.len() + 1;

/// Totals of one server since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Tool calls that ended.
    pub calls: u64,
    /// Of these, those that ended in anything but an answer.
    pub errors: u64,
    /// Requests of every method by how long they took.
    durations: [u64; CLASSES],
}

impl Metrics {
    /// What every server's requests came to. Reads all their series: for a slow tick, not for a request.
    pub fn figures(&self) -> HashMap<ServerName, Figures> {
        let mut all: HashMap<ServerName, Figures> =
            self.servers().iter().map(|server| (server.clone(), Figures::default())).collect();
        let series = &self.0.series;
        for family in series.requests.collect() {
            for metric in family.get_metric() {
                let label = |name| metric.get_label().iter().find(|pair| pair.name() == name).map(LabelPair::value);
                if label("method") != Some(Method::ToolsCall.label()) {
                    continue;
                }
                let Some(figures) = label("server").and_then(|server| all.get_mut(server)) else { continue };
                let count = whole(metric.get_counter().get_value());
                figures.calls += count;
                figures.errors += if label("outcome") == Some(OK) { 0 } else { count };
            }
        }
        for family in series.request_seconds.collect() {
            for metric in family.get_metric() {
                let server = metric.get_label().iter().find(|pair| pair.name() == "server");
                let Some(figures) = server.and_then(|pair| all.get_mut(pair.value())) else { continue };
                let histogram = metric.get_histogram();
                let mut below = 0;
                for (class, bucket) in figures.durations.iter_mut().zip(histogram.get_bucket()) {
                    *class = bucket.cumulative_count().saturating_sub(below);
                    below = bucket.cumulative_count();
                }
                figures.durations[CLASSES - 1] = histogram.get_sample_count().saturating_sub(below);
            }
        }
        all
    }
}

impl Figures {
    /// What came between an earlier reading and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let durations = std::array::from_fn(|at| self.durations[at].saturating_sub(earlier.durations[at]));
        Self {
            calls: self.calls.saturating_sub(earlier.calls),
            errors: self.errors.saturating_sub(earlier.errors),
            durations,
        }
    }

    /// The duration in milliseconds that this share of the requests stayed below, from 0 to 1; `None` without requests.
    /// Within a class the requests are taken to be spread evenly, and none is taken to be slower than the last edge.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.durations.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = share * precise(all);
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, upper) in self.durations.iter().zip(SECONDS) {
            let count = precise(*count);
            if below + count >= wanted && count > 0.0 {
                return Some((lower + (upper - lower) * (wanted - below) / count) * 1000.0);
            }
            below += count;
            lower = *upper;
        }
        Some(lower * 1000.0)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of whole things")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[expect(clippy::cast_precision_loss, reason = "shown to people with two digits")]
fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_the_series_count() {
        let metrics = Metrics::new();
        let (git, web) = (ServerName::new("git").expect("a name"), ServerName::new("web").expect("a name"));
        let (of_git, _of_web) = (metrics.server(&git), metrics.server(&web));
        for _ in 0..98 {
            of_git.request(&Method::ToolsCall, "ok", 0.004);
        }
        of_git.request(&Method::ToolsCall, "timeout", 270.0);
        of_git.request(&Method::PromptsGet, "error", 0.2);
        let all = metrics.figures();
        assert_eq!((all[&git].calls, all[&git].errors), (99, 1), "prompts are no calls");
        assert_eq!(all[&web], Figures::default(), "a server without requests is there");
        let p50 = all[&git].quantile_ms(0.5).expect("there were requests");
        assert!((2.5..5.0).contains(&p50), "{p50}");
        assert_eq!(all[&git].quantile_ms(1.0), Some(270_000.0));
        assert_eq!(all[&web].quantile_ms(0.5), None);
        metrics.forget(&git);
        assert!(!metrics.figures().contains_key(&git));
    }

    #[test]
    fn what_lies_between_two_readings_is_their_difference() {
        let metrics = Metrics::new();
        let git = ServerName::new("git").expect("a name");
        let counting = metrics.server(&git);
        counting.request(&Method::ToolsCall, "ok", 60.0);
        let before = metrics.figures()[&git];
        counting.request(&Method::ToolsCall, "fault", 0.0005);
        let between = metrics.figures()[&git].since(&before);
        assert_eq!((between.calls, between.errors), (1, 1));
        assert_eq!(between.quantile_ms(0.5), Some(0.5), "the slow one was before");
    }
}
