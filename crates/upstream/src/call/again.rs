//! What follows a failed attempt: whether the request is sent again, by the table (`retry.rs`), within its deadline and
//! the server's budget, and what it leaves behind in metrics and in the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::{Json, Method, Object, key};

use super::errand::{Errand, Failed, Sent};
use crate::backoff::{self, Luck};
use crate::breaker::Sign;
use crate::error::CallError;
use crate::handle::mark;
use crate::limits::{REPLAY_BYTES_MAX, RETRY_AFTER_MAX};
use crate::link::Link;
use crate::retry::{self, Row};
use crate::transport::FaultPoint;

impl Errand {
    /// Goes on after an attempt that failed while the answer was awaited.
    pub(super) async fn again(mut self: Box<Self>, failed: Failed) -> (Box<Self>, Sent) {
        if let Some(task) = self.task.take() {
            return self.look_again(task, failed).await;
        }
        let sent = match self.before_again(failed).await {
            Ok(()) => self.send().await,
            Err(error) => Err(error),
        };
        (self, sent)
    }

    /// Takes note of how an attempt failed.
    pub(super) fn note(&self, fault: FaultPoint, link: &Arc<Link>) {
        let sign = match fault {
            FaultPoint::NothingSent
            | FaultPoint::LostUnanswered
            | FaultPoint::ServerFailed
            | FaultPoint::BrokenMidway => Sign::Fault,
            FaultPoint::RefusedBeforeRun | FaultPoint::Unreadable | FaultPoint::SessionGone | FaultPoint::NeedsAuth => {
                Sign::Neither
            }
        };
        let tells = self.shared.ended(sign, link);
        if tells && matches!(fault, FaultPoint::NothingSent | FaultPoint::LostUnanswered) {
            self.shared.marks.raise(mark::DOUBT);
        }
    }

    /// Its row of the table. Answers that were given once are not given twice, whatever they are given with.
    pub(super) fn row(&self) -> Row {
        let answered = self.reply.is_some()
            || ["inputResponses", "requestState"].iter().any(|key| self.ask.params.get(key).is_some());
        Row::of(&self.ask.method, answered, self.may_be_repeated())
    }

    /// Whether the tool says that it can be repeated, and the operator believes it.
    fn may_be_repeated(&self) -> bool {
        self.ask.method == Method::ToolsCall
            && self.shared.server().tuning.trust_annotations
            && self
                .ask
                .params
                .get_str("name")
                .is_some_and(|tool| self.shared.offers.borrow().repeatable.contains(&tool))
    }

    /// After a failed attempt: waits a little if it may be made again, or says what the caller is told.
    pub(super) async fn before_again(&mut self, failed: Failed) -> Result<(), CallError> {
        self.pause(self.row(), failed).await
    }

    /// Waits before what belongs to `row` is sent again, or says what the caller is told.
    pub(super) async fn pause(&mut self, row: Row, failed: Failed) -> Result<(), CallError> {
        let fault = failed.fault;
        let unsent = fault == FaultPoint::NothingSent;
        let is_large = !unsent && self.bytes > REPLAY_BYTES_MAX;
        let most = self.shared.server().tuning.retries_max;
        if is_large || !retry::resend_within(most, row, fault, self.resends, self.quiet) {
            return Err(self.failed(failed));
        }
        let pause = match failed.retry_after {
            Some(wait) if wait > RETRY_AFTER_MAX => return Err(self.failed(failed)),
            Some(wait) => wait,
            // The new handshake is wait enough.
            None if fault == FaultPoint::SessionGone => Duration::ZERO,
            None => backoff::resend(1 + self.resends, Luck(fastrand::f64())),
        };
        let end = self.deadline.map(|deadline| deadline.at(Instant::now()));
        if end.is_some_and(|end| Instant::now() + pause >= end) {
            return Err(self.failed(failed));
        }
        // All calls of a lost session go on after one new handshake: that is no storm, and each does so once.
        if fault != FaultPoint::SessionGone && !self.shared.health().may_resend(Instant::now()) {
            self.shared.environment.metrics.retry_budget_exhausted(&self.shared.name);
            return Err(self.failed(failed));
        }
        self.resends += 1;
        self.shared.environment.metrics.retry(&self.shared.name, retry::label(fault));
        let (_, otherwise) = retry::deed(row, retry::column(fault));
        tracing::debug!(
            server = %self.shared.name, method = self.ask.method.label(), fault = retry::label(fault), otherwise,
            client = self.ask.caller.client.as_deref(), "sent again"
        );
        if !matches!(fault, FaultPoint::NothingSent | FaultPoint::RefusedBeforeRun | FaultPoint::SessionGone) {
            self.replays += 1;
            self.lost.get_or_insert(failed);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Marks the result of a request that may have run twice, so that its caller can see it (reliability 5).
    pub(super) fn marked(&self, result: Json) -> Json {
        if self.replays == 0 {
            return result;
        }
        let Ok(mut object) = Object::parse(&result) else { return result };
        let mut meta = object.get_object("_meta").unwrap_or_default();
        meta.set(key::REPLAYS, Json::from(u64::from(self.replays)));
        object.set("_meta", meta.to_json());
        object.to_json()
    }
}

#[cfg(test)]
mod tests;
