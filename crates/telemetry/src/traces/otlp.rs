//! Spans as a collector takes them: `ExportTraceServiceRequest` in the JSON form of OTLP.
//!
//! Ids are hexadecimal there, and whole numbers of 64 bits are texts.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use trunkline_wire::Json;

use super::context::{Context, hex};
use super::{Kind, Value, nanos};

/// A span that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) context: Context,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) begun: SystemTime,
    pub(super) lasted: Duration,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) failed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope<'a>,
    spans: Vec<SpanOf<'a>>,
}

#[derive(Serialize)]
struct Scope<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanOf<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AttributeValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AttributeValue<'a> {
    StringValue(&'a str),
    IntValue(String),
}

fn text<'a>(key: &'a str, value: &'a str) -> Attribute<'a> {
    Attribute { key, value: AttributeValue::StringValue(value) }
}

/// A batch of the service `name` of `version`.
pub(super) fn encode(spans: &[Ended], (name, version): (&str, &str)) -> Json {
    let attributes = vec![text("service.name", name), text("service.version", version)];
    let scope = Scope { name: "trunkline", version };
    let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(span).collect() }];
    Json::encode(&Request { resource_spans: [ResourceSpans { resource: Resource { attributes }, scope_spans }] })
}

fn span(ended: &Ended) -> SpanOf<'_> {
    let begun = nanos(ended.begun);
    SpanOf {
        trace_id: hex(&ended.context.trace),
        span_id: hex(&ended.context.span),
        parent_span_id: ended.parent.map(|parent| hex(&parent)),
        trace_state: ended.context.state.as_deref(),
        name: &ended.name,
        kind: ended.kind as u8,
        start_time_unix_nano: begun.to_string(),
        end_time_unix_nano: (begun + ended.lasted.as_nanos()).to_string(),
        attributes: ended.attributes.iter().map(attribute).collect(),
        status: Status { code: ended.failed.then_some(ERROR) },
    }
}

fn attribute<'a>((key, value): &'a (&'static str, Value)) -> Attribute<'a> {
    let value = match value {
        Value::Text(text) => AttributeValue::StringValue(text),
        Value::Number(number) => AttributeValue::IntValue(number.to_string()),
    };
    Attribute { key, value }
}
