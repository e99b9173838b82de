//! What the fake offers: tools that do one thing a test needs, a few prompts, resources and a template.
//!
//! * at once: `echo`, `mirror` (its argument `result`, byte for byte, is the result), `size` (so many bytes of
//!   text), `tool_NNNN`.
//! * in a while: `sleep`, `progress`, `log`, `effect` (a side effect with a nonce), `ask` (asks the client),
//!   `change` (adds a tool), `touch` (updates a resource), `environment`, `stderr`.
//! * badly: `die`, `hang`, `half` (part of an answer, then the end), `noise` (junk between the messages).

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::protocol::{Call, Params, Server, member, severity};

/// The bench asks for one size for ever.
static LAST: OnceLock<(u64, String)> = OnceLock::new();

type Outcome = Result<String, (i64, String)>;

/// The list, with members that no revision knows, numbers that no double holds, and an order of our own.
pub(crate) fn list(server: &Server, params: &Params<'_>) -> String {
    let mut entries: Vec<String> = vec![
        concat!(
            r#"{"x-odd":{"z":9007199254740993,"a":1.0e+2,"nested":[true,null]},"name":"echo","title":"Echo","#,
            r#""description":"Says it again","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"#,
            r#""required":["message"]},"annotations":{"readOnlyHint":true,"x-note":"kept"}}"#
        )
        .to_owned(),
    ];
    let plain = [
        "mirror",
        "size",
        "sleep",
        "progress",
        "log",
        "effect",
        "ask",
        "change",
        "touch",
        "environment",
        "stderr",
        "die",
        "hang",
        "half",
        "noise",
    ];
    entries.extend(plain.map(tool));
    if server.options.bad_entries {
        entries.insert(1, r#"{"description":"has no name","inputSchema":{"type":"object"}}"#.into());
        entries.insert(3, "42".into());
    }
    entries.extend((0..server.options.tools).map(|n| tool(&format!("tool_{n:04}"))));
    entries.extend(server.added.lock().expect("short").iter().map(|name| tool(name)));
    page(server, params, "tools", &entries)
}

fn tool(name: &str) -> String {
    format!(r#"{{"name":"{name}","description":"The tool {name} of a fake","inputSchema":{{"type":"object"}}}}"#)
}

fn page(server: &Server, params: &Params<'_>, key: &str, entries: &[String]) -> String {
    let start: usize = params.cursor.as_deref().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let start = start.min(entries.len());
    let size = if server.options.page == 0 { entries.len() } else { server.options.page };
    let end = (start + size).min(entries.len());
    let next = if end < entries.len() { format!(r#","nextCursor":"{end}""#) } else { String::new() };
    format!(r#"{{"{key}":[{}]{next}}}"#, entries[start..end].join(","))
}

/// Tools that need nothing but their arguments.
pub(crate) fn at_once(params: &Params<'_>) -> Option<String> {
    let arguments = params.arguments.map_or("{}", serde_json::value::RawValue::get);
    match params.name.as_deref()? {
        "echo" => Some(text_raw(&member(arguments, "message").unwrap_or_else(|| "\"\"".into()))),
        "mirror" => member(arguments, "result"),
        "size" => {
            let bytes = integer(arguments, "bytes", 1024);
            let (cached, result) = LAST.get_or_init(|| (bytes, filler(bytes)));
            Some(if *cached == bytes { result.clone() } else { filler(bytes) })
        }
        name if name.starts_with("tool_") || name.starts_with("extra_") => Some(text(name)),
        _ => None,
    }
}

/// Tools that wait, talk or fail.
pub(crate) async fn run(call: &Call, name: &str, arguments: &str) -> Outcome {
    let server = &call.server;
    match name {
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
            Ok(text("slept"))
        }
        "progress" => {
            let steps = integer(arguments, "steps", 3);
            for step in 1..=steps {
                if let Some(token) = &call.progress_token {
                    let params =
                        format!(r#"{{"progressToken":{token},"progress":{step},"total":{steps},"x-odd":1.50}}"#);
                    notify(call, "notifications/progress", &params).await;
                }
                tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 10))).await;
            }
            Ok(text(&format!("{steps} steps done")))
        }
        "log" => {
            let level = string(arguments, "level", "info");
            if severity(&level) >= *call.session.level.lock().expect("short") {
                let data = member(arguments, "data").unwrap_or_else(|| "\"hello\"".into());
                let params = format!(r#"{{"level":"{level}","logger":"fake","data":{data}}}"#);
                notify(call, "notifications/message", &params).await;
            }
            Ok(text("logged"))
        }
        "effect" => {
            server.desk.note("effects", &string(arguments, "nonce", "?"));
            tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 0))).await;
            if integer(arguments, "die", 0) == 1 {
                std::process::exit(9);
            }
            Ok(text(&string(arguments, "nonce", "?")))
        }
        "ask" => {
            let params = member(arguments, "params").unwrap_or_else(|| "{}".into());
            let answer = call.session.ask(&call.lines, &string(arguments, "method", "ping"), &params).await;
            Ok(text(&answer))
        }
        "change" => {
            let name = string(arguments, "add", "extra_0");
            server.added.lock().expect("short").push(name);
            everywhere(server, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
            Ok(text("changed"))
        }
        "touch" => {
            touch(server, &string(arguments, "uri", "")).await;
            Ok(text("touched"))
        }
        "environment" => {
            let variables: serde_json::Map<String, Value> = std::env::vars().map(|(k, v)| (k, v.into())).collect();
            let directory = std::env::current_dir().ok();
            Ok(text(&json!({ "variables": variables, "directory": directory, "pid": std::process::id() }).to_string()))
        }
        "stderr" => {
            let bytes = usize::try_from(integer(arguments, "bytes", 100)).expect("fits");
            tokio::task::spawn_blocking(move || {
                use std::io::Write as _;
                std::io::stderr().write_all(&vec![b'e'; bytes]).expect("somebody drains stderr");
            })
            .await
            .expect("writing does not panic");
            Ok(text("written"))
        }
        "die" => std::process::exit(9),
        "hang" => std::future::pending().await,
        "half" => {
            let _ = call.lines.send(crate::http::CUT.into()).await;
            tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
            Ok(text("whole after all"))
        }
        "noise" => {
            let junk = [
                "Server listening, press Ctrl-C\n",
                "{\"jsonrpc\":\"2.0\",\"id\":\n",
                "\u{feff}\r\n",
                "\u{0}\n",
                "{} {}\n",
                "[1,2\n",
            ];
            for line in junk {
                let _ = call.lines.send(line.into()).await;
            }
            Ok(text("quiet again"))
        }
        other => Err((-32602, format!("Unknown tool: {other}"))),
    }
}

pub(crate) fn prompts() -> String {
    concat!(
        r#"{"prompts":[{"name":"plain","description":"A prompt without arguments","x-odd":9007199254740993},"#,
        r#"{"name":"greet","description":"Greets somebody","arguments":[{"name":"who","required":true}]}]}"#
    )
    .into()
}

pub(crate) fn prompt(params: &Params<'_>) -> Outcome {
    let said = match params.name.as_deref() {
        Some("plain") => "Say something.".to_owned(),
        Some("greet") => {
            let arguments = params.arguments.map_or("{}", serde_json::value::RawValue::get);
            format!("Say hello to {}.", string(arguments, "who", "nobody"))
        }
        other => return Err((-32602, format!("Unknown prompt: {}", other.unwrap_or_default()))),
    };
    Ok(json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": said } }] }).to_string())
}

pub(crate) fn resources(server: &Server) -> String {
    let name = &server.options.name;
    format!(
        concat!(
            r#"{{"resources":[{{"uri":"fake://{0}/text","name":"text","mimeType":"text/plain","size":18014398509481985}},"#,
            r#"{{"uri":"fake://{0}/blob","name":"blob","mimeType":"application/octet-stream"}}]}}"#
        ),
        name
    )
}

pub(crate) fn templates(server: &Server) -> String {
    let name = &server.options.name;
    format!(r#"{{"resourceTemplates":[{{"uriTemplate":"fake://{name}/item/{{id}}","name":"item"}}]}}"#)
}

pub(crate) fn read(server: &Server, params: &Params<'_>) -> Outcome {
    let uri = params.uri.as_deref().unwrap_or_default();
    let prefix = format!("fake://{}/", server.options.name);
    let content = match uri.strip_prefix(&prefix) {
        Some("text") => {
            json!({ "uri": uri, "mimeType": "text/plain", "text": format!("text of {}", server.options.name) })
        }
        Some("blob") => json!({ "uri": uri, "mimeType": "application/octet-stream", "blob": "AAEC/w==" }),
        Some(rest) if rest.starts_with("item/") => json!({ "uri": uri, "text": rest }),
        _ => return Err((-32002, format!("Resource not found: {uri}"))),
    };
    Ok(format!(r#"{{"contents":[{content}],"x-odd":1e400}}"#))
}

pub(crate) fn complete(params: &Params<'_>) -> String {
    let argument = params.argument.map_or("{}", serde_json::value::RawValue::get);
    let typed = string(argument, "value", "");
    let values: Vec<&str> = ["alice", "albert", "bob"].into_iter().filter(|known| known.starts_with(&typed)).collect();
    json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }).to_string()
}

/// Says that a resource changed to those who subscribed to it.
async fn touch(server: &Server, uri: &str) {
    let params = json!({ "uri": uri, "x-odd": "kept" });
    let notice = format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#);
    let sessions = server.sessions.lock().expect("short").clone();
    for session in sessions {
        if session.subscribed.lock().expect("short").contains(uri) {
            session.tell(notice.clone()).await;
        }
    }
}

async fn notify(call: &Call, method: &str, params: &str) {
    let _ = call.lines.send(format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)).await;
}

async fn everywhere(server: &Server, message: &str) {
    let sessions = server.sessions.lock().expect("short").clone();
    for session in sessions {
        session.tell(message.to_owned()).await;
    }
}

fn text(said: &str) -> String {
    text_raw(&serde_json::to_string(said).expect("a string is JSON"))
}

fn text_raw(said: &str) -> String {
    format!(r#"{{"content":[{{"type":"text","text":{said}}}]}}"#)
}

fn filler(bytes: u64) -> String {
    text(&"x".repeat(usize::try_from(bytes).expect("fits")))
}

fn integer(object: &str, key: &str, otherwise: u64) -> u64 {
    member(object, key).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn string(object: &str, key: &str, otherwise: &str) -> String {
    member(object, key).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| otherwise.to_owned())
}
