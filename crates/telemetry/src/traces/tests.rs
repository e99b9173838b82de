use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value as Document;

use super::*;

/// A collector that keeps what it is given, and does not take the first few batches.
#[derive(Clone, Default)]
struct Fake(Arc<Kept>);

#[derive(Default)]
struct Kept {
    batches: Mutex<Vec<Document>>,
    refuses: AtomicUsize,
    for_good: std::sync::atomic::AtomicBool,
    hangs: std::sync::atomic::AtomicBool,
}

impl Carrier for Fake {
    fn carry(&self, batch: Json) -> BoxFuture<'_, Result<(), NotTaken>> {
        Box::pin(async move {
            if self.0.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let left = self.0.refuses.load(Ordering::Relaxed);
            if left > 0 {
                self.0.refuses.store(left - 1, Ordering::Relaxed);
                let again = !self.0.for_good.load(Ordering::Relaxed);
                return Err(NotTaken { again, after: None, text: "answered 503".to_owned() });
            }
            let document = serde_json::from_slice(batch.as_bytes()).expect("JSON");
            self.0.batches.lock().expect("no panic").push(document);
            Ok(())
        })
    }
}

impl Fake {
    fn tracer(&self, share: f64) -> (Tracer, Metrics) {
        let metrics = Metrics::new();
        let service = ("trunkline".to_owned(), "1.2.3");
        (Tracer::start(Traced { service, share, propagate: true }, self.clone(), metrics.clone()), metrics)
    }

    fn spans(&self) -> Vec<Document> {
        let batches = self.0.batches.lock().expect("no panic");
        let spans = batches.iter().map(|it| it["resourceSpans"][0]["scopeSpans"][0]["spans"].clone());
        spans.flat_map(|spans| spans.as_array().cloned().unwrap_or_default()).collect()
    }
}

fn counted(metrics: &Metrics, outcome: &str) -> String {
    let name = format!("trunkline_spans_total{{outcome=\"{outcome}\"}} ");
    metrics.render().lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned)).unwrap_or_default()
}

fn attribute(span: &Document, key: &str) -> Option<Document> {
    let all = span["attributes"].as_array().expect("a list");
    all.iter().find(|it| it["key"] == key).map(|it| it["value"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_request_and_an_attempt_are_two_spans_of_the_callers_trace() {
    let fake = Fake::default();
    let (tracer, metrics) = fake.tracer(0.0);
    let mut meta = Object::new();
    meta.set(PARENT, Json::literal(r#""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#));
    let mut request = tracer.serve("tools/call", &meta);
    request.of_tool("git__log");
    let mut attempt = request.trace().ask("tools/call");
    attempt.set("server.port", 443_u64);
    let mut told = Object::new();
    attempt.tell(&mut told);
    tokio::time::advance(Duration::from_millis(5)).await;
    attempt.end(Some("-32602".into()));
    request.end(None);
    tracer.settled().await;
    let spans = fake.spans();
    let (inner, outer) = (&spans[0], &spans[1]);
    assert_eq!((&outer["name"], &outer["kind"], &inner["kind"]), (&"tools/call git__log".into(), &2.into(), &3.into()));
    for span in &spans {
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    assert_eq!((&outer["parentSpanId"], &inner["parentSpanId"]), (&"00f067aa0ba902b7".into(), &outer["spanId"]));
    let said = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", inner["spanId"].as_str().expect("an id"));
    assert_eq!(told.get_str(PARENT).as_deref(), Some(said.as_str()), "the server goes on below the attempt");
    assert_eq!(attribute(outer, "gen_ai.tool.name"), Some(serde_json::json!({ "stringValue": "git__log" })));
    assert_eq!(attribute(inner, "server.port"), Some(serde_json::json!({ "intValue": "443" })));
    assert_eq!(attribute(inner, "error.type"), Some(serde_json::json!({ "stringValue": "-32602" })));
    assert_eq!((&inner["status"]["code"], &outer["status"]), (&2.into(), &serde_json::json!({})));
    let time = |span: &Document, key: &str| span[key].as_str().and_then(|it| it.parse::<u128>().ok()).expect("a time");
    assert_eq!(time(inner, "endTimeUnixNano") - time(inner, "startTimeUnixNano"), 5_000_000);
    assert_eq!(counted(&metrics, "exported"), "2");
    let batch = fake.0.batches.lock().expect("no panic")[0].clone();
    let service = &batch["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(service[0]["value"]["stringValue"], "trunkline");
}

#[tokio::test(start_paused = true)]
async fn whoever_begins_a_trace_decides_whether_it_is_kept() {
    let fake = Fake::default();
    let (none, _) = fake.tracer(0.0);
    let span = none.serve("tools/call", &Object::new());
    let mut told = Object::new();
    span.trace().ask("tools/call").tell(&mut told);
    assert!(told.get_str(PARENT).is_some_and(|parent| parent.ends_with("-00")), "servers do not keep it either");
    span.end(None);
    let mut unwanted = Object::new();
    unwanted.set(PARENT, Json::literal(r#""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00""#));
    let (all, _) = fake.tracer(1.0);
    all.serve("tools/call", &unwanted).end(None);
    all.serve("prompts/get", &Object::new()).end(None);
    all.settled().await;
    none.settled().await;
    let names: Vec<Document> = fake.spans().iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["prompts/get"]);
}

#[test]
fn an_answer_is_an_error_by_its_code_or_by_what_the_tool_says() {
    let kind = |answer| error_type(&answer).map(Cow::into_owned);
    assert_eq!(kind(Err(Json::literal(r#"{"code":-32602,"message":"what was said"}"#))).as_deref(), Some("-32602"));
    assert_eq!(kind(Err(Json::literal(r#"{"message":"x"}"#))).as_deref(), Some("_OTHER"));
    assert_eq!(kind(Ok(Json::literal(r#"{"content":[],"isError":true}"#))).as_deref(), Some("tool_error"));
    assert_eq!(kind(Ok(Json::literal(r#"{"content":[{"text":"\"isError\":true"}],"isError":false}"#))), None);
    assert_eq!(kind(Ok(Json::literal("{}"))), None);
}

#[tokio::test(start_paused = true)]
async fn a_span_that_nobody_ends_was_given_up() {
    let fake = Fake::default();
    let (tracer, _) = fake.tracer(1.0);
    drop(tracer.serve("tools/call", &Object::new()));
    tracer.settled().await;
    assert_eq!(attribute(&fake.spans()[0], "error.type"), Some(serde_json::json!({ "stringValue": "cancelled" })));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let fake = Fake::default();
    let (tracer, metrics) = fake.tracer(1.0);
    fake.0.refuses.store(2, Ordering::Relaxed);
    tracer.serve("tools/call", &Object::new()).end(None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((fake.spans().len(), counted(&metrics, "exported").as_str()), (1, "1"));
    fake.0.refuses.store(1, Ordering::Relaxed);
    fake.0.for_good.store(true, Ordering::Relaxed);
    tracer.serve("tools/call", &Object::new()).end(None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((fake.spans().len(), counted(&metrics, "failed").as_str()), (1, "1"));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_spans_which_are_counted_and_nobody_waits() {
    let fake = Fake::default();
    let (tracer, metrics) = fake.tracer(1.0);
    fake.0.hangs.store(true, Ordering::Relaxed);
    tracer.serve("tools/call", &Object::new()).end(None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = Instant::now();
    for _ in 0..WAITING_MAX + 7 {
        tracer.serve("tools/call", &Object::new()).end(None);
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(counted(&metrics, "dropped"), "7");
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(counted(&metrics, "failed"), (WAITING_MAX + 1).to_string());
}
