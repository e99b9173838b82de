//! What a caller is told about a request that got no answer: one sentence each, with server, cause and next step.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use trunkline_wire::{Class, Outcome};

use super::errand::{Errand, Failed};
use crate::deadline::Deadline;
use crate::error::{CallError, CallErrorKind};
use crate::handle::mark;
use crate::limits::TIMEOUTS_IN_A_ROW;
use crate::transport::FaultPoint;

impl Errand {
    /// Closes the bill with an error, and hands the error on.
    pub(super) fn fail(&mut self, error: CallError) -> CallError {
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

    pub(super) fn timed_out(&self, deadline: Deadline) -> CallError {
        let shared = &self.shared;
        if shared.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW {
            shared.timeouts.store(0, Ordering::Relaxed);
            shared.marks.raise(mark::DOUBT);
        }
        let method = &self.ask.method;
        let text = match self.class_to_resend() {
            Class::Effect => format!(
                "server `{}` did not finish {method} within {}; it was told to stop, but may have acted: check before \
                 you call it again, or raise `tool_timeout_sec`",
                shared.name,
                deadline.describe(Instant::now()),
            ),
            Class::Handshake | Class::Probe | Class::List | Class::Read | Class::State | Class::Idempotent => {
                format!("server `{}` did not answer {method} within {}", shared.name, deadline.describe(Instant::now()))
            }
        };
        CallError {
            retryable: self.class_to_resend() != Class::Effect,
            ..shared.error(CallErrorKind::Timeout, Outcome::Unknown, text)
        }
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
                let advice = match self.class_to_resend() {
                    Class::Effect => "; it may have acted: check before you call it again",
                    Class::Handshake | Class::Probe | Class::List | Class::Read | Class::State | Class::Idempotent => {
                        ""
                    }
                };
                let text = format!("server `{name}` was sent {method} and gave no result: {text}{advice}");
                (CallErrorKind::OutcomeUnknown, Outcome::Unknown, text)
            }
        };
        let error = self.shared.error(kind, outcome, text);
        let safe = self.class_to_resend() != Class::Effect && kind == CallErrorKind::OutcomeUnknown;
        CallError { retryable: error.retryable || safe, retry_after, ..error }
    }
}
