//! Who answers what (architecture 7).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, select_all};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use trunkline_upstream::Upstream;
use trunkline_wire::{
    Id, Json, Message, Method, Notification, Owner, Request, Response, Revision, RpcError, Text, code,
};

use crate::call::{self, Listener};
use crate::catalog::{Catalog, List};
use crate::client::Caller;
use crate::limits::COMMIT_AFTER;
use crate::logging::{self, LogLevel};
use crate::refusal::{self, Refusal};
use crate::replay::{First, Outbox};
use crate::running::{Driver, Running};
use crate::session::Session;
use crate::{Guest, Hub, Reply, View, Wants, subscriptions, traces};

/// How long an offer may take from its server into the catalogue.
const JUST_NOW: Duration = Duration::from_millis(200);

/// Answers one message of a session.
pub(crate) async fn message(hub: &Arc<Hub>, session: &Arc<Session>, message: Message, wants: Wants) -> Reply {
    match message {
        Message::Request(request) => self::request(hub, session, request, wants).await,
        Message::Notification(notification) => {
            notified(session, &notification);
            Reply::Accepted
        }
        // An answer to nothing that was asked is dropped (mcp-protocol 3.9 row 11).
        Message::Response(response) => {
            if let Some(id) = &response.id {
                session.questions().answered(id, response.outcome);
            }
            Reply::Accepted
        }
    }
}

async fn request(hub: &Arc<Hub>, session: &Arc<Session>, request: Request, wants: Wants) -> Reply {
    match request.method.owner() {
        Owner::Gateway => own(hub, session, &request),
        // No legacy client has tasks (mcp-protocol 5.14).
        Owner::Nobody | Owner::ByToken => Reply::One(unknown_method(&request).into()),
        _ if hub.draining.load(Ordering::Relaxed) => {
            let outcome = hub.dress(&request.method, &refusal::shutting_down());
            Reply::One(answer(request.id, outcome))
        }
        Owner::Catalogue => {
            let until = || session.lists_until(hub.rules().limits.first_list_wait);
            let outcome = list(hub, &request, session.revision(), session.guest(), until).await;
            Reply::One(answer(request.id, outcome))
        }
        Owner::ByUri if request.method != Method::ResourcesRead => {
            let id = request.id.clone();
            let start = |outbox: Arc<Outbox>| {
                let ask_on = wants.sse.then(|| Arc::clone(&outbox));
                let outcome = subscriptions::request(Arc::clone(hub), Arc::clone(session), request, ask_on);
                finished(Arc::clone(session), outbox, outcome)
            };
            work(session, id, wants, start).await
        }
        Owner::ByName | Owner::ByUri => {
            if let Some(catalog) = call::to_be_read(hub, &request, session.guest().view) {
                Box::pin(catalog.indexed()).await;
            }
            let errand = match call::aim(hub, &request, session.revision(), session.guest()) {
                Ok(errand) => errand,
                Err(outcome) => return Reply::One(answer(request.id, outcome)),
            };
            let start = |outbox: Arc<Outbox>| {
                let caller = Caller::Legacy(Arc::clone(session));
                let listener = Some(Listener { caller, outbox: Arc::clone(&outbox), streams: wants.sse });
                let hub = Arc::clone(hub);
                let outcome = async move { call::run(&hub, errand, listener).await };
                finished(Arc::clone(session), outbox, outcome)
            };
            work(session, request.id, wants, start).await
        }
    }
}

/// Drives work that ends with an answer in the outbox, up to the first thing the client may know; where it takes a
/// stream, not for longer than a connection may seem dead.
pub(crate) async fn work(
    session: &Session,
    id: Id,
    wants: Wants,
    start: impl FnOnce(Arc<Outbox>) -> BoxFuture<'static, ()>,
) -> Reply {
    let outbox = Arc::new(Outbox::new(id, session.purse().clone()));
    let running = Running::new(Arc::clone(&outbox), start(outbox));
    if !session.start(&running) {
        running.stop();
        return Reply::Refused(Refusal::UnknownSession);
    }
    let driver = Driver(running);
    let first = if wants.sse {
        timeout(COMMIT_AFTER, driver.first()).await.unwrap_or(First::Notice)
    } else {
        driver.first().await
    };
    match first {
        First::Answer(answer) => Reply::One(answer),
        First::Notice => Reply::Events(driver.into_events(session).boxed()),
    }
}

/// Work as a [`Running`] wants it: the outcome becomes the answer. So does a panic: nobody may be there any more to
/// see it, and the request would run, and keep its session busy, for ever (R-6).
fn finished(
    session: Arc<Session>,
    outbox: Arc<Outbox>,
    outcome: impl Future<Output = Result<Json, Json>> + Send + 'static,
) -> BoxFuture<'static, ()> {
    AssertUnwindSafe(outcome)
        .catch_unwind()
        .map(move |outcome| {
            let outcome = outcome.unwrap_or_else(|_| Err(failed()));
            session.finish(&outbox, answer(outbox.request().clone(), outcome));
        })
        .boxed()
}

/// The error for a request at which the gateway itself failed.
pub(crate) fn failed() -> Json {
    RpcError::new(code::INTERNAL_ERROR, "the gateway failed at this request; its log says more").to_json()
}

fn notified(session: &Session, notification: &Notification) {
    // Of the others none matters here.
    if notification.method == Method::Initialized {
        session.initialized();
    } else if notification.method == Method::RootsListChanged {
        session.roots_changed();
    } else if notification.method == Method::Cancelled {
        let id = notification.params().ok().and_then(|params| Id::new(params.get("requestId")?.clone()).ok());
        if let Some(id) = id {
            session.cancel(&id);
        }
    }
}

/// What the gateway answers by itself.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here no legacy client may ask")]
fn own(hub: &Hub, session: &Session, request: &Request) -> Reply {
    let outcome = match request.method {
        Method::Ping => Ok(Json::literal("{}")),
        Method::Initialize => return Reply::Refused(Refusal::SecondInitialize),
        Method::LoggingSetLevel => set_level(hub, session, request),
        _ => return Reply::One(unknown_method(request).into()),
    };
    Reply::One(answer(request.id.clone(), outcome))
}

fn set_level(hub: &Hub, session: &Session, request: &Request) -> Result<Json, Json> {
    let params = request.params().map_err(|error| refusal::invalid_params(error.to_string()))?;
    let level = params.get_str("level").as_deref().and_then(LogLevel::parse);
    let level = level.ok_or_else(|| refusal::invalid_params("`level` is none of the eight log levels"))?;
    session.set_level(level);
    hub.note_settings(session);
    logging::apply(hub);
    Ok(Json::literal("{}"))
}

/// Answers a request for a list from the catalogue, at once unless a server is starting for the very first time: then `until` says
/// how long that is waited for (R-3).
pub(crate) async fn list(
    hub: &Hub,
    request: &Request,
    revision: Revision,
    guest: Guest<'_>,
    until: impl FnOnce() -> Instant,
) -> Result<Json, Json> {
    let list = List::asked_by(&request.method).expect("the catalogue owns the four lists");
    let params = request.params().map_err(|error| refusal::invalid_params(error.to_string()))?;
    let meta = hub.tracer().and_then(|_| params.get_object("_meta")).unwrap_or_default();
    let span = hub.span(&request.method, &meta, revision);
    let mut catalog = hub.view(guest.view);
    if !catalog.awaited.is_empty() {
        catalog = first_complete(hub, guest.view, until()).await;
    }
    let outcome = catalog.page(list, revision).asked(&params, hub.sealer(), guest.owner);
    traces::end(span, &outcome);
    outcome
}

/// Waits until no server that was never seen before is starting, but not beyond `until`.
async fn first_complete(hub: &Hub, view: &View, until: Instant) -> Arc<Catalog> {
    let mut catalogs = hub.catalogs();
    loop {
        let catalog = catalogs.borrow_and_update().of(view).clone();
        let mut states: Vec<_> = catalog.awaited.iter().map(Upstream::states).collect();
        states.retain_mut(|state| {
            let now = state.borrow_and_update();
            // One that has just got ready is awaited too: its offer is on its way into the catalogue.
            matches!(now.state, "starting" | "handshake") || (now.state == "ready" && now.since.elapsed() < JUST_NOW)
        });
        if states.is_empty() || Instant::now() >= until {
            return catalog;
        }
        tokio::select! {
            biased;
            changed = catalogs.changed() => {
                if changed.is_err() {
                    return catalog;
                }
            }
            _ = select_all(states.iter_mut().map(|state| state.changed().boxed())) => {}
            () = sleep_until(until) => {}
        }
    }
}

pub(crate) fn unknown_method(request: &Request) -> Bytes {
    let method = trunkline_telemetry::redact::printable(request.method.as_str(), 128);
    let error = RpcError::new(code::METHOD_NOT_FOUND, format!("method not found: {method}"));
    Response::error(Some(request.id.clone()), error.to_json()).encode()
}

fn answer(id: Id, outcome: Result<Json, Json>) -> Text {
    Response { id: Some(id), outcome }.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes;

    #[tokio::test]
    async fn a_request_whose_work_panics_is_answered_and_over() {
        let hub = fakes::hub(&[], &trunkline_config::Config::default());
        let session = fakes::session(&hub, "2025-06-18");
        let outcome = async { panic!("as the test wants") };
        let start = |outbox| finished(Arc::clone(&session), outbox, outcome);
        let reply = work(&session, Id::from(7), Wants { json: true, sse: true }, start).await;
        let Reply::One(text) = reply else { panic!("one message, not {reply:?}") };
        let text = String::from_utf8(text.into_bytes().to_vec()).expect("text");
        assert!(text.contains(r#""id":7"#) && text.contains("-32603"), "{text}");
        assert!(!session.is_busy());
    }
}
