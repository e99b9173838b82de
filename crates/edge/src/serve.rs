//! [`serve`]: connections, from accept to close.
//!
//! The HTTP/1 builder is used bare, because the stock loops have no head timeout and hold half prefaces of
//! HTTP/2 (reliability 11); there is no HTTP/2 and no upgrade here. One task per connection. The accept loops
//! run inside [`serve`] itself, so that one that breaks is seen by whoever awaits it, not by clients who find
//! a deaf daemon.
//!
//! Stopping has the three steps of [`Steps`]. *doors*: no more accepts; answers say `Connection: close`. *soft*: idle
//! connections close, standalone streams end, work in flight goes on. *hard* ends that work: whoever still waits gets
//! its final answer (see `mcp` and `reply`), then the connections go. [`serve`] returns when the last one has gone.
//! A listener is only ever closed, never shut down: where a service manager holds it too, connections that come
//! meanwhile wait in the kernel for the next daemon.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{Either, join_all, ready};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use trunkline_telemetry::Rounds;

use crate::body::{Body, Phase};
use crate::limits::{ACCEPT_PAUSE, HEAD_BYTES_MAX, LAST_WORDS, OWNER_CONNECTIONS_MAX, READ_BYTES_MAX};
use crate::listen::{Listeners, OwnerSocket};
use crate::peer::{Arrival, Peer};
use crate::reply::{closing, plain};
use crate::socket::Watched;
use crate::strain::is_for_want_of_descriptors;
use crate::{Door, Edge, Steps, api, board, configuration};

/// Serves `listeners` and the owner's socket until `stop.doors` and then returns once all connections have ended,
/// at the latest shortly after `stop.hard`.
pub async fn serve(listeners: Listeners, owner: Option<OwnerSocket>, mut door: Door, stop: Steps) {
    let addresses = listeners.addresses();
    let slots = Arc::clone(&door.slots);
    let (_, nowhere) = mpsc::channel(1);
    let mut relocations = std::mem::replace(&mut door.relocations, nowhere);
    let edge = Edge::new(door, addresses, stop);
    let connections = TaskTracker::new();
    trunkline_telemetry::spawn("trends", connections.track_future(board::keep_trends(edge.clone())));
    let tcp = async {
        let mut listeners = listeners;
        loop {
            let accepting = join_all(listeners.into_tcp().into_iter().map(|listener| {
                let (edge, slots, connections) = (edge.clone(), slots.clone(), connections.clone());
                async move { accept_tcp(&listener, &edge, &slots, &connections).await }
            }));
            tokio::select! {
                biased;
                _ = accepting => return,
                Some(next) = relocations.recv() => {
                    // The new ones listen already. Connections that came by the old ones stay until they end.
                    edge.addresses.send_replace(next.addresses());
                    listeners = next;
                }
            }
        }
    };
    let tcp = async {
        tokio::select! {
            biased;
            () = tcp => {}
            () = configuration::follow(&edge, &slots) => {}
        }
    };
    let unix = async {
        if let Some(socket) = &owner {
            // Not one of the clients': the owner must get in when they have taken all there is.
            let slots = Arc::new(Semaphore::new(OWNER_CONNECTIONS_MAX));
            accept_unix(socket, &edge, &slots, &connections).await;
        }
    };
    tokio::join!(tcp, unix);
    drop(owner);
    connections.close();
    connections.wait().await;
}

async fn accept_tcp(listener: &TcpListener, edge: &Arc<Edge>, slots: &Arc<Semaphore>, connections: &TaskTracker) {
    while let Some((slot, (stream, remote))) = accept(edge, slots, || listener.accept()).await {
        let edge = edge.clone();
        let task = connections.track_future(async move {
            let _slot = slot;
            // Answers are small and awaited: nothing is gained by holding them back.
            let _ = stream.set_nodelay(true);
            match stream.local_addr() {
                Ok(local) => {
                    let peer = edge.peers.judge(remote, local);
                    if peer == Peer::Unasked {
                        edge.strain.no_descriptor();
                    }
                    let arrival = Arrival::of(peer, remote, local);
                    tcp_connection(stream, arrival, edge).await;
                }
                Err(error) => tracing::debug!(%error, "a connection ended before it was looked at"),
            }
        });
        trunkline_telemetry::spawn("connection", task);
    }
}

async fn accept_unix(socket: &OwnerSocket, edge: &Arc<Edge>, slots: &Arc<Semaphore>, connections: &TaskTracker) {
    while let Some((slot, (stream, _))) = accept(edge, slots, || socket.listener().accept()).await {
        let edge = edge.clone();
        let task = connections.track_future(async move {
            let _slot = slot;
            owner_connection(stream, edge).await;
        });
        trunkline_telemetry::spawn("owner connection", task);
    }
}

/// Waits for a free slot and a connection; `None` when the doors close.
///
/// Without a free slot nothing is accepted: connections wait in the kernel. An accept that fails because
/// the process or the system has run out of files is tried again after a pause, for ever.
async fn accept<T, F>(
    edge: &Edge,
    slots: &Arc<Semaphore>,
    mut next: impl FnMut() -> F,
) -> Option<(OwnedSemaphorePermit, T)>
where
    F: Future<Output = io::Result<T>>,
{
    let mut complained = false;
    let accepted = async {
        let slot = slot(edge, slots).await;
        loop {
            match next().await {
                Ok(connection) => return (slot, connection),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if is_for_want_of_descriptors(&error) {
                        edge.strain.no_descriptor();
                    } else if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "cannot accept connections for now; trying again");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = edge.stop.doors.cancelled() => None,
        accepted = accepted => Some(accepted),
    }
}

/// Waits for a place, and tells if those of the clients are all taken.
async fn slot(edge: &Edge, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return slot;
    }
    if Arc::ptr_eq(slots, &edge.slots) {
        edge.metrics.rejected("connections");
        edge.strain.full(edge.config().limits.connections);
    }
    slots.clone().acquire_owned().await.expect("the semaphore is never closed")
}

/// Whether the error belongs to a connection that was lost before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn tcp_connection(stream: TcpStream, arrival: Arrival, edge: Arc<Edge>) {
    connection(stream, &edge.clone(), move |request| {
        let edge = edge.clone();
        async move { crate::answer(&edge, arrival, request).await }
    })
    .await;
}

async fn owner_connection(stream: UnixStream, edge: Arc<Edge>) {
    let own = rustix::process::geteuid().as_raw();
    // The file's mode keeps others out already; the kernel's word costs nothing.
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(uid) if uid == own || uid == 0 => {}
        _ => return,
    }
    connection(stream, &edge.clone(), move |request| {
        let edge = edge.clone();
        async move { api::answer(&edge, request).await }
    })
    .await;
}

/// Speaks HTTP/1 on `stream` until either side ends it or the tokens do.
pub(crate) async fn connection<S, A, F>(stream: S, edge: &Edge, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(http::Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let phase = Arc::new(Phase::default());
    let io = TokioIo::new(Watched::new(stream, phase.clone(), edge.patience()));
    let service = service_fn(|request| {
        phase.begin();
        let conflict = phase.is_conflict();
        let phase = phase.clone();
        let answering = if conflict { Either::Left(ready(two_lengths())) } else { Either::Right(answer(request)) };
        answering.map(move |response| {
            // Its next request is for the next daemon.
            let response = if edge.stop.doors.is_cancelled() { closing(response) } else { response };
            Ok::<_, Infallible>(response.map(|body| body.ending(phase)))
        })
    });
    let mut served = pin!(
        http1::Builder::new()
            // `Watched` has the clocks for the head and for the time between requests.
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(READ_BYTES_MAX)
            .serve_connection(io, service)
    );
    // The library and the answer it asks for wake each other.
    let mut rounds = Rounds::default();
    tokio::select! {
        biased;
        () = edge.stop.soft.cancelled() => {}
        ended = rounds.drive(served.as_mut()) => return note(ended),
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = rounds.drive(served.as_mut()) => return note(ended),
        () = edge.stop.hard.cancelled() => {}
    }
    // Streams see the token themselves and write their last event; whoever does not read it is cut.
    if let Ok(ended) = timeout(LAST_WORDS, rounds.drive(served)).await {
        note(ended);
    }
}

/// S-22. The future of the answer that is not wanted was never polled, so nothing has happened.
fn two_lengths() -> Response<Body> {
    closing(plain(StatusCode::BAD_REQUEST, "the request has both Content-Length and Transfer-Encoding"))
}

/// A connection that ends in an error is the client's affair: worth a line only to who looks for it.
fn note(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
