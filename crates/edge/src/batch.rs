//! Batches, which revision 2025-03-26 alone has (mcp-protocol 2.3): several messages in one POST to `/mcp`, whose requests
//! are worked on at the same time and answered together. Sessions and statuses are `mcp`'s.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use http::{Response, StatusCode};
use trunkline_hub::{Envelope, EventStream, Reply, Session, Wants};
use trunkline_wire::{Id, Malformed, Message, Method, Request as Call, Revision, RpcError, Text};

use crate::Edge;
use crate::body::Body;
use crate::mcp::{Head, error_text, find, in_session, not_here, stopped};
use crate::reply::{self, bare, plain};

/// Answers a batch (mcp-protocol 2.3): its requests are worked on at the same time, the answers are an array.
pub(crate) async fn answer(edge: &Arc<Edge>, head: &Head, members: Vec<Result<Message, Malformed>>) -> Response<Body> {
    let calls = || {
        members
            .iter()
            .flatten()
            .filter_map(|member| if let Message::Request(call) = member { Some(call) } else { None })
    };
    if calls().any(|call| Envelope::claim_of(call.params.as_ref()).is_some()) {
        return not_here("a batch may not hold requests of revision 2026-07-28");
    }
    if calls().any(|call| call.method == Method::Initialize) {
        return not_here("`initialize` may not be part of a batch");
    }
    let session = match find(edge, head) {
        Ok(session) => session,
        // Without one id that the error could carry: a line of text.
        Err(no) => return plain(no.status, &no.error.message),
    };
    if session.revision() != Revision::V2025_03_26 {
        return in_session(not_here("batches belong to revision 2025-03-26 alone"), &session);
    }
    let wants = Wants { json: true, sse: false };
    let answers = join_all(members.into_iter().map(|member| {
        let session = &session;
        async move {
            match member {
                Ok(Message::Request(call)) => {
                    let id = call.id.clone();
                    let (edge, session) = (edge.clone(), session.clone());
                    Some(alone(edge, session, call, id, wants).await)
                }
                Ok(message) => {
                    let _ = edge.hub.handle(session, message, wants).await;
                    None
                }
                Err(malformed) => Some(error_text(None, &RpcError::new(malformed.code(), malformed.to_string()))),
            }
        }
    }))
    .await;
    let answers: Vec<Bytes> = answers.into_iter().flatten().collect();
    let response = if answers.is_empty() {
        bare(StatusCode::ACCEPTED)
    } else if head.wants.json {
        let array = [&b"["[..], &answers.join(&b","[..]), b"]"].concat();
        reply::message(StatusCode::OK, Bytes::from(array))
    } else {
        reply::as_events(answers.into_iter().map(Text::from).collect())
    };
    in_session(response, &session)
}

/// Answers a batch's request as one message.
async fn alone(edge: Arc<Edge>, session: Arc<Session>, call: Call, id: Id, wants: Wants) -> Bytes {
    let _place = match edge.place() {
        Ok(place) => place,
        Err(none) => return error_text(Some(id), &none.fault(&edge).to_error()),
    };
    let reply = tokio::select! {
        biased;
        reply = edge.hub.handle(&session, Message::Request(call), wants) => reply,
        () = stopped(edge.clone()) => Reply::Accepted,
    };
    match reply {
        Reply::One(text) | Reply::Error { message: text, .. } => text.into_bytes(),
        Reply::Events(events) => last_of(events).await.unwrap_or_else(|| reply::cut_short(id)),
        // No legacy client gets one.
        Reply::Listening { last, .. } => last.into_bytes(),
        Reply::Refused(refusal) => refusal.response(Some(id)),
        Reply::Accepted => reply::cut_short(id),
    }
}

/// The answer is what ends a call's stream.
async fn last_of(events: EventStream) -> Option<Bytes> {
    events.fold(None, |_, event| async { Some(event.data.into_bytes()) }).await
}
