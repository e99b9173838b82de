//! The machine walked by hand along each promise; at random along none in `tests/random.rs`.

use super::*;

const LUCK: Luck = Luck(0.5);

/// The default.
const SILENCE: Duration = Duration::from_secs(30);

fn failure(disposition: Disposition) -> Failure {
    Failure { disposition, ..Failure::SILENT }
}

const EXITED: Failure = Failure { exited: true, ..Failure::SILENT };

fn after(state: State, event: Event, now: Instant) -> (State, Vec<Action>) {
    step(state, event, now, LUCK)
}

fn ready(now: Instant) -> State {
    let (state, _) = after(State::starting(now), Event::Dialed, now);
    after(state, Event::Fetched, now).0
}

fn timer(heard: Instant) -> Event {
    Event::Timer { heard: Some(heard), busy: false }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn a_server_is_ready_once_its_lists_are_fetched() {
    let now = Instant::now();
    let (state, actions) = after(State::starting(now), Event::Dialed, now);
    assert_eq!((state.phase, actions), (Phase::Handshake, vec![Action::Fetch]));
    let (state, _) = after(state, Event::Fetched, now);
    assert_eq!(state.phase, Phase::Ready { check_at: now + SILENCE });
}

#[tokio::test(start_paused = true)]
async fn silence_is_probed_but_not_while_calls_run() {
    let now = Instant::now();
    let late = now + secs(30);
    let (_, actions) = after(ready(now), timer(now), late);
    assert_eq!(actions, [Action::Probe]);
    let (state, actions) = after(ready(now), Event::Timer { heard: Some(now), busy: true }, late);
    assert_eq!((state.phase, actions), (Phase::Ready { check_at: late + SILENCE }, vec![]));
    let (state, actions) = after(ready(now), timer(now + secs(20)), late);
    assert_eq!((state.phase, actions), (Phase::Ready { check_at: now + secs(50) }, vec![]));
}

#[tokio::test(start_paused = true)]
async fn r21_three_missed_probes_end_the_connection_and_one_answer_saves_it() {
    let now = Instant::now();
    let (state, actions) = after(ready(now), Event::ProbeMissed, now);
    assert_eq!((state.phase, actions), (Phase::Suspect { misses: 1 }, vec![Action::Probe]));
    let (saved, _) = after(state.clone(), Event::ProbeAnswered, now);
    assert!(matches!(saved.phase, Phase::Ready { .. }));
    let (state, _) = after(state, Event::ProbeMissed, now);
    let (state, actions) = after(state, Event::ProbeMissed, now);
    assert!(matches!(state.phase, Phase::Backoff { .. }));
    assert_eq!(actions, [Action::Close]);
}

#[tokio::test(start_paused = true)]
async fn r14_a_lost_session_is_renewed_at_once_but_not_in_a_loop() {
    let now = Instant::now();
    let gone = Failure { session_gone: true, ..Failure::SILENT };
    let (state, actions) = after(ready(now), Event::LinkDown(gone), now);
    assert_eq!((state.phase, actions), (Phase::Starting, vec![Action::Close, Action::Dial]));
    let (state, _) = after(state, Event::Dialed, now);
    let (state, _) = after(state, Event::Fetched, now);
    let (state, _) = after(state, Event::LinkDown(gone), now);
    assert!(matches!(state.phase, Phase::Backoff { .. }));
}

#[tokio::test(start_paused = true)]
async fn r10_a_call_brings_the_next_attempt_forward_to_two_seconds_after_the_last() {
    let now = Instant::now();
    let mut state = State::starting(now);
    state.record.failures = 7;
    let (state, _) = after(state, Event::DialFailed(failure(Disposition::Backoff)), now);
    assert_eq!(state.demand_from(), Some(now + DEMAND_SPACING));
    let (state, actions) = after(state, Event::Demand, now);
    assert_eq!((state.phase, actions), (Phase::Backoff { until: now + DEMAND_SPACING, told: false }, vec![]));
    let (state, actions) = after(state, Event::Demand, now + DEMAND_SPACING);
    assert_eq!((state.phase, actions), (Phase::Starting, vec![Action::Dial]));
}

#[tokio::test(start_paused = true)]
async fn r11_a_wait_that_the_server_asked_for_is_not_shortened() {
    let now = Instant::now();
    let told = Failure { retry_after: Some(secs(100)), ..Failure::SILENT };
    let (state, _) = after(State::starting(now), Event::DialFailed(told), now);
    assert_eq!(state.phase, Phase::Backoff { until: now + secs(110), told: true });
    assert_eq!(after(state.clone(), Event::Demand, now), (state, vec![]));
}

#[tokio::test(start_paused = true)]
async fn r33_five_exits_in_a_minute_are_a_crash_loop_that_waits_longer_each_time() {
    let start = Instant::now();
    let mut now = start;
    let mut state = State::starting(now);
    let mut waits = vec![];
    for _ in 0..8 {
        (state, _) = after(state, Event::DialFailed(EXITED), now);
        let until = state.wake_at().expect("a time to try again");
        let open = matches!(state.phase, Phase::Open { .. });
        if open {
            waits.push((until - now).as_secs());
        }
        now = until;
        let actions;
        (state, actions) = after(state, timer(now), now);
        let probing = Phase::Probing { fuse: Fuse::CrashLoop, by: Trial::Start };
        assert_eq!((state.phase, actions), (if open { probing } else { Phase::Starting }, vec![Action::Dial]));
    }
    assert_eq!(waits, [60, 120, 240, 300]);
}

#[tokio::test(start_paused = true)]
async fn r33_how_many_exits_make_a_crash_loop_is_the_operators_to_say() {
    let now = Instant::now();
    let exits_until_open = |exits_max: usize, state: State| {
        let mut state = state.under(Rules { exits_max, ..Rules::default() });
        (1..=99).find(|_| {
            state = after(state.clone(), Event::DialFailed(EXITED), now).0;
            let open = matches!(state.phase, Phase::Open { .. });
            state.phase = Phase::Starting;
            open
        })
    };
    assert_eq!(exits_until_open(1, State::starting(now)), Some(1));
    assert_eq!(exits_until_open(20, State::starting(now)), Some(20));
    // Said while it runs: what has happened counts, and is not counted twice.
    let mut state = State::starting(now);
    for _ in 0..4 {
        state = after(state, Event::DialFailed(EXITED), now).0;
        state.phase = Phase::Starting;
    }
    assert_eq!(exits_until_open(2, state.clone()), Some(1));
    assert_eq!(exits_until_open(6, state), Some(2));
}

#[tokio::test(start_paused = true)]
async fn r21_how_long_a_server_may_be_silent_is_the_operators_to_say() {
    let now = Instant::now();
    let rules = |silence: u64| Rules { silence: secs(silence), ..Rules::default() };
    let state = ready(now).under(rules(300));
    // What was planned by the default stays, and is no reason to probe.
    assert_eq!(state.wake_at(), Some(now + secs(30)));
    let (state, actions) = after(state, timer(now), now + secs(30));
    assert_eq!((state.wake_at(), actions), (Some(now + secs(300)), vec![]));
    let state = state.under(rules(10));
    assert_eq!(state.wake_at(), Some(now + secs(10)), "in force at once");
    let (_, actions) = after(state, timer(now), now + secs(31));
    assert_eq!(actions, [Action::Probe]);
}

#[tokio::test(start_paused = true)]
async fn r15_f14_what_a_person_must_mend_is_tried_slowly() {
    for disposition in [Disposition::NeedsAuth, Disposition::Misconfigured] {
        let mut now = Instant::now();
        let mut state = State::starting(now);
        for wait in [60, 120, 240, 480, 900, 900] {
            (state, _) = after(state, Event::DialFailed(failure(disposition)), now);
            assert_eq!(state.next_attempt(), Some(now + secs(wait)));
            now += secs(wait);
            (state, _) = after(state, timer(now), now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r10_a_minute_of_health_forgets_the_failures() {
    let now = Instant::now();
    let mut state = ready(now);
    state.record.failures = 9;
    let (state, _) = after(state, Event::LinkDown(Failure::SILENT), now + HEALTHY_AFTER);
    assert_eq!(state.phase, Phase::Backoff { until: now + HEALTHY_AFTER + Duration::from_millis(250), told: false });
}

#[tokio::test(start_paused = true)]
async fn a_restart_dials_at_once_from_any_state() {
    let now = Instant::now();
    let failed = |disposition| after(State::starting(now), Event::DialFailed(failure(disposition)), now).0;
    for state in [ready(now), State::starting(now), failed(Disposition::NeedsAuth), failed(Disposition::Misconfigured)]
    {
        let (state, actions) = after(state, Event::Restart, now);
        assert_eq!((state.phase, actions), (Phase::Starting, vec![Action::Close, Action::Dial]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_needs_sleeps_without_a_failure_and_is_woken_by_a_call() {
    let now = Instant::now();
    let mut state = ready(now);
    state.record.failures = 3;
    let (state, actions) = after(state, Event::Unused, now);
    assert_eq!((state.phase, actions), (Phase::Idle, vec![Action::Leave]));
    assert_eq!((state.record.failures, state.wake_at(), state.next_attempt()), (0, None, None));
    for event in [timer(now), Event::Doubt, Event::Closed] {
        assert_eq!(after(state.clone(), event, now + secs(1000)), (state.clone(), vec![]));
    }
    let (state, actions) = after(state, Event::Demand, now);
    assert_eq!((state.phase, actions), (Phase::Starting, vec![Action::Dial]));
}

#[tokio::test(start_paused = true)]
async fn r36_what_is_switched_off_or_taken_out_ends_its_calls_first_and_can_come_back() {
    let now = Instant::now();
    for (event, end) in [(Event::Disabled, Phase::Disabled), (Event::Removed, Phase::Stopped)] {
        let (state, actions) = after(ready(now), event, now);
        assert_eq!(actions, [Action::Leave]);
        assert_eq!(state.wake_at(), Some(now + DRAIN + CLOSE_GRACE));
        assert_eq!(after(state.clone(), Event::Closed, now).0.phase, end);
        assert_eq!(after(state.clone(), timer(now), now + DRAIN + CLOSE_GRACE).0.phase, end);
        let (back, actions) = after(state.clone(), Event::Enabled, now);
        assert_eq!((back.phase, actions), (Phase::Starting, vec![Action::Dial]));
        // The daemon's own end does not wait for it.
        let (stopping, actions) = after(state, Event::Stop, now);
        assert_eq!((stopping.wake_at(), actions), (Some(now + CLOSE_GRACE), vec![Action::Close]));
        assert_eq!(after(stopping, Event::Closed, now).0.phase, Phase::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn r36_a_changed_server_begins_anew_without_its_past() {
    let now = Instant::now();
    let mut failed = after(State::starting(now), Event::DialFailed(failure(Disposition::Misconfigured)), now).0;
    failed.record.mistakes = 4;
    let (state, actions) = after(failed, Event::Reconfigured, now);
    assert_eq!((state.phase, actions), (Phase::Starting, vec![Action::Leave, Action::Dial]));
    assert_eq!(state.record.mistakes, 0);
    let (state, actions) = after(ready(now), Event::Replaced, now + secs(10));
    assert_eq!((state.phase, actions), (Phase::Ready { check_at: now + secs(10) + SILENCE }, vec![]));
}

#[tokio::test(start_paused = true)]
async fn r16_a_breaker_that_opens_keeps_the_connection_and_our_own_probe_closes_it() {
    let now = Instant::now();
    let (state, actions) = after(ready(now), Event::Trip, now);
    let until = now + secs(5);
    assert_eq!((state.phase, actions), (Phase::Open { until, fuse: Fuse::Breaker, linked: true }, vec![]));
    let (state, actions) = after(state, timer(now), until);
    assert_eq!(state.phase, Phase::Probing { fuse: Fuse::Breaker, by: Trial::Probe });
    assert_eq!(actions, [Action::Renew, Action::Probe]);
    let (state, _) = after(state, Event::ProbeMissed, until);
    assert_eq!(state.next_attempt(), Some(until + secs(10)), "twice as long");
    let (state, _) = after(state, timer(now), until + secs(10));
    let (state, actions) = after(state, Event::ProbeAnswered, until + secs(10));
    assert!(matches!(state.phase, Phase::Ready { .. }) && actions.is_empty());
    let (state, _) = after(state, Event::Trip, until + secs(10));
    assert_eq!(state.next_attempt(), Some(until + secs(10) + secs(20)), "twice again, without a minute of health");
}

#[tokio::test(start_paused = true)]
async fn r16_a_connection_lost_while_the_breaker_is_open_is_opened_anew_when_the_time_comes() {
    let now = Instant::now();
    let (state, _) = after(ready(now), Event::Trip, now);
    let (state, actions) = after(state, Event::LinkDown(Failure::SILENT), now);
    let until = now + secs(5);
    assert_eq!(state.phase, Phase::Open { until, fuse: Fuse::Breaker, linked: false });
    assert_eq!(actions, [Action::Close]);
    let (state, actions) = after(state, timer(now), until);
    assert_eq!(state.phase, Phase::Probing { fuse: Fuse::Breaker, by: Trial::Start });
    assert_eq!(actions, [Action::Dial]);
    let (state, actions) = after(state, Event::Dialed, until);
    assert_eq!(actions, [Action::Fetch]);
    let (state, _) = after(state, Event::Fetched, until);
    assert!(matches!(state.phase, Phase::Ready { .. }));
}

#[tokio::test(start_paused = true)]
async fn r20_after_a_sleep_all_are_looked_at_within_a_second_and_what_the_server_asked_for_still_holds() {
    let now = Instant::now();
    let wake = |strict| Event::Wake { strict, busy: false };
    let (state, actions) = after(ready(now), wake(true), now);
    assert_eq!((state.phase, actions), (Phase::Suspect { misses: 2 }, vec![Action::Renew, Action::ProbeBriefly]));
    let (state, _) = after(state, Event::ProbeMissed, now);
    assert!(matches!(state.phase, Phase::Backoff { .. }), "one miss is enough across a network");
    let (state, actions) = after(ready(now), wake(false), now);
    assert_eq!((state.phase, actions), (Phase::Suspect { misses: 0 }, vec![Action::Renew, Action::Probe]));
    let at_work = Event::Wake { strict: false, busy: true };
    assert_eq!(after(ready(now), at_work, now), (ready(now), vec![]), "a child at its work answers no ping");

    let away = |disposition| {
        let mut state = State::starting(now);
        state.record.failures = 9;
        after(state, Event::DialFailed(failure(disposition)), now).0
    };
    for disposition in [Disposition::Backoff, Disposition::Misconfigured] {
        let (state, _) = after(away(disposition), wake(true), now);
        assert_eq!(state.next_attempt(), Some(now + Duration::from_millis(500)), "{disposition:?}");
    }
    let parked = away(Disposition::NeedsAuth);
    assert_eq!(after(parked.clone(), wake(true), now).0, parked, "no sleep brings a credential");
    let told = Failure { retry_after: Some(secs(100)), ..Failure::SILENT };
    let (told, _) = after(State::starting(now), Event::DialFailed(told), now);
    assert_eq!(after(told.clone(), wake(true), now).0, told);
}

#[tokio::test(start_paused = true)]
async fn r20_f75_what_is_under_way_across_a_network_that_is_gone_is_begun_anew() {
    let now = Instant::now();
    let wake = |strict| Event::Wake { strict, busy: false };
    let later = now + secs(3);
    let handshake = after(State::starting(now), Event::Dialed, now).0;
    for state in [State::starting(now), handshake] {
        let (again, actions) = after(state.clone(), wake(true), later);
        assert_eq!((again.phase, actions), (Phase::Starting, vec![Action::Close, Action::Dial]));
        assert_eq!((again.record.dialed_at, again.record.failures), (Some(later), 0), "that is no failure");
        assert_eq!(after(state.clone(), wake(false), later), (state, vec![]), "a child starts on");
    }
    let until = now + secs(5);
    let open = after(ready(now), Event::Trip, now).0;
    let probed = after(open.clone(), timer(now), until).0;
    let (again, actions) = after(probed.clone(), wake(true), until);
    assert_eq!((again.phase, actions), (probed.phase, vec![Action::Renew, Action::Probe]));
    let lost = after(open, Event::LinkDown(Failure::SILENT), now).0;
    let dialed = after(lost, timer(now), until).0;
    let (again, actions) = after(dialed.clone(), wake(true), until);
    assert_eq!((again.phase, actions), (dialed.phase, vec![Action::Close, Action::Dial]));
    for state in [probed, dialed] {
        assert_eq!(after(state.clone(), wake(false), until), (state, vec![]));
    }
}

mod random;
