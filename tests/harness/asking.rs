//! A client that is not patient: it makes requests at a steady rate, each on a connection of its own or on one that it
//! keeps, never initialises again, and notes what became of each. What it notes is what real clients give up at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::http;

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Notes {
    pub(crate) answered: u64,
    /// The connection did not come about.
    pub(crate) refused: Vec<String>,
    /// Any status but 200, and what it said.
    pub(crate) statuses: Vec<(u16, String)>,
    /// The answer was none of the tool's.
    pub(crate) wrong: Vec<String>,
    /// The connection ended before the answer.
    pub(crate) lost: Vec<String>,
    pub(crate) slowest: Duration,
}

/// One kind of request.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What the answer must hold.
    pub(crate) expected: &'static str,
}

pub(crate) struct Asking {
    notes: Arc<Mutex<Notes>>,
    open: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Asking {
    /// Asks the questions in turn, one each `every`.
    pub(crate) fn begin(questions: Vec<Question>, every: Duration) -> Asking {
        let (notes, open) = (Arc::<Mutex<Notes>>::default(), Arc::<AtomicU64>::default());
        let task = tokio::spawn({
            let (notes, open) = (Arc::clone(&notes), Arc::clone(&open));
            async move {
                let mut ticks = tokio::time::interval(every);
                for question in questions.iter().cycle() {
                    ticks.tick().await;
                    open.fetch_add(1, Ordering::Relaxed);
                    let (question, notes, open) = (question.clone(), Arc::clone(&notes), Arc::clone(&open));
                    tokio::spawn(async move {
                        ask(&question, &notes).await;
                        open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        });
        Asking { notes, open, task }
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.lock().expect("short").clone()
    }

    /// Asks no more, and waits for what is open.
    pub(crate) async fn end(self) -> Notes {
        self.task.abort();
        super::until("the last answers", async || (self.open.load(Ordering::Relaxed) == 0).then_some(())).await;
        self.notes()
    }
}

async fn ask(question: &Question, notes: &Mutex<Notes>) {
    let began = Instant::now();
    let stream = match TcpStream::connect(http::authority(&question.url)).await {
        Ok(stream) => stream,
        Err(error) => return notes.lock().expect("short").refused.push(error.to_string()),
    };
    let answer = exchange(question, stream).await;
    let mut notes = notes.lock().expect("short");
    notes.slowest = notes.slowest.max(began.elapsed());
    match answer {
        Ok((200, text)) if text.contains(question.expected) => notes.answered += 1,
        Ok((200, text)) => notes.wrong.push(text),
        Ok(other) => notes.statuses.push(other),
        Err(error) => notes.lost.push(error.to_string()),
    }
}

async fn exchange(question: &Question, stream: TcpStream) -> Result<(u16, String), hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = ::http::Request::builder().method("POST").uri(http::path(&question.url));
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(question.body.clone()));
    let reply = sender.send_request(request.body(body).expect("a valid request")).await?;
    let status = reply.status().as_u16();
    let text = reply.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}
