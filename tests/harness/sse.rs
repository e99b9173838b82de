//! A client of the HTTP+SSE transport: answers come on the one stream that was opened first.

use serde_json::Value;

use super::answers;
use super::client::{self, json, member};
use super::http::{self, Events};

pub(crate) struct SseClient {
    address: String,
    endpoint: String,
    events: Events,
    /// What arrived besides the answers.
    pub(crate) others: Vec<String>,
    next: u64,
}

impl SseClient {
    /// A client that declares no capability.
    pub(crate) async fn connect(url: &str, revision: &str) -> SseClient {
        SseClient::connect_with(url, revision, "{}").await
    }

    pub(crate) async fn connect_with(url: &str, revision: &str, capabilities: &str) -> SseClient {
        let address = http::authority(url).to_owned();
        let headers = [("host", address.as_str()), ("accept", "text/event-stream")];
        let reply = http::send(http::connect(&address).await, "GET", http::path(url), &headers, "").await;
        assert_eq!(reply.status, 200);
        let mut events = reply.events();
        let first = events.next().await.expect("an endpoint event");
        assert_eq!(first.name.as_deref(), Some("endpoint"));
        assert_eq!(first.id, None, "nothing can be resumed here, so nothing has an id");
        // Relative to the origin, or a whole URL of the same origin.
        let endpoint = first.data.strip_prefix(&format!("http://{address}")).unwrap_or(&first.data).to_owned();
        let mut client = SseClient { address, endpoint, events, others: Vec::new(), next: 1 };
        client.send(&client::initialize_with(revision, capabilities)).await;
        client.answer("0").await;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        client
    }

    /// POSTs a message; its acceptance says nothing of the outcome.
    pub(crate) async fn send(&self, body: &str) {
        let (status, _) = self.post(&self.endpoint, body).await;
        assert_eq!(status, 202);
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> (u16, String) {
        let headers = [("host", self.address.as_str()), ("content-type", "application/json")];
        let reply = http::send(http::connect(&self.address).await, "POST", target, &headers, body.to_owned()).await;
        (reply.status, reply.text().await)
    }

    /// Reads until the answer with this id.
    pub(crate) async fn answer(&mut self, id: &str) -> String {
        loop {
            let message = self.events.message().await.expect("the stream is open");
            if member(&message, "id").as_deref() == Some(id) && member(&message, "method").is_none() {
                return message;
            }
            self.others.push(message);
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, params: &str) -> String {
        let id = self.next.to_string();
        self.next += 1;
        self.send(&client::request(&id, method, params)).await;
        self.answer(&id).await
    }

    /// Does a request to its end, answering every question of the server on the way. Returns the response and the
    /// questions.
    pub(crate) async fn converse(&mut self, method: &str, params: &str) -> (Value, Vec<Value>) {
        let (response, questions) = self.converse_raw(method, params).await;
        (json(&response), questions)
    }

    /// The same, with the response as text.
    pub(crate) async fn converse_raw(&mut self, method: &str, params: &str) -> (String, Vec<Value>) {
        let id = self.next.to_string();
        self.next += 1;
        self.send(&client::request(&id, method, params)).await;
        let mut questions = Vec::new();
        loop {
            let text = self.events.message().await.expect("the stream is open");
            match (member(&text, "method"), member(&text, "id")) {
                (None, Some(answered)) if answered == id => return (text, questions),
                (Some(_), Some(_)) => {
                    let question = json(&text);
                    self.send(&client::response(&question, &answers::answer(&question))).await;
                    questions.push(question);
                }
                _ => self.others.push(text),
            }
        }
    }

    /// A message that arrived besides the answers, now or earlier, with this method.
    pub(crate) async fn notice(&mut self, method: &str) -> String {
        loop {
            let found = self.others.iter().position(|message| json(message)["method"] == method);
            if let Some(place) = found {
                return self.others.remove(place);
            }
            self.others.push(self.events.message().await.expect("the stream is open"));
        }
    }
}
