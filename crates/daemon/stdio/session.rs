//! The legacy session: its id, the stream for what the daemon says unasked, and a new one where the daemon knows the old one
//! no more.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use trunkline_wire::{Json, Message, Method as Rpc, Notification, Object};

use super::Bridge;
use super::http::{Head, Reply, SESSION_ID, revision};
use crate::limits::{BRIDGE_GOODBYE, BRIDGE_LISTEN_PAUSE};

/// The session, if there is one.
pub(super) struct Sessions {
    open: Mutex<Option<Session>>,
    /// One opens it anew at a time.
    opening: Semaphore,
    listening: Mutex<bool>,
}

#[derive(Clone)]
struct Session {
    id: String,
    revision: String,
    /// The client's own `initialize`.
    opened_by: Bytes,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Mutex::default(), opening: Semaphore::new(1), listening: Mutex::default() }
    }
}

impl Sessions {
    pub(super) fn is_open(&self) -> bool {
        self.get().is_some()
    }

    fn get(&self) -> Option<Session> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The id of the session.
    pub(super) fn id(&self) -> Option<String> {
        self.get().map(|session| session.id)
    }

    /// The headers that name the session.
    pub(super) fn head(&self) -> Head {
        let session = self.get();
        session.map(|session| vec![(SESSION_ID, session.id), revision(&session.revision)]).unwrap_or_default()
    }

    /// Takes up the session that an `initialize` opened.
    pub(super) fn opened(&self, headers: &HeaderMap, answer: &Message, text: &Bytes) {
        let Message::Response(response) = answer else { return };
        let Some(id) = headers.get(SESSION_ID).and_then(|id| id.to_str().ok()) else { return };
        let result = response.outcome.as_ref().ok().and_then(|result: &Json| Object::parse(result).ok());
        let Some(revision) = result.and_then(|result| result.get_str("protocolVersion")) else { return };
        let session = Session { id: id.to_owned(), revision, opened_by: text.clone() };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

impl Bridge {
    /// Opens the session anew, as the client did; `false` if that fails, or there was none. `stale` is the one that is not
    /// known any more: another request may have replaced it meanwhile.
    pub(super) async fn reopen(&self, stale: &str) -> bool {
        let Ok(_opening) = self.sessions.opening.acquire().await else { return false };
        let Some(session) = self.sessions.get() else { return false };
        if session.id != stale {
            return true;
        }
        let Ok(reply) = self.send(Method::POST, Vec::new(), session.opened_by.clone()).await else { return false };
        let headers = reply.headers.clone();
        let Some(answer) = first_response(reply).await else { return false };
        self.sessions.opened(&headers, &answer, &session.opened_by);
        if self.sessions.id().as_deref() == Some(stale) {
            return false;
        }
        let initialized = Notification { method: Rpc::Initialized, params: None };
        let _ = self.send(Method::POST, self.sessions.head(), initialized.encode()).await;
        true
    }

    /// Keeps a stream open for what the daemon says unasked, until the end.
    pub(super) fn listen(self: &Arc<Self>) {
        let mut listening = self.sessions.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *listening, true) {
            return;
        }
        let bridge = Arc::clone(self);
        let end = self.end.clone();
        let stop = self.stop.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = end.cancelled() => {}
                () = bridge.hear() => {}
            }
        };
        trunkline_telemetry::spawn("stdio stream", task);
    }

    async fn hear(&self) {
        loop {
            if let Ok(reply) = self.send(Method::GET, self.sessions.head(), Bytes::new()).await {
                if reply.status == StatusCode::OK {
                    let mut events = reply.events();
                    while let Some(event) = events.next().await {
                        if !event.data.is_empty() {
                            self.write(event.data).await;
                        }
                    }
                } else if reply.status == StatusCode::METHOD_NOT_ALLOWED {
                    return;
                }
            }
            sleep(BRIDGE_LISTEN_PAUSE).await;
        }
    }

    /// Ends the session.
    pub(super) async fn close_session(&self) {
        if self.sessions.is_open() {
            let _ = timeout(BRIDGE_GOODBYE, self.send(Method::DELETE, self.sessions.head(), Bytes::new())).await;
        }
    }
}

/// The response in a reply, in whichever form it came.
async fn first_response(reply: Reply) -> Option<Message> {
    if reply.status != StatusCode::OK {
        return None;
    }
    if !reply.is("text/event-stream") {
        return Message::parse(&reply.whole().await?).ok();
    }
    let mut events = reply.events();
    while let Some(event) = events.next().await {
        if let Ok(message @ Message::Response(_)) = Message::parse(&event.data) {
            return Some(message);
        }
    }
    None
}
