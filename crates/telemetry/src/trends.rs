//! [`Trends`]: the last hour of each server in steps of ten seconds, for people who look at charts.
//!
//! Nothing of it is on the path of a call: a task reads what [`Metrics`](crate::Metrics) counts anyway, and keeps the
//! differences. Each server has a ring of fixed size; a server that left is forgotten with the next step.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use trunkline_wire::ServerName;

use crate::journal::unix_ms;
use crate::metrics::Figures;

/// Length of a step.
pub const STEP: Duration = Duration::from_secs(10);

/// Steps kept: an hour.
const STEPS_MAX: usize = 360;

/// Steps of a minute, over which the rate of calls is told.
const MINUTE: usize = 6;

/// Steps that errors and durations are told of: five minutes.
const LATELY: usize = 5 * MINUTE;

/// The last hour of every server.
#[derive(Debug, Default)]
pub struct Trends(Mutex<Hour>);

#[derive(Debug, Default)]
struct Hour {
    /// Steps taken since the start.
    number: u64,
    ended_at_unix_ms: u64,
    servers: HashMap<ServerName, Trend>,
}

/// One server's.
#[derive(Debug, Default)]
struct Trend {
    /// Oldest first.
    steps: VecDeque<Step>,
    /// Totals at the ends of the last steps and at the beginning of the first of them, oldest first.
    totals: VecDeque<Figures>,
}

/// What happened at a server within ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Step {
    /// Tool calls that ended.
    pub calls: u32,
    /// Of these, those without an answer of the server.
    pub errors: u32,
    /// Half of the requests took less than so many milliseconds; `None` without requests.
    pub p50_ms: Option<f32>,
    /// All but one in a hundred.
    pub p99_ms: Option<f32>,
}

/// What is told of a server in numbers beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Lately {
    /// Calls that ended within the last minute.
    pub calls_per_minute: u64,
    /// Of the calls of the last five minutes, those without an answer.
    pub errors: u64,
    /// Durations of the requests of the last five minutes.
    pub p50_ms: Option<f32>,
    /// All but one in a hundred of them.
    pub p99_ms: Option<f32>,
    /// The last step.
    pub step: Step,
}

/// The last hour, by member, oldest first. Servers that came later have fewer steps; all end with the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// Length of a step.
    pub step_seconds: u64,
    /// Steps since the start.
    pub number: u64,
    /// When the last one ended.
    pub ended_at_unix_ms: u64,
    /// By server.
    pub servers: HashMap<ServerName, Vec<Step>>,
}

impl Trends {
    /// No steps yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends a step: these are the totals now. To be called every [`STEP`].
    pub fn step(&self, totals: HashMap<ServerName, Figures>) {
        let mut hour = self.lock();
        hour.number += 1;
        hour.ended_at_unix_ms = unix_ms();
        hour.servers.retain(|server, _| totals.contains_key(server));
        for (server, total) in totals {
            hour.servers.entry(server).or_default().step(total);
        }
    }

    /// The number of the last step.
    pub fn number(&self) -> u64 {
        self.lock().number
    }

    /// What is told of a server; nothing before its first step.
    pub fn lately(&self, server: &ServerName) -> Lately {
        self.lock().servers.get(server).map(Trend::lately).unwrap_or_default()
    }

    /// Everything that is kept.
    pub fn history(&self) -> History {
        let hour = self.lock();
        let servers = hour.servers.iter();
        History {
            step_seconds: STEP.as_secs(),
            number: hour.number,
            ended_at_unix_ms: hour.ended_at_unix_ms,
            servers: servers.map(|(server, trend)| (server.clone(), trend.steps.iter().copied().collect())).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trend {
    fn step(&mut self, total: Figures) {
        // The first step of a server begins with its series, at nothing.
        let before = self.totals.back().copied().unwrap_or_default();
        if self.totals.is_empty() {
            self.totals.push_back(before);
        }
        let between = total.since(&before);
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let step = Step {
            calls: count(between.calls),
            errors: count(between.errors),
            p50_ms: quantile(&between, 0.5),
            p99_ms: quantile(&between, 0.99),
        };
        keep(&mut self.steps, step, STEPS_MAX);
        keep(&mut self.totals, total, LATELY + 1);
    }

    fn lately(&self) -> Lately {
        let Some(now) = self.totals.back() else { return Lately::default() };
        let over = |steps: usize| now.since(&self.totals[self.totals.len().saturating_sub(steps + 1)]);
        let lately = over(LATELY);
        Lately {
            calls_per_minute: over(MINUTE).calls,
            errors: lately.errors,
            p50_ms: quantile(&lately, 0.5),
            p99_ms: quantile(&lately, 0.99),
            step: self.steps.back().copied().unwrap_or_default(),
        }
    }
}

/// Puts `newest` at the end; the oldest goes when there are more than `max`.
fn keep<T>(ring: &mut VecDeque<T>, newest: T, max: usize) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(newest);
}

/// With as many digits as mean something, so that what did not change reads the same.
#[expect(clippy::cast_possible_truncation, reason = "rounded before")]
fn quantile(figures: &Figures, share: f64) -> Option<f32> {
    figures.quantile_ms(share).map(|ms| ((ms * 100.0).round() / 100.0) as f32)
}

#[cfg(test)]
mod tests {
    use tokio::time::interval;
    use trunkline_wire::Method;

    use super::*;
    use crate::Metrics;

    fn server(name: &str) -> ServerName {
        ServerName::new(name).expect("a name")
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_the_oldest_steps_go_first() {
        let (metrics, trends) = (Metrics::new(), Trends::new());
        let git = metrics.server(&server("git"));
        let mut ticks = interval(STEP);
        ticks.tick().await;
        for number in 0..STEPS_MAX + 5 {
            for _ in 0..number % 7 {
                git.request(&Method::ToolsCall, "ok", 0.02);
            }
            ticks.tick().await;
            trends.step(metrics.figures());
        }
        let history = trends.history();
        assert_eq!((history.step_seconds, history.number), (10, 365));
        let steps = &history.servers[&server("git")];
        assert_eq!(steps.len(), STEPS_MAX);
        assert_eq!((steps[0].calls, steps[359].calls), (5, 364 % 7));
        assert_eq!(trends.lately(&server("git")).calls_per_minute, (359..365).map(|number| number % 7).sum::<u64>());
    }

    #[test]
    fn errors_and_durations_are_those_of_the_last_five_minutes() {
        let (metrics, trends) = (Metrics::new(), Trends::new());
        let git = metrics.server(&server("git"));
        assert_eq!(trends.lately(&server("git")), Lately::default(), "nothing is known yet");
        git.request(&Method::ToolsCall, "fault", 30.0);
        trends.step(metrics.figures());
        let lately = trends.lately(&server("git"));
        assert_eq!((lately.calls_per_minute, lately.errors, lately.step.errors), (1, 1, 1));
        assert!(lately.p99_ms > Some(15_000.0));
        for _ in 0..LATELY {
            git.request(&Method::ToolsCall, "ok", 0.0001);
            trends.step(metrics.figures());
        }
        let lately = trends.lately(&server("git"));
        assert_eq!((lately.calls_per_minute, lately.errors), (6, 0));
        assert!(lately.p99_ms < Some(1.0), "{lately:?}");
    }

    #[test]
    fn a_server_that_comes_later_has_fewer_steps_and_one_that_left_has_none() {
        let (metrics, trends) = (Metrics::new(), Trends::new());
        let _git = metrics.server(&server("git"));
        trends.step(metrics.figures());
        let web = metrics.server(&server("web"));
        web.request(&Method::ToolsCall, "ok", 0.02);
        trends.step(metrics.figures());
        let history = trends.history();
        assert_eq!((history.servers[&server("git")].len(), history.servers[&server("web")].len()), (2, 1));
        assert_eq!(history.servers[&server("web")][0].calls, 1, "its first step holds what came before it ended");
        metrics.forget(&server("git"));
        trends.step(metrics.figures());
        assert!(!trends.history().servers.contains_key(&server("git")));
    }
}
