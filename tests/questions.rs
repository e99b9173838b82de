//! Whose question is it: several clients behind one server that asks, on a pipe that does not say to whom.

use serde_json::{Value, json};

use crate::harness::client::{self, Client, text_of};
use crate::harness::daemon::Home;
use crate::harness::fake::{self, TRIO};

const ABLE: &str = r#"{"elicitation":{"form":{},"url":{}}}"#;

/// What became of a question.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    refused: usize,
}

/// Calls the asking tool, whose question holds this nonce, and answers it with another. Panics if the question is not its
/// own, or the server hears another answer.
async fn ask(client: &Client, tool: &str, nonce: &str, tally: &mut Tally) {
    let params = json!({ "message": nonce, "requestedSchema": { "type": "object", "properties": {} } });
    let arguments = json!({ "method": "elicitation/create", "params": params });
    let call = json!({ "name": tool, "arguments": arguments }).to_string();
    let reply = client.post(&client::request(&format!("\"{nonce}\""), "tools/call", &call)).await;
    assert_eq!(reply.status, 200);
    let mut asked = 0;
    let response = if reply.is_stream() {
        let mut events = reply.events();
        loop {
            let message = client::json(&events.message().await.expect("an answer"));
            if message["method"].is_null() {
                break message;
            }
            assert_eq!(message["method"], "elicitation/create", "{message}");
            let text = message["params"]["message"].as_str().expect("a message");
            assert!(text.ends_with(nonce), "{nonce} was asked what is for another: {text}");
            asked += 1;
            let answer = json!({ "action": "accept", "content": { "for": nonce } });
            let reply = client.post(&client::response(&message, &answer)).await;
            assert_eq!(reply.status, 202);
        }
    } else {
        client::json(&reply.text().await)
    };
    assert_eq!(response["id"], nonce);
    let told: Value = client::json(text_of(&response["result"]));
    if asked == 0 {
        assert_eq!(told["result"], json!({ "action": "cancel" }), "refused with the stated answer");
        tally.refused += 1;
    } else {
        assert_eq!((asked, &told["result"]["content"]["for"]), (1, &json!(nonce)), "the server heard another's answer");
        tally.answered += 1;
    }
}

/// `count` questions of one client, one after the other.
async fn many(url: &str, tool: &str, name: &str, count: usize) -> Tally {
    let client = Client::connect_with(url, "2025-11-25", ABLE).await;
    let mut tally = Tally::default();
    for number in 0..count {
        ask(&client, tool, &format!("{name}-{number}"), &mut tally).await;
    }
    tally
}

/// G-74, S-10: two clients at once, a thousand questions on one pipe; each reaches its own client or is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_g74_a_thousand_questions_on_one_pipe_reach_their_client_or_nobody() {
    let home = Home::new();
    let (config, _fakes, _) = fake::trio(&home, &[]).await;
    home.configure(&config);
    let daemon = home.serve().await;
    daemon.until_ready(&TRIO).await;
    for (server, exact) in [("stdio", false), ("sse", false), ("http", true)] {
        let tool = format!("{server}__ask");
        let count = if server == "stdio" { 500 } else { 100 };
        let (one, other) =
            tokio::join!(many(&daemon.url, &tool, "one", count), many(&daemon.url, &tool, "other", count));
        assert_eq!(one.answered + one.refused + other.answered + other.refused, 2 * count);
        // A question on the stream of its own call is never in doubt (mcp-protocol 6.3 rule 1).
        assert!(!exact || one.refused + other.refused == 0, "{one:?} {other:?}");
    }
}

/// With `serialize` every question has one owner, and none is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_at_a_time_leaves_no_question_in_doubt() {
    let home = Home::new();
    let (block, _desk) = fake::stdio(&home, "one", &[]);
    home.configure(&format!("{block}serialize = true\n"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let clients = ["a", "b", "c"].map(|name| many(&daemon.url, "one__ask", name, 50));
    for tally in futures_util::future::join_all(clients).await {
        assert_eq!((tally.answered, tally.refused), (50, 0));
    }
}
