//! A client of any revision over any transport that the daemon serves, with one set of verbs for all.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::answers;
use super::client::{Client, json, request};
use super::http::Events;
use super::modern::{self, Listen, Modern};
use super::sse::SseClient;

pub(crate) enum Anyone {
    /// Streamable HTTP with a session, and its standalone stream.
    Session(Arc<Client>, Events),
    /// HTTP+SSE.
    Pair(Box<SseClient>),
    /// 2026-07-28, and its subscription.
    Stateless(Box<Modern>, Box<Listen>),
}

impl Anyone {
    /// Connects to the daemon at `url`, declares what its revision can, and listens for changes of the tools.
    pub(crate) async fn connect(url: &str, revision: &str, transport: &str) -> Anyone {
        let abilities = answers::legacy_abilities(revision).to_string();
        if revision == modern::REVISION {
            let client = Modern::new(url);
            client.tools().await;
            let listen = client.listen(&json!({ "toolsListChanged": true })).await;
            return Anyone::Stateless(Box::new(client), Box::new(listen));
        }
        if transport == "sse" {
            let url = url.replace("/mcp", "/sse");
            return Anyone::Pair(Box::new(SseClient::connect_with(&url, revision, &abilities).await));
        }
        let client = Client::connect_with(url, revision, &abilities).await;
        let events = client.listen(None).await.events();
        Anyone::Session(Arc::new(client), events)
    }

    /// Does a request to its end, answering what is asked. Returns every message of it, the response last, and the
    /// questions.
    pub(crate) async fn converse(&mut self, method: &str, params: &str) -> (Vec<String>, Vec<Value>) {
        match self {
            Anyone::Session(client, _) => {
                let (mut notices, response, questions) = client.converse_whole(method, params).await;
                notices.push(response);
                (notices, questions)
            }
            Anyone::Pair(client) => {
                let before = client.others.len();
                let (response, questions) = client.converse_raw(method, params).await;
                // What belongs to no request stays there for `notice`.
                let mut messages = client.others[before..].to_vec();
                messages.push(response);
                (messages, questions)
            }
            Anyone::Stateless(client, _) => client.converse_whole(method, params).await,
        }
    }

    /// The text of the response to a request that is asked nothing.
    pub(crate) async fn ask(&mut self, method: &str, params: &str) -> String {
        let (mut messages, questions) = self.converse(method, params).await;
        assert!(questions.is_empty(), "{method} was not to ask: {questions:?}");
        messages.pop().expect("an answer")
    }

    /// The names of all tools.
    pub(crate) async fn tools(&mut self) -> Vec<String> {
        if let Anyone::Stateless(client, _) = self {
            return client.tools().await;
        }
        let response = json(&self.ask("tools/list", "{}").await);
        let tools = response["result"]["tools"].as_array().expect("a list");
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Wants log messages of every level with the calls from now on.
    pub(crate) async fn want_logs(&mut self) {
        match self {
            Anyone::Stateless(client, _) => client.log_level = Some("debug"),
            Anyone::Session(..) | Anyone::Pair(_) => {
                self.ask("logging/setLevel", r#"{"level":"debug"}"#).await;
            }
        }
    }

    /// From now on hears of this resource, if it did not before.
    pub(crate) async fn subscribe(&mut self, uri: &str) {
        if let Anyone::Stateless(client, listen) = self {
            let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": [uri] });
            **listen = client.listen(&wanted).await;
            assert_eq!(listen.filter, wanted, "what was honoured");
            return;
        }
        let response = self.ask("resources/subscribe", &json!({ "uri": uri }).to_string()).await;
        assert!(response.contains(r#""result""#), "{response}");
    }

    /// The next message that belongs to no request, with this method.
    pub(crate) async fn notice(&mut self, method: &str) -> Value {
        loop {
            let message = match self {
                Anyone::Session(_, events) => json(&events.message().await.expect("the stream is open")),
                Anyone::Pair(client) => return json(&client.notice(method).await),
                Anyone::Stateless(_, listen) => listen.next().await.expect("the subscription is open"),
            };
            if message["method"] == method {
                return message;
            }
        }
    }

    /// Starts a call that the caller will give up.
    pub(crate) async fn start(&mut self, id: &str, tool: &str, arguments: &str) -> Started {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        match self {
            Anyone::Session(client, _) => {
                let (client, id) = (client.clone(), id.to_owned());
                Started::Session(tokio::spawn(async move {
                    client.exchange_as(&id, "tools/call", &params).await.pop().expect("an end")
                }))
            }
            Anyone::Pair(client) => {
                client.send(&request(id, "tools/call", &params)).await;
                Started::Pair
            }
            Anyone::Stateless(client, _) => Started::Stateless(client.hold(id, "tools/call", &params)),
        }
    }

    /// Gives a call up as its era does it.
    pub(crate) async fn cancel(&mut self, id: &str, started: Started) {
        let params = format!(r#"{{"requestId":{id},"reason":"enough"}}"#);
        match (self, started) {
            (Anyone::Session(client, _), Started::Session(answer)) => {
                client.notify("notifications/cancelled", &params).await;
                let answer = answer.await.expect("the answer arrives");
                assert!(answer.contains("-32800"), "{answer}");
            }
            (Anyone::Pair(client), Started::Pair) => {
                let notice = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
                client.send(&notice).await;
            }
            (Anyone::Stateless(..), Started::Stateless(connection)) => connection.abort(),
            _ => unreachable!("a client gives up what it started"),
        }
    }
}

/// A call under way.
pub(crate) enum Started {
    /// The task that waits for the answer.
    Session(JoinHandle<String>),
    Pair,
    /// The task that holds the connection.
    Stateless(JoinHandle<()>),
}
