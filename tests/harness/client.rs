//! A legacy client of the streamable HTTP transport, as plain as the protocol allows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use serde_json::value::RawValue;

use super::answers;
use super::http::{self, Connection, Events, Reply};

pub(crate) struct Client {
    url: String,
    pub(crate) session: Option<String>,
    pub(crate) revision: String,
    /// The result of `initialize`, as text.
    pub(crate) greeting: String,
    idle: Mutex<Vec<Connection>>,
    next: AtomicU64,
}

/// A call whose answer is a stream, or may become one.
pub(crate) enum Answer {
    Whole(String),
    Stream(Events),
}

impl Client {
    /// A client that declares no capability.
    pub(crate) async fn connect(url: &str, revision: &str) -> Client {
        Client::connect_with(url, revision, "{}").await
    }

    pub(crate) async fn connect_with(url: &str, revision: &str, capabilities: &str) -> Client {
        let mut client = Client {
            url: url.to_owned(),
            session: None,
            revision: revision.to_owned(),
            greeting: String::new(),
            idle: Mutex::default(),
            next: AtomicU64::new(1),
        };
        let reply = client.post(&initialize_with(revision, capabilities)).await;
        assert_eq!(reply.status, 200, "initialize was refused");
        client.session = reply.header("mcp-session-id").map(str::to_owned);
        client.greeting = result(&client.whole(reply).await.pop().expect("an answer"));
        client.notify("notifications/initialized", "{}").await;
        client
    }

    /// The headers that every request of this session carries.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![
            ("host", http::authority(&self.url)),
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
        ];
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id", session));
            headers.push(("mcp-protocol-version", &self.revision));
        }
        headers
    }

    /// POSTs a body as it is.
    pub(crate) async fn post(&self, body: &str) -> Reply {
        http::send(self.connection().await, "POST", http::path(&self.url), &self.headers(), body.to_owned()).await
    }

    /// Opens the standalone stream, or resumes another.
    pub(crate) async fn listen(&self, last_event_id: Option<&str>) -> Reply {
        let mut headers = self.headers();
        headers.retain(|(name, _)| *name != "content-type");
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        http::send(self.connection().await, "GET", http::path(&self.url), &headers, "").await
    }

    pub(crate) async fn delete(&self) -> Reply {
        http::send(self.connection().await, "DELETE", http::path(&self.url), &self.headers(), "").await
    }

    pub(crate) async fn notify(&self, method: &str, params: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        let reply = self.post(&body).await;
        // Real servers answer 200 or 202; the daemon's own status is asserted where it matters.
        assert!((200..300).contains(&reply.status), "{method}: {}", reply.status);
        self.keep(reply.text_and_connection().await.1);
    }

    /// All messages of a request's answer, the response last. The id is a number of ours.
    pub(crate) async fn exchange(&self, method: &str, params: &str) -> Vec<String> {
        self.exchange_as(&self.id(), method, params).await
    }

    pub(crate) async fn exchange_as(&self, id: &str, method: &str, params: &str) -> Vec<String> {
        let reply = self.post(&request(id, method, params)).await;
        assert_eq!(reply.status, 200, "{method} was refused");
        self.whole(reply).await
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

    /// The result of a tool that must be callable, as JSON.
    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Value {
        json(&self.result("tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).await)
    }

    /// Starts a call and returns what there is to read of it.
    pub(crate) async fn start(&self, id: &str, tool: &str, arguments: &str) -> Answer {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments},"_meta":{{"progressToken":{id}}}}}"#);
        let reply = self.post(&request(id, "tools/call", &params)).await;
        assert_eq!(reply.status, 200);
        if reply.is_stream() { Answer::Stream(reply.events()) } else { Answer::Whole(reply.text().await) }
    }

    /// Does a request to its end, answering every question of the server on the way by a POST of its own. Returns the
    /// response and the questions.
    pub(crate) async fn converse(&self, method: &str, params: &str) -> (Value, Vec<Value>) {
        let (_, response, questions) = self.converse_whole(method, params).await;
        (json(&response), questions)
    }

    /// The same, with the notices that came, and everything as text.
    pub(crate) async fn converse_whole(&self, method: &str, params: &str) -> (Vec<String>, String, Vec<Value>) {
        let reply = self.post(&request(&self.id(), method, params)).await;
        assert_eq!(reply.status, 200, "{method} was refused");
        let (mut notices, mut questions) = (Vec::new(), Vec::new());
        if !reply.is_stream() {
            return (notices, reply.text().await, questions);
        }
        let mut events = reply.events();
        loop {
            let text = events.message().await.expect("an answer");
            match (member(&text, "method"), member(&text, "id")) {
                (None, _) => return (notices, text, questions),
                (Some(_), None) => notices.push(text),
                (Some(_), Some(_)) => {
                    let question = json(&text);
                    self.answer(&question).await;
                    questions.push(question);
                }
            }
        }
    }

    /// POSTs the usual answer to a question of the server.
    pub(crate) async fn answer(&self, question: &Value) {
        let reply = self.post(&response(question, &answers::answer(question))).await;
        assert_eq!(reply.status, 202, "the answer to {question}");
    }

    /// A tool's final result, and what was asked on the way.
    pub(crate) async fn converse_tool(&self, tool: &str, arguments: &str) -> (Value, Vec<Value>) {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        let (response, questions) = self.converse("tools/call", &params).await;
        assert!(response["error"].is_null(), "{tool} failed: {response}");
        (response["result"].clone(), questions)
    }

    /// The names of all tools.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let list = json(&self.result("tools/list", "{}").await);
        let tools = list["tools"].as_array().expect("a list");
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    fn id(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    async fn whole(&self, reply: Reply) -> Vec<String> {
        if reply.is_stream() {
            let (events, connection) = reply.events().rest().await;
            self.keep(connection);
            events.into_iter().map(|event| event.data).filter(|data| !data.is_empty()).collect()
        } else {
            let (text, connection) = reply.text_and_connection().await;
            self.keep(connection);
            vec![text]
        }
    }

    async fn connection(&self) -> Connection {
        let idle = self.idle.lock().expect("short").pop();
        match idle {
            Some(connection) if !connection.is_closed() => connection,
            _ => http::connect(http::authority(&self.url)).await,
        }
    }

    fn keep(&self, connection: Connection) {
        self.idle.lock().expect("short").push(connection);
    }
}

pub(crate) fn initialize(revision: &str) -> String {
    initialize_with(revision, "{}")
}

pub(crate) fn initialize_with(revision: &str, capabilities: &str) -> String {
    let client = r#"{"name":"plain","version":"1"}"#;
    let params = format!(r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{client}}}"#);
    request("0", "initialize", &params)
}

/// The response to a question, whose id keeps its JSON type.
pub(crate) fn response(question: &Value, result: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, question["id"])
}

pub(crate) fn request(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|problem| panic!("not JSON ({problem}): {text}"))
}

/// A member of an object, as the text it was sent as.
pub(crate) fn member(object: &str, key: &str) -> Option<String> {
    let members: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(object).unwrap_or_else(|problem| panic!("not an object ({problem}): {object}"));
    members.get(key).map(|value| value.get().to_owned())
}

/// The result in a response, as text.
fn result(response: &str) -> String {
    member(response, "result").unwrap_or_else(|| panic!("no result: {response}"))
}

/// The first text of a tool's result.
pub(crate) fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"))
}

/// The daemon's own fault in a tool's result.
pub(crate) fn fault_of(result: &Value) -> &Value {
    assert_eq!(result["isError"], true, "not a failure: {result}");
    &result["_meta"]["dev.trunkline/fault"]
}
