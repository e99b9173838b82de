//! Spans of what clients ask (telemetry's `traces.rs`): one for each request that is relayed, and for each list.
//!
//! What the gateway answers of itself at once (`initialize`, `ping`, levels of logs) has none: it would say nothing. A request
//! whose `_meta` names a trace belongs to it; where the transport has a context beside it, as HTTP does, the edge puts that there
//! if the message has none of its own ([`Params::trace_from`]).

use trunkline_telemetry::{PARENT, STATE, Span, Tracer, error_type};
use trunkline_wire::{Json, Method, Object, Revision};

use crate::Hub;
use crate::meta::Params;

impl Hub {
    /// Has requests traced from now on. The first tracer stays.
    pub fn trace_to(&self, tracer: Tracer) {
        let _ = self.tracer.set(tracer);
    }

    /// Who traces requests, if anybody does.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// Begins the span of a client's request, if there is a tracer.
    pub(crate) fn span(&self, method: &Method, meta: &Object, revision: Revision) -> Option<Box<Span>> {
        let mut span = self.tracer()?.serve(method.label(), meta);
        span.set("mcp.protocol.version", revision.as_str());
        span.set("network.transport", "tcp");
        Some(span)
    }
}

/// Ends a span with the outcome of its request.
pub(crate) fn end(span: Option<Box<Span>>, outcome: &Result<Json, Json>) {
    let Some(span) = span else { return };
    let error = if span.is_recorded() { error_type(outcome) } else { None };
    span.end(error);
}

impl Params {
    /// Takes the trace context that the transport brought, unless the message has its own.
    pub fn trace_from(&mut self, parent: &str, state: Option<&str>) {
        if self.meta.get(PARENT).is_some() {
            return;
        }
        self.meta.set(PARENT, Json::from(parent));
        self.meta.remove(STATE);
        if let Some(state) = state {
            self.meta.set(STATE, Json::from(state));
        }
    }

    /// All of it, as a request has it.
    pub fn to_json(mut self) -> Json {
        if !self.meta.is_empty() {
            self.members.set("_meta", self.meta.to_json());
        }
        self.members.to_json()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::future::BoxFuture;
    use serde_json::{Value, json};
    use trunkline_telemetry::{Carrier, Metrics, NotTaken, Traced};
    use trunkline_testkit::Script;
    use trunkline_wire::Message;

    use crate::fakes::{self, World, message};
    use crate::{Reply, Wants};

    use super::*;

    /// A collector that keeps all spans.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<Value>>>);

    impl Carrier for Kept {
        fn carry(&self, batch: Json) -> BoxFuture<'_, Result<(), NotTaken>> {
            let batch: Value = serde_json::from_slice(batch.as_bytes()).expect("JSON");
            let spans = batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
            self.0.lock().expect("no panic").extend(spans.unwrap_or_default());
            Box::pin(async { Ok(()) })
        }
    }

    const PARENT_TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// Calls a tool with this `_meta`; returns what the server got as that.
    async fn called(world: &World, name: &str, meta: &Value) -> Value {
        let session = fakes::session(&world.hub, "2025-11-25");
        let params = json!({ "name": name, "arguments": { "message": "a secret word" }, "_meta": meta });
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
        let reply = world.hub.handle(&session, message(&call.to_string()), Wants { json: true, sse: false }).await;
        assert!(matches!(reply, Reply::One(_)), "{reply:?}");
        let seen = world.server().seen_of("tools/call");
        let Some(Message::Request(request)) = seen.last() else { return Value::Null };
        let params = request.params.as_ref().expect("a name at least");
        serde_json::from_slice::<Value>(params.as_bytes()).expect("JSON")["_meta"].clone()
    }

    fn tracer(propagate: bool) -> (Kept, Tracer) {
        let (kept, service) = (Kept::default(), ("trunkline".to_owned(), "0"));
        (kept.clone(), Tracer::start(Traced { service, share: 1.0, propagate }, kept, Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn s38_a_trace_goes_on_at_the_server_where_requests_are_traced_and_nothing_said_is_in_it() {
        let world = World::new(Script::default()).await;
        let (kept, tracer) = tracer(true);
        world.hub.trace_to(tracer.clone());
        let meta = json!({ "a.b/c": { "k": 1 }, "traceparent": PARENT_TEXT, "tracestate": "x=1", "baggage": "who=me" });
        let told = called(&world, "git__echo", &meta).await;
        tracer.settled().await;
        let spans = kept.0.lock().expect("no panic").clone();
        let [attempt, request] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&request["name"], &request["kind"]), (&json!("tools/call git__echo"), &json!(2)));
        assert_eq!((&attempt["name"], &attempt["kind"]), (&json!("tools/call echo"), &json!(3)));
        assert_eq!(request["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(attempt["parentSpanId"], request["spanId"]);
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", attempt["spanId"].as_str().expect("an id"));
        assert_eq!((&told["traceparent"], &told["tracestate"]), (&json!(parent), &json!("x=1")));
        assert_eq!((&told["a.b/c"], told.get("baggage")), (&json!({ "k": 1 }), None));
        let text = serde_json::to_string(&spans).expect("JSON");
        assert!(!text.contains("secret word") && !text.contains("who=me"), "{text}");
        assert!(text.contains("dev.trunkline.server") && text.contains("execute_tool"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn s38_servers_are_not_told_where_the_operator_does_not_want_it_or_nothing_is_traced() {
        let meta = json!({ "traceparent": PARENT_TEXT, "tracestate": "x=1" });
        let world = World::new(Script::default()).await;
        assert_eq!(called(&world, "git__echo", &meta).await.get("traceparent"), None);
        let (_, tracer) = tracer(false);
        world.hub.trace_to(tracer);
        let told = called(&world, "git__echo", &meta).await;
        assert_eq!((told.get("traceparent"), told.get("tracestate")), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_is_not_there_is_a_span_with_its_code_and_no_name_of_the_clients() {
        let world = World::new(Script::default()).await;
        let (kept, tracer) = tracer(true);
        world.hub.trace_to(tracer.clone());
        called(&world, "nowhere__tool", &json!({})).await;
        tracer.settled().await;
        let spans = kept.0.lock().expect("no panic").clone();
        assert_eq!((spans.len(), &spans[0]["name"]), (1, &json!("tools/call")));
        assert!(spans[0].to_string().contains("-32602"), "{}", spans[0]);
    }

    #[test]
    fn the_transports_context_is_taken_where_the_message_has_none() {
        let read = |text: &'static str| Params::read(Some(&Json::literal(text))).expect("an object");
        let mut params = read(r#"{"name":"x","_meta":{"tracestate":"old=1"}}"#);
        params.trace_from(PARENT_TEXT, None);
        let text = String::from_utf8(params.to_json().into_bytes().to_vec()).expect("text");
        assert_eq!(text, format!(r#"{{"name":"x","_meta":{{"traceparent":"{PARENT_TEXT}"}}}}"#));
        let mut own = read(r#"{"_meta":{"traceparent":"its own"}}"#);
        own.trace_from(PARENT_TEXT, Some("x=1"));
        assert_eq!(own.meta.get_str(PARENT).as_deref(), Some("its own"));
    }
}
