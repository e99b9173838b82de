//! A client on rmcp, the official Rust SDK, that answers what a server asks: the usual answers, written down.

#![expect(deprecated, reason = "sampling and roots are on their way out, and still to be carried")]

use std::sync::{Arc, Mutex};

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ClientInfo, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, Implementation, ListRootsResult, ProtocolVersion,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt as _, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Value, json};

use super::answers;

#[derive(Clone, Default)]
pub(crate) struct Person {
    asked: Arc<Mutex<Vec<String>>>,
}

pub(crate) struct Rmcp {
    client: RunningService<RoleClient, Person>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// How rmcp opens a connection.
pub(crate) fn lifecycle(name: &str) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match name {
        "initialize" => ClientLifecycleMode::Initialize,
        "discover" => ClientLifecycleMode::Discover { preferred_versions },
        "auto" => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
        other => panic!("rmcp has no lifecycle {other}"),
    }
}

impl Rmcp {
    pub(crate) async fn connect(url: &str, how: &str) -> Rmcp {
        // The test's HTTP client is built without a TLS provider of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let person = Person::default();
        let asked = person.asked.clone();
        let transport = StreamableHttpClientTransport::from_uri(url);
        let client = person.serve_with_lifecycle(transport, lifecycle(how)).await;
        Rmcp { client: client.unwrap_or_else(|problem| panic!("rmcp {how} at {url}: {problem}")), asked }
    }

    /// The text of a tool's result.
    pub(crate) async fn call(&self, tool: &str) -> String {
        let result = self.client.call_tool(CallToolRequestParams::new(tool.to_owned())).await;
        let result = result.unwrap_or_else(|problem| panic!("{tool}: {problem}"));
        let result = serde_json::to_value(result).expect("a result is JSON");
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}")).to_owned()
    }

    /// The methods of the questions so far; forgets them.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("short"))
    }

    pub(crate) async fn end(self) {
        self.client.cancel().await.expect("an orderly end");
    }
}

impl Person {
    fn answer<T: serde::de::DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T, ErrorData> {
        self.asked.lock().expect("short").push(method.to_owned());
        let answer = answers::answer(&json!({ "method": method, "params": params }));
        serde_json::from_value(answer).map_err(|problem| ErrorData::internal_error(problem.to_string(), None))
    }
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let capabilities: ClientCapabilities =
            serde_json::from_value(answers::abilities()).expect("capabilities that rmcp knows");
        ClientInfo::new(capabilities, Implementation::new("rmcp", "1"))
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.answer("elicitation/create", &serde_json::to_value(params).expect("params are JSON"))
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.answer("sampling/createMessage", &serde_json::to_value(params).expect("params are JSON"))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        self.answer("roots/list", &json!({}))
    }
}
