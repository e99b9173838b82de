//! stdio: a server that is a child process, one JSON-RPC message per line (mcp-protocol 4.1).
//!
//! [`start`] runs the command behind its guard and connects its pipes; tests connect pipes of their own with `over`.
//! Senders write straight to the child's stdin ([`writer`]); the stream of messages is read by whoever polls it
//! ([`lines`]), so that a call costs no task of the transport's. A task drains stderr from the moment of the spawn.
//!
//! Promises: a message that cannot be read costs the request it answered, not the connection; when the child
//! ends, the stream ends within 200 ms, whoever still holds the pipe; when the transport is closed or dropped,
//! at whatever await, the process tree is ended by the task that owns it.
//!
//! It does not restart anything, and keeps no ids.

mod hint;
mod launch;
pub(crate) mod lines;
mod writer;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use trunkline_config::Secret;
use trunkline_telemetry::redact::{self, Scrubber};
use trunkline_telemetry::{Journal, Metrics};
use trunkline_wire::{Message, ServerName, parse_batch};

use self::lines::{Line, Lines};
use self::writer::Writer;
use super::process::{self, StartError, Tree};
use super::{Broken, Facts, FaultPoint, MessageStream, Outgoing, SendError, Sent, Transport};
use crate::environment::Environment;
use crate::error::{DialError, DialErrorKind};

pub use launch::find_program;

/// How a line of stdout that is no message begins in the journal, where it stands among those of stderr.
pub(crate) const NOT_A_MESSAGE: &str = "stdout, not a message";
pub(crate) use launch::helper;

/// What a dead child wrote may still be in the pipe, and a descendant may hold the pipe open: read on for so long.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(100);

/// Bad lines in one window that are taken for noise; beyond, nothing that comes is worth trusting.
const BAD_LINES_MAX: u32 = 1000;
const BAD_LINES_WINDOW: Duration = Duration::from_secs(10);

/// Of a bad line, or of stderr, in an error text.
const SHOWN_CHARS: usize = 300;

/// How far back the last words are looked for: past the frames of a stack trace.
const LAST_WORDS_BYTES: usize = 4096;

/// Runs the server's command.
///
/// Returns as soon as it runs; whether it speaks MCP is the handshake's business. If it exits meanwhile, the stream
/// ends with a [`Broken`] that says with which status and what it wrote to stderr, where `secrets` are masked.
pub(crate) async fn start(
    name: &ServerName,
    config: &trunkline_config::Stdio,
    secrets: &[Secret],
    environment: &Environment,
) -> Result<(Arc<dyn Transport>, MessageStream), DialError> {
    let command = launch::command(config, &environment.inherited)?;
    let program = command.program.clone();
    environment.journal.scrub_with(name, Arc::new(Scrubber::new(launch::secrets(config, secrets))));
    let failed = |error: StartError| {
        let (kind, hint) = match &error {
            StartError::Guard(_) => (DialErrorKind::Spawn, ""),
            // The file is there, that was checked, so what is missing is what runs it.
            StartError::Command(why) if why.contains("os error 2)") => {
                (DialErrorKind::Config, "; is the interpreter that its first line names installed?")
            }
            StartError::Command(_) => (DialErrorKind::Config, ""),
        };
        DialError::new(kind, format!("starting {} failed: {error}{hint}", program.display()))
    };
    let started = process::start(&environment.guard, name, command, &environment.metrics).await.map_err(failed)?;
    let real = program.canonicalize().unwrap_or(program);
    tracing::info!(server = %name.as_str(), pid = started.tree.pid(), program = %real.display(), "started");

    let stderr = Stderr::drain(name, &environment.journal, started.stderr);
    Ok(connect(name, started.stdout, started.stdin, Some((started.tree, stderr)), environment))
}

/// Speaks over any pair of pipes, as to a child without process.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn over(
    name: &ServerName,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + 'static,
    environment: &Environment,
) -> (Arc<dyn Transport>, MessageStream) {
    connect(name, reader, writer, None, environment)
}

fn connect(
    name: &ServerName,
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + 'static,
    process: Option<(Tree, Stderr)>,
    environment: &Environment,
) -> (Arc<dyn Transport>, MessageStream) {
    let writer = Arc::new(Writer::new(writer));
    let closed = CancellationToken::new();
    let flusher = writer.clone();
    trunkline_telemetry::spawn("stdin", async move { flusher.flush().await });

    let (tree, stderr) = process.unzip();
    let child = tree.as_ref().map(|tree| tree.exited().boxed().shared());
    let incoming = Box::new(Incoming {
        lines: Lines::new(reader, environment.limits.upstream_message_bytes, environment.budget.clone()),
        line_bytes_max: environment.limits.upstream_message_bytes,
        unpacked: VecDeque::new(),
        ending: ending(closed.clone(), writer.clone(), child.clone()).boxed(),
        ended: false,
        closed: closed.clone(),
        child,
        stderr,
        bad: BadLines { since: Instant::now(), count: 0 },
        name: name.clone(),
        journal: environment.journal.clone(),
        metrics: environment.metrics.clone(),
    });
    let stream = stream::unfold(incoming, |mut incoming| async move { incoming.next().await.map(|it| (it, incoming)) });
    (Arc::new(Stdio { writer, tree, closed }), Box::pin(stream))
}

struct Stdio {
    writer: Arc<Writer>,
    tree: Option<Tree>,
    /// Cancelled when the end is our own doing.
    closed: CancellationToken,
}

impl Stdio {
    fn hang_up(&self) {
        self.closed.cancel();
        self.writer.close("the connection is closed");
    }
}

impl Transport for Stdio {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        std::future::ready(self.writer.send(out.text).map(|()| Sent::OnSharedStream)).boxed()
    }

    /// The stop order of reliability 9.6, with `grace` as the time to heed the end of stdin. Goes on if dropped.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.hang_up();
        match &self.tree {
            Some(tree) => tree.stop(grace).map(drop).boxed(),
            None => std::future::ready(()).boxed(),
        }
    }

    fn facts(&self) -> Facts {
        Facts { kind: "stdio", pid: self.tree.as_ref().map(Tree::pid), get_stream: None }
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.hang_up();
    }
}

type Child = futures_util::future::Shared<BoxFuture<'static, process::Exit>>;

/// Resolves when nothing more can be expected of the server, even if its stdout stays open.
async fn ending(closed: CancellationToken, writer: Arc<Writer>, child: Option<Child>) -> Option<String> {
    let exited = async {
        match child {
            Some(child) => child.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = closed.cancelled() => None,
        exit = exited => {
            sleep(LAST_WORDS_LIMIT).await;
            Some(format!("the process {exit}"))
        }
        () = writer.closed().cancelled() => {
            sleep(LAST_WORDS_LIMIT).await;
            Some(writer.why())
        }
    }
}

/// The messages of a server, as they come in.
struct Incoming<R> {
    lines: Lines<R>,
    line_bytes_max: usize,
    /// The rest of a batch (mcp-protocol 2.3).
    unpacked: VecDeque<Message>,
    ending: BoxFuture<'static, Option<String>>,
    ended: bool,
    closed: CancellationToken,
    child: Option<Child>,
    stderr: Option<Stderr>,
    bad: BadLines,
    name: ServerName,
    journal: Arc<Journal>,
    metrics: Metrics,
}

struct BadLines {
    since: Instant,
    count: u32,
}

enum Step {
    Line(Line),
    /// The end of stdout, or why it cannot be read.
    Eof(Option<String>),
    Ending(Option<String>),
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    async fn next(&mut self) -> Option<Result<Message, Broken>> {
        while !self.ended {
            if let Some(message) = self.unpacked.pop_front() {
                return Some(Ok(message));
            }
            let step = poll_fn(|context| match self.lines.poll_next(context) {
                Poll::Ready(Ok(Some(line))) => Poll::Ready(Step::Line(line)),
                Poll::Ready(Ok(None)) => Poll::Ready(Step::Eof(None)),
                Poll::Ready(Err(error)) => Poll::Ready(Step::Eof(Some(error.to_string()))),
                Poll::Pending => self.ending.poll_unpin(context).map(Step::Ending),
            });
            let item = match step.await {
                Step::Line(Line::Whole(line)) => self.read(&line),
                Step::Line(Line::Discarded { head, tail, bytes, no_room }) => {
                    self.discarded(&head, &tail, bytes, no_room)
                }
                Step::Eof(error) => {
                    self.ended = true;
                    self.farewell(error).await
                }
                Step::Ending(why) => {
                    self.ended = true;
                    match why {
                        Some(why) => Some(self.lost(why).await),
                        None => None,
                    }
                }
            };
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// Reads one line: a message, a batch, or noise.
    fn read(&mut self, line: &Bytes) -> Option<Result<Message, Broken>> {
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
        if text.is_empty() {
            return None;
        }
        let text = line.slice_ref(text);
        let error = match Message::parse(&text) {
            Ok(message) => return Some(Ok(message)),
            Err(error) => error,
        };
        if let Some(Ok(members)) = parse_batch(&text) {
            let mut broken = None;
            for member in members {
                match member {
                    Ok(message) => self.unpacked.push_back(message),
                    Err(error) => broken = broken.or_else(|| self.bad_line(&text, &error.to_string())),
                }
            }
            return broken.map(Err);
        }
        let broken = self.bad_line(&text, &error.to_string());
        if broken.is_some() {
            return broken.map(Err);
        }
        let hint = hint::look(&text, &text);
        let request = hint.id.filter(|_| hint.is_rpc && !hint.has_method)?;
        let text = format!("its answer cannot be read: {error}");
        Some(Err(Broken { fault: FaultPoint::Unreadable, text, request: Some(request) }))
    }

    fn discarded(&mut self, head: &[u8], tail: &[u8], bytes: u64, no_room: bool) -> Option<Result<Message, Broken>> {
        let text = if no_room {
            format!("its answer of {bytes} bytes did not fit into the buffers (`limits.buffer_bytes`)")
        } else {
            let max = self.line_bytes_max;
            format!("its answer of {bytes} bytes is over the limit of {max} (`limits.upstream_message_bytes`)")
        };
        let broken = self.bad_line(head, &text);
        if broken.is_some() {
            return broken.map(Err);
        }
        let hint = hint::look(head, tail);
        (!hint.has_method).then_some(Err(Broken { fault: FaultPoint::Unreadable, text, request: hint.id }))
    }

    /// Counts a line that is no message. More than noise ends the connection.
    fn bad_line(&mut self, line: &[u8], why: &str) -> Option<Broken> {
        self.metrics.stdio_bad_line(&self.name);
        if self.bad.since.elapsed() > BAD_LINES_WINDOW {
            self.bad = BadLines { since: Instant::now(), count: 0 };
        }
        self.bad.count += 1;
        let shown = redact::printable(&String::from_utf8_lossy(&line[..line.len().min(SHOWN_CHARS * 4)]), SHOWN_CHARS);
        let note = format!("{NOT_A_MESSAGE} ({why}): {shown}\n");
        self.journal.stderr(&self.name, note.as_bytes());
        if let Some(stderr) = &self.stderr {
            stderr.written.fetch_add(note.len(), Ordering::Relaxed);
        }
        if self.bad.count <= BAD_LINES_MAX {
            return None;
        }
        self.ended = true;
        let text = format!(
            "more than {BAD_LINES_MAX} lines on stdout within {} s that are no messages; does it log to stdout?",
            BAD_LINES_WINDOW.as_secs()
        );
        Some(Broken { fault: FaultPoint::LostUnanswered, text, request: None })
    }

    /// The end of stdout: why, if it was not our doing.
    async fn farewell(&mut self, error: Option<String>) -> Option<Result<Message, Broken>> {
        if self.closed.is_cancelled() {
            return None;
        }
        let exit = match &self.child {
            Some(child) => timeout(LAST_WORDS_LIMIT, child.clone()).await.ok(),
            None => None,
        };
        let why = match (exit, error) {
            (Some(exit), _) => format!("the process {exit}"),
            (None, Some(error)) => format!("reading its stdout failed: {error}"),
            (None, None) => "it closed its stdout".to_owned(),
        };
        Some(self.lost(why).await)
    }

    async fn lost(&mut self, why: String) -> Result<Message, Broken> {
        let half = if self.lines.amid_a_line() { " in the middle of a message" } else { "" };
        let said = match &self.stderr {
            Some(stderr) => stderr.last_words(&self.name, &self.journal).await,
            None => String::new(),
        };
        Err(Broken { fault: FaultPoint::LostUnanswered, text: format!("{why}{half}{said}"), request: None })
    }
}

/// What this child, and no earlier one, wrote to stderr.
struct Stderr {
    /// Bytes of the journal that are its.
    written: Arc<AtomicUsize>,
    ended: CancellationToken,
}

impl Stderr {
    /// Drains `pipe` into the journal, which never blocks, until the last holder of its other end is gone.
    fn drain(name: &ServerName, journal: &Arc<Journal>, mut pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (written, ended) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (count, at_end) = (written.clone(), ended.clone().drop_guard());
        let (name, journal) = (name.clone(), journal.clone());
        trunkline_telemetry::spawn("stderr", async move {
            let _at_end = at_end;
            let mut chunk = vec![0; 8 * 1024];
            while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
                journal.stderr(&name, &chunk[..read]);
                count.fetch_add(read, Ordering::Relaxed);
            }
        });
        Self { written, ended }
    }

    /// The end of it, as the end of a sentence.
    async fn last_words(&self, name: &ServerName, journal: &Journal) -> String {
        let _ = timeout(LAST_WORDS_LIMIT / 2, self.ended.cancelled()).await;
        let tail = journal.stderr_tail(name, self.written.load(Ordering::Relaxed).min(LAST_WORDS_BYTES));
        let said = gist(&tail);
        if said.is_empty() { "; it wrote nothing to stderr".to_owned() } else { format!("; its last words: {said}") }
    }
}

/// What a person would quote: the last lines, without what is indented under them, as stack frames and quoted source
/// are, and without lines of brackets. The message stands above the frames in Node, below them in Python.
fn gist(tail: &str) -> String {
    let told = |line: &&str| !line.starts_with(char::is_whitespace) && line.contains(char::is_alphanumeric);
    let mut kept = Vec::new();
    let mut room = SHOWN_CHARS;
    for line in tail.lines().rev().filter(told) {
        let line = redact::printable(line.trim_end(), SHOWN_CHARS);
        if line.len() > room && !kept.is_empty() {
            break;
        }
        room = room.saturating_sub(line.len());
        kept.push(line);
    }
    if kept.is_empty() {
        return redact::printable(tail.trim(), SHOWN_CHARS);
    }
    kept.reverse();
    kept.join(" | ")
}

#[cfg(all(test, target_os = "linux"))]
mod process_tests;
#[cfg(test)]
mod tests;
