//! An MCP server that puts secrets into everything it says, and repeats those it is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};

use super::planted::Canaries;

/// The places of what it says by itself. Those of tools are also the tools' names.
const TOLD: [&str; 22] = [
    "result",
    "structured",
    "meta",
    "refused",
    "fault",
    "fault-data",
    "status-500",
    "status-403",
    "redirect",
    "html",
    "no-json",
    "bad-event",
    "event-id",
    "progress",
    "notice",
    "of-no-kind",
    "cookie",
    "session",
    "cursor",
    "prompt",
    "resource",
    "completion",
];

/// The tools, one for each way to say something.
const TOOLS: [&str; 16] = [
    "result",
    "refused",
    "fault",
    "status-500",
    "status-403",
    "redirect",
    "html",
    "no-json",
    "bad-event",
    "progress",
    "of-no-kind",
    "cookie",
    "repeat",
    "repeat-500",
    "repeat-403",
    "repeat-401",
];

pub(crate) struct Careless {
    /// `http://host:port`.
    pub(crate) origin: String,
}

type Secrets = Arc<BTreeMap<&'static str, String>>;

impl Careless {
    pub(crate) async fn start(canaries: &mut Canaries) -> Careless {
        let secrets = TOLD.into_iter().map(|place| (place, canaries.plant(&format!("server:{place}")))).collect();
        let secrets: Secrets = Arc::new(secrets);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
            let secrets = secrets.clone();
            async move { answer(&secrets, &method, &uri, &headers, &body) }
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Careless { origin }
    }

    pub(crate) fn tools() -> impl Iterator<Item = &'static str> {
        TOOLS.into_iter()
    }
}

fn answer(secrets: &Secrets, method: &Method, uri: &Uri, headers: &HeaderMap, body: &str) -> Response<Body> {
    // All that it was sent, as debug pages have it.
    let sent: Vec<&str> = headers.values().filter_map(|value| value.to_str().ok()).collect();
    let sent = format!("{uri} {}", sent.join(" | "));
    if uri.path().starts_with("/denied") {
        let denied = Response::builder().status(401);
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{sent}\"");
        return denied.header("www-authenticate", challenge).body(Body::from(sent)).expect("a response");
    }
    if uri.path().starts_with("/broken") {
        return Response::builder().status(500).body(Body::from(sent)).expect("a response");
    }
    if *method != Method::POST {
        return Response::builder().status(405).body(Body::empty()).expect("a response");
    }
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    let Some(id) = message.get("id") else {
        return Response::builder().status(202).body(Body::empty()).expect("a response");
    };
    let params = &message["params"];
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" if uri.path().starts_with("/unkind") => {
            let error = json!({ "code": -32000, "message": format!("no: {sent}") });
            return json_reply(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
        "initialize" => {
            let result = json!({
                "protocolVersion": "2025-06-18",
                "capabilities": { "tools": {}, "prompts": {}, "resources": {}, "completions": {}, "logging": {} },
                "serverInfo": { "name": "careless", "version": "1" },
            });
            let text = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
            let response = Response::builder().header("mcp-session-id", &secrets["session"]);
            return response.header("content-type", "application/json").body(Body::from(text)).expect("a response");
        }
        "tools/list" if params["cursor"].is_null() => {
            json!({ "tools": [{ "name": "first", "inputSchema": { "type": "object" } }], "nextCursor": secrets["cursor"] })
        }
        "tools/list" => {
            let tools: Vec<Value> =
                TOOLS.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect();
            json!({ "tools": tools })
        }
        "tools/call" => return call(secrets, params["name"].as_str().unwrap_or_default(), id, &message, &sent),
        "prompts/list" => json!({ "prompts": [{ "name": "told", "arguments": [{ "name": "who" }] }] }),
        "prompts/get" => json!({ "messages": [
            { "role": "user", "content": { "type": "text", "text": secrets["prompt"] } },
        ] }),
        "resources/list" => json!({ "resources": [{ "uri": "careless://text", "name": "text" }] }),
        "resources/templates/list" => json!({ "resourceTemplates": [
            { "uriTemplate": "careless://item/{id}", "name": "item" },
        ] }),
        "resources/read" => json!({ "contents": [{ "uri": params["uri"], "text": secrets["resource"] }] }),
        "completion/complete" => json!({ "completion": { "values": [secrets["completion"]] } }),
        _ => json!({}),
    };
    json_reply(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

fn json_reply(message: &Value) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/json");
    response.body(Body::from(message.to_string())).expect("a response")
}

fn call(secrets: &Secrets, tool: &str, id: &Value, message: &Value, sent: &str) -> Response<Body> {
    let text = |text: &str| json!([{ "type": "text", "text": text }]);
    let plain = |status: u16, kind: &str, body: String| {
        let response = Response::builder().status(status).header("content-type", kind);
        response.body(Body::from(body)).expect("a response")
    };
    let of = |result: &Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let secret = |place: &str| secrets[place].as_str();
    match tool {
        "result" => json_reply(&of(&json!({
            "content": text(secret("result")),
            "structuredContent": { "key": secret("structured") },
            "_meta": { "x-note": secret("meta") },
        }))),
        "refused" => json_reply(&of(&json!({ "content": text(secret("refused")), "isError": true }))),
        "fault" => {
            let error = json!({ "code": -32050, "message": secret("fault"), "data": secret("fault-data") });
            json_reply(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
        }
        "status-500" => plain(500, "text/plain", secret("status-500").to_owned()),
        "status-403" => plain(403, "text/plain", secret("status-403").to_owned()),
        "redirect" => {
            let response = Response::builder().status(302);
            let to = format!("http://127.0.0.1:1/{}?x={}", secret("redirect"), secret("redirect"));
            response.header("location", to).body(Body::empty()).expect("a response")
        }
        "html" => plain(200, "text/html", format!("<p>{}</p>", secret("html"))),
        "no-json" => plain(200, "application/json", format!("{{\"x\": {}", secret("no-json"))),
        "bad-event" => {
            let body = format!("id: {}\nevent: {1}\ndata: {{{1}\n\n", secret("event-id"), secret("bad-event"));
            plain(200, "text/event-stream", body)
        }
        "progress" => {
            let token = &message["params"]["_meta"]["progressToken"];
            let progress = json!({ "progressToken": token, "progress": 1, "message": secret("progress") });
            let notice = json!({ "level": "error", "data": { "k": secret("notice") } });
            let events = [
                json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": progress }),
                json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": notice }),
                of(&json!({ "content": text("done") })),
            ];
            let events = events.map(|event| format!("id: {}\ndata: {event}\n\n", secret("event-id")));
            plain(200, "text/event-stream", events.concat())
        }
        "of-no-kind" => json_reply(&of(&json!(secret("of-no-kind")))),
        "cookie" => {
            let mut response = json_reply(&of(&json!({ "content": text("baked") })));
            let cookie = format!("id={}", secret("cookie")).parse().expect("a value");
            response.headers_mut().insert("set-cookie", cookie);
            response
        }
        "repeat-500" => plain(500, "text/plain", format!("{sent} {message}")),
        "repeat-403" => plain(403, "text/plain", format!("{sent} {message}")),
        "repeat-401" => plain(401, "text/plain", format!("{sent} {message}")),
        _ => json_reply(&of(&json!({ "content": text(sent), "isError": true }))),
    }
}
