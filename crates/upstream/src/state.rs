//! The states of a server and every way between them (reliability 6), as one pure function.
//!
//! [`step`] takes a state, what happened and when, and returns the next state and what the supervisor is to do.
//! It draws no time and no luck of its own, so that a property test can walk it through years. A failure that a
//! person must mend leads to a slow ladder, never to an end: no server is given up.

mod alone;
mod phase;

use std::time::Duration;

use tokio::time::Instant;
use trunkline_config::Tuning;

use crate::backoff::{self, Luck};
use crate::error::Disposition;
use crate::limits::{CLOSE_GRACE, CRASH_WINDOW, DEMAND_SPACING, DRAIN, HEALTHY_AFTER, PROBE_MISSES, PROBE_TIMEOUT};

pub(crate) use alone::{Fuse, Trial};
pub(crate) use phase::{End, Phase};

/// Where a server stands, and what is remembered from one state to the next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    record: Record,
}

/// What happened to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The dial brought a connection.
    Dialed,
    /// The dial failed.
    DialFailed(Failure),
    /// The lists were fetched.
    Fetched,
    /// The connection is gone.
    LinkDown(Failure),
    /// [`State::wake_at`] has come. `heard`: when the server last said anything; `busy`: it has calls to work on.
    Timer { heard: Option<Instant>, busy: bool },
    /// A probe was answered.
    ProbeAnswered,
    /// A probe was not answered in time.
    ProbeMissed,
    /// Calls time out, several in a row.
    Doubt,
    /// Too many of its requests failed on their way.
    Trip,
    /// The machine slept, or its network is another one now. `strict`: the connection crosses that network, so
    /// that one missed probe is enough to give it up.
    Wake { strict: bool, busy: bool },
    /// A call wants it now.
    Demand,
    /// A person wants it connected anew.
    Restart,
    /// Nobody has wanted anything of it for as long as the configuration says.
    Unused,
    /// The configuration says on.
    Enabled,
    /// The configuration says off.
    Disabled,
    /// It is in the configuration no more.
    Removed,
    /// How it is reached has changed, and the old connection must end before the new one begins.
    Reconfigured,
    /// How it is reached has changed, and the new connection has taken the place of the old one.
    Replaced,
    /// The daemon stops.
    Stop,
    /// Nothing is left of the connection.
    Closed,
}

/// How a connection failed, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Who can mend it.
    pub(crate) disposition: Disposition,
    /// Whether a child exited: what crash loops are made of.
    pub(crate) exited: bool,
    /// Whether only the session is gone.
    pub(crate) session_gone: bool,
    /// When the server asked to be tried again.
    pub(crate) retry_after: Option<Duration>,
}

/// What the supervisor is to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Give up the connection and whatever is being done to get or check one.
    Close,
    /// The same, but what runs on the connection may end first.
    Leave,
    /// Open a connection, once the last one is closed.
    Dial,
    /// Fetch the lists.
    Fetch,
    /// Use no connection that rests, and wait for no probe that went over one: it may be dead.
    Renew,
    /// See whether the server answers, unless that is under way.
    Probe,
    /// The same with little patience.
    ProbeBriefly,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Record {
    /// Failures since the last time of health, for the quick ladder.
    failures: u32,
    /// Failures that a person must mend, for the slow ladder.
    mistakes: u32,
    /// Times in the crash loop.
    loops: u32,
    /// Times that the breaker opened.
    trips: u32,
    /// Exits within the last [`CRASH_WINDOW`], at most [`Rules::exits_max`].
    exits: Vec<Instant>,
    dialed_at: Option<Instant>,
    ready_since: Option<Instant>,
    rules: Rules,
}

/// What of the machine the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How long a server may be silent before it is probed.
    silence: Duration,
    /// Exits of a child within [`CRASH_WINDOW`] that make a crash loop.
    exits_max: usize,
}

impl Rules {
    /// Those of a server.
    pub(crate) fn of(tuning: &Tuning) -> Self {
        Self { silence: tuning.silence, exits_max: tuning.exits_max }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(&Tuning::default())
    }
}

impl State {
    /// The same by other rules.
    pub(crate) fn under(mut self, rules: Rules) -> Self {
        let before = std::mem::replace(&mut self.record.rules, rules);
        if let Phase::Ready { check_at } = &mut self.phase {
            // Not later than was planned: that one look too many costs nothing.
            *check_at -= before.silence.saturating_sub(rules.silence);
        }
        self
    }

    /// Where a disabled server stays.
    pub(crate) fn disabled() -> Self {
        Self { phase: Phase::Disabled, record: Record::default() }
    }

    /// Where a server begins that waits for its first call.
    pub(crate) fn idle() -> Self {
        Self { phase: Phase::Idle, record: Record::default() }
    }

    /// Where an enabled server begins: the supervisor is to dial.
    pub(crate) fn starting(now: Instant) -> Self {
        Self { phase: Phase::Starting, record: Record { dialed_at: Some(now), ..Record::default() } }
    }

    /// When [`Event::Timer`] is due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ready { check_at } => Some(check_at),
            Phase::Backoff { until, .. }
            | Phase::Open { until, .. }
            | Phase::NeedsAuth { until }
            | Phase::Misconfigured { until }
            | Phase::Draining { until, .. } => Some(until),
            Phase::Disabled
            | Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Suspect { .. }
            | Phase::Probing { .. }
            | Phase::Stopped => None,
        }
    }

    /// When the next connection is opened, if that is planned.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        match self.phase {
            Phase::Backoff { until, .. }
            | Phase::Open { until, .. }
            | Phase::NeedsAuth { until }
            | Phase::Misconfigured { until } => Some(until),
            Phase::Disabled
            | Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Probing { .. }
            | Phase::Draining { .. }
            | Phase::Stopped => None,
        }
    }

    /// From when on a call may bring the next attempt forward, if at all.
    pub(crate) fn demand_from(&self) -> Option<Instant> {
        match (self.phase, self.record.dialed_at) {
            (Phase::Backoff { until, told: false }, Some(dialed_at)) => Some(until.min(dialed_at + DEMAND_SPACING)),
            _ => None,
        }
    }
}

/// Returns the state after `event`, and what is to be done. An event that a state does not know changes nothing.
pub(crate) fn step(state: State, event: Event, now: Instant, luck: Luck) -> (State, Vec<Action>) {
    let State { phase, mut record } = state;
    record.settle(now);
    let (phase, actions) = match (phase, event) {
        (Phase::Disabled | Phase::Draining { .. } | Phase::Stopped, Event::Enabled) => {
            record = record.fresh();
            record.dial(now, vec![])
        }
        (Phase::Disabled, Event::Stop | Event::Removed) => (Phase::Stopped, vec![]),
        (Phase::Disabled | Phase::Stopped, _) => (phase, vec![]),

        (Phase::Draining { end, .. }, Event::Closed) => (end.phase(), vec![]),
        (Phase::Draining { until, end }, Event::Timer { .. }) if until <= now => (end.phase(), vec![]),
        (Phase::Draining { until, .. }, Event::Removed) => (Phase::Draining { until, end: End::Stopped }, vec![]),
        (Phase::Draining { until, .. }, Event::Stop) => {
            (Phase::Draining { until: until.min(now + CLOSE_GRACE), end: End::Stopped }, vec![Action::Close])
        }
        (Phase::Draining { .. }, _) => (phase, vec![]),

        (_, Event::Stop) => (Phase::Draining { until: now + CLOSE_GRACE, end: End::Stopped }, vec![Action::Close]),
        (_, Event::Removed) => (leaving(End::Stopped, now), vec![Action::Leave]),
        (_, Event::Disabled) => (leaving(End::Disabled, now), vec![Action::Leave]),
        (_, Event::Reconfigured) => {
            record = record.fresh();
            record.dial(now, vec![Action::Leave])
        }
        (_, Event::Restart) => {
            record = record.fresh();
            record.dial(now, vec![Action::Close])
        }

        (Phase::Idle, Event::Demand) => record.dial(now, vec![]),
        (Phase::Ready { .. }, Event::Unused) => {
            record = Record { dialed_at: record.dialed_at, ..record.fresh() };
            (Phase::Idle, vec![Action::Leave])
        }
        (
            Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Open { linked: true, .. }
            | Phase::Probing { by: Trial::Probe, .. },
            Event::Replaced,
        ) => {
            record = Record { dialed_at: Some(now), ready_since: Some(now), ..record.fresh() };
            (Phase::Ready { check_at: now + record.rules.silence }, vec![])
        }

        (Phase::Starting, Event::Dialed) => (Phase::Handshake, vec![Action::Fetch]),
        (Phase::Starting, Event::DialFailed(failure)) => record.fail(failure, now, luck, vec![]),

        (Phase::Handshake, Event::Fetched) => record.ready(now),
        (Phase::Handshake | Phase::Ready { .. } | Phase::Suspect { .. }, Event::LinkDown(failure)) => {
            record.fail(failure, now, luck, vec![Action::Close])
        }

        (Phase::Ready { check_at }, Event::Timer { heard, busy }) if check_at <= now => {
            silence(record.rules.silence, (heard.unwrap_or(now), busy), now)
        }
        (Phase::Ready { .. } | Phase::Suspect { .. }, Event::ProbeAnswered) => {
            (Phase::Ready { check_at: now + record.rules.silence }, vec![])
        }
        (Phase::Ready { .. }, Event::ProbeMissed) => (Phase::Suspect { misses: 1 }, vec![Action::Probe]),
        (Phase::Ready { .. }, Event::Doubt) => (Phase::Suspect { misses: 0 }, vec![Action::Renew, Action::Probe]),
        (Phase::Suspect { misses }, Event::ProbeMissed) if misses + 1 < PROBE_MISSES => {
            (Phase::Suspect { misses: misses + 1 }, vec![Action::Probe])
        }
        (Phase::Suspect { .. }, Event::ProbeMissed) => record.fail(Failure::SILENT, now, luck, vec![Action::Close]),

        (Phase::Ready { .. } | Phase::Suspect { .. }, Event::Trip) => {
            record.ready_since = None;
            (record.open(Fuse::Breaker, true, now), vec![])
        }
        (Phase::Open { .. } | Phase::Probing { .. }, _) => record.left_alone(phase, event, now, luck),
        (_, Event::Wake { strict, busy }) => record.woken(phase, (strict, busy), now, luck),

        (
            Phase::Backoff { until, .. } | Phase::NeedsAuth { until } | Phase::Misconfigured { until },
            Event::Timer { .. },
        ) if until <= now => record.dial(now, vec![]),
        (Phase::Backoff { until, told: false }, Event::Demand) => record.hasten(until, now),

        (
            Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Ready { .. }
            | Phase::Suspect { .. }
            | Phase::Backoff { .. }
            | Phase::NeedsAuth { .. }
            | Phase::Misconfigured { .. },
            _,
        ) => (phase, vec![]),
    };
    (State { phase, record }, actions)
}

/// A ready server is probed once it has been silent for long, but not while it has calls to work on: a server
/// that does one thing at a time answers no ping then, and each call has a deadline of its own.
fn silence(long: Duration, (heard, busy): (Instant, bool), now: Instant) -> (Phase, Vec<Action>) {
    let due = if busy { now + long } else { heard + long };
    if due > now {
        return (Phase::Ready { check_at: due }, vec![]);
    }
    (Phase::Ready { check_at: now + long + PROBE_TIMEOUT }, vec![Action::Probe])
}

/// Closed for good once what runs has ended, but not much later.
fn leaving(end: End, now: Instant) -> Phase {
    Phase::Draining { until: now + DRAIN + CLOSE_GRACE, end }
}

impl Failure {
    /// The connection stands, but nobody answers.
    pub(crate) const SILENT: Self =
        Self { disposition: Disposition::Backoff, exited: false, session_gone: false, retry_after: None };
}

impl Record {
    /// Forgets the past after a minute of health.
    fn settle(&mut self, now: Instant) {
        if self.ready_since.is_some_and(|since| since + HEALTHY_AFTER <= now) {
            *self = Self { dialed_at: self.dialed_at, ready_since: self.ready_since, ..self.fresh() };
        }
    }

    /// Without a past, under the same rules.
    fn fresh(&self) -> Self {
        Self { rules: self.rules, ..Self::default() }
    }

    fn ready(&mut self, now: Instant) -> (Phase, Vec<Action>) {
        self.ready_since = Some(now);
        (Phase::Ready { check_at: now + self.rules.silence }, vec![])
    }

    fn dial(&mut self, now: Instant, mut actions: Vec<Action>) -> (Phase, Vec<Action>) {
        self.dialed_at = Some(now);
        actions.push(Action::Dial);
        (Phase::Starting, actions)
    }

    /// A call wants the server: the wait ends 2 s after the last attempt began, if it did not end earlier.
    fn hasten(&mut self, until: Instant, now: Instant) -> (Phase, Vec<Action>) {
        let until = self.dialed_at.map_or(now, |dialed_at| until.min(dialed_at + DEMAND_SPACING));
        if until <= now {
            return self.dial(now, vec![]);
        }
        (Phase::Backoff { until, told: false }, vec![])
    }

    fn fail(&mut self, failure: Failure, now: Instant, luck: Luck, actions: Vec<Action>) -> (Phase, Vec<Action>) {
        self.ready_since = None;
        if failure.exited && self.crash(now) {
            return (self.open(Fuse::CrashLoop, false, now), actions);
        }
        let told = failure.retry_after.map(|wait| backoff::told(wait, luck));
        if failure.disposition == Disposition::Backoff {
            let failures = self.failures;
            self.failures = failures.saturating_add(1);
            if failure.session_gone && failures == 0 {
                return self.dial(now, actions);
            }
            let wait = told.unwrap_or_else(|| backoff::quick(failures, luck));
            return (Phase::Backoff { until: now + wait, told: told.is_some() }, actions);
        }
        let wait = backoff::slow(self.mistakes).max(told.unwrap_or_default());
        self.mistakes = self.mistakes.saturating_add(1);
        let until = now + wait;
        let phase = match failure.disposition {
            Disposition::NeedsAuth => Phase::NeedsAuth { until },
            Disposition::Backoff | Disposition::Misconfigured => Phase::Misconfigured { until },
        };
        (phase, actions)
    }

    /// Counts an exit. Returns whether it makes a crash loop: so many within a minute, or one more after that.
    fn crash(&mut self, now: Instant) -> bool {
        self.exits.retain(|exit| *exit + CRASH_WINDOW > now);
        self.exits.push(now);
        let most = self.rules.exits_max;
        // The number of a moment ago may have been larger.
        self.exits.drain(..self.exits.len().saturating_sub(most));
        self.loops > 0 || self.exits.len() >= most
    }
}

#[cfg(test)]
mod tests;
