//! [`Client`]: a legacy client of a streamable HTTP endpoint, as the SDKs are.

use axum::body::Body;
use http::{Response, StatusCode};
use trunkline_wire::{Id, Json, Message, Method, Notification, Request};

use crate::http::{Events, Http, body, is_stream, request};

/// A client with a session.
#[derive(Debug)]
pub struct Client {
    http: Http,
    path: String,
    /// What the server called the session.
    pub session: Option<String>,
    /// What was agreed on.
    pub revision: String,
    /// Result of `initialize`.
    pub hello: Json,
    last_id: u64,
}

/// What a request brought.
#[derive(Debug)]
pub struct Answer {
    /// Messages that came before the response, on its stream.
    pub before: Vec<Message>,
    /// The response's `result`, or its `error`.
    pub outcome: Result<Json, Json>,
}

impl Answer {
    /// Returns the result.
    ///
    /// # Panics
    /// If it is an error.
    pub fn result(self) -> Json {
        self.outcome.unwrap_or_else(|error| panic!("an error: {}", text(&error)))
    }

    /// Returns the text of the result or of the error, whichever it is.
    pub fn text(&self) -> String {
        let (Ok(json) | Err(json)) = &self.outcome;
        text(json)
    }
}

impl Client {
    /// Shakes hands at `/mcp`, wanting `revision`.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn connect(http: &Http, revision: &str) -> Self {
        Self::connect_at(http, "/mcp", revision, "{}").await
    }

    /// Shakes hands at `path`, with these capabilities.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn connect_at(http: &Http, path: &str, revision: &str, capabilities: &str) -> Self {
        let mut client = Self {
            http: http.clone(),
            path: path.into(),
            session: None,
            revision: String::new(),
            hello: Json::literal("{}"),
            last_id: 0,
        };
        let params = format!(
            r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"clientInfo":{{"name":"testkit","version":"1"}}}}"#
        );
        let (_, response) = client.send("initialize", &params).await;
        assert_eq!(response.status(), StatusCode::OK);
        let session = response.headers().get("mcp-session-id");
        client.session = session.map(|id| id.to_str().expect("visible ASCII").to_owned());
        client.hello = answer(response).await.result();
        let hello = trunkline_wire::Object::parse(&client.hello).expect("an object");
        client.revision = hello.get_str("protocolVersion").expect("a revision");
        assert_eq!(client.notify("notifications/initialized", "{}").await, StatusCode::ACCEPTED);
        client
    }

    /// Asks and reads the response, whichever form it has.
    ///
    /// # Panics
    /// If the answer is no message, or the stream ends without a response.
    pub async fn ask(&mut self, method: &str, params: &str) -> Answer {
        let (_, response) = self.send(method, params).await;
        answer(response).await
    }

    /// Calls a tool.
    ///
    /// # Panics
    /// As [`Client::ask`].
    pub async fn call(&mut self, tool: &str, arguments: &str) -> Answer {
        let name = Json::from(tool);
        self.ask("tools/call", &format!(r#"{{"name":{},"arguments":{arguments}}}"#, text(&name))).await
    }

    /// Asks and returns the request's id and the response when its head is there: see [`Events::of`].
    pub async fn send(&mut self, method: &str, params: &str) -> (Id, Response<Body>) {
        self.last_id += 1;
        let id = Id::from(self.last_id);
        let request =
            Request { id: id.clone(), method: Method::from(method), params: Some(Json::trusted(params.to_owned())) };
        (id, self.post(request.encode()).await)
    }

    /// Notifies; returns the status.
    pub async fn notify(&self, method: &str, params: &str) -> StatusCode {
        let params = Some(Json::trusted(params.to_owned()));
        self.post(Notification { method: Method::from(method), params }.encode()).await.status()
    }

    /// Posts any body, with the headers that a client sends.
    pub async fn post(&self, message: impl Into<Body>) -> Response<Body> {
        let post = self
            .head("POST")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        self.http.send(post.body(message.into()).expect("a request")).await
    }

    /// Opens the standalone stream, or resumes one after an event.
    pub async fn listen(&self, last_event_id: Option<&str>) -> Response<Body> {
        let mut get = self.head("GET").header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            get = get.header("last-event-id", id);
        }
        self.http.send(get.body(Body::empty()).expect("a request")).await
    }

    /// Ends the session; returns the status.
    pub async fn end(&self) -> StatusCode {
        self.http.send(self.head("DELETE").body(Body::empty()).expect("a request")).await.status()
    }

    fn head(&self, method: &str) -> http::request::Builder {
        let mut head = request(method, &self.path);
        if let Some(session) = &self.session {
            head = head.header("mcp-session-id", session);
        }
        if !self.revision.is_empty() {
            head = head.header("mcp-protocol-version", &self.revision);
        }
        head
    }
}

async fn answer(response: Response<Body>) -> Answer {
    let mut before = Vec::new();
    if !is_stream(&response) {
        let (status, text) = (response.status(), body(response).await);
        let Ok(Message::Response(response)) = Message::parse(&text) else {
            panic!("no response but {status}: {}", String::from_utf8_lossy(&text));
        };
        return Answer { before, outcome: response.outcome };
    }
    let mut events = Events::of(response);
    loop {
        match events.message().await.expect("a response before the stream ends") {
            Message::Response(response) => return Answer { before, outcome: response.outcome },
            notice @ (Message::Request(_) | Message::Notification(_)) => before.push(notice),
        }
    }
}

fn text(json: &Json) -> String {
    String::from_utf8_lossy(json.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;

    use super::*;

    /// As little of a server as the client needs.
    async fn endpoint(headers: http::HeaderMap, text: axum::body::Bytes) -> Response<Body> {
        let reply = Response::builder();
        match Message::parse(&text).expect("a message") {
            Message::Request(request) if request.method == Method::Initialize => {
                let json = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
                reply.header("mcp-session-id", "s1").body(json.into())
            }
            Message::Request(_) => {
                assert_eq!(headers["mcp-session-id"], "s1");
                assert_eq!(headers["mcp-protocol-version"], "2025-06-18");
                let stream = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\nid: 1\ndata:\n\n\
                    data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"a\":1}}\n\n";
                reply.header("content-type", "text/event-stream").body(stream.into())
            }
            Message::Notification(_) | Message::Response(_) => reply.status(202).body(Body::empty()),
        }
        .expect("a response")
    }

    #[tokio::test(start_paused = true)]
    async fn reads_answers_of_both_forms() {
        let http = Http::new(Router::new().route("/mcp", post(endpoint)));
        let mut client = Client::connect(&http, "2025-06-18").await;
        let answer = client.call("echo", "{}").await;
        assert_eq!(answer.before.len(), 1);
        assert_eq!(answer.text(), r#"{"a":1}"#);
    }
}
