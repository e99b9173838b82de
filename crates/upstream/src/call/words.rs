//! What a caller is told about a request that got no answer: one sentence each, with server, cause and next step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use trunkline_wire::Outcome;

use super::errand::{Errand, Failed};
use crate::breaker::Sign;
use crate::deadline::Deadline;
use crate::error::{CallError, CallErrorKind};
use crate::handle::mark;
use crate::limits::TIMEOUTS_IN_A_ROW;
use crate::link::Link;
use crate::transport::FaultPoint;

impl Errand {
    /// Closes the bill with an error, and hands the error on.
    ///
    /// That the last attempt was not sent is not the truth about a request of which an earlier one may have run.
    pub(super) fn fail(&mut self, error: CallError) -> CallError {
        let error = match (self.lost.take(), error.outcome) {
            (Some(lost), Outcome::NotSent | Outcome::Refused) => self.failed(lost),
            (_, _) => error,
        };
        self.bill.outcome = match error.kind {
            CallErrorKind::Unavailable => "unavailable",
            CallErrorKind::OutcomeUnknown => "unknown",
            CallErrorKind::Timeout => "timeout",
            CallErrorKind::Overloaded => "overloaded",
            CallErrorKind::ShuttingDown => "shutting_down",
            CallErrorKind::AuthRequired => "auth_required",
            CallErrorKind::Protocol => "protocol",
        };
        if error.kind == CallErrorKind::OutcomeUnknown {
            self.shared.environment.metrics.outcome_unknown(&self.shared.name);
        }
        error
    }

    pub(super) fn timed_out(&self, deadline: Deadline, link: &Arc<Link>) -> CallError {
        let shared = &self.shared;
        let tells = shared.ended(Sign::Neither, link);
        if tells && shared.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW {
            shared.timeouts.store(0, Ordering::Relaxed);
            shared.marks.raise(mark::DOUBT);
        }
        let method = &self.ask.method;
        let has_effects = self.row().has_effects();
        let time = deadline.describe(Instant::now());
        let text = if has_effects {
            format!(
                "server `{}` did not finish {method} within {time}; it was told to stop, but may have acted: check \
                 before you call it again, or raise `tool_timeout_sec`",
                shared.name,
            )
        } else {
            format!("server `{}` did not answer {method} within {time}", shared.name)
        };
        CallError { retryable: !has_effects, ..shared.error(CallErrorKind::Timeout, Outcome::Unknown, text) }
    }

    /// What the caller is told about an attempt that is not made again.
    pub(super) fn failed(&self, failed: Failed) -> CallError {
        let Failed { fault, text, retry_after } = failed;
        let (name, method) = (&self.shared.name, &self.ask.method);
        let (kind, outcome, text) = match fault {
            FaultPoint::NothingSent => {
                let text = format!("server `{name}` could not be reached: {text}");
                (CallErrorKind::Unavailable, Outcome::NotSent, text)
            }
            FaultPoint::RefusedBeforeRun => {
                let text = format!("server `{name}` refused {method} for now: {text}");
                (CallErrorKind::Unavailable, Outcome::Refused, text)
            }
            FaultPoint::SessionGone => {
                let text = format!("server `{name}` lost its session twice during {method}: {text}");
                (CallErrorKind::Unavailable, Outcome::Refused, text)
            }
            FaultPoint::NeedsAuth => {
                let text = format!("server `{name}` refuses the credential: {text}; {}", self.shared.key_to_set());
                (CallErrorKind::AuthRequired, Outcome::Refused, text)
            }
            FaultPoint::Unreadable => {
                let text = format!("server `{name}` gave no usable answer to {method}: {text}");
                (CallErrorKind::Protocol, Outcome::Unknown, text)
            }
            FaultPoint::LostUnanswered | FaultPoint::ServerFailed | FaultPoint::BrokenMidway => {
                let has_effects = self.row().has_effects();
                let advice = if has_effects { "; it may have acted: check before you call it again" } else { "" };
                let text = format!("server `{name}` was sent {method} and gave no result: {text}{advice}");
                (CallErrorKind::OutcomeUnknown, Outcome::Unknown, text)
            }
        };
        let error = self.shared.error(kind, outcome, text);
        let safe = !self.row().has_effects() && kind == CallErrorKind::OutcomeUnknown;
        CallError { retryable: error.retryable || safe, retry_after, ..error }
    }
}
