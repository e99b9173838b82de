//! A client of 2026-07-28, as plain as the protocol allows: POST, headers made from the body, no state.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::answers;
use super::client::{json, member};
use super::http::{self, Events, Reply};

pub(crate) const REVISION: &str = "2026-07-28";

/// Prefix of the envelope's keys.
pub(crate) const KEY: &str = "io.modelcontextprotocol/";

pub(crate) struct Modern {
    url: String,
    /// What every request declares; an object.
    pub(crate) capabilities: Value,
    pub(crate) log_level: Option<&'static str>,
    /// Header and place of the arguments that a tool's schema annotates, once `tools` listed them.
    annotated: Mutex<HashMap<String, Vec<(String, String)>>>,
    next: AtomicU64,
}

/// A subscription that was acknowledged.
pub(crate) struct Listen {
    pub(crate) id: String,
    /// The honoured subset.
    pub(crate) filter: Value,
    pub(crate) events: Events,
}

impl Modern {
    /// A client that can be asked everything.
    pub(crate) fn new(url: &str) -> Modern {
        Modern::with(url, answers::abilities())
    }

    pub(crate) fn with(url: &str, capabilities: Value) -> Modern {
        Modern {
            url: url.to_owned(),
            capabilities,
            log_level: None,
            annotated: Mutex::default(),
            next: AtomicU64::new(1),
        }
    }

    /// The members of the envelope, as text.
    pub(crate) fn envelope(&self) -> String {
        let level = self.log_level.map_or(String::new(), |level| format!(r#","{KEY}logLevel":"{level}""#));
        format!(
            concat!(
                r#""{0}protocolVersion":"{1}","{0}clientInfo":{{"name":"plain","version":"1"}},"#,
                r#""{0}clientCapabilities":{2}{3}"#
            ),
            KEY, REVISION, self.capabilities, level
        )
    }

    /// A request with the envelope put into its `_meta`; `params` is an object's text and stays as it is.
    pub(crate) fn body(&self, id: &str, method: &str, params: &str) -> String {
        let own = member(params, "_meta");
        let meta = match own.as_deref().map(str::trim) {
            None | Some("{}") => self.envelope(),
            Some(own) => format!("{},{}", self.envelope(), &own[1..own.len() - 1]),
        };
        let rest = match own {
            Some(_) => {
                let members: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
                    serde_json::from_str(params).expect("an object");
                let members = members.iter().filter(|(key, _)| *key != "_meta");
                members.map(|(key, value)| format!(r#","{key}":{}"#, value.get())).collect::<Vec<_>>().concat()
            }
            None => match params.trim() {
                "{}" => String::new(),
                params => format!(",{}", &params[1..params.len() - 1]),
            },
        };
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{{meta}}}{rest}}}}}"#)
    }

    /// The headers that belong to a body.
    pub(crate) fn headers(&self, body: &str) -> Vec<(String, String)> {
        let message: Value = json(body);
        let (method, params) = (message["method"].as_str().unwrap_or_default(), &message["params"]);
        let claim = params["_meta"][format!("{KEY}protocolVersion")].as_str().unwrap_or(REVISION);
        let mut headers = vec![
            ("host".to_owned(), http::authority(&self.url).to_owned()),
            ("accept".into(), "application/json, text/event-stream".into()),
            ("content-type".into(), "application/json".into()),
            ("mcp-protocol-version".into(), claim.into()),
            ("mcp-method".into(), method.into()),
        ];
        let name = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            _ if method.starts_with("tasks/") => params["taskId"].as_str(),
            _ => None,
        };
        headers.extend(name.map(|name| ("mcp-name".to_owned(), encoded(name))));
        if method == "tools/call" {
            let annotated = self.annotated.lock().expect("short");
            for (header, pointer) in annotated.get(name.unwrap_or_default()).into_iter().flatten() {
                let value = params["arguments"].pointer(pointer).filter(|value| !value.is_null());
                let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                headers.extend(text.map(|text| (format!("mcp-param-{header}"), encoded(&text))));
            }
        }
        headers
    }

    /// POSTs a body with these headers.
    pub(crate) async fn send(&self, headers: &[(String, String)], body: &str) -> Reply {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let connection = http::connect(http::authority(&self.url)).await;
        http::send(connection, "POST", http::path(&self.url), &headers, body.to_owned()).await
    }

    /// POSTs a body with the headers that belong to it.
    pub(crate) async fn post(&self, body: &str) -> Reply {
        self.send(&self.headers(body), body).await
    }

    /// Starts a request; the reply is to be read.
    pub(crate) async fn start(&self, id: &str, method: &str, params: &str) -> Reply {
        self.post(&self.body(id, method, params)).await
    }

    /// Sends a request that will be given up: ending the task closes its connection.
    pub(crate) fn hold(&self, id: &str, method: &str, params: &str) -> tokio::task::JoinHandle<()> {
        let body = self.body(id, method, params);
        let headers = self.headers(&body);
        let client = Modern::new(&self.url);
        tokio::spawn(async move {
            let reply = client.send(&headers, &body).await;
            // Nothing is to come; the connection stays open until the task is ended.
            reply.text().await;
        })
    }

    /// All messages of a request's answer, the response last.
    pub(crate) async fn exchange(&self, method: &str, params: &str) -> Vec<String> {
        let reply = self.start(&self.id(), method, params).await;
        let messages = if reply.is_stream() {
            let (events, _) = reply.events().rest().await;
            assert!(events.iter().all(|event| event.id.is_none()), "nothing can be resumed here: {events:?}");
            events.into_iter().map(|event| event.data).filter(|data| !data.is_empty()).collect()
        } else {
            vec![reply.text().await]
        };
        for message in &messages {
            let request = member(message, "method").is_some() && member(message, "id").is_some();
            assert!(!request, "a request on a modern stream (G-28): {message}");
        }
        messages
    }

    /// The response to a request, as text.
    pub(crate) async fn ask(&self, method: &str, params: &str) -> String {
        self.exchange(method, params).await.pop().expect("an answer")
    }

    /// The result of a request that must succeed, as text.
    pub(crate) async fn result(&self, method: &str, params: &str) -> String {
        let response = self.ask(method, params).await;
        member(&response, "result").unwrap_or_else(|| panic!("{method} failed: {response}"))
    }

    /// The result of a tool, its first round if it asks, as JSON.
    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Value {
        json(&self.result("tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).await)
    }

    /// Does a request to its end, giving every question its answer. Returns the final response and the questions.
    pub(crate) async fn converse(&self, method: &str, params: &str) -> (Value, Vec<Value>) {
        let (mut messages, questions) = self.converse_whole(method, params).await;
        (json(&messages.pop().expect("an answer")), questions)
    }

    /// The same, with all messages of all rounds but for the intermediate results, as text, the response last.
    pub(crate) async fn converse_whole(&self, method: &str, params: &str) -> (Vec<String>, Vec<Value>) {
        let (mut messages, mut questions) = (Vec::new(), Vec::new());
        let mut round = params.to_owned();
        for _ in 0..12 {
            messages.extend(self.exchange(method, &round).await);
            // Other results may hold what no parser of values takes.
            if !messages.last().is_some_and(|last| last.contains(r#""input_required""#)) {
                return (messages, questions);
            }
            let response = json(&messages.pop().expect("an answer"));
            let result = &response["result"];
            for hint in ["ttlMs", "cacheScope"] {
                assert!(result[hint].is_null(), "a cache hint on input_required (G-25): {result}");
            }
            let mut retry: Value = json(params);
            if let Some(requests) = result["inputRequests"].as_object() {
                let answers = requests.iter().map(|(key, question)| (key.clone(), answers::answer(question)));
                retry["inputResponses"] = answers.collect::<serde_json::Map<_, _>>().into();
                questions.extend(requests.values().cloned());
            }
            if !result["requestState"].is_null() {
                retry["requestState"] = result["requestState"].clone();
            }
            round = retry.to_string();
        }
        panic!("{method} {params} asks for ever");
    }

    /// A tool's final result, and what was asked on the way.
    pub(crate) async fn converse_tool(&self, tool: &str, arguments: &str) -> (Value, Vec<Value>) {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        let (response, questions) = self.converse("tools/call", &params).await;
        assert!(response["error"].is_null(), "{tool} failed: {response}");
        (response["result"].clone(), questions)
    }

    /// The names of all tools. Remembers which arguments have headers.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let list = json(&self.result("tools/list", "{}").await);
        let mut annotated = self.annotated.lock().expect("short");
        let tools = list["tools"].as_array().expect("a list");
        let named = tools.iter().map(|tool| {
            let name = tool["name"].as_str().expect("a name").to_owned();
            annotated.insert(name.clone(), headers_of(&tool["inputSchema"], ""));
            name
        });
        named.collect()
    }

    /// Opens a subscription and reads its acknowledgment.
    pub(crate) async fn listen(&self, filter: &Value) -> Listen {
        let id = format!("\"listen-{}\"", self.id());
        let reply = self.start(&id, "subscriptions/listen", &json!({ "notifications": filter }).to_string()).await;
        assert_eq!(reply.status, 200);
        let mut listen = Listen { id, filter: Value::Null, events: reply.events() };
        let first = listen.next().await.expect("an acknowledgment");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        listen.filter = first["params"]["notifications"].clone();
        listen
    }

    pub(crate) fn id(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

impl Listen {
    /// The next message; none at the end of the stream. Each must carry the subscription's id (G-35).
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let message = json(&self.events.message().await?);
        let holder = if message["result"].is_null() { &message["params"] } else { &message["result"] };
        let id = holder["_meta"][format!("{KEY}subscriptionId")].to_string();
        assert_eq!(id, self.id, "the subscription's id in {message}");
        Some(message)
    }
}

/// Header and JSON pointer of each annotated property below a schema.
fn headers_of(schema: &Value, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        if let Some(header) = property["x-mcp-header"].as_str() {
            found.push((header.to_lowercase(), path.clone()));
        }
        found.extend(headers_of(property, &path));
    }
    found
}

/// A header's value: as it is, or in the Base64 form where that is due (mcp-protocol 3.5).
pub(crate) fn encoded(value: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain && !value.is_empty() {
        return value.to_owned();
    }
    let mut text = String::new();
    for chunk in value.as_bytes().chunks(3) {
        let mut bits = [0; 3];
        bits[..chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for place in 0..4 {
            let digit = usize::try_from((number >> (18 - 6 * place)) & 63).expect("six bits");
            text.push(if place <= chunk.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    format!("=?base64?{text}?=")
}
