//! The demo server: a small MCP server over stdio, in a hidden mode of the same binary.
//!
//! `trunkline serve --demo` attaches it as a real stdio child, so that a newcomer uses the whole path with
//! no network, no configuration and nothing else installed. It speaks the revisions with a handshake.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use trunkline_wire::{
    Json, Message, Method, Notification, Object, Request, Response, Revision, RpcError, code, progress_token,
};

/// Longest countdown that `count` accepts, in steps.
const COUNT_MAX: u64 = 20;

/// Pause between two steps of `count`: long enough to see progress move.
const COUNT_PAUSE: Duration = Duration::from_millis(200);

const TOOLS: &str = r#"{"tools":[
{"name":"echo","title":"Echo","description":"Returns the text it is given.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"what to return"}},"required":["text"]},"annotations":{"readOnlyHint":true}},
{"name":"add","title":"Add two numbers","description":"Adds two numbers.","inputSchema":{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}},"required":["a","b"]},"outputSchema":{"type":"object","properties":{"sum":{"type":"number"}},"required":["sum"]},"annotations":{"readOnlyHint":true}},
{"name":"count","title":"Count slowly","description":"Counts to a number, five steps a second, reporting progress.","inputSchema":{"type":"object","properties":{"to":{"type":"integer","minimum":1,"maximum":20}},"required":["to"]},"annotations":{"readOnlyHint":true}}]}"#;

const PROMPTS: &str = r#"{"prompts":[{"name":"greet","title":"Greet somebody","description":"Asks for a greeting.","arguments":[{"name":"name","description":"who to greet","required":true}]}]}"#;

const RESOURCES: &str =
    r#"{"resources":[{"uri":"demo://readme","name":"readme","title":"About this demo","mimeType":"text/plain"}]}"#;

const TEMPLATES: &str = r#"{"resourceTemplates":[{"uriTemplate":"demo://square/{n}","name":"square","title":"The square of a number","mimeType":"text/plain"}]}"#;

const README: &str =
    "This server lives inside the trunkline binary. Add your own in config.toml: see `trunkline --help`.";

/// Serves standard input until it ends.
pub(crate) fn serve() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        // A line that is no message, a notification and a response are none of this server's business.
        let Ok(Message::Request(request)) = Message::parse(&Bytes::from(line?)) else { continue };
        let outcome = answer(&request, &mut out)?;
        let outcome = outcome.map_err(|error| error.to_json());
        write_line(&mut out, &Response { id: Some(request.id), outcome }.encode())?;
    }
    Ok(())
}

fn write_line(out: &mut impl Write, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn answer(request: &Request, out: &mut impl Write) -> io::Result<Result<Json, RpcError>> {
    let params = match request.params() {
        Ok(params) => params,
        Err(error) => return Ok(Err(RpcError::new(code::INVALID_PARAMS, error.to_string()))),
    };
    let name = params.get_str("name").unwrap_or_default();
    let arguments = params.get_object("arguments").unwrap_or_default();
    let list = |text: &'static str| Ok(Json::trusted(text.replace('\n', "")));
    Ok(match request.method.as_str() {
        "initialize" => Ok(greet_client(&params)),
        "ping" => Ok(Json::literal("{}")),
        "tools/list" => list(TOOLS),
        "prompts/list" => list(PROMPTS),
        "resources/list" => list(RESOURCES),
        "resources/templates/list" => list(TEMPLATES),
        "tools/call" if name == "count" => return count(&params, &arguments, out),
        "tools/call" => call(&name, &arguments),
        "prompts/get" => prompt(&name, &arguments),
        "resources/read" => read(&params.get_str("uri").unwrap_or_default()),
        other => Err(RpcError::new(code::METHOD_NOT_FOUND, format!("`{other}` is not offered"))),
    })
}

fn greet_client(params: &Object) -> Json {
    let revision = Revision::negotiate(&params.get_str("protocolVersion").unwrap_or_default());
    Json::encode(&serde_json::json!({
        "protocolVersion": revision.as_str(),
        "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
        "serverInfo": {"name": "trunkline-demo", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "A demo with three tools, a prompt and a resource.",
    }))
}

fn text_result(text: &str) -> serde_json::Value {
    serde_json::json!({"content": [{"type": "text", "text": text}]})
}

/// Arguments of the wrong kind are the model's to mend: a tool error, not a protocol error.
fn complaint(text: &str) -> Json {
    Json::encode(&serde_json::json!({"content": [{"type": "text", "text": text}], "isError": true}))
}

fn call(name: &str, arguments: &Object) -> Result<Json, RpcError> {
    match name {
        "echo" => Ok(match arguments.get_str("text") {
            Some(text) => Json::encode(&text_result(&text)),
            None => complaint("`text` must be a string"),
        }),
        "add" => {
            let number = |key| arguments.get(key).and_then(|value| value.decode::<f64>().ok());
            let (Some(a), Some(b)) = (number("a"), number("b")) else {
                return Ok(complaint("`a` and `b` must be numbers"));
            };
            let mut result = text_result(&(a + b).to_string());
            result["structuredContent"] = serde_json::json!({"sum": a + b});
            Ok(Json::encode(&result))
        }
        _ => Err(RpcError::new(code::INVALID_PARAMS, format!("unknown tool `{name}`"))),
    }
}

fn count(params: &Object, arguments: &Object, out: &mut impl Write) -> io::Result<Result<Json, RpcError>> {
    let to = arguments.get("to").and_then(|to| to.decode::<u64>().ok()).filter(|to| (1..=COUNT_MAX).contains(to));
    let Some(to) = to else { return Ok(Ok(complaint("`to` must be a whole number from 1 to 20"))) };
    let token = progress_token(params);
    for step in 1..=to {
        thread::sleep(COUNT_PAUSE);
        let Some(token) = &token else { continue };
        let params: Object = [
            ("progressToken", token.clone()),
            ("progress", Json::from(step)),
            ("total", Json::from(to)),
            ("message", Json::from(format!("{step} of {to}").as_str())),
        ]
        .into_iter()
        .collect();
        let method = Method::Progress;
        write_line(out, &Notification { method, params: Some(params.to_json()) }.encode())?;
    }
    Ok(Ok(Json::encode(&text_result(&format!("counted to {to}")))))
}

fn prompt(name: &str, arguments: &Object) -> Result<Json, RpcError> {
    if name != "greet" {
        return Err(RpcError::new(code::INVALID_PARAMS, format!("unknown prompt `{name}`")));
    }
    let who = arguments.get_str("name").unwrap_or_else(|| "the reader".into());
    let text = format!("Write a short, warm greeting for {who}.");
    Ok(Json::encode(&serde_json::json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
    })))
}

fn read(uri: &str) -> Result<Json, RpcError> {
    let square = |n: &str| n.parse::<i64>().ok()?.checked_mul(n.parse().ok()?);
    let text = match uri.strip_prefix("demo://square/") {
        Some(n) => square(n).map(|square| square.to_string()),
        None => (uri == "demo://readme").then(|| README.to_owned()),
    };
    let Some(text) = text else {
        let data = Some(serde_json::json!({ "uri": uri }));
        return Err(RpcError { data, ..RpcError::new(code::RESOURCE_NOT_FOUND, "resource not found") });
    };
    Ok(Json::encode(&serde_json::json!({
        "contents": [{"uri": uri, "mimeType": "text/plain", "text": text}],
    })))
}
