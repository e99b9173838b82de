//! [`Deadline`]: when a request has taken too long. It stands still while a person answers. Pure.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_config::Tuning;
use trunkline_wire::Class;

/// Two limits of one request: silence, and everything together. Progress moves only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    begun: Instant,
    /// Silence counts from here at the earliest.
    silent_from: Instant,
    idle: Duration,
    total: Duration,
}

impl Deadline {
    /// The limits of a request of this class that begins now.
    pub(crate) fn new(class: Class, tuning: &Tuning, now: Instant) -> Self {
        let (idle, total) = match class {
            Class::Effect => (tuning.tool_timeout, tuning.tool_total),
            Class::List => (tuning.list_timeout, tuning.list_timeout),
            Class::Read | Class::State | Class::Probe | Class::Handshake | Class::Idempotent => {
                (tuning.read_timeout, tuning.read_timeout)
            }
        };
        Self { begun: now, silent_from: now, idle, total: total.max(idle) }
    }

    /// When the request is over if the server, last heard at `heard`, stays silent.
    pub(crate) fn at(&self, heard: Instant) -> Instant {
        let silent = heard.max(self.silent_from) + self.idle;
        silent.min(self.begun + self.total)
    }

    /// Takes the time since `since` out of the account: until `now` the server waited for a person.
    pub(crate) fn forgive(&mut self, since: Instant, now: Instant) {
        self.begun += now.saturating_duration_since(since.max(self.begun));
        self.silent_from = now;
    }

    /// Which limit has passed at `now`, in words.
    pub(crate) fn describe(&self, now: Instant) -> String {
        if now >= self.begun + self.total {
            return format!("{} s", self.total.as_secs_f64());
        }
        format!("{} s without a sign of life", self.idle.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_moves_the_idle_limit_and_never_the_total() {
        let begun = Instant::now();
        let deadline = Deadline::new(Class::Effect, &Tuning::default(), begun);
        let after = |secs| begun + Duration::from_secs(secs);
        assert_eq!(deadline.at(begun), after(270));
        assert_eq!(deadline.at(after(100)), after(370));
        assert_eq!(deadline.at(after(3599)), after(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_person_is_nobodys_fault() {
        let begun = Instant::now();
        let after = |secs| begun + Duration::from_secs(secs);
        let mut deadline = Deadline::new(Class::Effect, &Tuning::default(), begun);
        deadline.forgive(after(10), after(610));
        assert_eq!(deadline.at(after(10)), after(610 + 270));
        assert_eq!(deadline.at(after(4190)), after(600 + 3600));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_before_counts_for_nothing() {
        let heard = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        let begun = Instant::now();
        let deadline = Deadline::new(Class::Read, &Tuning::default(), begun);
        assert_eq!(deadline.at(heard), begun + Duration::from_mins(1));
        assert_eq!(deadline.at(begun + Duration::from_secs(50)), begun + Duration::from_mins(1));
    }
}
