//! The span of each attempt at a server, where a request is traced (telemetry's `traces.rs`).
//!
//! It begins when there is a connection and a place, and ends with the attempt: with an answer, with what broke it, or, if
//! the request was given up, with its drop. A server is told the attempt's own context, so that what it does stands below it.

use std::borrow::Cow;

use trunkline_config::Connect;
use trunkline_telemetry::error_type;
use trunkline_wire::{Json, Method};

use super::errand::Errand;
use crate::link::Link;
use crate::retry;
use crate::transport::FaultPoint;

impl Errand {
    /// Begins the span of an attempt over `link`, and has the request say its context.
    pub(super) fn begin_span(&mut self, link: &Link) {
        let Some(trace) = &self.ask.trace else { return };
        let mut span = trace.ask(self.ask.method.label());
        if span.is_recorded() {
            span.set("dev.trunkline.server", self.shared.name.as_str().to_owned());
            if let Some(name) = self.ask.params.get_str("name") {
                if self.ask.method == Method::ToolsCall {
                    span.of_tool(&name);
                } else {
                    span.set("gen_ai.prompt.name", name);
                }
            }
            if let Some(revision) = self.shared.offers.borrow().revision.or(link.modern()) {
                span.set("mcp.protocol.version", revision.as_str());
            }
            match &self.shared.server().connect {
                Connect::Stdio(_) => span.set("network.transport", "pipe"),
                Connect::Http(http) => {
                    span.set("network.transport", "tcp");
                    span.set("server.address", http.url.host_str().unwrap_or_default().to_owned());
                    span.set("server.port", u64::from(http.url.port_or_known_default().unwrap_or_default()));
                }
            }
            if self.resends > 0 {
                span.set("dev.trunkline.resend", u64::from(self.resends));
            }
        }
        span.tell(&mut self.ask.meta);
        self.span = Some(span);
    }

    /// Ends it with what broke the attempt.
    pub(super) fn end_span(&mut self, fault: FaultPoint) {
        self.end_span_with(Some(Cow::Borrowed(retry::label(fault))));
    }

    /// Ends it with an answer, or with what stands for one.
    pub(super) fn end_span_answered(&mut self, answer: &Result<Json, Json>) {
        let is_recorded = self.span.as_ref().is_some_and(|span| span.is_recorded());
        self.end_span_with(if is_recorded { error_type(answer) } else { None });
    }

    /// Ends it; `error` is what it ended with.
    pub(super) fn end_span_with(&mut self, error: Option<Cow<'static, str>>) {
        if let Some(span) = self.span.take() {
            span.end(error);
        }
    }
}
