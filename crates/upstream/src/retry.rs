//! What to do when a request failed: table 5 of the reliability contract as data. Pure.
//!
//! The rule behind the table: whatever may have had an effect is never sent twice. `call.rs` walks it
//! within one deadline, `lists.rs` for each page of a list.

use trunkline_wire::Class;

use crate::transport::FaultPoint;

/// Resends of one request at most.
pub(crate) const RESENDS_MAX: u32 = 2;

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again, at most [`RESENDS_MAX`] times.
    Retry,
    /// Send it again, once.
    Once,
    /// Send it again, once, if nothing of the answer went to the caller yet.
    OnceIfQuiet,
    /// It was sent, and its fate is not known.
    Unknown,
    /// The answer is no answer.
    Protocol,
}

use Verdict::{Once, OnceIfQuiet, Protocol, Retry, Unknown};

/// Columns A, B, C, D, E, G of the table. F, the deadline, always ends a request; H is an answer.
///
/// The row of [`Class::State`] says "retry" where the document says "restore": the supervisor restores what is
/// wanted on each new connection, and a second request brings the caller an answer besides, at no risk.
const TABLE: [(Class, [Verdict; 6]); 7] = [
    (Class::Handshake, [Retry, Retry, Retry, Retry, Retry, Retry]),
    (Class::Probe, [Retry, Retry, Retry, Retry, Retry, Once]),
    (Class::List, [Retry, Retry, Retry, Retry, Retry, Protocol]),
    (Class::Read, [Retry, Retry, Retry, Retry, OnceIfQuiet, Protocol]),
    (Class::State, [Retry, Retry, Retry, Retry, Retry, Protocol]),
    (Class::Idempotent, [Retry, Retry, Once, Once, Once, Protocol]),
    (Class::Effect, [Retry, Once, Unknown, Unknown, Unknown, Protocol]),
];

/// Looks up what follows when a request of this class failed at this point.
pub(crate) fn verdict(class: Class, fault: FaultPoint) -> Verdict {
    let column = match fault {
        FaultPoint::NothingSent => 0,
        // After a new handshake the request is as good as never sent, but one renewal must do.
        FaultPoint::SessionGone => return Once,
        FaultPoint::RefusedBeforeRun | FaultPoint::NeedsAuth => 1,
        FaultPoint::LostUnanswered => 2,
        FaultPoint::ServerFailed => 3,
        FaultPoint::BrokenMidway => 4,
        FaultPoint::Unreadable => 5,
    };
    let row = TABLE.iter().find(|(known, _)| *known == class);
    row.expect("every class has a row").1[column]
}

/// Whether to send a request again that was sent again `resends` times; `quiet`: nothing of it was passed on yet.
pub(crate) fn resend(class: Class, fault: FaultPoint, resends: u32, quiet: bool) -> bool {
    match verdict(class, fault) {
        // No waiting brings a credential.
        _ if fault == FaultPoint::NeedsAuth => false,
        Retry => resends < RESENDS_MAX,
        Once => resends == 0,
        OnceIfQuiet => resends == 0 && quiet,
        Unknown | Protocol => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULTS: [FaultPoint; 8] = [
        FaultPoint::NothingSent,
        FaultPoint::RefusedBeforeRun,
        FaultPoint::LostUnanswered,
        FaultPoint::ServerFailed,
        FaultPoint::BrokenMidway,
        FaultPoint::Unreadable,
        FaultPoint::SessionGone,
        FaultPoint::NeedsAuth,
    ];

    #[test]
    fn what_may_have_run_is_never_sent_again() {
        let again = FAULTS.map(|fault| resend(Class::Effect, fault, 0, true));
        assert_eq!(again, [true, true, false, false, false, false, true, false]);
    }

    #[test]
    fn a_look_at_a_task_is_repeated_its_cancellation_once_and_an_answer_never() {
        let again = |method: &str, resends| {
            let class = trunkline_wire::Method::from(method).class();
            [FaultPoint::LostUnanswered, FaultPoint::ServerFailed, FaultPoint::BrokenMidway]
                .map(|fault| resend(class, fault, resends, true))
        };
        assert_eq!((again("tasks/get", 0), again("tasks/get", 1)), ([true; 3], [true; 3]));
        assert_eq!((again("tasks/cancel", 0), again("tasks/cancel", 1)), ([true; 3], [false; 3]));
        assert_eq!(again("tasks/update", 0), [false; 3]);
    }

    #[test]
    fn every_request_ends() {
        for class in TABLE.map(|(class, _)| class) {
            assert!(FAULTS.iter().all(|fault| !resend(class, *fault, RESENDS_MAX, true)), "{class:?}");
        }
    }

    #[test]
    fn a_read_is_not_repeated_into_the_middle_of_its_answer() {
        assert!(resend(Class::Read, FaultPoint::BrokenMidway, 0, true));
        assert!(!resend(Class::Read, FaultPoint::BrokenMidway, 0, false));
    }
}
