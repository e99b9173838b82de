//! What travels beside the answers: progress, cancellation, logs, subscriptions, changes, and questions that
//! cannot be put yet.

use crate::harness::client::{Answer, Client, json, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake, TRIO};
use crate::harness::http::Events;
use crate::harness::until;

async fn three() -> (Daemon, Vec<Fake>, Desk) {
    let home = Home::new();
    let (config, fakes, desk) = fake::trio(&home, &[]).await;
    home.configure(&config);
    let daemon = home.serve().await;
    daemon.until_ready(&TRIO).await;
    (daemon, fakes, desk)
}

fn stream(answer: Answer) -> Events {
    match answer {
        Answer::Stream(events) => events,
        Answer::Whole(text) => panic!("an answer at once, where notices were to come first: {text}"),
    }
}

#[tokio::test]
async fn s11_progress_carries_the_clients_own_token_and_stops_with_the_answer() {
    // G-75: two clients, one token.
    let (daemon, _fakes, _) = three().await;
    let (one, two) = (daemon.client().await, daemon.client().await);
    for server in TRIO {
        let tool = format!("{server}__progress");
        let (first, second) = (
            stream(one.start("7", &tool, r#"{"steps":3,"ms":30}"#).await),
            stream(two.start("7", &tool, r#"{"steps":5,"ms":30}"#).await),
        );
        for (events, steps) in [(first, 3), (second, 5)] {
            let (events, _) = events.rest().await;
            let mut messages: Vec<_> =
                events.iter().filter(|event| !event.data.is_empty()).map(|event| json(&event.data)).collect();
            let answer = messages.pop().expect("an answer");
            assert_eq!(text_of(&answer["result"]), format!("{steps} steps done"), "{server}");
            assert!(!messages.is_empty(), "no progress over {server}");
            for message in &messages {
                assert_eq!(message["method"], "notifications/progress", "{message}");
                assert_eq!(message["params"]["progressToken"], 7, "{message}");
                assert_eq!(message["params"]["total"], steps, "{message}");
            }
            assert!(events.iter().any(|event| event.data.contains(r#""x-odd":1.50"#)), "unknown members survive");
        }
    }
}

#[tokio::test]
async fn a_cancellation_reaches_the_one_right_server_and_ends_the_post() {
    // G-55.
    let (daemon, fakes, stdio) = three().await;
    let (one, two) = (daemon.client().await, daemon.client().await);
    let desks = [("stdio", &stdio), ("http", &fakes[0].desk), ("sse", &fakes[1].desk)];
    for (server, desk) in desks {
        let hanging = async |client: &Client| {
            let params = format!(r#"{{"name":"{server}__sleep","arguments":{{"ms":3000}}}}"#);
            client.exchange_as("55", "tools/call", &params).await.pop().expect("an answer")
        };
        let cancel = async {
            until("both calls in flight", async || (daemon.server(server).await["in_flight"] == 2).then_some(())).await;
            one.notify("notifications/cancelled", r#"{"requestId":55,"reason":"enough"}"#).await;
            until("the server to hear of it", async || (!desk.lines("cancelled").is_empty()).then_some(())).await;
        };
        let (cancelled, finished, ()) = tokio::join!(hanging(&one), hanging(&two), cancel);
        assert_eq!(json(&cancelled)["error"]["code"], -32800, "{server}: {cancelled}");
        assert_eq!(text_of(&json(&finished)["result"]), "slept", "{server}: the other client's call with that id");
        assert_eq!(desk.lines("cancelled").len(), 1);
    }
    for (server, desk) in desks {
        assert_eq!(desk.lines("cancelled").len(), 1, "{server} heard of a cancellation that was not its own");
    }
}

#[tokio::test]
async fn log_messages_of_a_call_follow_each_sessions_own_level() {
    // G-76.
    let (daemon, _fakes, _) = three().await;
    let (curious, calm) = (daemon.client().await, daemon.client().await);
    curious.result("logging/setLevel", r#"{"level":"debug"}"#).await;
    calm.result("logging/setLevel", r#"{"level":"error"}"#).await;
    let says = async |client: &Client, level: &str| {
        let params = format!(r#"{{"name":"http__log","arguments":{{"level":"{level}","data":{{"n":1.0}}}}}}"#);
        let messages = client.exchange("tools/call", &params).await;
        messages.iter().filter(|message| message.contains("notifications/message")).count()
    };
    // The level reaches the server in its own time.
    until("a debug message", async || (says(&curious, "debug").await == 1).then_some(())).await;
    assert_eq!(says(&calm, "debug").await, 0);
    assert_eq!(says(&calm, "error").await, 1);
    let bad = json(&calm.ask("logging/setLevel", r#"{"level":"shouting"}"#).await);
    assert_eq!(bad["error"]["code"], -32602);
}

#[tokio::test]
async fn s11_updates_reach_subscribers_only() {
    let (daemon, _fakes, _) = three().await;
    let (subscriber, other) = (daemon.client().await, daemon.client().await);
    let mut heard = subscriber.listen(None).await.events();
    let mut unheard = other.listen(None).await.events();
    for server in TRIO {
        let uri = format!(r#"{{"uri":"fake://{server}/text"}}"#);
        assert_eq!(subscriber.result("resources/subscribe", &uri).await, "{}");
        other.call(&format!("{server}__touch"), &uri).await;
        let update = heard.message().await.expect("an update");
        assert!(update.contains("notifications/resources/updated") && update.contains(r#""x-odd":"kept""#), "{update}");
        assert!(update.contains(&format!("fake://{server}/text")), "{update}");
        assert_eq!(subscriber.result("resources/unsubscribe", &uri).await, "{}");
        other.call(&format!("{server}__touch"), &uri).await;
    }
    // What comes next is what everybody is told; nothing else came before it.
    other.call("stdio__change", r#"{"add":"extra_1"}"#).await;
    for events in [&mut heard, &mut unheard] {
        let next = events.message().await.expect("the change");
        assert!(next.contains("notifications/tools/list_changed"), "{next}");
    }
}

#[tokio::test]
async fn a_changed_list_is_announced_and_already_shown() {
    let (daemon, _fakes, _) = three().await;
    let client = daemon.client().await;
    assert!(client.greeting.contains(r#""listChanged":true"#), "{}", client.greeting);
    let mut events = client.listen(None).await.events();
    for server in TRIO {
        client.call(&format!("{server}__change"), &format!(r#"{{"add":"extra_{server}"}}"#)).await;
        let name = format!("{server}__extra_{server}");
        // A notice may still tell of the start; the one that tells of this change comes with the tool shown.
        loop {
            let notice = events.message().await.expect("a notice");
            let of_tools = notice == r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
            if of_tools && client.tools().await.contains(&name) {
                break;
            }
        }
        assert_eq!(text_of(&client.call(&name, "{}").await), format!("extra_{server}"));
    }
}

#[tokio::test]
async fn a_servers_questions_are_answered_here() {
    // 5.2, 5.8: ping and roots by the gateway; what a client would have to be asked is refused, and nothing hangs.
    let (daemon, _fakes, _) = three().await;
    let client = daemon.client().await;
    for server in TRIO {
        let ask = async |method: &str, params: &str| {
            let arguments = format!(r#"{{"method":"{method}","params":{params}}}"#);
            json(text_of(&client.call(&format!("{server}__ask"), &arguments).await))
        };
        assert_eq!(ask("ping", "{}").await["result"], json("{}"), "{server}");
        let sampling = ask("sampling/createMessage", r#"{"messages":[],"maxTokens":1}"#).await;
        assert!(sampling["error"]["code"].is_i64(), "{server}: {sampling}");
        let unknown = ask("no/such", "{}").await;
        assert_eq!(unknown["error"]["code"], -32601, "{server}: {unknown}");
        let elicited = ask("elicitation/create", r#"{"message":"?","requestedSchema":{"type":"object"}}"#).await;
        let refused = elicited["error"]["code"].is_i64() || elicited["result"]["action"] == "cancel";
        assert!(refused, "{server}: {elicited}");
    }
}

#[tokio::test]
async fn the_instructions_name_the_servers_first() {
    let (daemon, _fakes, _) = three().await;
    let greeting = json(&daemon.client().await.greeting);
    let instructions = greeting["instructions"].as_str().expect("instructions");
    let head: String = instructions.chars().take(240).collect();
    for server in TRIO {
        assert!(head.contains(server), "{head}");
        assert!(instructions.contains(&format!("{server} is a fake: it does what the test asks for.")));
    }
}

#[tokio::test]
async fn titles_carry_the_server_and_the_words_of_the_name() {
    let (daemon, _fakes, _) = three().await;
    let list = json(&daemon.client().await.result("tools/list", "{}").await);
    let title = |name: &str| {
        let tools = list["tools"].as_array().expect("a list");
        tools.iter().find(|tool| tool["name"] == name).expect("the tool")["title"].as_str().expect("a title").to_owned()
    };
    assert_eq!(title("stdio__echo"), "Stdio: Echo");
    assert!(title("http__noise").starts_with("Http: "), "{}", title("http__noise"));
}
