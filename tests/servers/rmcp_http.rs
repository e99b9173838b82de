//! A server built on rmcp, the official Rust SDK: what a Rust author would deploy. It speaks the legacy revisions and
//! 2026-07-28, in which its tools can ask (`rmcp_ask.rs`).
//!
//! `rmcp-server READY_FILE` listens on a free loopback port and writes its URL to the file; `rmcp-server stdio`
//! serves its own pipes.

#[path = "rmcp_ask.rs"]
mod rmcp_ask;

use std::sync::Arc;

use rmcp::handler::server::router::prompt::PromptRouter;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, ListResourceTemplatesResult,
    ListResourcesResult, PaginatedRequestParams, ProgressNotificationParam, PromptMessage, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, RequestMetaObject, Resource, ResourceContents, ResourceTemplate, Role,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, ServiceExt as _, prompt, prompt_handler, prompt_router, tool,
    tool_handler, tool_router,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone)]
struct Desk {
    tool_router: ToolRouter<Self>,
    prompt_router: PromptRouter<Self>,
}

#[derive(Deserialize, JsonSchema)]
struct Terms {
    a: i64,
    b: i64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Who {
    /// Whom to greet
    who: String,
}

#[tool_router]
#[prompt_router]
impl Desk {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() + Self::ask_router(), prompt_router: Self::prompt_router() }
    }

    #[tool(description = "Adds two numbers", annotations(read_only_hint = true))]
    fn add(Parameters(Terms { a, b }): Parameters<Terms>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Says hello with a structured answer")]
    fn hello(Parameters(Who { who }): Parameters<Who>) -> CallToolResult {
        CallToolResult::structured(serde_json::json!({ "greeting": format!("hello {who}") }))
    }

    #[tool(description = "Reports progress three times")]
    async fn work(&self, meta: RequestMetaObject, client: Peer<RoleServer>) -> CallToolResult {
        if let Some(token) = meta.get_progress_token() {
            for step in 1..=3 {
                let note = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(3.0);
                let _ = client.notify_progress(note).await;
            }
        }
        CallToolResult::success(vec![ContentBlock::text("worked")])
    }

    #[prompt(name = "greet", description = "Greets somebody")]
    async fn greet(&self, Parameters(Who { who }): Parameters<Who>) -> Vec<PromptMessage> {
        vec![PromptMessage::new_text(Role::User, format!("Say hello to {who}."))]
    }
}

#[tool_handler(router = self.tool_router)]
#[prompt_handler(router = self.prompt_router)]
impl ServerHandler for Desk {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities).with_instructions("The Rust desk: adds and greets.")
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new("desk://notes/one", "one")]))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![ResourceTemplate::new("desk://notes/{name}", "note")]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match request.uri.strip_prefix("desk://notes/") {
            Some(name) => {
                let contents = ResourceContents::text(format!("the note {name}"), request.uri.clone());
                Ok(ReadResourceResult::new(vec![contents]).into())
            }
            None => Err(ErrorData::resource_not_found("no such note", None)),
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let known = ["alice", "albert", "bob"];
        let values = known.iter().filter(|name| name.starts_with(&request.argument.value));
        let info = CompletionInfo::with_all_values(values.map(ToString::to_string).collect());
        Ok(CompleteResult::new(info.map_err(|text| ErrorData::internal_error(text, None))?))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let ready = std::env::args().nth(1).expect("the ready file is the argument");
    if ready == "stdio" {
        let service = Desk::new().serve(rmcp::transport::stdio()).await.map_err(std::io::Error::other)?;
        service.waiting().await?;
        return Ok(());
    }
    let service = StreamableHttpService::new(
        || Ok(Desk::new()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let router = axum::Router::new().nest_service("/mcp", service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let draft = format!("{ready}.draft");
    std::fs::write(&draft, format!("http://{}/mcp\n", listener.local_addr()?))?;
    std::fs::rename(draft, ready)?;
    axum::serve(listener, router).await
}
