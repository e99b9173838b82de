//! A request and its one answer.
//!
//! What was not sent is sent again, once there is a daemon to send it to. What was sent and lost is not: a stream that showed
//! event ids is taken up where it broke (mcp-protocol 3.10), a subscription of the modern era is asked for again, and of
//! anything else the outcome is said to be unknown.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::sleep;
use trunkline_wire::{
    Fault, FaultCode, Id, Message, Method as Rpc, Notification, Object, Outcome, Request, RpcError, code, key,
};

use super::Bridge;
use super::http::{Events, Head, LAST_EVENT_ID, Reply, Unsent, revision};
use crate::limits::{BRIDGE_LISTEN_PAUSE, BRIDGE_RESUMES_MAX};

/// How a stream ended.
enum Ended {
    Answered,
    /// Without the answer; the last event's id, if there was one.
    Broken(Option<Box<str>>),
}

impl Bridge {
    /// Brings a request to the daemon, and everything that comes of it to the client.
    pub(super) async fn exchange(&self, request: &Request, claim: Option<&str>, text: Bytes) {
        if let Some(claim) = claim {
            *self.claim.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(claim.to_owned());
        }
        let mut reopened = false;
        let mut subscribed = false;
        loop {
            let opens = claim.is_none() && request.method == Rpc::Initialize;
            let stale = self.sessions.id();
            let head = match claim {
                Some(claim) => self.modern_head(request, claim),
                None if opens => Vec::new(),
                None => self.sessions.head(),
            };
            let reply = match self.send(Method::POST, head, text.clone()).await {
                Ok(reply) => reply,
                Err(Unsent::NoDaemon(why)) => return self.unreachable(&request.id, why).await,
                Err(Unsent::Broken) if is_stream(&request.method) => {
                    subscribed = true;
                    sleep(BRIDGE_LISTEN_PAUSE).await;
                    continue;
                }
                Err(Unsent::Broken) => return self.lost(&request.id).await,
            };
            // The daemon does not know the session, so it has done nothing: it is opened anew, and asked again, once.
            if reply.status == StatusCode::NOT_FOUND
                && claim.is_none()
                && !opens
                && !reopened
                && let Some(stale) = stale
            {
                reopened = true;
                if self.reopen(&stale).await {
                    continue;
                }
            }
            if !reply.is("text/event-stream") {
                return self.answer(request, reply, opens.then_some(&text)).await;
            }
            let headers = reply.headers.clone();
            let ended = self.stream(request, reply.events(), subscribed, |answer| {
                if opens {
                    self.sessions.opened(&headers, answer, &text);
                }
            });
            match ended.await {
                Ended::Answered => return,
                Ended::Broken(_) if is_stream(&request.method) => {
                    subscribed = true;
                    sleep(BRIDGE_LISTEN_PAUSE).await;
                }
                Ended::Broken(Some(id)) if claim.is_none() => return self.resume(request, id).await,
                Ended::Broken(_) => return self.lost(&request.id).await,
            }
        }
    }

    /// Posts what has no answer of its own, or a batch, whose answers are written as they come.
    pub(super) async fn post(&self, claim: Option<&str>, text: Bytes) {
        let mut head: Head = match claim {
            Some(claim) => vec![revision(claim)],
            None => self.sessions.head(),
        };
        if claim.is_none() && head.is_empty() {
            head = Vec::new();
        }
        let Ok(reply) = self.send(Method::POST, head, text).await else { return };
        if reply.is("text/event-stream") {
            let mut events = reply.events();
            while let Some(event) = events.next().await {
                if !event.data.is_empty() {
                    self.write(event.data).await;
                }
            }
        } else if reply.is("application/json")
            && let Some(body) = reply.whole().await
        {
            self.write(body).await;
        }
    }

    /// An answer that is no stream.
    async fn answer(&self, request: &Request, reply: Reply, opens: Option<&Bytes>) {
        let (status, headers, json) = (reply.status, reply.headers.clone(), reply.is("application/json"));
        // Pages are for browsers, and not the daemon's: a model gets nothing of what a stranger wrote.
        let is_text = json || reply.is("text/plain");
        let Some(body) = reply.whole().await else { return self.lost(&request.id).await };
        let answer = json.then(|| Message::parse(&body).ok()).flatten();
        match answer {
            Some(answer @ Message::Response(_)) if answer.id() == Some(&request.id) => {
                if let Some(text) = opens {
                    self.sessions.opened(&headers, &answer, text);
                }
                self.learn(&request.method, &answer, &body);
                self.write(body).await;
            }
            _ if !is_text && !body.is_empty() => {
                let text = format!(
                    "what answers at the daemon's address, with {status}, is not the daemon; `trunkline doctor` says more"
                );
                self.refuse(Some(request.id.clone()), &RpcError::new(code::INVALID_REQUEST, text)).await;
            }
            // Refused at the door, in a line of text (mcp-protocol 3.2).
            _ => {
                let told: String =
                    String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(500).collect();
                let text = format!("the daemon refused this with {status}: {told}");
                self.refuse(Some(request.id.clone()), &RpcError::new(code::INVALID_REQUEST, text)).await;
            }
        }
    }

    /// Passes events on until the answer has come.
    async fn stream(
        &self,
        request: &Request,
        mut events: Events,
        again: bool,
        mut answered: impl FnMut(&Message),
    ) -> Ended {
        let mut last = None;
        while let Some(event) = events.next().await {
            last = event.id.or(last);
            if event.data.is_empty() {
                continue;
            }
            let message = Message::parse(&event.data).ok();
            if let Some(answer @ Message::Response(_)) = &message
                && answer.id() == Some(&request.id)
            {
                answered(answer);
                self.learn(&request.method, answer, &event.data);
                self.write(event.data).await;
                return Ended::Answered;
            }
            match message {
                Some(Message::Notification(ready)) if again && ready.method.as_str() == ACKNOWLEDGED => {
                    self.missed(&request.id, &ready).await;
                }
                _ => self.write(event.data).await,
            }
        }
        Ended::Broken(last)
    }

    /// Takes a legacy stream up where it broke: the answer may be on its way, or the daemon says that it is gone.
    async fn resume(&self, request: &Request, mut last: Box<str>) {
        for _ in 0..BRIDGE_RESUMES_MAX {
            let mut head = self.sessions.head();
            head.push((LAST_EVENT_ID, last.to_string()));
            match self.send(Method::GET, head, Bytes::new()).await {
                Ok(reply) if reply.status == StatusCode::OK => {
                    match self.stream(request, reply.events(), false, |_| {}).await {
                        Ended::Answered => return,
                        Ended::Broken(Some(id)) => last = id,
                        Ended::Broken(None) => {}
                    }
                }
                Ok(_) => break,
                Err(Unsent::NoDaemon(_)) => break,
                Err(Unsent::Broken) => {}
            }
            sleep(BRIDGE_LISTEN_PAUSE).await;
        }
        self.lost(&request.id).await;
    }

    /// A subscription is there again: what changed meanwhile was missed, so each kind is said to have changed
    /// (mcp-protocol 3.8).
    async fn missed(&self, id: &Id, ready: &Notification) {
        let kinds = ready.params().ok().and_then(|params| params.get_object("notifications")).unwrap_or_default();
        for (kind, method) in [
            ("toolsListChanged", "notifications/tools/list_changed"),
            ("promptsListChanged", "notifications/prompts/list_changed"),
            ("resourcesListChanged", "notifications/resources/list_changed"),
        ] {
            if kinds.get(kind).is_some_and(|on| on.as_bytes() == b"true") {
                let own: Object = [(key::SUBSCRIPTION_ID, id.json().clone())].into_iter().collect();
                let params: Object = [("_meta", own.to_json())].into_iter().collect();
                let changed = Notification { method: Rpc::from(method), params: Some(params.to_json()) };
                self.write(changed.encode()).await;
            }
        }
    }

    async fn unreachable(&self, id: &Id, why: String) {
        self.fail(id, FaultCode::UpstreamUnavailable, Outcome::NotSent, why).await;
    }

    async fn lost(&self, id: &Id) {
        let text = "the daemon went away before the answer came: the request may have been carried out, or not";
        self.fail(id, FaultCode::OutcomeUnknown, Outcome::Unknown, text.to_owned()).await;
    }

    async fn fail(&self, id: &Id, code: FaultCode, outcome: Outcome, text: String) {
        let retryable = outcome == Outcome::NotSent;
        let fault = Fault { code, server: None, text, outcome, retryable, retry_after_ms: None };
        self.refuse(Some(id.clone()), &fault.to_error()).await;
    }
}

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Whether it is open for as long as both sides are, and can be asked for again.
fn is_stream(method: &Rpc) -> bool {
    method.as_str() == "subscriptions/listen"
}
