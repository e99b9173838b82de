//! [`Tracer`]: spans of what clients ask and of what servers are asked for it, for a collector of OpenTelemetry.
//!
//! Off unless the configuration names a collector; then there is no tracer, and the path of a call pays for one look that
//! finds none. A request of a client has a span of kind *server*, each attempt at a server one of kind *client* below it. Names
//! and attributes are those of the semantic conventions for MCP. What was said is in none of them: no arguments, results, URIs,
//! ids of sessions or requests, no texts of errors (S-31).
//!
//! Who begins a trace decides whether it is kept: a request that comes with a context is recorded if that says so, another by
//! the configured share. A span goes into a bounded queue when it ends, and one task exports them (`export.rs`): a slow collector
//! costs spans, which are counted, and never a call.

mod context;
mod export;
mod otlp;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use trunkline_wire::{Json, Needle, Object};

use crate::{Metrics, spawn};

use context::Context;
pub use context::{PARENT, STATE};
use otlp::Ended;

/// Spans that wait for the collector: some seconds of a busy daemon, in about two mebibytes.
const WAITING_MAX: usize = 2048;

/// Takes batches to a collector.
pub trait Carrier: Send + Sync + 'static {
    /// Delivers one `ExportTraceServiceRequest` in its JSON form.
    fn carry(&self, batch: Json) -> BoxFuture<'_, Result<(), NotTaken>>;
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// Whether it may be sent again.
    pub again: bool,
    /// When the collector asked for that.
    pub after: Option<Duration>,
    /// For the log; no secret.
    pub text: String,
}

/// What the configuration says of traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// `service.name` and `service.version`.
    pub service: (String, &'static str),
    /// Of the requests that come without a context, the share that is recorded: 0 to 1.
    pub share: f64,
    /// Whether servers are told the context.
    pub propagate: bool,
}

/// Makes spans. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Out>,
    share: f64,
    propagate: bool,
    metrics: Metrics,
}

/// What goes to the task that exports.
#[derive(Debug)]
enum Out {
    Ended(Box<Ended>),
    Settle(oneshot::Sender<()>),
}

/// Which side of a request a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It was asked of us.
    Server = 2,
    /// We asked it.
    Client = 3,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A word.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

/// Where spans below another one begin. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Trace {
    tracer: Tracer,
    context: Context,
}

/// Something that takes time. One that is dropped without an end was given up.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    context: Context,
    parent: Option<[u8; 8]>,
    kind: Kind,
    method: &'static str,
    target: Option<Box<str>>,
    begun: SystemTime,
    clock: Instant,
    attributes: Vec<(&'static str, Value)>,
    ended: bool,
}

impl Tracer {
    /// Begins, and exports by way of `carrier` for as long as anybody has the tracer.
    pub fn start(traced: Traced, carrier: impl Carrier, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let Traced { service, share, propagate } = traced;
        spawn("traces", export::export(waiting, carrier, service, metrics.clone()));
        Self(Arc::new(Shared { queue, share, propagate, metrics }))
    }

    /// Begins the span of a client's request, below what its `_meta` names.
    pub fn serve(&self, method: &'static str, meta: &Object) -> Box<Span> {
        let remote = Context::read(meta);
        let (context, parent) = match remote {
            Some(remote) => (remote.below(), Some(remote.span)),
            None => (Context::begin(fastrand::f64() < self.0.share), None),
        };
        Span::begin(self.clone(), context, parent, Kind::Server, method)
    }

    /// Resolves once everything that ended before is exported, or lost.
    pub async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        if self.0.queue.send(Out::Settle(done)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

impl Trace {
    /// Begins the span of an attempt at a server.
    pub fn ask(&self, method: &'static str) -> Box<Span> {
        Span::begin(self.tracer.clone(), self.context.below(), Some(self.context.span), Kind::Client, method)
    }
}

impl Span {
    fn begin(tracer: Tracer, context: Context, parent: Option<[u8; 8]>, kind: Kind, method: &'static str) -> Box<Self> {
        let attributes = vec![("mcp.method.name", method.into())];
        let (target, begun, clock) = (None, now(), Instant::now());
        Box::new(Self { tracer, context, parent, kind, method, target, begun, clock, attributes, ended: false })
    }

    /// Where spans below this one begin.
    pub fn trace(&self) -> Trace {
        Trace { tracer: self.tracer.clone(), context: self.context.clone() }
    }

    /// Names the tool that is called.
    pub fn of_tool(&mut self, tool: &str) {
        self.target = Some(tool.into());
        self.set("gen_ai.operation.name", "execute_tool");
        self.set("gen_ai.tool.name", tool.to_owned());
    }

    /// Adds an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if self.context.sampled {
            self.attributes.push((key, value.into()));
        }
    }

    /// Writes the context into the `_meta` of what is sent to a server, if servers are told.
    pub fn tell(&self, meta: &mut Object) {
        if self.tracer.0.propagate {
            self.context.write(meta);
        }
    }

    /// Whether somebody will see what is set here.
    pub fn is_recorded(&self) -> bool {
        self.context.sampled
    }

    /// Ends it. `error`: the kind of error that it ended with, one of few words or a code.
    pub fn end(mut self, error: Option<Cow<'static, str>>) {
        self.over(error);
    }

    fn over(&mut self, error: Option<Cow<'static, str>>) {
        if std::mem::replace(&mut self.ended, true) || !self.context.sampled {
            return;
        }
        let failed = error.is_some();
        if let Some(error) = error {
            self.attributes.push(("error.type", Value::Text(error)));
        }
        let name = match &self.target {
            Some(target) => format!("{} {target}", self.method),
            None => self.method.to_owned(),
        };
        let ended = Ended {
            context: self.context.clone(),
            parent: self.parent,
            kind: self.kind,
            name,
            begun: self.begun,
            lasted: self.clock.elapsed(),
            attributes: std::mem::take(&mut self.attributes),
            failed,
        };
        if self.tracer.0.queue.try_send(Out::Ended(Box::new(ended))).is_err() {
            self.tracer.0.metrics.spans("dropped", 1);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.over(Some(Cow::Borrowed("cancelled")));
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "collectors order the spans of several machines by the clock on the wall"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What an answer is as an error, in the word of the conventions: its code, or that the tool failed; `None` if it is none.
pub fn error_type(answer: &Result<Json, Json>) -> Option<Cow<'static, str>> {
    static IS_ERROR: Needle = Needle::new("\"isError\"");
    match answer {
        Ok(result) if !IS_ERROR.is_in(result.as_bytes()) => None,
        Ok(result) => {
            let says = Object::parse(result).ok()?.get("isError")?.as_bytes() == b"true";
            says.then_some(Cow::Borrowed("tool_error"))
        }
        Err(error) => {
            let code = Object::parse(error).ok().and_then(|error| error.get("code")?.decode::<i64>().ok());
            Some(code.map_or(Cow::Borrowed("_OTHER"), |code| Cow::Owned(code.to_string())))
        }
    }
}

fn nanos(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

#[cfg(test)]
mod tests;
