//! `trunkline stdio`: the daemon's endpoint for clients that only start programs, of both eras.
//!
//! Each line of standard input is a message, posted to the running daemon as a client over HTTP would; what comes back, on
//! whatever stream, is a line of standard output. The bridge keeps no state that a restart of the daemon would lose: the
//! legacy session is the daemon's own (README: sessions survive), so a daemon that comes back is gone on with. Where none
//! runs one is started, by itself and for everybody (`daemon.rs`).
//!
//! A request has exactly one answer, whatever happens to the daemon: what cannot be brought to it is refused, what was lost on
//! the way is said to be of unknown outcome, and nothing that may have run is sent twice. At the end of input everything that
//! was asked is still answered; upon SIGTERM it is cancelled.

mod daemon;
mod exchange;
mod http;
mod lines;
mod params;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clap::Args;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trunkline_config::Sources;
use trunkline_wire::headers::ParamHeader;
use trunkline_wire::{
    Id, Json, Message, Method, Notification, Object, Request, Response, RpcError, code, key, parse_batch,
};

use self::daemon::Door;
use self::lines::{Line, Lines};
use self::session::Sessions;
use crate::exit::{self, Failure};
use crate::limits::{BRIDGE_GOODBYE, BRIDGE_LINES_WAITING_MAX, BRIDGE_REQUESTS_MAX};
use crate::stop::{Signals, Wanted};

pub(crate) const EXAMPLES: &str = "\
For clients that start a program and speak to it over standard input and output;
`trunkline connect claude-desktop` writes it into such a client's file.
It finds the daemon that runs, or starts one that stays.

By hand, as one line of input for each message:
  echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}' | trunkline stdio";

/// What the bridge is told.
#[derive(Debug, Args)]
pub(crate) struct Stdio {
    /// Fail where no daemon runs, in place of starting one
    #[arg(long)]
    no_start: bool,
}

/// What all tasks of the bridge share.
struct Bridge {
    door: Door,
    out: mpsc::Sender<Bytes>,
    sessions: Sessions,
    /// What is asked and not answered, by its id.
    waiting: Mutex<HashMap<Bytes, Waiting>>,
    /// The revision that the last modern request claimed: its notifications carry none.
    claim: Mutex<Option<String>>,
    /// Which arguments of which tool are repeated in headers (mcp-protocol 3.5).
    params: Mutex<HashMap<String, Arc<[ParamHeader]>>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Everything ends, connections and all.
    stop: CancellationToken,
    /// Nobody reads what is written.
    gone: CancellationToken,
    /// Nothing more is asked: streams without an end are ended.
    end: CancellationToken,
}

/// A request that is not answered.
struct Waiting {
    id: Id,
    modern: bool,
    cancel: CancellationToken,
}

/// Serves standard input until it ends.
pub(crate) fn run(stdio: &Stdio, sources: Sources, state_dir: PathBuf) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(Err(Failure::failed(format!("no runtime: {error}")))),
    };
    let outcome = runtime.block_on(serve(Door::new(sources, state_dir, !stdio.no_start)));
    // Standard input is read by a thread that only its end would wake.
    runtime.shutdown_background();
    exit::report(outcome)
}

async fn serve(door: Door) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let wanted = CancellationToken::new();
    let want = wanted.clone();
    let heard = async move {
        while signals.next().await != Wanted::Stop {}
        want.cancel();
    };
    trunkline_telemetry::spawn("stdio signals", heard);
    between(door, tokio::io::stdin(), tokio::io::stdout(), wanted).await
}

/// Serves a client's two pipes until the first ends, the second breaks, or the end is `wanted`.
async fn between(
    door: Door,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
    wanted: CancellationToken,
) -> Result<(), Failure> {
    // Before the client is heard: it then learns from the exit that there is nothing to speak to.
    tokio::select! {
        biased;
        () = wanted.cancelled() => return Ok(()),
        opened = door.open() => opened.map_err(Failure::failed)?,
    };
    let (out, queue) = mpsc::channel(BRIDGE_LINES_WAITING_MAX);
    let bridge = Arc::new(Bridge {
        door,
        out,
        sessions: Sessions::default(),
        waiting: Mutex::default(),
        claim: Mutex::default(),
        params: Mutex::default(),
        places: Arc::new(Semaphore::new(BRIDGE_REQUESTS_MAX)),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        gone: CancellationToken::new(),
        end: CancellationToken::new(),
    });
    let (written, gone, left) = (TaskTracker::new(), bridge.gone.clone(), bridge.gone.clone());
    let writing = written.track_future(async move {
        // A client that reads no more has gone.
        if lines::write(queue, output).await.is_err() {
            gone.cancel();
        }
    });
    trunkline_telemetry::spawn("stdio writer", writing);
    written.close();

    // All that was asked is answered.
    let mut done = false;
    tokio::select! {
        biased;
        () = wanted.cancelled() => {}
        () = bridge.gone.cancelled() => {}
        () = bridge.read(Lines::new(input)) => {
            bridge.end.cancel();
            bridge.tasks.close();
            tokio::select! {
                biased;
                () = wanted.cancelled() => {}
                () = bridge.gone.cancelled() => {}
                () = bridge.tasks.wait() => done = true,
            }
        }
    }
    // The connections are needed for that, so they are ended after it.
    let _ = timeout(BRIDGE_GOODBYE, bridge.leave()).await;
    bridge.end.cancel();
    bridge.stop.cancel();
    bridge.tasks.close();
    let _ = timeout(BRIDGE_GOODBYE, bridge.tasks.wait()).await;
    drop(bridge);
    if done {
        // For as long as the client takes to read it.
        tokio::select! {
            biased;
            () = wanted.cancelled() => {}
            () = left.cancelled() => {}
            () = written.wait() => {}
        }
    } else {
        let _ = timeout(BRIDGE_GOODBYE, written.wait()).await;
    }
    Ok(())
}

impl Bridge {
    /// Takes each line, in its order.
    async fn read(self: &Arc<Self>, mut lines: Lines<impl AsyncRead + Unpin>) {
        while let Some(line) = lines.next().await {
            match line {
                Line::Text(text) if text.trim_ascii().is_empty() => {}
                Line::Text(text) => self.take(text).await,
                Line::TooLong => {
                    let text = "a line is longer than a message may be (`limits.request_body_bytes`)";
                    self.refuse(None, &RpcError::new(code::INVALID_REQUEST, text)).await;
                }
            }
        }
    }

    async fn take(self: &Arc<Self>, text: Bytes) {
        if let Some(batch) = parse_batch(&text) {
            match batch {
                Ok(_) => self.begin_batch(text).await,
                Err(error) => self.refuse(None, &RpcError::new(error.code(), error.to_string())).await,
            }
            return;
        }
        match Message::parse(&text) {
            Ok(Message::Request(request)) => self.begin(request, text).await,
            // In order with what follows: nothing may overtake `initialized`.
            Ok(Message::Notification(notification)) => self.notify(&notification, text).await,
            Ok(Message::Response(_)) => self.post(None, text).await,
            Err(error) => self.refuse(None, &RpcError::new(error.code(), error.to_string())).await,
        }
    }

    /// Begins a request; one that opens a session is seen through before another line is read.
    async fn begin(self: &Arc<Self>, request: Request, text: Bytes) {
        let claim = claim_of(&request);
        let opens = claim.is_none() && request.method == Method::Initialize;
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        let waiting = Waiting { id: request.id.clone(), modern: claim.is_some(), cancel: self.stop.child_token() };
        let cancel = waiting.cancel.clone();
        let key = request.id.key();
        let begun = {
            let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // An id that is in use cannot be told from itself.
            let free = !all.contains_key(&key);
            if free {
                all.insert(key.clone(), waiting);
            }
            free
        };
        if !begun {
            let error = RpcError::new(code::INVALID_REQUEST, "this id is that of a request that is not answered yet");
            self.refuse(Some(request.id), &error).await;
            return;
        }
        let bridge = Arc::clone(self);
        let (end, endless) = (self.end.clone(), request.method == Method::SubscriptionsListen);
        let task = async move {
            let _place = place;
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = end.cancelled(), if endless => {}
                () = bridge.exchange(&request, claim.as_deref(), text) => {}
            }
            bridge.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        };
        if opens {
            task.await;
        } else {
            trunkline_telemetry::spawn("stdio request", self.tasks.track_future(task));
        }
    }

    async fn begin_batch(self: &Arc<Self>, text: Bytes) {
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        let bridge = Arc::clone(self);
        let stop = self.stop.clone();
        let task = async move {
            let _place = place;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = bridge.post(None, text) => {}
            }
        };
        trunkline_telemetry::spawn("stdio batch", self.tasks.track_future(task));
    }

    async fn notify(self: &Arc<Self>, notification: &Notification, text: Bytes) {
        if notification.method == Method::Cancelled {
            let id = notification.params().ok().and_then(|params| Id::new(params.get("requestId")?.clone()).ok());
            let known = id.and_then(|id| {
                let all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                all.get(&id.key()).map(|waiting| (waiting.modern, waiting.cancel.clone()))
            });
            // Its answer was on its way.
            let Some((modern, cancel)) = known else { return };
            // No answer follows a cancellation (mcp-protocol 2.8), and over HTTP the daemon gives one. The modern era cancels
            // by closing the stream alone (3.6).
            cancel.cancel();
            if !modern {
                self.post(None, text).await;
            }
            return;
        }
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let claim = if self.sessions.is_open() { None } else { claim };
        self.post(claim.as_deref(), text).await;
        if notification.method == Method::Initialized && self.sessions.is_open() {
            self.listen();
        }
    }

    /// Tells the daemon what is not waited for any more, and that the session is over.
    async fn leave(&self) {
        let left: Vec<Waiting> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, waiting)| waiting).collect();
        for Waiting { id, modern, cancel } in left {
            cancel.cancel();
            if !modern {
                let params: Object = [("requestId", id.json().clone())].into_iter().collect();
                let cancelled = Notification { method: Method::Cancelled, params: Some(params.to_json()) };
                self.post(None, cancelled.encode()).await;
            }
        }
        self.close_session().await;
    }

    /// Answers what does not reach the daemon.
    async fn refuse(&self, id: Option<Id>, error: &RpcError) {
        self.write(Response::error(id, error.to_json()).encode()).await;
    }

    async fn write(&self, line: Bytes) {
        // Without a writer the client is gone, and the bridge ends.
        let _ = self.out.send(lines::on_one_line(line)).await;
    }
}

/// The revision that a request claims, if it is of the modern era (mcp-protocol 3.3).
fn claim_of(request: &Request) -> Option<String> {
    let meta = request.params().ok()?.get_object("_meta")?;
    let claim = meta.get(key::PROTOCOL_VERSION)?;
    Some(claim.decode_str().unwrap_or_else(|| String::from_utf8_lossy(claim.as_bytes()).into_owned()))
}

/// The text of a member, for a header.
fn named(request: &Request) -> Option<String> {
    let key = trunkline_wire::headers::name_key(&request.method)?;
    request.params().ok()?.get(key).and_then(Json::decode_str)
}

#[cfg(test)]
mod tests;
