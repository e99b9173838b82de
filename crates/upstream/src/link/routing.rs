//! Where what arrives on a link belongs: answers and progress to the mailbox of their request, changes to the supervisor,
//! notices without owner to the hub, a server's own requests to the call they provably belong to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use trunkline_wire::{Id, Json, Message, Method, Notification, Object, Request, Response, RpcError, code, key};

use super::Link;
use crate::environment::{LogLevel, ServerNotice};
use crate::offer::Kinds;
use crate::pending::Owner;
use crate::questions;
use crate::transport::{Broken, Outgoing};

impl Link {
    /// Takes a message where it belongs. `on`: the request on whose own stream it came.
    pub(crate) fn route(self: &Arc<Self>, message: Message, on: Option<u64>) {
        let since = self.opened.elapsed();
        self.heard_ms.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        match message {
            Message::Response(response) => self.answered(response, on),
            Message::Notification(notification) => self.noticed(notification, on),
            Message::Request(request) => self.asked(request, on),
        }
    }

    /// A message that could not be read costs the request it would have answered.
    pub(super) fn unreadable(&self, broken: Broken) {
        let id = broken.request.or_else(|| self.pending().only());
        if let Some(id) = id {
            self.lost(id, broken);
        }
    }

    /// Ids are matched leniently (mcp-protocol 2.1). An answer whose request is not known comes too late.
    fn answered(&self, response: Response, on: Option<u64>) {
        let mailbox = {
            let mut pending = self.pending();
            let id = match &response.id {
                Some(id) => id.minted(),
                None => on.or_else(|| pending.only()),
            };
            id.and_then(|id| pending.take(id))
        };
        match mailbox {
            Some(mailbox) => mailbox.answer(response.outcome, &self.budget),
            None => self.dropped("an answer that nobody waits for"),
        }
    }

    fn noticed(&self, notification: Notification, on: Option<u64>) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "what we do not act on is ignored, whatever it is")]
        match notification.method {
            Method::Progress => self.to_mailbox(progress_of(&notification), notification),
            Method::LogMessage if on.is_some() => self.to_mailbox(on, notification),
            Method::LogMessage => self.said(notification),
            Method::ResourcesUpdated => self.updated(notification, on),
            Method::SubscriptionsAcknowledged => {
                let listen = notification.params().ok().and_then(|params| listen_of(&params)).or(on);
                self.to_mailbox(listen, notification);
            }
            Method::ToolsListChanged => self.lists_changed(Kinds::TOOLS),
            Method::PromptsListChanged => self.lists_changed(Kinds::PROMPTS),
            Method::ResourcesListChanged => self.lists_changed(Kinds::RESOURCES.with(Kinds::TEMPLATES)),
            Method::Cancelled => {
                let id = notification.params().ok().and_then(|params| Id::new(params.get("requestId")?.clone()).ok());
                if let Some(id) = id
                    && self.pending().all().any(|mailbox| mailbox.withdraw(&id))
                {
                    self.all_metrics.question(&self.server, "withdrawn");
                }
            }
            Method::ElicitationComplete => {
                if let Some(params) = notification.params {
                    self.publish(ServerNotice::ElicitationComplete { server: self.server.clone(), params });
                }
            }
            // Unknown ones are ignored in silence (mcp-protocol 2.5); the known rest is not for a client.
            _ => {}
        }
    }

    /// A resource was updated. The id of our listen is nobody's business (mcp-protocol 6.1).
    fn updated(&self, notification: Notification, on: Option<u64>) {
        let Ok(mut params) = notification.params() else { return };
        let Some(uri) = params.get_str("uri") else { return };
        let listen = listen_of(&params).or(on);
        let news = {
            let mut overlap = self.overlap.lock().unwrap_or_else(PoisonError::into_inner);
            overlap.as_mut().zip(listen).is_none_or(|(overlap, id)| overlap.is_news(id, &uri))
        };
        if !news {
            return;
        }
        let mut meta = params.get_object("_meta").unwrap_or_default();
        let params = if meta.remove(key::SUBSCRIPTION_ID).is_none() {
            notification.params
        } else {
            if meta.is_empty() {
                drop(params.remove("_meta"));
            } else {
                params.set("_meta", meta.to_json());
            }
            Some(params.to_json())
        };
        if let Some(params) = params {
            let (server, lane) = (self.server.clone(), self.lane.clone());
            self.publish(ServerNotice::ResourceUpdated { server, lane, uri, params });
        }
    }

    /// Takes a server's own request to the call it belongs to. One that belongs to none, or cannot be put to whoever made
    /// the call, is answered at once: left hanging it would hang the server's tool.
    fn asked(&self, request: Request, on: Option<u64>) {
        if request.method == Method::Ping {
            return self.respond(request.id, request.method, Ok(Json::literal("{}")));
        }
        // A modern server has no requests (mcp-protocol 2.2); an answer would be as wrong.
        if self.modern().is_some() {
            return self.dropped("a request that its revision does not allow");
        }
        let params = match request.params() {
            Ok(params) => params,
            Err(malformed) => {
                let error = RpcError::new(code::INVALID_PARAMS, malformed.to_string());
                return self.respond(request.id, request.method, Err(error.to_json()));
            }
        };
        let answer = questions::at_once(&request.method, &params, &self.declared());
        if let Some(answer) = answer {
            if request.method == Method::RootsList {
                self.told_roots.send_replace(true);
            }
            return self.respond(request.id, request.method, answer);
        }
        let owner = self.pending().owner(on);
        let (lack, outcome) = match owner {
            Owner::One(mailbox) => {
                let asker = mailbox.asker();
                let permitted = asker.map(|asker| asker.abilities.permits(&request.method, &params));
                match permitted {
                    Some(Ok(())) => match mailbox.ask(request, &self.budget) {
                        Ok(()) => return self.all_metrics.question(&self.server, "asked"),
                        Err(refused) => return self.undeliverable(refused, None, "refused"),
                    },
                    Some(Err(lack)) => (Some(lack), "lacking"),
                    None => (None, "no_call"),
                }
            }
            Owner::Nobody => (None, "no_call"),
            Owner::Ambiguous => (None, "ambiguous"),
        };
        self.undeliverable(request, lack, outcome);
    }

    /// Answers a question that reaches nobody, and says once per connection what may help.
    fn undeliverable(&self, request: Request, lack: Option<trunkline_wire::Lack>, outcome: &'static str) {
        self.all_metrics.question(&self.server, outcome);
        let method = request.method.clone();
        if outcome == "ambiguous" && !self.advised.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                server = %self.server, %method,
                "asked something while calls of several clients were running, so nobody could be asked; set `serialize = true` in \
                 [mcp_servers.{}] for one call at a time, or `sharing = \"session\"` for a connection each",
                self.server
            );
        } else {
            let lack = lack.map(trunkline_wire::Lack::name);
            tracing::debug!(server = %self.server, %method, lack, outcome, "a question was put to nobody");
        }
        let answer = questions::undeliverable(&request.method, lack);
        self.respond(request.id, request.method, answer);
    }

    /// Answers a request of the server.
    pub(crate) fn respond(&self, id: Id, method: Method, outcome: Result<Json, Json>) {
        let response = Response { id: Some(id), outcome };
        self.post(Outgoing::new(response.encode(), None, method));
    }

    /// A log message on a shared pipe: of the request that alone runs there, if its caller wants that, else of nobody's
    /// (mcp-protocol 5.7).
    fn said(&self, notification: Notification) {
        let owner = self.pending().owner(None);
        if let Owner::One(mailbox) = owner
            && mailbox.asker().is_some_and(|asker| asker.logs)
        {
            if mailbox.notice(notification, &self.budget) {
                self.metrics.notice_dropped();
            }
            return;
        }
        let level = notification.params().ok().and_then(|params| params.get_str("level"));
        let level = level.and_then(|level| LogLevel::parse(&level));
        let params = notification.params.unwrap_or_else(|| Json::literal("{}"));
        let (server, lane) = (self.server.clone(), self.lane.clone());
        self.publish(ServerNotice::LogMessage { server, lane, level, params });
    }

    fn to_mailbox(&self, id: Option<u64>, notification: Notification) {
        let mailbox = id.and_then(|id| self.pending().get(id).cloned());
        let dropped = mailbox.is_none_or(|mailbox| mailbox.notice(notification, &self.budget));
        if dropped {
            self.metrics.notice_dropped();
        }
    }

    /// Has these lists fetched again.
    pub(crate) fn refresh(&self, kinds: Kinds) {
        self.changes.raise(kinds.bits());
    }

    fn lists_changed(&self, kinds: Kinds) {
        if self.changes.raise(kinds.bits()) {
            self.all_metrics.list_changed_coalesced(&self.server);
        }
    }

    fn publish(&self, notice: ServerNotice) {
        if self.notices.try_send(notice).is_err() {
            self.metrics.notice_dropped();
        }
    }
}

/// Returns the listen that a message belongs to.
fn listen_of(params: &Object) -> Option<u64> {
    Id::new(params.get_object("_meta")?.get(key::SUBSCRIPTION_ID)?.clone()).ok()?.minted()
}

/// Returns the request that a progress notification belongs to: its token is the request's id.
fn progress_of(notification: &Notification) -> Option<u64> {
    let token = notification.params().ok()?.get("progressToken")?.clone();
    Id::new(token).ok()?.minted()
}
