//! Results and lists in the shapes of the client's revision (mcp-protocol 5.1, 5.16, 5.17): a server of 2026-07-28 and
//! one of 2025-11-25 behind one daemon, and clients of every revision.

use serde_json::{Value, json};

use crate::harness::client::{Client, json as read, member};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;
use crate::harness::modern::{KEY, Modern};

const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

async fn new_and_old() -> Daemon {
    let home = Home::new();
    let (new, _) = fake::stdio(&home, "new", &["--revision", "2026-07-28"]);
    let (old, _) = fake::stdio(&home, "old", &[]);
    home.configure(&format!("{new}{old}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["new", "old"]).await;
    assert_eq!(daemon.server("new").await["revision"], "2026-07-28");
    daemon
}

#[tokio::test]
async fn g49_no_stamp_of_a_modern_server_reaches_a_session() {
    let daemon = new_and_old().await;
    for revision in LEGACY {
        let client = Client::connect(&daemon.url, revision).await;
        for (method, params) in [
            ("tools/list", "{}"),
            ("prompts/list", "{}"),
            ("resources/list", "{}"),
            ("resources/templates/list", "{}"),
            ("tools/call", r#"{"name":"new__echo","arguments":{"message":"x"}}"#),
            ("prompts/get", r#"{"name":"new__plain"}"#),
            ("resources/read", r#"{"uri":"fake://new/text"}"#),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"new__greet"},"argument":{"name":"who","value":"al"}}"#,
            ),
        ] {
            let text = client.result(method, params).await;
            for stamp in ["resultType", "ttlMs", "cacheScope"] {
                assert_eq!(member(&text, stamp), None, "{revision} {method}: {text}");
            }
            assert!(!text.contains(KEY), "{revision} {method}: {text}");
        }
    }
}

/// The published `outputSchema` of a tool that returns a list of numbers, and what it returned.
fn numbers(list: &Value, result: &Value) -> (Value, Value) {
    let tools = list["tools"].as_array().expect("tools");
    let tool = tools.iter().find(|tool| tool["name"] == "new__numbers").expect("listed");
    assert_eq!(result["content"][0]["text"], "[1,2,3]", "{result}");
    (tool["outputSchema"].clone(), result["structuredContent"].clone())
}

#[tokio::test]
async fn g79_a_structure_that_is_no_object_is_wrapped_in_between_and_left_out_before() {
    let daemon = new_and_old().await;
    for revision in LEGACY {
        let client = Client::connect(&daemon.url, revision).await;
        let list = read(&client.result("tools/list", "{}").await);
        let seen = numbers(&list, &client.call("new__numbers", "{}").await);
        let expected = if revision < "2025-06-18" {
            (Value::Null, Value::Null)
        } else {
            let inner = json!({
                "$defs": { "n": { "type": "integer" } },
                "type": "array",
                "items": { "$ref": "#/properties/result/$defs/n" },
            });
            let schema = json!({ "type": "object", "properties": { "result": inner }, "required": ["result"] });
            (schema, json!({ "result": [1, 2, 3] }))
        };
        assert_eq!(seen, expected, "{revision}");
    }
    let client = Modern::new(&daemon.url);
    let list = read(&client.result("tools/list", "{}").await);
    let own = json!({ "$defs": { "n": { "type": "integer" } }, "type": "array", "items": { "$ref": "#/$defs/n" } });
    assert_eq!(numbers(&list, &client.call("new__numbers", "{}").await), (own, json!([1, 2, 3])));
}

#[tokio::test]
async fn g32_each_era_hears_its_own_number_for_a_missing_resource() {
    let daemon = new_and_old().await;
    // Missing at the server, and at every server.
    for uri in ["fake://new/missing", "fake://old/missing", "nobody:knows"] {
        let params = format!(r#"{{"uri":"{uri}"}}"#);
        for revision in LEGACY {
            let client = Client::connect(&daemon.url, revision).await;
            let error = &read(&client.ask("resources/read", &params).await)["error"];
            assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32002), &json!(uri)), "{revision}: {error}");
        }
        let error = &read(&Modern::new(&daemon.url).ask("resources/read", &params).await)["error"];
        assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32602), &json!(uri)), "{error}");
    }
}
