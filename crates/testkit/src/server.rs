//! Runs a [`Scripted`] server on pipes, one message per line, as stdio servers do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, watch};
use trunkline_wire::{Id, Json, Message, Method, Notification};

use crate::duplex::End;
use crate::script::{Act, Script, Scripted};

/// The test's hold on a running fake server.
#[derive(Debug, Clone)]
pub struct Handle {
    seen: Arc<Mutex<Vec<Message>>>,
    count: watch::Receiver<usize>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Say(Act),
    Change(Script),
}

/// Starts a fake server on one end of a pair of pipes. It ends with the pipes, or by a fault that kills it.
pub fn serve(script: Script, end: End) -> Handle {
    let (server, handle) = Running::new(script);
    #[expect(clippy::disallowed_methods, reason = "no task of the product; it ends with its pipes")]
    tokio::spawn(server.run(end.reader, end.writer));
    handle
}

/// Is a fake server until its input ends, or until a fault kills it.
pub async fn run(script: Script, input: impl AsyncRead + Unpin, output: impl AsyncWrite + Unpin) {
    let (server, _) = Running::new(script);
    server.run(input, output).await;
}

impl Handle {
    /// Returns all that the server was sent, in order.
    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the messages of one method that the server was sent.
    pub fn seen_of(&self, method: &str) -> Vec<Message> {
        self.seen().into_iter().filter(|message| method_of(message) == Some(method)).collect()
    }

    /// Waits until the server was sent `count` messages of this method; returns the last of them.
    ///
    /// # Panics
    /// If the server ends before.
    pub async fn saw(&self, method: &str, count: usize) -> Message {
        let mut changes = self.count.clone();
        loop {
            if let Some(message) = self.seen_of(method).into_iter().nth(count - 1) {
                return message;
            }
            let ended = changes.changed().await.is_err();
            assert!(!ended || self.seen_of(method).len() >= count, "the server ended and did not see {method}");
        }
    }

    /// Has the server send a notification.
    pub async fn notify(&self, method: &str, params: &str) {
        let params = Some(Json::trusted(params.to_owned()));
        let notice = Notification { method: Method::from(method), params };
        self.order(Order::Say(Act::Send(notice.encode()))).await;
    }

    /// Has the server write bytes as they are.
    pub async fn write(&self, bytes: impl Into<Bytes>) {
        self.order(Order::Say(Act::Raw(bytes.into()))).await;
    }

    /// Has the server die.
    pub async fn exit(&self) {
        self.order(Order::Say(Act::Exit)).await;
    }

    /// Gives the server another script from now on. It does not announce the change: see [`Handle::notify`].
    pub async fn change(&self, script: Script) {
        self.order(Order::Change(script)).await;
    }

    /// Whether the server has ended.
    pub fn is_closed(&self) -> bool {
        self.orders.is_closed()
    }

    async fn order(&self, order: Order) {
        // A server that is dead already takes no orders, and that is fine.
        let _ = self.orders.send(order).await;
    }
}

fn method_of(message: &Message) -> Option<&str> {
    match message {
        Message::Request(request) => Some(request.method.as_str()),
        Message::Notification(notice) => Some(notice.method.as_str()),
        Message::Response(_) => None,
    }
}

struct Running {
    mind: Scripted,
    seen: Arc<Mutex<Vec<Message>>>,
    count: watch::Sender<usize>,
    orders: mpsc::Receiver<Order>,
}

/// What a reaction left to do, and for which request.
type Rest = (Option<Id>, Vec<Act>);

impl Running {
    fn new(script: Script) -> (Self, Handle) {
        let (orders, taken) = mpsc::channel(16);
        let (count, counted) = watch::channel(0);
        let seen = Arc::default();
        let handle = Handle { seen: Arc::clone(&seen), count: counted, orders };
        (Self { mind: Scripted::new(script), seen, count, orders: taken }, handle)
    }

    async fn run(mut self, input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Unpin) {
        let mut lines = BufReader::new(input).lines();
        let mut waiting = FuturesUnordered::new();
        loop {
            let (request, acts) = tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => self.take(&line),
                    Ok(None) | Err(_) => return,
                },
                Some(rest) = waiting.next() => rest,
                Some(order) = self.orders.recv() => (None, self.obey(order)),
            };
            if request.as_ref().is_some_and(|id| self.mind.is_cancelled(id)) {
                continue;
            }
            match perform(acts, &mut output).await {
                Ok(None) => {}
                Ok(Some((delay, rest))) => waiting.push(later(delay, (request, rest))),
                Err(Ended) => return,
            }
        }
    }

    fn take(&mut self, line: &str) -> Rest {
        let Ok(message) = Message::parse(&Bytes::copy_from_slice(line.as_bytes())) else {
            return (None, Vec::new());
        };
        let acts = self.mind.react(&message);
        let request = match &message {
            Message::Request(request) => Some(request.id.clone()),
            Message::Notification(_) | Message::Response(_) => None,
        };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        self.count.send_modify(|count| *count += 1);
        (request, acts)
    }

    fn obey(&mut self, order: Order) -> Vec<Act> {
        match order {
            Order::Say(act) => vec![act],
            Order::Change(script) => {
                *self.mind.script() = script;
                Vec::new()
            }
        }
    }
}

/// The server died, or nobody reads it any more.
struct Ended;

/// Performs acts up to the first wait; returns what is left then.
async fn perform(
    acts: Vec<Act>,
    output: &mut (impl AsyncWrite + Unpin),
) -> Result<Option<(Duration, Vec<Act>)>, Ended> {
    let mut acts = acts.into_iter();
    while let Some(act) = acts.next() {
        match act {
            Act::Send(text) => {
                output.write_all(&text).await.map_err(|_| Ended)?;
                output.write_all(b"\n").await.map_err(|_| Ended)?;
            }
            Act::Raw(bytes) => output.write_all(&bytes).await.map_err(|_| Ended)?,
            Act::Wait(delay) => return Ok(Some((delay, acts.collect()))),
            Act::Exit => return Err(Ended),
        }
        output.flush().await.map_err(|_| Ended)?;
    }
    Ok(None)
}

async fn later(delay: Duration, rest: Rest) -> Rest {
    tokio::time::sleep(delay).await;
    rest
}

#[cfg(test)]
mod tests;
