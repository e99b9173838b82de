//! [`Flight`]: one request on one connection, from its id to its end.
//!
//! Whoever holds it drives it: over HTTP the answer's own stream is read here, in the caller's task, so that a
//! call costs no task. Dropping it at any point frees the place in the table and, if the server may be working,
//! tells it that nobody waits any more (mcp-protocol 2.8), and that its questions will not be answered (5.8).

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use trunkline_wire::{Id, Json, Method, Request};

use crate::link::Link;
use crate::mailbox::{End, Mail, Mailbox};
use crate::questions::{self, Asker};
use crate::transport::{Broken, FaultPoint, MessageStream, Outgoing, SendError, Sent};

/// A request being handed to the transport.
type Sending = BoxFuture<'static, Result<Sent, SendError>>;

/// A request on a link.
pub(crate) struct Flight {
    link: Arc<Link>,
    id: u64,
    method: Method,
    mailbox: Arc<Mailbox>,
    own: Option<MessageStream>,
    /// The request is under way, and the server asked something before it began to answer.
    sending: Option<Sending>,
    /// The server may be working on it.
    working: bool,
}

impl Flight {
    /// Allots an id. Fails with [`FaultPoint::NothingSent`] if the link is down. `asker`: who can be asked meanwhile.
    pub(crate) fn register(link: &Arc<Link>, method: &Method, asker: Option<Asker>) -> Result<Self, SendError> {
        let Some((id, mailbox)) = link.register(asker) else {
            let text = "the connection was lost".to_owned();
            return Err(SendError { fault: FaultPoint::NothingSent, text, retry_after: None });
        };
        if *method == Method::SubscriptionsListen {
            link.stands(id);
        }
        Ok(Self { link: link.clone(), id, method: method.clone(), mailbox, own: None, sending: None, working: false })
    }

    /// The connection it is on.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Its id, which is its progress token as well.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Sends the request and waits until it is known where the answer will come from.
    pub(crate) async fn send(
        &mut self,
        params: Json,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(), SendError> {
        let request = Request { id: Id::from(self.id), method: self.method.clone(), params: Some(params) };
        let out = Outgoing { headers, ..Outgoing::new(request.encode(), Some(self.id), self.method.clone()) };
        self.working = true;
        let transport = Arc::clone(&self.link.transport);
        let mut sending: Sending = Box::pin(async move { transport.send(out).await });
        tokio::select! {
            biased;
            sent = &mut sending => return self.sent(sent),
            // The connection was given up meanwhile, or the answer came by another way; or the server asks something
            // first, on another stream, and will not even begin its answer before it is told.
            () = self.mailbox.stirred() => {}
        }
        if !self.mailbox.is_ended() {
            self.sending = Some(sending);
        }
        Ok(())
    }

    fn sent(&mut self, sent: Result<Sent, SendError>) -> Result<(), SendError> {
        match sent {
            Ok(Sent::OnSharedStream) => {}
            Ok(Sent::OnOwnStream(stream)) => self.own = Some(stream),
            Ok(Sent::Reply(message)) => {
                self.link.route(message, Some(self.id));
                let text = "its answer belongs to another request".to_owned();
                self.end_without_answer(FaultPoint::Unreadable, text);
            }
            Err(error) => {
                self.working = !matches!(
                    error.fault,
                    FaultPoint::NothingSent
                        | FaultPoint::RefusedBeforeRun
                        | FaultPoint::SessionGone
                        | FaultPoint::NeedsAuth
                );
                self.consider(error.fault, &error.text);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for what comes next; the end comes last, and once. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Mail {
        loop {
            if let Some(mail) = self.mailbox.take() {
                match &mail {
                    Mail::Notice(_) | Mail::Question(_) | Mail::Withdrawn(_) => {}
                    Mail::End(End::Answer(_)) => self.working = false,
                    Mail::End(End::Lost(broken)) => self.consider(broken.fault, &broken.text),
                }
                return mail;
            }
            if let Some(sending) = &mut self.sending {
                let sent = tokio::select! {
                    biased;
                    () = self.mailbox.rung() => continue,
                    sent = sending => sent,
                };
                self.sending = None;
                if let Err(SendError { fault, text, .. }) = self.sent(sent) {
                    self.link.lost(self.id, Broken { fault, text, request: None });
                }
                continue;
            }
            let Some(own) = &mut self.own else {
                self.mailbox.rung().await;
                continue;
            };
            let came = tokio::select! {
                biased;
                () = self.mailbox.rung() => continue,
                came = own.next() => came,
            };
            match came {
                Some(Ok(message)) => {
                    self.mailbox.heard_now();
                    self.link.route(message, Some(self.id));
                }
                Some(Err(broken)) => {
                    self.own = None;
                    self.link.lost(self.id, broken);
                }
                None => {
                    self.own = None;
                    let text = "the response stream ended without an answer".to_owned();
                    self.end_without_answer(FaultPoint::BrokenMidway, text);
                }
            }
        }
    }

    /// Gives the server the answer to its question `key`. `false` if it does not wait for one.
    pub(crate) fn answer(&self, key: &str, answer: Result<Json, Json>) -> bool {
        let open = self.mailbox.settle(key);
        open.is_some_and(|open| {
            self.link.respond(open.id, open.method, answer);
            true
        })
    }

    /// Somebody else can be asked from now on.
    pub(crate) fn adopt(&self, asker: Option<Asker>) {
        self.mailbox.adopt(asker);
    }

    /// When something of this request came last.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.mailbox.heard()
    }

    fn end_without_answer(&self, fault: FaultPoint, text: String) {
        if !self.mailbox.is_ended() {
            self.link.lost(self.id, Broken { fault, text, request: None });
        }
    }

    /// Two faults concern more than this request: the whole connection is of no use any more.
    fn consider(&self, fault: FaultPoint, text: &str) {
        if matches!(fault, FaultPoint::SessionGone | FaultPoint::NeedsAuth) {
            self.link.give_up(&Broken { fault, text: text.to_owned(), request: None });
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.link.forget(self.id);
        for open in self.mailbox.abandon() {
            let answer = questions::abandoned(&open.method);
            self.link.respond(open.id, open.method, answer);
        }
        // A task is not cancelled so (mcp-protocol 2.8): see `tasks.rs`.
        let task = self.method == Method::TasksResult;
        // Over modern HTTP the end of the answer's stream, which is dropped with this, says it (mcp-protocol 2.8).
        if self.working && self.method != Method::Initialize && !task && !self.link.mirrors() {
            self.link.tell_cancelled(self.id);
        }
    }
}
