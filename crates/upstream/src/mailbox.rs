//! [`Mailbox`]: where what comes back for one request waits for whoever sent it.
//!
//! Three lanes. Notices go into a small ring that drops the oldest when its reader is slow, because later progress
//! supersedes earlier. Questions of the server are few and never dropped: one that finds no room is refused, and the
//! server told so. The end has a place of its own that nothing can crowd out, and comes last; it makes questions that
//! were not taken out yet moot.
//!
//! So whoever reads the connection never waits for a client. What waits here is charged to the one budget.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use trunkline_wire::{Budget, Charge, Id, Json, Method, Notification, Request};

use crate::limits::{NOTICES_MAX, QUESTIONS_MAX};
use crate::questions::{Asker, Question};
use crate::transport::{Broken, FaultPoint};

/// Notices and the end of one request. One reader.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Who can be asked during this request; `None` for the gateway's own, and for kinds that allow no questions.
    asker: Mutex<Option<Asker>>,
    inner: Mutex<Inner>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    notices: VecDeque<(Notification, Charge)>,
    /// Questions, and word of those taken back, on their way to whoever made the request.
    questions: VecDeque<(Mail, Option<Charge>)>,
    /// Questions that the server waits for an answer to.
    open: Vec<Open>,
    last_question: u64,
    end: Option<(End, Option<Charge>)>,
    ended: bool,
    heard: Option<Instant>,
}

/// What waits in a mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Progress or a log message.
    Notice(Notification),
    /// The server asks whoever made the request.
    Question(Question),
    /// The server does not want the answer to this question any more.
    Withdrawn(Box<str>),
    /// The end.
    End(End),
}

/// How a request ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The server's answer, `result` or `error`, as sent.
    Answer(Result<Json, Json>),
    /// There will be none.
    Lost(Broken),
}

/// A question that a legacy server waits for an answer to.
#[derive(Debug)]
pub(crate) struct Open {
    key: Box<str>,
    /// The server's own id of it.
    pub(crate) id: Id,
    pub(crate) method: Method,
}

impl Mailbox {
    /// A mailbox for a request of `asker`.
    pub(crate) fn of(asker: Option<Asker>) -> Self {
        Self { asker: Mutex::new(asker), ..Self::default() }
    }

    /// Who can be asked during this request.
    pub(crate) fn asker(&self) -> Option<Asker> {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody else can be asked from now on.
    pub(crate) fn adopt(&self, asker: Option<Asker>) {
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner) = asker;
    }

    /// Puts a question in. Gives it back if there is no room, or the request has ended.
    pub(crate) fn ask(&self, request: Request, budget: &Budget) -> Result<(), Request> {
        let bytes = request.params.as_ref().map_or(0, |params| params.as_bytes().len());
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        if inner.ended || inner.open.len() >= QUESTIONS_MAX {
            return Err(request);
        }
        let Ok(charge) = budget.charge(bytes) else { return Err(request) };
        inner.last_question += 1;
        let key: Box<str> = format!("q{}", inner.last_question).into();
        let Request { id, method, params } = request;
        inner.open.push(Open { key: key.clone(), id, method: method.clone() });
        inner.questions.push_back((Mail::Question(Question { key, method, params }), Some(charge)));
        drop(inner);
        self.bell.notify_one();
        Ok(())
    }

    /// The server takes back the question that has this id there. Says whether it was one of this request.
    pub(crate) fn withdraw(&self, id: &Id) -> bool {
        let mut inner = self.lock();
        let Some(at) = inner.open.iter().position(|open| open.id.key() == id.key()) else { return false };
        let key = inner.open.remove(at).key;
        let waiting = inner.questions.len();
        inner.questions.retain(|(mail, _)| !matches!(mail, Mail::Question(question) if question.key == key));
        // Whoever made the request may not know of it yet.
        if inner.questions.len() == waiting {
            inner.questions.push_back((Mail::Withdrawn(key), None));
        }
        drop(inner);
        self.bell.notify_one();
        true
    }

    /// Takes the open question `key` out, to be answered.
    pub(crate) fn settle(&self, key: &str) -> Option<Open> {
        let mut inner = self.lock();
        let at = inner.open.iter().position(|open| *open.key == *key)?;
        Some(inner.open.remove(at))
    }

    /// Takes all open questions out: nobody will answer them.
    pub(crate) fn abandon(&self) -> Vec<Open> {
        std::mem::take(&mut self.lock().open)
    }

    /// Whether the server waits for an answer.
    pub(crate) fn is_asking(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Puts a notice in. Returns whether one had to be dropped for it, be it itself.
    pub(crate) fn notice(&self, notification: Notification, budget: &Budget) -> bool {
        let bytes = notification.params.as_ref().map_or(0, |params| params.as_bytes().len());
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        let Ok(charge) = budget.charge(bytes) else { return true };
        let full = inner.notices.len() >= NOTICES_MAX;
        if full {
            inner.notices.pop_front();
        }
        inner.notices.push_back((notification, charge));
        drop(inner);
        self.bell.notify_one();
        full
    }

    /// Notes that something of this request came.
    pub(crate) fn heard_now(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// When something of this request came last.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.lock().heard
    }

    /// Puts the server's answer in, unless there is an end already.
    pub(crate) fn answer(&self, answer: Result<Json, Json>, budget: &Budget) {
        let (Ok(text) | Err(text)) = &answer;
        match budget.charge(text.as_bytes().len()) {
            Ok(charge) => self.end(End::Answer(answer), Some(charge)),
            Err(full) => self.lost(Broken {
                fault: FaultPoint::Unreadable,
                text: format!("its answer was refused: {full}"),
                request: None,
            }),
        }
    }

    /// Ends the request without an answer, unless there is an end already.
    pub(crate) fn lost(&self, broken: Broken) {
        self.end(End::Lost(broken), None);
    }

    /// Takes what waits: notices first, then questions, then the end, once.
    pub(crate) fn take(&self) -> Option<Mail> {
        let mut inner = self.lock();
        if let Some((notice, _charge)) = inner.notices.pop_front() {
            return Some(Mail::Notice(notice));
        }
        if let Some((mail, _charge)) = inner.questions.pop_front() {
            return Some(mail);
        }
        inner.end.take().map(|(end, _charge)| Mail::End(end))
    }

    /// Waits until there may be something to take. Safe to drop and call again.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Waits until the end is there, or a question, and leaves them.
    pub(crate) async fn stirred(&self) {
        loop {
            {
                let inner = self.lock();
                if inner.ended || !inner.questions.is_empty() {
                    return;
                }
            }
            self.bell.notified().await;
        }
    }

    /// Whether the end was put in.
    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    fn end(&self, end: End, charge: Option<Charge>) {
        let mut inner = self.lock();
        if !inner.ended {
            inner.ended = true;
            inner.questions.clear();
            inner.end = Some((end, charge));
        }
        drop(inner);
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use trunkline_wire::Method;

    use super::*;

    fn progress(number: u64) -> Notification {
        Notification { method: Method::Progress, params: Some(Json::from(number)) }
    }

    #[tokio::test]
    async fn a_flood_of_notices_drops_the_oldest_and_never_the_end() {
        let (mailbox, budget) = (Mailbox::default(), Budget::new(10_000));
        let dropped = (0..100).filter(|number| mailbox.notice(progress(*number), &budget)).count();
        assert_eq!(dropped, 100 - NOTICES_MAX);
        mailbox.answer(Ok(Json::literal("{}")), &budget);
        mailbox.stirred().await;
        let Some(Mail::Notice(first)) = mailbox.take() else { panic!("notices come first") };
        assert_eq!(first, progress(36));
        while let Some(Mail::Notice(_)) = mailbox.take() {}
        assert_eq!(budget.used(), 0);
        assert!(mailbox.take().is_none(), "the end was the last");
    }

    #[tokio::test]
    async fn what_does_not_fit_the_budget_is_refused() {
        let (mailbox, budget) = (Mailbox::default(), Budget::new(3));
        assert!(mailbox.notice(progress(10_000), &budget));
        mailbox.answer(Ok(Json::from("too long")), &budget);
        let Some(Mail::End(End::Lost(broken))) = mailbox.take() else { panic!("refused") };
        assert_eq!(broken.fault, FaultPoint::Unreadable);
    }

    #[tokio::test]
    async fn the_first_end_counts() {
        let (mailbox, budget) = (Mailbox::default(), Budget::new(100));
        mailbox.answer(Ok(Json::from(1)), &budget);
        mailbox.answer(Ok(Json::from(2)), &budget);
        assert!(matches!(mailbox.take(), Some(Mail::End(End::Answer(Ok(answer)))) if answer == Json::from(1)));
        assert!(mailbox.take().is_none());
    }
}
