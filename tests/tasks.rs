//! Tasks between a modern client and modern servers: what one side says of them reaches the other (mcp-protocol 5.14).
//!
//! The fake checks the headers and the envelope of every request that it gets, and notes what is wrong with them.

use serde_json::{Value, json};

use crate::harness::client::{json as read, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake};
use crate::harness::modern::Modern;
use crate::harness::{answers, until};

const MODERN: [&str; 2] = ["--revision", "2026-07-28"];
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A daemon with the same modern server on a pipe and over HTTP.
async fn both() -> (Daemon, Fake, [Desk; 1]) {
    let home = Home::new();
    let (block, desk) = fake::stdio(&home, "pipe", &MODERN);
    let http = Fake::start("http", "web", &MODERN).await;
    home.configure(&format!("{block}{}", http.block()));
    let daemon = home.serve().await;
    daemon.until_ready(&["pipe", "web"]).await;
    (daemon, http, [desk])
}

/// A client that follows tasks.
fn follower(daemon: &Daemon) -> Modern {
    let mut capabilities = answers::abilities();
    capabilities["extensions"] = json!({ TASKS: {} });
    Modern::with(&daemon.url, capabilities)
}

/// Looks at a task until it has this status.
async fn reached(client: &Modern, id: &Value, status: &str) -> Value {
    until(status, async || {
        let task = read(&client.result("tasks/get", &json!({ "taskId": id }).to_string()).await);
        assert_eq!(task["taskId"], *id, "the client's own name for it: {task}");
        (task["status"] == status).then_some(task)
    })
    .await
}

#[tokio::test]
async fn a_modern_client_follows_the_tasks_of_modern_servers() {
    let (daemon, http, [desk]) = both().await;
    let client = follower(&daemon);
    let discovered = read(&client.result("server/discover", "{}").await);
    assert_eq!(discovered["capabilities"]["extensions"], json!({ TASKS: {} }));
    for server in ["pipe", "web"] {
        let created = client.call(&format!("{server}__task"), r#"{"ask":true,"ms":1}"#).await;
        assert_eq!(created["resultType"], "task", "{created}");
        let id = &created["taskId"];
        let asking = reached(&client, id, "input_required").await;
        let (key, question) = asking["inputRequests"].as_object().expect("requests").iter().next().expect("one");
        let shown = question["params"]["message"].as_str().expect("a message");
        assert!(shown.starts_with(&format!("[{server}] ")), "{shown}");
        let update = json!({ "taskId": id, "inputResponses": { key: answers::answer(question) } });
        client.result("tasks/update", &update.to_string()).await;
        let done = reached(&client, id, "completed").await;
        assert!(text_of(&done["result"]).contains("main"), "{done}");

        let failing = client.call(&format!("{server}__task"), r#"{"error":true,"ms":1}"#).await;
        assert_eq!(reached(&client, &failing["taskId"], "failed").await["error"]["code"], -32050);
        let slow = client.call(&format!("{server}__task"), r#"{"ms":60000}"#).await;
        client.result("tasks/cancel", &json!({ "taskId": slow["taskId"] }).to_string()).await;
        reached(&client, &slow["taskId"], "cancelled").await;
    }
    assert_eq!((desk.lines("violations"), http.desk.lines("violations")), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_task_is_for_those_who_follow_tasks_and_for_the_name_they_were_given() {
    let (daemon, _http, _) = both().await;
    let client = follower(&daemon);
    let plain = Modern::new(&daemon.url);
    // G-78.
    assert_eq!(text_of(&plain.call("web__task", r#"{"ms":1}"#).await), "the task is done");
    let created = client.call("web__task", r#"{"ms":1}"#).await;
    let id = json!({ "taskId": created["taskId"] }).to_string();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let reply = plain.start("1", method, &id).await;
        assert_eq!(reply.status, 400);
        let answer = read(&reply.text().await);
        assert_eq!(answer["error"]["code"], -32021);
        assert_eq!(answer["error"]["data"]["requiredCapabilities"], json!({ "extensions": { TASKS: {} } }));
    }
    // Nobody is promised notices that will not come (mcp-protocol 3.8).
    let listen = client.listen(&json!({ "toolsListChanged": true, "taskIds": [created["taskId"]] })).await;
    assert_eq!(listen.filter, json!({ "toolsListChanged": true }));
    let wanted = json!({ "notifications": { "taskIds": [created["taskId"]] } }).to_string();
    let refused = plain.start("1", "subscriptions/listen", &wanted).await;
    assert_eq!((refused.status, read(&refused.text().await)["error"]["code"].as_i64()), (400, Some(-32021)));
    let forged = read(&client.ask("tasks/get", r#"{"taskId":"task/1"}"#).await);
    assert_eq!(forged["error"]["code"], -32602);
    // `Mcp-Name` repeats the name that the client knows (mcp-protocol 3.5).
    let body = client.body("7", "tasks/get", &id);
    let mut headers = client.headers(&body);
    for header in &mut headers {
        if header.0.eq_ignore_ascii_case("mcp-name") {
            header.1 = "another".into();
        }
    }
    let reply = client.send(&headers, &body).await;
    assert_eq!(reply.status, 400);
    assert_eq!(read(&reply.text().await)["error"]["code"], -32020);
}
