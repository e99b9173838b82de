//! The machine walked at random: whatever happens, there is one connection at most and a way on.

use proptest::prelude::*;

use super::*;

fn events() -> impl Strategy<Value = Event> {
    let failures = (0..3_u8, any::<bool>(), any::<bool>(), proptest::option::of(0..1000_u64)).prop_map(
        |(disposition, exited, session_gone, retry_after)| Failure {
            disposition: [Disposition::Backoff, Disposition::NeedsAuth, Disposition::Misconfigured]
                [usize::from(disposition)],
            exited,
            session_gone,
            retry_after: retry_after.map(secs),
        },
    );
    prop_oneof![
        3 => Just(Event::Dialed),
        3 => failures.clone().prop_map(Event::DialFailed),
        3 => Just(Event::Fetched),
        2 => failures.prop_map(Event::LinkDown),
        4 => any::<bool>().prop_map(|busy| Event::Timer { heard: None, busy }),
        1 => Just(Event::ProbeAnswered),
        2 => Just(Event::ProbeMissed),
        1 => Just(Event::Doubt),
        1 => Just(Event::Trip),
        1 => any::<(bool, bool)>().prop_map(|(strict, busy)| Event::Wake { strict, busy }),
        2 => Just(Event::Demand),
        1 => Just(Event::Restart),
        1 => Just(Event::Stop),
        1 => Just(Event::Closed),
        1 => Just(Event::Unused),
        1 => Just(Event::Enabled),
        1 => Just(Event::Disabled),
        1 => Just(Event::Removed),
        1 => Just(Event::Reconfigured),
        1 => Just(Event::Replaced),
    ]
}

/// What the supervisor holds, so that events come only where they can.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent slots, as in the supervisor")]
struct Held {
    dialing: bool,
    link: bool,
    probing: bool,
    fetching: bool,
}

impl Held {
    fn possible(&self, event: Event) -> bool {
        match event {
            Event::Dialed | Event::DialFailed(_) => self.dialing,
            Event::LinkDown(_) => self.link,
            Event::Fetched => self.fetching,
            Event::ProbeAnswered | Event::ProbeMissed => self.probing,
            Event::Replaced => self.link && !self.fetching,
            Event::Timer { .. }
            | Event::Doubt
            | Event::Trip
            | Event::Wake { .. }
            | Event::Demand
            | Event::Restart
            | Event::Stop
            | Event::Closed
            | Event::Unused
            | Event::Enabled
            | Event::Disabled
            | Event::Removed
            | Event::Reconfigured => true,
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Dialed => (self.dialing, self.link) = (false, true),
            Event::DialFailed(_) => self.dialing = false,
            Event::Fetched => self.fetching = false,
            Event::ProbeAnswered | Event::ProbeMissed => self.probing = false,
            Event::LinkDown(_)
            | Event::Timer { .. }
            | Event::Doubt
            | Event::Trip
            | Event::Wake { .. }
            | Event::Demand
            | Event::Restart
            | Event::Stop
            | Event::Closed
            | Event::Unused
            | Event::Enabled
            | Event::Disabled
            | Event::Removed
            | Event::Reconfigured => {}
            // Its lists came with the new connection, and what was asked of the old one is of no interest.
            Event::Replaced => (self.probing, self.fetching) = (false, false),
        }
    }

    fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Close | Action::Leave => *self = Self::default(),
            Action::Dial => {
                prop_assert!(!self.dialing && !self.link, "a second connection");
                self.dialing = true;
            }
            Action::Fetch => {
                prop_assert!(self.link);
                self.fetching = true;
            }
            Action::Renew => self.probing = false,
            Action::Probe | Action::ProbeBriefly => {
                prop_assert!(self.link);
                self.probing = true;
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_happens_there_is_one_connection_at_most_and_always_a_way_on(
        happenings in proptest::collection::vec((events(), 0..100_000_u64, 0.0..1.0_f64), 1..200)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _inside = runtime.enter();
        let mut now = Instant::now();
        let mut state = State::starting(now);
        let mut held = Held { dialing: true, ..Held::default() };
        for (event, millis, luck) in happenings {
            now += Duration::from_millis(millis);
            if !held.possible(event) {
                continue;
            }
            held.happened(event);
            let before = state.clone();
            let actions;
            (state, actions) = step(state, event, now, Luck(luck));
            for action in &actions {
                held.act(*action)?;
            }
            if before.phase == Phase::Stopped && event != Event::Enabled {
                prop_assert!(actions.is_empty() && state.phase == Phase::Stopped, "stopped is quiet");
            }
            // A way on: something is under way that will report, or a timer runs, or it is the end.
            let under_way = match state.phase {
                Phase::Starting => held.dialing,
                Phase::Handshake => held.fetching,
                Phase::Suspect { .. } | Phase::Probing { by: Trial::Probe, .. } => held.probing,
                Phase::Probing { by: Trial::Start, .. } => held.dialing || held.fetching,
                Phase::Disabled | Phase::Idle | Phase::Stopped => true,
                Phase::Ready { .. }
                | Phase::Backoff { .. }
                | Phase::Open { .. }
                | Phase::NeedsAuth { .. }
                | Phase::Misconfigured { .. }
                | Phase::Draining { .. } => state.wake_at().is_some(),
            };
            prop_assert!(under_way, "{:?} has no exit", state.phase);
            // No wait is longer than its ladder, nor shorter than what keeps a server from being hammered.
            let Some(until) = state.next_attempt().filter(|_| before.phase != state.phase) else { continue };
            let told = matches!(
                event,
                Event::LinkDown(Failure { retry_after: Some(_), .. })
                    | Event::DialFailed(Failure { retry_after: Some(_), .. })
            );
            let (least, most) = match state.phase {
                Phase::Open { fuse: Fuse::Breaker, .. } => (5, if told { 360 } else { 60 }),
                Phase::Open { fuse: Fuse::CrashLoop, .. } => (60, 360),
                Phase::NeedsAuth { .. } | Phase::Misconfigured { .. } => (60, 15 * 60),
                Phase::Backoff { .. } => (0, if told { 360 } else { 60 }),
                Phase::Disabled
                | Phase::Idle
                | Phase::Starting
                | Phase::Handshake
                | Phase::Ready { .. }
                | Phase::Suspect { .. }
                | Phase::Probing { .. }
                | Phase::Draining { .. }
                | Phase::Stopped => continue,
            };
            // A wait that was begun before may be shortened by a wake, and goes on when a connection is lost.
            let begun = std::mem::discriminant(&before.phase) != std::mem::discriminant(&state.phase);
            let wait = until.saturating_duration_since(now);
            prop_assert!(wait <= secs(most), "{:?} waits {wait:?}", state.phase);
            prop_assert!(!begun || wait >= secs(least), "{:?} waits {wait:?}", state.phase);
            prop_assert_eq!(held.link, matches!(state.phase, Phase::Open { linked: true, .. }), "{:?}", state.phase);
        }
    }
}
