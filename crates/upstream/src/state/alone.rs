//! Servers that are left alone, by the breaker or for their crash loop: what is tried with them, and when. And
//! what a machine that woke up does with all servers.

use std::time::Duration;

use tokio::time::Instant;

use super::{Action, Event, Phase, Record};
use crate::backoff::{self, Luck};
use crate::breaker;
use crate::error::Disposition;
use crate::limits::PROBE_MISSES;

/// Why a server is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fuse {
    /// Its requests fail on their way.
    Breaker,
    /// Its child keeps exiting.
    CrashLoop,
}

/// What is tried with a server that was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// A probe on the connection that stands.
    Probe,
    /// A new connection; its lists come after it.
    Start,
}

impl Record {
    /// The step of a server that is left alone, or is being tried again.
    pub(super) fn left_alone(&mut self, phase: Phase, event: Event, now: Instant, luck: Luck) -> (Phase, Vec<Action>) {
        match (phase, event) {
            (Phase::Open { until, fuse, linked: true }, Event::Timer { .. }) if until <= now => {
                (Phase::Probing { fuse, by: Trial::Probe }, vec![Action::Renew, Action::Probe])
            }
            (Phase::Open { until, fuse, linked: false }, Event::Timer { .. }) if until <= now => {
                let (_, actions) = self.dial(now, vec![]);
                (Phase::Probing { fuse, by: Trial::Start }, actions)
            }
            (Phase::Open { .. } | Phase::Probing { .. }, Event::LinkDown(failure))
            | (Phase::Probing { .. }, Event::DialFailed(failure))
                if failure.disposition != Disposition::Backoff =>
            {
                self.fail(failure, now, luck, vec![Action::Close])
            }
            // What runs out meanwhile, and what is lost, makes the wait no shorter.
            (Phase::Open { until, fuse, linked: true }, Event::LinkDown(_)) => {
                (Phase::Open { until, fuse, linked: false }, vec![Action::Close])
            }
            (Phase::Probing { by: Trial::Start, .. }, Event::Dialed) => (phase, vec![Action::Fetch]),
            (Phase::Probing { fuse, by: Trial::Probe }, Event::ProbeMissed) => (self.open(fuse, true, now), vec![]),
            (Phase::Probing { fuse, .. }, Event::LinkDown(failure) | Event::DialFailed(failure)) => {
                let phase = self.open(fuse, false, now);
                (phase.not_before(failure.retry_after.map(|wait| now + backoff::told(wait, luck))), vec![Action::Close])
            }
            (Phase::Probing { by: Trial::Start, .. }, Event::Fetched)
            | (Phase::Probing { by: Trial::Probe, .. }, Event::ProbeAnswered) => self.ready(now),
            (_, Event::Wake { strict, busy }) => self.woken(phase, (strict, busy), now, luck),
            (_, _) => (phase, vec![]),
        }
    }

    /// Leaves the server alone, each time for longer.
    pub(super) fn open(&mut self, fuse: Fuse, linked: bool, now: Instant) -> Phase {
        let (times, wait): (_, fn(u32) -> Duration) = match fuse {
            Fuse::Breaker => (&mut self.trips, breaker::open_for),
            Fuse::CrashLoop => (&mut self.loops, backoff::crash_loop),
        };
        let until = now + wait(*times);
        *times = times.saturating_add(1);
        Phase::Open { until, fuse, linked }
    }
}

impl Record {
    /// The step of a server when the machine woke up, or is in another network. `strict`: its connection crosses that, so
    /// one missed probe is enough to give it up, and what is under way is begun anew: it would wait for answers that do not
    /// come. Others are probed unless they are `busy`: as in `silence`, one that does one thing at a time answers no ping
    /// then, and neither sleep nor network come between it and us.
    pub(super) fn woken(
        &mut self,
        phase: Phase,
        (strict, busy): (bool, bool),
        now: Instant,
        luck: Luck,
    ) -> (Phase, Vec<Action>) {
        // All at the same moment would be a storm.
        let soon = |until: Instant| until.min(now + backoff::stagger(luck));
        match phase {
            Phase::Ready { .. } | Phase::Suspect { .. } if strict => {
                (Phase::Suspect { misses: PROBE_MISSES - 1 }, vec![Action::Renew, Action::ProbeBriefly])
            }
            Phase::Ready { .. } | Phase::Suspect { .. } if busy => (phase, vec![]),
            Phase::Ready { .. } | Phase::Suspect { .. } => {
                (Phase::Suspect { misses: 0 }, vec![Action::Renew, Action::Probe])
            }
            Phase::Starting | Phase::Handshake if strict => self.dial(now, vec![Action::Close]),
            Phase::Probing { by: Trial::Start, .. } if strict => {
                let (_, actions) = self.dial(now, vec![Action::Close]);
                (phase, actions)
            }
            // Calls may still run on this connection.
            Phase::Probing { by: Trial::Probe, .. } if strict => (phase, vec![Action::Renew, Action::Probe]),
            Phase::Backoff { until, told: false } => (Phase::Backoff { until: soon(until), told: false }, vec![]),
            Phase::Misconfigured { until } => (Phase::Misconfigured { until: soon(until) }, vec![]),
            Phase::Open { until, fuse: Fuse::Breaker, linked } => {
                (Phase::Open { until: soon(until), fuse: Fuse::Breaker, linked }, vec![])
            }
            // What the server asked for still holds, no sleep brings a credential, and no child that keeps exiting is
            // mended.
            Phase::Backoff { told: true, .. }
            | Phase::NeedsAuth { .. }
            | Phase::Open { fuse: Fuse::CrashLoop, .. }
            | Phase::Probing { .. }
            | Phase::Disabled
            | Phase::Idle
            | Phase::Starting
            | Phase::Handshake
            | Phase::Draining { .. }
            | Phase::Stopped => (phase, vec![]),
        }
    }
}

impl Phase {
    /// The same, but nothing is tried before `time`.
    fn not_before(self, time: Option<Instant>) -> Self {
        match (self, time) {
            (Self::Open { until, fuse, linked }, Some(time)) => Self::Open { until: until.max(time), fuse, linked },
            (phase, _) => phase,
        }
    }
}
