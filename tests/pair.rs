//! The HTTP+SSE pair of 2024-11-05 (mcp-protocol 3.13, G-54), and what its oldest clients get of newer servers.

use serde_json::{Value, json};

use crate::harness::client::{json as read, request, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk};
use crate::harness::parts::Sdk;
use crate::harness::sse::SseClient;
use crate::harness::{answers, http, until};

async fn one(config: &str) -> (Daemon, Desk) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "one", &[]);
    home.configure(&format!("{config}\n{block}sampling = true\n"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    (daemon, desk)
}

async fn connect(daemon: &Daemon, revision: &str) -> SseClient {
    SseClient::connect(&format!("http://{}/sse", daemon.address()), revision).await
}

fn call(id: &str, tool: &str, arguments: &str) -> String {
    let params = format!(r#"{{"name":"one__{tool}","arguments":{arguments},"_meta":{{"progressToken":{id}}}}}"#);
    request(id, "tools/call", &params)
}

#[tokio::test]
async fn g54_a_client_of_each_legacy_revision_lists_and_calls_over_the_pair() {
    let (daemon, _) = one("").await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = connect(&daemon, revision).await;
        let tools = read(&client.ask("tools/list", "{}").await);
        assert!(tools["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{tools}");
        client.send(&call("\"call\"", "progress", r#"{"steps":2,"ms":20}"#)).await;
        let answer = read(&client.answer("\"call\"").await);
        assert_eq!(text_of(&answer["result"]), "2 steps done");
        let told = client.others.iter().map(|message| read(message));
        // The list may have changed meanwhile: the server has only just started.
        let told: Vec<Value> = told.filter(|message| message["method"] == "notifications/progress").collect();
        assert_eq!(told.len(), 2, "progress comes on the same stream: {told:?}");
        assert_eq!(told[0]["params"]["progressToken"], "call");
    }
}

#[tokio::test]
async fn g54_only_an_open_stream_can_be_posted_to() {
    let (daemon, _) = one("").await;
    let client = connect(&daemon, "2024-11-05").await;
    let ping = request("1", "ping", "{}");
    for (target, status) in [("/messages?sessionId=nobody", 404), ("/messages", 400)] {
        let (answered, text) = client.post(target, &ping).await;
        assert_eq!(answered, status, "{target}: {text}");
    }
}

#[tokio::test]
async fn the_pair_can_be_switched_off() {
    let (daemon, _) = one("[listen]\nlegacy_sse = false").await;
    assert_eq!(daemon.page("/sse").await.0, 404);
    assert_eq!(daemon.client().await.result("ping", "{}").await, "{}");
}

#[tokio::test]
async fn a_cancelled_call_is_not_answered_and_its_server_is_told() {
    // mcp-protocol 2.8 note a.
    let (daemon, desk) = one("").await;
    let mut client = connect(&daemon, "2024-11-05").await;
    client.send(&call("70", "sleep", r#"{"ms":20000}"#)).await;
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":70}}"#).await;
    until("the server to hear of it", async || (!desk.lines("cancelled").is_empty()).then_some(())).await;
    client.ask("ping", "{}").await;
    assert_eq!(client.others, [""; 0], "nothing came in between");
}

#[tokio::test]
async fn the_end_of_the_stream_gives_up_its_calls() {
    let (daemon, desk) = one("").await;
    let client = connect(&daemon, "2025-06-18").await;
    client.send(&call("1", "sleep", r#"{"ms":25000}"#)).await;
    until("the call to arrive", async || {
        desk.received().iter().any(|request| request["body"]["method"] == "tools/call").then_some(())
    })
    .await;
    drop(client);
    until("the server to hear of it", async || (!desk.lines("cancelled").is_empty()).then_some(())).await;
    until("the session to end", async || (daemon.metric("trunkline_mcp_sessions", &[]).await == 0.0).then_some(()))
        .await;
}

#[tokio::test]
async fn changes_are_told_on_the_one_stream() {
    let (daemon, _) = one("").await;
    let mut client = connect(&daemon, "2024-11-05").await;
    client.ask("tools/call", r#"{"name":"one__change","arguments":{"add":"extra_pair"}}"#).await;
    until("the notice", async || {
        client.ask("ping", "{}").await;
        client.others.iter().any(|message| message.contains("notifications/tools/list_changed")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_the_call_finish_and_then_ends_the_stream() {
    let (daemon, _) = one("").await;
    let mut client = connect(&daemon, "2024-11-05").await;
    client.send(&call("1", "sleep", r#"{"ms":1500}"#)).await;
    client.ask("ping", "{}").await;
    daemon.signal(rustix::process::Signal::TERM);
    let answer = read(&client.answer("1").await);
    assert_eq!(text_of(&answer["result"]), "slept");
    let (status, _) = daemon.stop().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn newer_content_reaches_the_oldest_clients_as_text_and_the_newest_untouched() {
    // mcp-protocol 5.16.
    let (daemon, _) = one("").await;
    let result = r#"{"content":[{"type":"audio","data":"AAAA","mimeType":"audio/wav"},{"type":"resource_link","uri":"file:///a","name":"a","size":1e2}],"structuredContent":{"n":1.50}}"#;
    let params = format!(r#"{{"name":"one__mirror","arguments":{{"result":{result}}}}}"#);
    assert_eq!(daemon.client().await.result("tools/call", &params).await, result);
    let old = read(&connect(&daemon, "2024-11-05").await.ask("tools/call", &params).await);
    assert!(old["result"]["structuredContent"].is_null());
    let texts: Vec<&str> = old["result"]["content"].as_array().expect("content").iter().map(text).collect();
    // The structure too, since no block said it in words.
    assert_eq!(texts, ["[audio audio/wav, 3 bytes omitted]", "[resource a, file:///a]", r#"{"n":1.50}"#]);
}

fn text(block: &Value) -> &str {
    assert_eq!(block["type"], "text", "{block}");
    block["text"].as_str().expect("text")
}

#[tokio::test]
async fn s02_s03_g1_g2_a_foreign_page_gets_neither_half() {
    let (daemon, _) = one("").await;
    for (method, target) in [("GET", "/sse"), ("POST", "/messages?sessionId=x")] {
        for (host, origin) in [(daemon.address(), "http://evil.example"), ("evil.example", "http://localhost")] {
            let headers = [("host", host), ("origin", origin), ("content-type", "application/json")];
            let reply = http::send(http::connect(daemon.address()).await, method, target, &headers, "{}").await;
            assert_eq!(reply.status, 403, "{method} {target} {host} {origin}");
        }
    }
}

#[tokio::test]
async fn the_person_is_asked_on_the_one_stream() {
    let (daemon, desk) = one("").await;
    let url = format!("http://{}/sse", daemon.address());
    for (revision, tool, methods) in [
        ("2025-06-18", "ask_thrice", vec!["elicitation/create"; 3]),
        ("2024-11-05", "ask_sampling", vec!["sampling/createMessage"]),
    ] {
        let abilities = answers::legacy_abilities(revision).to_string();
        let mut client = SseClient::connect_with(&url, revision, &abilities).await;
        let params = format!(r#"{{"name":"one__{tool}","arguments":{{}}}}"#);
        let (answer, questions) = client.converse("tools/call", &params).await;
        let asked: Vec<&str> = questions.iter().filter_map(|question| question["method"].as_str()).collect();
        assert_eq!(asked, methods, "{answer}");
        assert!(answer["result"]["isError"].is_null(), "{answer}");
    }
    // Who leaves instead of answering leaves nobody waiting.
    let abilities = answers::legacy_abilities("2025-06-18").to_string();
    let client = SseClient::connect_with(&url, "2025-06-18", &abilities).await;
    let before = desk.lines("cancelled").len();
    client.send(&call("1", "ask_form", "{}")).await;
    until("the question", async || (daemon.server("one").await["in_flight"] == 1).then_some(())).await;
    drop(client);
    until("the server to hear of it", async || (desk.lines("cancelled").len() > before).then_some(())).await;
}

/// The same job over the pair and at `/mcp`: the SDK must see no difference.
async fn an_sdk_sees_no_difference(sdk: Sdk) {
    let (daemon, _) = one("").await;
    let steps = json!([
        { "do": "tools" }, { "do": "prompts" }, { "do": "resources" }, { "do": "templates" }, { "do": "ping" },
        { "do": "call", "name": "one__echo", "arguments": { "message": "über" } },
        { "do": "call", "name": "one__progress", "arguments": { "steps": 3, "ms": 20 }, "progress": true },
        { "do": "call", "name": "one__size", "arguments": { "bytes": 1_000_000 } },
        { "do": "call", "name": "one__nothing", "arguments": {} },
        { "do": "level", "level": "debug" },
    ]);
    let seen = async |transport: &str, path: &str| {
        let url = format!("http://{}{path}", daemon.address());
        sdk.run(&json!({ "transport": transport, "url": url, "steps": steps })).await
    };
    let (pair, plain) = (seen("sse", "/sse").await, seen("http", "/mcp").await);
    for key in ["server", "capabilities", "instructions", "steps"] {
        assert_eq!(pair[key], plain[key], "{sdk:?}: {key}");
    }
    assert_eq!(pair["steps"][5]["ok"]["content"][0]["text"], "über", "{}", pair["steps"][5]);
    assert_eq!(pair["steps"][6]["ok"]["progress"].as_array().map(Vec::len), Some(3), "{}", pair["steps"][6]);
}

#[tokio::test]
async fn the_typescript_sdk_sees_no_difference() {
    an_sdk_sees_no_difference(Sdk::TypeScript).await;
}

#[tokio::test]
async fn the_python_sdk_sees_no_difference() {
    an_sdk_sees_no_difference(Sdk::Python).await;
}
