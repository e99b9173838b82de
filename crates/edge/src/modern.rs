//! Modern clients on `/mcp`: a request that names its revision, its client and what that can do (mcp-protocol 3.4, 3.6).
//!
//! No session is looked for and none is named: a `Mcp-Session-Id` that comes along is ignored. An error that comes
//! before anything else has a status of its own where 3.4 gives it one; once a stream was begun, it is the stream's
//! last event. A client that closes its connection has cancelled: the reply is dropped, and the hub does the rest.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use trunkline_hub::{Params, Wants};
use trunkline_wire::{Era, Method, Request as Call};

use crate::Edge;
use crate::body::Body;
use crate::ingress::{self, Refused};
use crate::mcp::{Visitor, guarded, in_flight};
use crate::reply::{self, plain};

/// Answers a request of the modern era, whose `params` were read.
pub(crate) async fn answer(
    edge: &Arc<Edge>,
    headers: HeaderMap,
    visitor: &Visitor,
    wants: Wants,
    call: Call,
    params: Params,
) -> Response<Body> {
    let method = call.method.clone();
    let response = guarded(edge, call.id.clone(), request(edge, headers, visitor, wants, call, params)).await;
    edge.metrics.client_request(Era::Modern, Some(&method), response.status().as_u16());
    response
}

async fn request(
    edge: &Arc<Edge>,
    headers: HeaderMap,
    visitor: &Visitor,
    wants: Wants,
    call: Call,
    params: Params,
) -> Response<Body> {
    let id = call.id.clone();
    let envelope = match ingress::admit(&edge.hub, &visitor.view, &headers, &call, params) {
        Ok(envelope) => {
            let owner = visitor.principal.as_ref().map(|holder| Arc::clone(holder.name()));
            envelope.of(owner, visitor.view.clone()).from_port(visitor.from)
        }
        Err(Refused { status, error }) => return reply::error(status, Some(id), &error),
    };
    // The head's buffer is not needed for the time of a call.
    drop(headers);
    if call.method == Method::SubscriptionsListen && !wants.sse {
        return plain(
            StatusCode::NOT_ACCEPTABLE,
            "subscriptions/listen answers with a stream: `Accept: text/event-stream`",
        );
    }
    in_flight(edge, &visitor.principal, wants, id, || edge.hub.handle_modern(envelope, call, wants)).await
}
