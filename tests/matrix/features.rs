//! What a client and a server can do with each other, one check each.

use std::any::Any;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::answers;
use crate::harness::anyone::Anyone;
use crate::harness::client::{json, member, text_of};
use crate::harness::fake::Desk;
use crate::harness::until;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Feature {
    Tools,
    Call,
    Prompts,
    Prompt,
    Resources,
    Read,
    Templates,
    Completion,
    Logging,
    Progress,
    Cancel,
    ListChange,
    ResourceUpdate,
    Sampling,
    Roots,
    Form,
    ThreeRounds,
    FormInPrompt,
    FormInRead,
    Url,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outcome {
    Works,
    /// The daemon itself answered what the server asked.
    Answered,
    /// It came to an orderly end without it: nobody was asked.
    Refused,
    Broken(String),
}

impl Feature {
    pub(crate) const ALL: [Feature; 20] = [
        Feature::Tools,
        Feature::Call,
        Feature::Prompts,
        Feature::Prompt,
        Feature::Resources,
        Feature::Read,
        Feature::Templates,
        Feature::Completion,
        Feature::Logging,
        Feature::Progress,
        Feature::Cancel,
        Feature::ListChange,
        Feature::ResourceUpdate,
        Feature::Sampling,
        Feature::Roots,
        Feature::Form,
        Feature::ThreeRounds,
        Feature::FormInPrompt,
        Feature::FormInRead,
        Feature::Url,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Feature::Tools => "tools",
            Feature::Call => "tool calls",
            Feature::Prompts => "prompts",
            Feature::Prompt => "getting a prompt",
            Feature::Resources => "resources",
            Feature::Read => "reading a resource",
            Feature::Templates => "resource templates",
            Feature::Completion => "completion",
            Feature::Logging => "logging",
            Feature::Progress => "progress",
            Feature::Cancel => "cancellation",
            Feature::ListChange => "list changes",
            Feature::ResourceUpdate => "resource updates",
            Feature::Sampling => "sampling",
            Feature::Roots => "roots",
            Feature::Form => "form",
            Feature::ThreeRounds => "three forms in a row",
            Feature::FormInPrompt => "form before a prompt",
            Feature::FormInRead => "form before a resource",
            Feature::Url => "web page",
        }
    }

    /// The first revision whose servers have it.
    pub(crate) fn since(self) -> &'static str {
        match self {
            Feature::Form | Feature::ThreeRounds | Feature::FormInPrompt | Feature::FormInRead => "2025-06-18",
            Feature::Url => "2025-11-25",
            Feature::Tools
            | Feature::Call
            | Feature::Prompts
            | Feature::Prompt
            | Feature::Resources
            | Feature::Read
            | Feature::Templates
            | Feature::Completion
            | Feature::Logging
            | Feature::Progress
            | Feature::Cancel
            | Feature::ListChange
            | Feature::ResourceUpdate
            | Feature::Sampling
            | Feature::Roots => "2024-11-05",
        }
    }
}

/// Goes through one feature. `tag` tells this client apart from the others.
pub(crate) async fn check(feature: Feature, client: &mut Anyone, server: &str, desk: &Desk, tag: &str) -> Outcome {
    let tool = |name: &str, arguments: &str| format!(r#"{{"name":"{server}__{name}","arguments":{arguments}}}"#);
    let uri = |name: &str| format!(r#"{{"uri":"fake://{server}/{name}"}}"#);
    let lists = async |client: &mut Anyone, method: &str, entry: String| {
        let response = client.ask(method, "{}").await;
        assert!(response.contains(&entry), "{entry} is not in {response}");
    };
    match feature {
        Feature::Tools => assert!(client.tools().await.contains(&format!("{server}__echo"))),
        Feature::Call => {
            let response = client.ask("tools/call", &tool("echo", r#"{"message":"\u00fcber"}"#)).await;
            assert_eq!(text_of(&json(&response)["result"]), "\u{fc}ber");
        }
        Feature::Prompts => lists(client, "prompts/list", format!("{server}__greet")).await,
        Feature::Prompt => {
            let response = client.ask("prompts/get", &tool("greet", r#"{"who":"you"}"#)).await;
            assert!(response.contains("Say hello to you."), "{response}");
        }
        Feature::Resources => lists(client, "resources/list", format!("fake://{server}/text")).await,
        Feature::Read => {
            let response = client.ask("resources/read", &uri("text")).await;
            assert!(response.contains(&format!("text of {server}")), "{response}");
        }
        Feature::Templates => lists(client, "resources/templates/list", format!("fake://{server}/item/{{id}}")).await,
        Feature::Completion => {
            let reference = json!({ "type": "ref/prompt", "name": format!("{server}__greet") });
            let params = json!({ "ref": reference, "argument": { "name": "who", "value": "al" } });
            let response = client.ask("completion/complete", &params.to_string()).await;
            assert!(response.contains("albert") && !response.contains("bob"), "{response}");
        }
        Feature::Logging => {
            return logged(client, &tool("log", &format!(r#"{{"level":"debug","data":"{tag}"}}"#)), tag).await;
        }
        Feature::Progress => {
            let params = format!(
                r#"{{"name":"{server}__progress","arguments":{{"steps":2}},"_meta":{{"progressToken":"{tag}"}}}}"#
            );
            let (messages, _) = client.converse("tools/call", &params).await;
            let (last, before) = messages.split_last().expect("an answer");
            assert!(last.contains("2 steps done"), "{last}");
            let steps: Vec<Value> = before
                .iter()
                .map(|message| json(message))
                .filter(|message| message["method"] == "notifications/progress")
                .collect();
            assert!(!steps.is_empty(), "no progress came");
            assert!(steps.iter().all(|step| step["params"]["progressToken"] == tag), "{steps:?}");
        }
        Feature::Cancel => {
            let (begun, cancelled) = (desk.lines("calls").len(), desk.lines("cancelled").len());
            let id = format!("\"cancel {tag}\"");
            let started = client.start(&id, &format!("{server}__sleep"), r#"{"ms":20000}"#).await;
            until("the call", async || (desk.lines("calls").len() > begun).then_some(())).await;
            client.cancel(&id, started).await;
            until("its end", async || (desk.lines("cancelled").len() > cancelled).then_some(())).await;
        }
        Feature::ListChange => {
            let added = format!("extra_{tag}");
            client.ask("tools/call", &tool("change", &format!(r#"{{"add":"{added}"}}"#))).await;
            let published = format!("{server}__{added}");
            // A notice may tell of another server's change.
            loop {
                client.notice("notifications/tools/list_changed").await;
                if client.tools().await.contains(&published) {
                    break;
                }
            }
        }
        Feature::ResourceUpdate => {
            let uri = format!("fake://{server}/text");
            client.subscribe(&uri).await;
            until("an update", async || {
                client.ask("tools/call", &tool("touch", &json!({ "uri": uri }).to_string())).await;
                let notice = client.notice("notifications/resources/updated");
                tokio::time::timeout(Duration::from_secs(1), notice).await.ok()
            })
            .await;
        }
        Feature::Sampling => return asked(client, "tools/call", &tool("ask_sampling", "{}"), 1).await,
        Feature::Roots => return asked(client, "tools/call", &tool("ask_roots", "{}"), 1).await,
        Feature::Form => return asked(client, "tools/call", &tool("ask_form", "{}"), 1).await,
        Feature::ThreeRounds => return asked(client, "tools/call", &tool("ask_thrice", "{}"), 3).await,
        Feature::FormInPrompt => return asked(client, "prompts/get", &tool("asking", "{}"), 1).await,
        Feature::FormInRead => return asked(client, "resources/read", &uri("item/asking"), 1).await,
        Feature::Url => {
            let call = tool("ask_url", &format!(r#"{{"tag":"{tag}"}}"#));
            return asked(client, "tools/call", &call, 1).await;
        }
    }
    Outcome::Works
}

/// A call that says something in the log, which must reach its client.
async fn logged(client: &mut Anyone, call: &str, tag: &str) -> Outcome {
    client.want_logs().await;
    // The level of a session reaches a legacy server in its own time; that of a request comes with it.
    let tries = if matches!(client, Anyone::Stateless(..)) { 6 } else { 20 };
    for _ in 0..tries {
        let (messages, _) = client.converse("tools/call", call).await;
        let told = |message: &String| message.contains("notifications/message") && message.contains(tag);
        if messages.iter().any(told) {
            return Outcome::Works;
        }
        // A server without a stream for each call says it beside the calls.
        let notice = client.notice("notifications/message");
        let notice = tokio::time::timeout(Duration::from_millis(300), notice).await;
        if notice.is_ok_and(|notice| notice["params"]["data"] == tag) {
            return Outcome::Works;
        }
    }
    Outcome::Refused
}

/// A request that asks so many questions: its outcome must tell of every answer.
async fn asked(client: &mut Anyone, method: &str, params: &str, count: usize) -> Outcome {
    let (messages, questions) = client.converse(method, params).await;
    let response = messages.last().expect("an answer");
    if questions.is_empty() {
        return if response.contains("file:///desk") { Outcome::Answered } else { Outcome::Refused };
    }
    assert_eq!(questions.len(), count, "{questions:?}");
    let result = member(response, "result").unwrap_or_else(|| panic!("it was answered, and failed: {response}"));
    for question in &questions {
        let mut question = question.clone();
        // A server's own words may carry the server's name in front.
        question["id"].take();
        let answer = answers::answer(&question);
        let word = ["account", "action", "roots", "content"].into_iter().find(|key| !answer[key].is_null());
        let shown = match word.expect("an answer") {
            "roots" => "file:///desk",
            "content" if question["method"] == "sampling/createMessage" => "word",
            _ => "accept",
        };
        assert!(result.contains(shown), "the answer to {question} is not in {result}");
    }
    Outcome::Works
}

pub(crate) fn text_of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".into())
}
