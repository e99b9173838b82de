//! [`Health`]: what the ends of a server's requests say about it. When it is better left alone (the breaker, R-16), and
//! how many requests may be sent again (the retry budget, R-17). Pure.
//!
//! Both look at the same last seconds, so there is one account of them. Errors that the server itself wrote, of a tool or
//! of JSON-RPC, are answers. How long the breaker stays open is the business of `state.rs`.

use std::time::Duration;

use tokio::time::Instant;

/// Faults of the transport in a row that open the breaker.
const FAULTS_IN_A_ROW: u32 = 5;

/// So far back the breaker looks, in seconds, if there were no five in a row.
const BREAKER_SECONDS: usize = 30;

/// Fewer requests than this say nothing about a ratio.
const REQUESTS_MIN: u32 = 20;

/// So far back the budget looks, in seconds.
const BUDGET_SECONDS: usize = 10;

/// Requests that may be sent again however few there were.
const RESENDS_FLOOR: u32 = 3;

/// One resend for so many requests.
const REQUESTS_PER_RESEND: u32 = 5;

/// How a request, or an attempt at one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The server answered.
    Answer,
    /// The transport failed.
    Fault,
    /// Something that says nothing about the transport: a refusal for now, a lost session, a deadline.
    Neither,
}

/// The last half minute of a server's requests.
#[derive(Debug)]
pub(crate) struct Health {
    begun: Instant,
    /// The newest second that was counted in, from `begun`.
    newest: u64,
    seconds: [Second; BREAKER_SECONDS],
    faults_in_a_row: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    ended: u32,
    faults: u32,
    resends: u32,
}

impl Health {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { begun: now, newest: 0, seconds: [Second::default(); BREAKER_SECONDS], faults_in_a_row: 0 }
    }

    /// Counts an end. Returns whether it opens the breaker; then the counting for that begins anew.
    pub(crate) fn ended(&mut self, sign: Sign, now: Instant) -> bool {
        let second = self.second(now);
        second.ended += 1;
        match sign {
            Sign::Answer => self.faults_in_a_row = 0,
            Sign::Neither => {}
            Sign::Fault => {
                second.faults += 1;
                self.faults_in_a_row += 1;
                let (ended, faults) = self.last(BREAKER_SECONDS, |second| (second.ended, second.faults));
                let opens = self.faults_in_a_row >= FAULTS_IN_A_ROW
                    || ended >= REQUESTS_MIN && faults.saturating_mul(2) >= ended;
                if opens {
                    self.recovered();
                }
                return opens;
            }
        }
        false
    }

    /// What went wrong so far is no longer held against the server.
    pub(crate) fn recovered(&mut self) {
        self.faults_in_a_row = 0;
        for second in &mut self.seconds {
            second.faults = 0;
        }
    }

    /// Whether a request may be sent again now. If so, it counts as that.
    pub(crate) fn may_resend(&mut self, now: Instant) -> bool {
        self.second(now);
        let (ended, resends) = self.last(BUDGET_SECONDS, |second| (second.ended, second.resends));
        // What was sent again ends as well, and is no request of its own.
        let requests = ended.saturating_sub(resends);
        let may = resends < (requests / REQUESTS_PER_RESEND).max(RESENDS_FLOOR);
        if may {
            self.second(now).resends += 1;
        }
        may
    }

    /// The account of this second. Those that have passed since the last one are empty.
    fn second(&mut self, now: Instant) -> &mut Second {
        let at = now.saturating_duration_since(self.begun).as_secs();
        if at > self.newest {
            let passed = (at - self.newest).min(BREAKER_SECONDS as u64);
            for second in at + 1 - passed..=at {
                self.seconds[slot(second)] = Second::default();
            }
            self.newest = at;
        }
        &mut self.seconds[slot(self.newest)]
    }

    /// Two sums over the last seconds.
    fn last(&self, seconds: usize, of: impl Fn(&Second) -> (u32, u32)) -> (u32, u32) {
        let oldest = (self.newest + 1).saturating_sub(seconds as u64);
        (oldest..=self.newest)
            .map(|second| of(&self.seconds[slot(second)]))
            .fold((0, 0), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)))
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % BREAKER_SECONDS as u64).expect("less than the number of slots")
}

/// How long the breaker stays open: 5 s, doubled each time up to a minute.
pub(crate) fn open_for(times: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(5);
    const LAST: Duration = Duration::from_mins(1);
    FIRST.saturating_mul(2_u32.saturating_pow(times)).min(LAST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Sign::{Answer, Fault, Neither};
    use super::*;

    fn after(millis: u64, begun: Instant) -> Instant {
        begun + Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn r16_five_faults_in_a_row_open_the_breaker_and_one_answer_between_them_does_not() {
        let now = Instant::now();
        let mut health = Health::new(now);
        let opened = [Fault, Fault, Fault, Fault, Answer, Fault, Fault, Neither, Fault, Fault, Fault];
        let opened = opened.map(|sign| health.ended(sign, now));
        assert_eq!(opened, [false, false, false, false, false, false, false, false, false, false, true]);
        assert!(!health.ended(Fault, now), "the counting begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn r16_half_of_twenty_within_thirty_seconds_open_it_and_what_lies_further_back_does_not_count() {
        let begun = Instant::now();
        let mut health = Health::new(begun);
        let opened: Vec<bool> = (0..20_u64)
            .map(|n| health.ended(if n % 2 == 0 { Answer } else { Fault }, after(n * 1000, begun)))
            .collect();
        assert_eq!(opened.iter().position(|opened| *opened), Some(19));

        // One second more between them, and twenty never fit.
        let mut health = Health::new(begun);
        let opened =
            (0..200_u64).any(|n| health.ended(if n % 2 == 0 { Answer } else { Fault }, after(n * 1600, begun)));
        assert!(!opened);
    }

    #[tokio::test(start_paused = true)]
    async fn r17_one_request_in_five_is_sent_again_and_three_in_any_case() {
        let begun = Instant::now();
        let mut health = Health::new(begun);
        assert_eq!((0..10).filter(|_| health.may_resend(begun)).count(), 3);
        for _ in 0..100 {
            health.ended(Answer, begun);
        }
        assert_eq!((0..100).filter(|_| health.may_resend(begun)).count(), 13, "16 in all, for 84 requests");
        assert_eq!((0..9).filter(|_| health.may_resend(after(10_000, begun))).count(), 3, "ten seconds later");
    }

    #[test]
    fn r16_the_breaker_stays_open_for_five_seconds_doubled_to_a_minute() {
        assert_eq!([0, 1, 2, 3, 4, 99].map(|times| open_for(times).as_secs()), [5, 10, 20, 40, 60, 60]);
    }

    proptest! {
        /// Whatever happens when, no ten seconds see more resends than a fifth of their requests, or three.
        #[test]
        fn r17_no_ten_seconds_exceed_the_budget(
            steps in proptest::collection::vec((0..1500_u64, 0..3_u8), 1..300)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let _inside = runtime.enter();
            let begun = Instant::now();
            let mut health = Health::new(begun);
            let mut now = 0;
            let (mut ended, mut resent) = (Vec::new(), Vec::new());
            for (millis, what) in steps {
                now += millis;
                if what == 0 {
                    let recent = |times: &[u64]| times.iter().filter(|at| **at / 1000 + 10 > now / 1000).count();
                    let (requests, resends) = (recent(&ended).saturating_sub(recent(&resent)), recent(&resent));
                    let may = health.may_resend(after(now, begun));
                    prop_assert_eq!(may, resends < (requests / 5).max(3));
                    if may {
                        resent.push(now);
                    }
                } else {
                    health.ended(if what == 1 { Answer } else { Fault }, after(now, begun));
                    ended.push(now);
                }
            }
        }
    }
}
