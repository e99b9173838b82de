//! A listener of its own for the way back of one login, where `oauth.callback_port` names a port (S-29): some authorization
//! servers know the gateway under an address that was registered by hand.
//!
//! It is bound before a person sees where to go, so that a port which is taken is told at once, and closed when the login
//! has ended. Whatever comes by it passes the whole door, and finds the one path there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use trunkline_signin::SignIn;
use trunkline_wire::ServerName;

use crate::Edge;
use crate::limits::{ACCEPT_PAUSE, CALLBACK_BIND_PATIENCE, CALLBACK_CONNECTIONS_MAX};
use crate::peer::Arrival;
use crate::reply::plain;
use crate::serve::connection;
use crate::signin::CALLBACK;

/// Binds the port. One of a login that was just given up is waited for.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < CALLBACK_BIND_PATIENCE => {
                sleep(ACCEPT_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

/// Serves the way back until the login to `server` that is open now has ended.
pub(crate) fn serve(edge: &Arc<Edge>, listener: TcpListener, signin: SignIn, server: ServerName) {
    let edge = Arc::clone(edge);
    trunkline_telemetry::spawn("callback", async move {
        tokio::select! {
            biased;
            () = edge.stop.soft.cancelled() => {}
            _ = signin.waited(&server) => {}
            () = accept(&edge, &listener) => {}
        }
    });
}

async fn accept(edge: &Arc<Edge>, listener: &TcpListener) {
    let slots = Arc::new(Semaphore::new(CALLBACK_CONNECTIONS_MAX));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, remote)) => {
                let edge = Arc::clone(edge);
                trunkline_telemetry::spawn("callback connection", async move {
                    let _slot = slot;
                    answer(stream, remote, edge).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a browser's connection for now; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, remote: SocketAddr, edge: Arc<Edge>) {
    let Ok(local) = stream.local_addr() else { return };
    let arrival = Arrival::of(edge.peers.judge(remote, local), remote, local);
    connection(stream, &edge.clone(), move |request| {
        let edge = edge.clone();
        async move {
            if request.uri().path() == CALLBACK {
                crate::answer(&edge, arrival, request).await
            } else {
                plain(StatusCode::NOT_FOUND, "here is only the way back of a sign-in")
            }
        }
    })
    .await;
}
