//! The tools of the fake: each does one thing that a test needs.
//!
//! * at once: `echo`, `mirror` (its argument `result`, byte for byte, is the result), `size` (so many bytes of
//!   text), `tool_NNNN`; `region` (arguments that headers mirror), and of 2026-07-28 `numbers` (an array as its
//!   structured output) and `odd_type` (a `resultType` of which nobody has heard).
//! * in a while: `sleep`, `progress`, `log`, `effect` (a side effect with a nonce), `change` (adds a tool), `touch`
//!   (updates a resource), `environment`, `stderr`, `task` (`tasks.rs`), `hang_up` (ends the subscriptions).
//! * asking the client: `ask` (whatever its arguments say) and the `ask_...` of `questions.rs`; in legacy revisions
//!   `ask_withdrawn` and `need_url` (`ask.rs`).
//! * badly: `die`, `hang`, `half` (part of an answer, then the end), `noise` (junk between the messages).

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use crate::message::{Outcome, Params, member};
use crate::protocol::Server;
use crate::session::Call;
use crate::{ask, core_tasks, ext_tasks, listen, questions};

/// The bench asks for one size for ever.
static LAST: OnceLock<(u64, String)> = OnceLock::new();

/// What this process was told to keep: a user's state, as a browser has it.
static KEPT: Mutex<String> = Mutex::new(String::new());

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
    entries.extend(later(server));
    if server.options.bad_entries {
        entries.insert(1, r#"{"description":"has no name","inputSchema":{"type":"object"}}"#.into());
        entries.insert(3, "42".into());
    }
    entries.extend((0..server.options.tools).map(|n| tool(&format!("tool_{n:04}"))));
    entries.extend(server.added.lock().expect("short").iter().map(|name| tool(name)));
    if server.options.unsteady {
        unsettle(server, params, &mut entries);
    }
    page(server, params, "tools", &entries)
}

/// As one that holds its tools in a hash table: another order for each listing, over starts too.
fn unsettle(server: &Server, params: &Params<'_>, entries: &mut [String]) {
    if params.cursor.is_none() {
        server.desk.note("turns", "");
    }
    let turn = server.desk.count("turns");
    if turn % 2 == 1 {
        let (head, rest) = (r#""title":"Echo","#, r#""description":"Says it again","#);
        entries[0] = entries[0].replace(&format!("{head}{rest}"), &format!("{rest}{head}"));
    }
    let by = turn % entries.len();
    entries.rotate_left(by);
}

/// The tools that came with later revisions.
fn later(server: &Server) -> Vec<String> {
    let revision = server.options.revision.as_str();
    let mut entries: Vec<String> = questions::names(revision).map(tool).collect();
    let description = if server.desk.holds("reworded") { "Says where, and to whom" } else { "Says where" };
    let header = if server.desk.holds("moved") { "Zone" } else { "Region" };
    entries.push(format!(
        concat!(
            r#"{{"name":"region","description":"{}","inputSchema":{{"type":"object","properties":{{"#,
            r#""region":{{"type":"string","x-mcp-header":"{}"}},"level":{{"type":"integer","x-mcp-header":"Level"}},"#,
            r#""dry":{{"type":"boolean","x-mcp-header":"Dry-Run"}},"place":{{"type":"object","properties":{{"#,
            r#""city":{{"type":"string","x-mcp-header":"City"}}}}}}}}}}}}"#
        ),
        description, header
    ));
    if server.options.bad_headers {
        entries.push(
            concat!(
                r#"{"name":"bad_header","inputSchema":{"type":"object","properties":"#,
                r#"{"amount":{"type":"number","x-mcp-header":"Amount"}}}}"#
            )
            .into(),
        );
    }
    if !server.options.is_modern() || server.options.dual {
        entries.extend(["ask_withdrawn", "need_url"].map(tool));
    }
    if revision == "2025-11-25" {
        entries.push(core_tasks::ENTRY.into());
    }
    if server.options.is_modern() {
        entries.extend(["odd_type", "hang_up"].map(tool));
        entries.push(ext_tasks::ENTRY.into());
        entries.push(
            concat!(
                r#"{"name":"numbers","description":"Three numbers","inputSchema":{"type":"object"},"#,
                r##""outputSchema":{"$defs":{"n":{"type":"integer"}},"type":"array","items":{"$ref":"#/$defs/n"}}}"##
            )
            .into(),
        );
    }
    entries
}

/// The header and the place of each argument that the tool's schema annotates.
pub(crate) fn annotated(server: &Server, tool: &str) -> Vec<(&'static str, &'static str)> {
    if tool != "region" {
        return Vec::new();
    }
    let region = if server.desk.holds("moved") { "zone" } else { "region" };
    vec![(region, "/region"), ("level", "/level"), ("dry-run", "/dry"), ("city", "/place/city")]
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
pub(crate) fn at_once(server: &Server, params: &Params<'_>) -> Option<String> {
    let arguments = params.arguments();
    match params.name.as_deref()? {
        "echo" => Some(text_raw(&member(arguments, "message").unwrap_or_else(|| "\"\"".into()))),
        "mirror" => member(arguments, "result"),
        "size" => {
            let bytes = integer(arguments, "bytes", 1024);
            let (cached, result) = LAST.get_or_init(|| (bytes, filler(bytes)));
            Some(if *cached == bytes { result.clone() } else { filler(bytes) })
        }
        "region" => Some(text(arguments)),
        "odd_type" if server.options.is_modern() => Some(r#"{"resultType":"x-vendor/odd","content":[]}"#.into()),
        "numbers" if server.options.is_modern() => {
            Some(r#"{"content":[{"type":"text","text":"[1,2,3]"}],"structuredContent":[1,2,3]}"#.into())
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
            if call.hears(&level) {
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
            // An empty name adds nothing: notices alone.
            let name = string(arguments, "add", "extra_0");
            if !name.is_empty() {
                server.added.lock().expect("short").push(name);
            }
            for _ in 0..integer(arguments, "times", 1) {
                listen::changed(server, "tools");
                everywhere(server, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
            }
            Ok(text("changed"))
        }
        "touch" => {
            let uri = string(arguments, "uri", "");
            listen::updated(server, &uri);
            touch(server, &uri).await;
            Ok(text("touched"))
        }
        "hang_up" => {
            let graceful = member_is(arguments, "graceful", "true");
            listen::end_all(server, if graceful { listen::End::Graceful } else { listen::End::Drop });
            Ok(text("hung up"))
        }
        // Clients that do not follow tasks get an ordinary call.
        "task" if server.options.is_modern() => {
            tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
            Ok(text("the task is done"))
        }
        "environment" => {
            let variables: serde_json::Map<String, Value> = std::env::vars().map(|(k, v)| (k, v.into())).collect();
            let directory = std::env::current_dir().ok();
            let kept = {
                let mut kept = KEPT.lock().expect("short");
                let new = string(arguments, "keep", "");
                if !new.is_empty() {
                    *kept = new;
                }
                kept.clone()
            };
            let pid = std::process::id();
            Ok(text(&json!({ "variables": variables, "directory": directory, "pid": pid, "kept": kept }).to_string()))
        }
        other => {
            if let Some(outcome) = badly(call, other, arguments).await {
                return outcome;
            }
            let asking = ask::play(call, other, arguments).await;
            asking.unwrap_or_else(|| Err((-32602, format!("Unknown tool: {other}")).into()))
        }
    }
}

/// Tools that misbehave.
async fn badly(call: &Call, name: &str, arguments: &str) -> Option<Outcome> {
    let result = match name {
        "stderr" => {
            let bytes = usize::try_from(integer(arguments, "bytes", 100)).expect("fits");
            tokio::task::spawn_blocking(move || {
                use std::io::Write as _;
                std::io::stderr().write_all(&vec![b'e'; bytes]).expect("somebody drains stderr");
            })
            .await
            .expect("writing does not panic");
            text("written")
        }
        "die" => std::process::exit(9),
        "hang" => std::future::pending().await,
        "half" => {
            let _ = call.lines.send(crate::http::CUT.into()).await;
            tokio::time::sleep(Duration::from_millis(integer(arguments, "ms", 100))).await;
            text("whole after all")
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
            text("quiet again")
        }
        _ => return None,
    };
    Some(Ok(result))
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

pub(crate) async fn notify(call: &Call, method: &str, params: &str) {
    let _ = call.lines.send(format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)).await;
}

/// Tells every legacy session; a modern one hears it by its subscription.
async fn everywhere(server: &Server, message: &str) {
    if server.options.is_modern() && !server.options.dual {
        return;
    }
    let sessions = server.sessions.lock().expect("short").clone();
    for session in sessions {
        session.tell(message.to_owned()).await;
    }
}

pub(crate) fn text(said: &str) -> String {
    text_raw(&serde_json::to_string(said).expect("a string is JSON"))
}

fn text_raw(said: &str) -> String {
    format!(r#"{{"content":[{{"type":"text","text":{said}}}]}}"#)
}

fn filler(bytes: u64) -> String {
    text(&"x".repeat(usize::try_from(bytes).expect("fits")))
}

pub(crate) fn integer(object: &str, key: &str, otherwise: u64) -> u64 {
    member(object, key).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn string(object: &str, key: &str, otherwise: &str) -> String {
    member(object, key).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| otherwise.to_owned())
}

pub(crate) fn member_is(object: &str, key: &str, value: &str) -> bool {
    member(object, key).as_deref() == Some(value)
}
