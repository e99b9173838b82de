//! The fake itself, asked directly: what the tests of the daemon lean on must hold without the daemon.

use serde_json::{Value, json};

use crate::harness::answers;
use crate::harness::client::{Client, json, text_of};
use crate::harness::daemon::Home;
use crate::harness::fake::{self, Fake};
use crate::harness::modern::Modern;
use crate::harness::pipes::PipeClient;
use crate::harness::sse::SseClient;
use crate::harness::until;

const MODERN: [&str; 2] = ["--revision", "2026-07-28"];

/// What a tool that asks everything once reports.
fn outcomes(result: &Value) -> Vec<Value> {
    json(text_of(result)).as_array().expect("a list").iter().map(|entry| entry["result"].clone()).collect()
}

#[tokio::test]
async fn a_modern_fake_answers_whole_requests_and_stamps_its_results() {
    let fake = Fake::start("http", "new", &MODERN).await;
    let client = Modern::new(&fake.url);
    let discovered = json(&client.result("server/discover", "{}").await);
    assert_eq!(discovered["supportedVersions"], json!(["2026-07-28"]));
    for (method, params) in [("tools/list", "{}"), ("resources/read", r#"{"uri":"fake://new/text"}"#)] {
        let result = client.result(method, params).await;
        for stamp in [r#""resultType":"complete""#, r#""ttlMs":0"#, r#""cacheScope":"private""#] {
            assert!(result.contains(stamp), "{method}: {result}");
        }
    }
    assert!(client.tools().await.iter().any(|name| name == "numbers"));
    let here = json!({ "region": " K\u{f6}ln", "level": 42, "dry": false, "place": { "city": "=?base64?eA==?=" } });
    assert_eq!(text_of(&client.call("region", &here.to_string()).await), here.to_string());
    assert_eq!(client.call("numbers", "{}").await["structuredContent"], json!([1, 2, 3]));
    let missing = json(&client.ask("resources/read", r#"{"uri":"fake://new/nothing"}"#).await);
    assert_eq!(missing["error"]["code"], -32602, "{missing}");
    assert_eq!(fake.desk.lines("violations"), Vec::<String>::new());
}

#[tokio::test]
async fn a_modern_fake_refuses_what_the_revision_refuses_and_writes_it_down() {
    let fake = Fake::start("http", "new", &MODERN).await;
    let client = Modern::new(&fake.url);
    client.tools().await;
    let body = client.body("1", "tools/call", r#"{"name":"region","arguments":{"region":"x"}}"#);
    let complete = client.headers(&body);
    for header in ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region"] {
        let mut headers = complete.clone();
        headers.retain(|(name, _)| name != header);
        let reply = client.send(&headers, &body).await;
        assert_eq!(reply.status, 400, "{header}");
        assert_eq!(json(&reply.text().await)["error"]["code"], -32020, "{header}");
    }
    let newer = body.replace("2026-07-28", "2099-01-01");
    let reply = client.post(&newer).await;
    assert_eq!((reply.status, &json(&reply.text().await)["error"]["code"]), (400, &(-32022).into()));
    let reply = client.post(&client.body("1", "ping", "{}")).await;
    assert_eq!((reply.status, &json(&reply.text().await)["error"]["code"]), (404, &(-32601).into()));
    assert_eq!(fake.desk.lines("violations").len(), 5);
}

#[tokio::test]
async fn a_modern_fake_asks_in_rounds_and_takes_a_state_once() {
    let fake = Fake::start("http", "new", &MODERN).await;
    let client = Modern::new(&fake.url);
    for (tool, rounds) in [("ask_form", 1), ("ask_url", 1), ("ask_sampling", 1), ("ask_roots", 1), ("ask_thrice", 3)] {
        let (result, questions) = client.converse_tool(tool, "{}").await;
        assert_eq!(questions.len(), rounds, "{tool}");
        let expected: Vec<Value> = questions.iter().map(answers::answer).collect();
        assert_eq!(outcomes(&result), expected, "{tool}");
    }
    let (result, questions) = client.converse_tool("ask_both", "{}").await;
    assert_eq!((questions.len(), outcomes(&result).len()), (2, 2));
    let (_, questions) = client.converse_tool("ask_state", "{}").await;
    assert_eq!(questions.len(), 1, "between two rounds of state alone");
    client.converse_tool("ask_form", r#"{"stateless":true}"#).await;
    client.converse("prompts/get", r#"{"name":"asking"}"#).await;
    client.converse("resources/read", r#"{"uri":"fake://new/item/asking"}"#).await;
    assert_eq!(fake.desk.lines("violations"), Vec::<String>::new());

    let first = client.call("ask_form", "{}").await;
    let state = &first["requestState"];
    let retry = json!({
        "name": "ask_form",
        "arguments": {},
        "inputResponses": { "r1 q1": answers::answer(&first["inputRequests"]["r1 q1"]) },
        "requestState": state,
    });
    client.result("tools/call", &retry.to_string()).await;
    let again = json(&client.ask("tools/call", &retry.to_string()).await);
    assert_eq!(again["error"]["code"], -32602, "{again}");
    let calls: Vec<Value> = fake.desk.lines("calls").iter().map(|line| json(line)).collect();
    assert!(calls.iter().any(|call| call["retry"] == true && call["state"] == *state), "{calls:?}");

    let shy = Modern::with(&fake.url, json!({}));
    let refused = json(&shy.ask("tools/call", r#"{"name":"ask_url","arguments":{}}"#).await);
    assert_eq!(refused["error"]["data"], json!({ "requiredCapabilities": { "elicitation": { "url": {} } } }));
}

#[tokio::test]
async fn a_modern_fake_tells_its_subscriptions_and_notices_who_leaves() {
    let fake = Fake::start("http", "new", &MODERN).await;
    let client = Modern::new(&fake.url);
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["fake://new/text"], "x-odd": true });
    let mut listen = client.listen(&wanted).await;
    assert_eq!(listen.filter, json!({ "toolsListChanged": true, "resourceSubscriptions": ["fake://new/text"] }));
    client.call("change", r#"{"add":"extra_1"}"#).await;
    assert_eq!(listen.next().await.expect("a notice")["method"], "notifications/tools/list_changed");
    client.call("touch", r#"{"uri":"fake://new/text"}"#).await;
    assert_eq!(listen.next().await.expect("a notice")["params"]["uri"], "fake://new/text");
    client.call("hang_up", r#"{"graceful":true}"#).await;
    assert_eq!(listen.next().await.expect("a result")["result"]["resultType"], "complete");
    assert_eq!(listen.next().await, None);

    let hanging = client.start("77", "tools/call", r#"{"name":"hang","arguments":{}}"#).await;
    drop(hanging);
    until("the fake to notice", async || (fake.desk.lines("cancelled").len() == 1).then_some(())).await;
    assert_eq!(json(&fake.desk.lines("cancelled")[0])["disconnected"], 77);
}

#[tokio::test]
async fn a_modern_fake_on_pipes_ends_its_subscriptions_in_order() {
    let home = Home::new();
    let command = fake::program("fake-upstream").to_str().expect("UTF-8").to_owned();
    let desk = home.path("desk").to_str().expect("UTF-8").to_owned();
    let args = ["stdio", "--name", "new", "--desk", &desk, "--revision", "2026-07-28"].map(str::to_owned);
    let mut pipes = PipeClient::open(&command, &args);
    let client = Modern::new("http://nowhere/");
    pipes.send(&client.body("1", "server/discover", "{}")).await;
    assert!(pipes.answer("1").await.contains(r#""supportedVersions":["2026-07-28"]"#));
    let wanted = r#"{"notifications":{"toolsListChanged":true}}"#;
    pipes.send(&client.body("\"l\"", "subscriptions/listen", wanted)).await;
    assert!(pipes.line().await.expect("a line").contains("acknowledged"));
    pipes.send(&client.body("2", "tools/call", r#"{"name":"log","arguments":{},"_meta":{"progressToken":1}}"#)).await;
    pipes.answer("2").await;
    pipes.close();
    let last = json(&pipes.line().await.expect("a result"));
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&"l".into(), &"complete".into()), "{last}");
    assert_eq!(pipes.line().await, None);
}

#[tokio::test]
async fn a_modern_fake_follows_tasks_of_the_extension() {
    let fake = Fake::start("http", "new", &MODERN).await;
    let mut client = Modern::new(&fake.url);
    assert_eq!(text_of(&client.call("task", "{}").await), "the task is done", "a plain call for others");
    client.capabilities["extensions"] = json!({ "io.modelcontextprotocol/tasks": {} });
    let created = client.call("task", r#"{"ask":true,"ms":1}"#).await;
    assert_eq!(created["resultType"], "task", "{created}");
    let id = json!({ "taskId": created["taskId"] });
    let asking = until("the task to ask", async || {
        let task = json(&client.result("tasks/get", &id.to_string()).await);
        (task["status"] == "input_required").then_some(task)
    })
    .await;
    let (key, question) = asking["inputRequests"].as_object().expect("requests").iter().next().expect("one");
    let update = json!({ "taskId": created["taskId"], "inputResponses": { key: answers::answer(question) } });
    client.result("tasks/update", &update.to_string()).await;
    let done = until("the task to end", async || {
        let task = json(&client.result("tasks/get", &id.to_string()).await);
        (task["status"] == "completed").then_some(task)
    })
    .await;
    assert!(text_of(&done["result"]).contains("main"), "{done}");
    assert_eq!(fake.desk.lines("violations"), Vec::<String>::new());
}

#[tokio::test]
async fn a_legacy_fake_asks_on_the_calls_stream() {
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let fake = Fake::start("http", "old", &["--revision", revision]).await;
        let sse = Fake::start("sse", "oldest", &["--revision", revision]).await;
        let abilities = answers::legacy_abilities(revision).to_string();
        let client = Client::connect_with(&fake.url, revision, &abilities).await;
        let mut other = SseClient::connect_with(&sse.url, revision, &abilities).await;
        assert_eq!(fake.desk.lines("declared"), [abilities]);
        let tools = client.tools().await;
        for tool in tools.iter().filter(|tool| tool.starts_with("ask_") && *tool != "ask_withdrawn") {
            let (result, questions) = client.converse_tool(tool, "{}").await;
            let expected: Vec<Value> = questions.iter().map(answers::answer).collect();
            assert_eq!(outcomes(&result), expected, "{revision} {tool}");
            let params = json!({ "name": tool, "arguments": {} }).to_string();
            let (response, asked) = other.converse("tools/call", &params).await;
            assert_eq!((outcomes(&response["result"]), asked.len()), (expected, questions.len()), "{revision} {tool}");
        }
        assert_eq!(fake.desk.lines("answers"), sse.desk.lines("answers"), "{revision}");
        other.ask("tools/call", r#"{"name":"change","arguments":{}}"#).await;
        other.notice("notifications/tools/list_changed").await;
    }
}

#[tokio::test]
async fn a_legacy_fake_takes_a_question_back_and_sends_to_a_page() {
    let fake = Fake::start("http", "old", &[]).await;
    let client = fake_client(&fake).await;
    let messages = client.exchange("tools/call", r#"{"name":"ask_withdrawn","arguments":{}}"#).await;
    let question = json(&messages[0]);
    assert_eq!(json(&messages[1])["params"]["requestId"], question["id"], "{messages:?}");
    assert_eq!(text_of(&json(&messages[2])["result"]), "withdrawn");
    let need = r#"{"name":"need_url","arguments":{"tag":"t"}}"#;
    let refused = json(&client.ask("tools/call", need).await);
    assert_eq!(refused["error"]["code"], -32042);
    assert_eq!(refused["error"]["data"]["elicitations"][0]["mode"], "url");
    client.result("tools/call", need).await;
    let messages = client.converse_tool("ask_url", r#"{"tag":"u"}"#).await;
    assert_eq!(messages.1[0]["params"]["elicitationId"], "fake-elicitation-u");
}

#[tokio::test]
async fn a_legacy_fake_runs_a_core_task_that_asks() {
    let fake = Fake::start("http", "old", &[]).await;
    let client = fake_client(&fake).await;
    let plain = json(&client.ask("tools/call", r#"{"name":"task","arguments":{}}"#).await);
    assert_eq!(plain["error"]["code"], -32601, "{plain}");
    let created =
        json(&client.result("tools/call", r#"{"name":"task","arguments":{"ask":true,"ms":1},"task":{}}"#).await);
    let id = json!({ "taskId": created["task"]["taskId"] }).to_string();
    let (response, questions) = client.converse("tasks/result", &id).await;
    assert_eq!(questions.len(), 1);
    assert!(text_of(&response["result"]).contains("main"), "{response}");
    assert_eq!(json(&client.result("tasks/get", &id).await)["status"], "completed");
    assert_eq!(json(&client.ask("tasks/cancel", &id).await)["error"]["code"], -32602, "it is over");
}

async fn fake_client(fake: &Fake) -> Client {
    let abilities = answers::legacy_abilities("2025-11-25").to_string();
    Client::connect_with(&fake.url, "2025-11-25", &abilities).await
}

#[tokio::test]
async fn a_fake_meets_a_probe_as_it_was_told() {
    for (probe, status, code) in
        [("404", 404, 0), ("503", 503, 0), ("-32601", 200, -32601), ("renegotiate", 400, -32022)]
    {
        let fake = Fake::start("http", "old", &["--probe", &format!("{probe}:1")]).await;
        let client = Modern::new(&fake.url);
        let reply = client.start("1", "server/discover", "{}").await;
        assert_eq!(reply.status, status, "{probe}");
        let text = reply.text().await;
        assert!(code == 0 || json(&text)["error"]["code"] == code, "{probe}: {text}");
        let reply = client.start("2", "server/discover", "{}").await;
        assert_eq!(reply.status, 400, "a legacy server wants a session first");
        fake_client(&fake).await.tools().await;
    }
    let dual = Fake::start("http", "dual", &["--revision", "2026-07-28", "--dual"]).await;
    assert!(!Modern::new(&dual.url).tools().await.is_empty());
    assert!(!fake_client(&dual).await.tools().await.is_empty());
}
