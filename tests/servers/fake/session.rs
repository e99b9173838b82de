//! One client's connection, and one call of it.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use crate::message::{Outcome, Params, severity, success};
use crate::protocol::{Answer, Server};
use crate::tools;

/// Where messages to the client go: the line writer, an event stream.
pub(crate) type Lines = mpsc::Sender<String>;

/// One client's connection.
pub(crate) struct Session {
    /// For messages that belong to no request; replaced when an HTTP client opens its GET stream.
    pub(crate) unrelated: Mutex<Lines>,
    pub(crate) subscribed: Mutex<HashSet<String>>,
    pub(crate) level: Mutex<u8>,
    pub(crate) revision: Mutex<String>,
    /// Requests that a cancellation may end: dropping the sender ends them.
    pub(crate) running: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// Questions to the client that wait for an answer.
    pub(crate) asked: Mutex<HashMap<String, oneshot::Sender<String>>>,
    next_question: AtomicU64,
}

/// A tool call that may take its time: what it needs of the world.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) session: Arc<Session>,
    /// Messages that belong to this call.
    pub(crate) lines: Lines,
    pub(crate) progress_token: Option<String>,
    /// How the era decides what the client is told of the log.
    pub(crate) log: Log,
}

/// Whether a log message is for the client.
pub(crate) enum Log {
    /// At the level that the session has at that moment.
    Session,
    /// At the level that this very request asked for, if it did.
    Request(Option<u8>),
}

impl Session {
    pub(crate) fn new(unrelated: Lines) -> Session {
        Session {
            unrelated: Mutex::new(unrelated),
            subscribed: Mutex::default(),
            level: Mutex::new(4),
            revision: Mutex::default(),
            running: Mutex::default(),
            asked: Mutex::default(),
            next_question: AtomicU64::new(1),
        }
    }

    /// Sends a message that belongs to no request.
    pub(crate) async fn tell(&self, message: String) {
        let lines = self.unrelated.lock().expect("short").clone();
        let _ = lines.send(message).await;
    }

    /// Asks the client something on the call's stream, and returns the whole answer's text.
    pub(crate) async fn ask(&self, lines: &Lines, method: &str, params: &str) -> String {
        self.put(lines, method, params).await.1.await.unwrap_or_default()
    }

    /// Sends a question, and returns its id and where the answer will arrive.
    pub(crate) async fn put(&self, lines: &Lines, method: &str, params: &str) -> (String, oneshot::Receiver<String>) {
        let id = format!("\"q-{}\"", self.next_question.fetch_add(1, Ordering::Relaxed));
        let (answer, arrived) = oneshot::channel();
        self.asked.lock().expect("short").insert(id.clone(), answer);
        let question = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let _ = lines.send(question).await;
        (id, arrived)
    }

    /// Work that ends without a reply when its request is cancelled.
    pub(crate) fn cancellable(
        self: &Arc<Self>,
        id: &str,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Answer {
        let owned = id.to_owned();
        self.cancellable_quietly(id, async move {
            Some(match work.await {
                Ok(result) => success(&owned, &result),
                Err(failure) => failure.reply(&owned),
            })
        })
    }

    /// Work that knows itself what to say at its end, if anything.
    pub(crate) fn cancellable_quietly(
        self: &Arc<Self>,
        id: &str,
        work: impl Future<Output = Option<String>> + Send + 'static,
    ) -> Answer {
        let (cancel, cancelled) = oneshot::channel::<()>();
        self.running.lock().expect("short").insert(id.to_owned(), cancel);
        let (session, id) = (self.clone(), id.to_owned());
        Answer::Later(Box::pin(async move {
            let reply = tokio::select! {
                reply = work => reply,
                _ = cancelled => None,
            };
            session.running.lock().expect("short").remove(&id);
            reply
        }))
    }
}

impl Call {
    pub(crate) fn hears(&self, level: &str) -> bool {
        match self.log {
            Log::Session => severity(level) >= *self.session.level.lock().expect("short"),
            Log::Request(wanted) => wanted.is_some_and(|wanted| severity(level) >= wanted),
        }
    }

    /// Runs the tool that `params` name, unless its outcome is there already, after the delay of the options.
    pub(crate) fn run(
        self,
        params: &Params<'_>,
        at_once: Option<Outcome>,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let name = params.name.clone().unwrap_or_default().into_owned();
        let arguments = params.arguments().to_owned();
        async move {
            tokio::time::sleep(self.server.options.delay).await;
            match at_once {
                Some(outcome) => outcome,
                None => tools::run(&self, &name, &arguments).await,
            }
        }
    }
}
