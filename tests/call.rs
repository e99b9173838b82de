//! Calls: the right answer for everyone, as the server wrote it.

use serde_json::Value;

use crate::harness::client::{Client, fault_of, json, member, text_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake::{self, Desk, Fake, TRIO};

/// Odd in every way that JSON allows: numbers no double holds, forms no writer would choose, unknown members,
/// an order of its own, escapes that need not be.
const ODD: &str = concat!(
    r#"{"zeta":9007199254740993,"content":[{"x-unknown":{"deep":[1.0e+2,-0.0,1E400]},"type":"text","#,
    r#""text":"a\u0041\/\ud83d\ude00"},{"type":"hologram","beams":18446744073709551616}],"alpha":0.10,"#,
    r#""structuredContent":{"b":1,"a":123456789012345678901234567890},"_meta":{"vendor/key":1.50}}"#
);

/// A daemon in front of the same fake over all three transports.
async fn three(args: &[&str]) -> (Daemon, Vec<Fake>, Desk) {
    let home = Home::new();
    let (config, fakes, desk) = fake::trio(&home, args).await;
    home.configure(&config);
    let daemon = home.serve().await;
    daemon.until_ready(&TRIO).await;
    (daemon, fakes, desk)
}

#[tokio::test]
async fn one_tool_of_every_transport_answers() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    for server in TRIO {
        let result = client.call(&format!("{server}__echo"), r#"{"message":"over here"}"#).await;
        assert_eq!(text_of(&result), "over here", "{server}");
        assert_eq!(daemon.server(server).await["transport"], server);
    }
}

#[tokio::test]
async fn results_and_arguments_cross_byte_for_byte() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    for server in TRIO {
        let params = format!(r#"{{"arguments":{{"result":{ODD}}},"name":"{server}__mirror"}}"#);
        assert_eq!(client.result("tools/call", &params).await, ODD, "{server}");
    }
}

#[tokio::test]
async fn unknown_members_of_listed_entries_survive() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    let tools = client.result("tools/list", "{}").await;
    let odd = r#""x-odd":{"z":9007199254740993,"a":1.0e+2,"nested":[true,null]}"#;
    assert_eq!(tools.matches(odd).count(), 3, "{tools}");
    assert_eq!(tools.matches(r#""annotations":{"readOnlyHint":true,"x-note":"kept"}"#).count(), 3);
    let prompts = client.result("prompts/list", "{}").await;
    assert_eq!(prompts.matches(r#""x-odd":9007199254740993"#).count(), 3, "{prompts}");
    let resources = client.result("resources/list", "{}").await;
    assert_eq!(resources.matches(r#""size":18014398509481985"#).count(), 3, "{resources}");
}

#[tokio::test]
async fn reads_prompts_and_completions_reach_their_server() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    for server in TRIO {
        let read = client.result("resources/read", &format!(r#"{{"uri":"fake://{server}/text"}}"#)).await;
        assert!(read.contains(&format!("text of {server}")), "{read}");
        assert!(read.ends_with(r#","x-odd":1e400}"#), "{read}");
        let read = client.result("resources/read", &format!(r#"{{"uri":"fake://{server}/item/77"}}"#)).await;
        assert!(read.contains(r#""text":"item/77""#), "{read}");
        let params = format!(r#"{{"name":"{server}__greet","arguments":{{"who":"you"}}}}"#);
        let prompt = client.result("prompts/get", &params).await;
        assert!(prompt.contains("Say hello to you."), "{prompt}");
        let reference = format!(r#"{{"type":"ref/prompt","name":"{server}__greet"}}"#);
        let params = format!(r#"{{"ref":{reference},"argument":{{"name":"who","value":"al"}}}}"#);
        let completion = client.result("completion/complete", &params).await;
        assert!(completion.contains(r#"["alice","albert"]"#), "{completion}");
    }
}

#[tokio::test]
async fn a_servers_own_error_passes_as_it_is() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    for server in TRIO {
        let answer = client.ask("resources/read", &format!(r#"{{"uri":"fake://{server}/none"}}"#)).await;
        let uri = format!("fake://{server}/none");
        let expected = format!(r#"{{"code":-32002,"message":"Resource not found: {uri}","data":{{"uri":"{uri}"}}}}"#);
        assert_eq!(member(&answer, "error"), Some(expected), "{answer}");
    }
}

#[tokio::test]
async fn unknown_names_are_refused_without_asking_a_server() {
    let (daemon, fakes, desk) = three(&[]).await;
    let client = daemon.client().await;
    let before = desk.received().len() + fakes.iter().map(|fake| fake.desk.received().len()).sum::<usize>();
    for (method, params) in [
        ("tools/call", r#"{"name":"stdio__nope","arguments":{}}"#),
        ("prompts/get", r#"{"name":"nope"}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"nope"},"argument":{"name":"a","value":""}}"#),
    ] {
        let answer = json(&client.ask(method, params).await);
        assert_eq!(answer["error"]["code"], -32602, "{method}: {answer}");
    }
    let answer = json(&client.ask("no/such/method", "{}").await);
    assert_eq!(answer["error"]["code"], -32601);
    let after = desk.received().len() + fakes.iter().map(|fake| fake.desk.received().len()).sum::<usize>();
    assert_eq!(before, after);
}

#[tokio::test]
async fn large_results_arrive_whole() {
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    for server in TRIO {
        for bytes in [1 << 10, 1 << 20, 16 << 20] {
            let result = client.call(&format!("{server}__size"), &format!(r#"{{"bytes":{bytes}}}"#)).await;
            assert_eq!(text_of(&result).len(), bytes, "{server}");
        }
    }
}

#[tokio::test]
async fn lists_of_many_pages_are_complete_and_bad_entries_cost_only_themselves() {
    let (daemon, _fakes, _) = three(&["--tools", "250", "--page", "40", "--bad-entries"]).await;
    let tools = daemon.client().await.tools().await;
    for server in TRIO {
        for name in ["echo", "noise", "tool_0000", "tool_0249"] {
            assert!(tools.contains(&format!("{server}__{name}")), "{server}__{name}");
        }
        let complaints = daemon.server(server).await["complaints"].clone();
        assert_eq!(complaints.as_array().map(Vec::len), Some(2), "{complaints}");
    }
}

#[tokio::test]
async fn s14_published_names_are_valid_unique_when_folded_and_stable() {
    // G-34, G-80.
    let home = Home::new();
    let (long, _) = fake::stdio(&home, "long", &[]);
    let (config, _fakes, _) = fake::trio(&home, &["--tools", "5"]).await;
    home.configure(&(long.replace("[mcp_servers.long]", "[mcp_servers.a-name-with-some-length]") + &config));
    let daemon = home.serve().await;
    daemon.until_ready(&TRIO).await;
    daemon.until_ready(&["a-name-with-some-length"]).await;
    let client = daemon.client().await;
    let list = client.result("tools/list", "{}").await;
    assert_eq!(list, client.result("tools/list", "{}").await);
    let names = client.tools().await;
    let mut folded: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
    folded.sort();
    folded.dedup();
    assert_eq!(folded.len(), names.len());
    for name in &names {
        let fine = name.len() <= 48 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        assert!(fine && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "{name}");
    }
    let (_, home) = daemon.stop().await;
    let daemon = home.serve().await;
    daemon.until_ready(&TRIO).await;
    daemon.until_ready(&["a-name-with-some-length"]).await;
    assert_eq!(daemon.client().await.tools().await, names, "the same after a restart");
}

/// 50 clients that count their ids alike, so many calls each; every answer must hold the nonce that was asked for.
async fn fifty_clients(daemon: &Daemon, tool: &'static str, calls: usize) {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..50 {
        let url = daemon.url.clone();
        clients.spawn(async move {
            let session = Client::connect(&url, "2025-06-18").await;
            for call in 0..calls {
                let nonce = format!("nonce-{client}-{call}");
                // Half of them count with strings.
                let id = if client % 2 == 0 { call.to_string() } else { format!("\"{call}\"") };
                let params = format!(r#"{{"name":"{tool}","arguments":{{"message":"{nonce}"}}}}"#);
                let answer = session.exchange_as(&id, "tools/call", &params).await.pop().expect("an answer");
                assert_eq!(member(&answer, "id"), Some(id));
                assert_eq!(text_of(&json(&answer)["result"]), nonce);
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("every client got its own answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_equal_ids_get_their_own_answers_over_stdio() {
    // F-53.
    let (daemon, _fakes, _) = three(&[]).await;
    fifty_clients(&daemon, "stdio__echo", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_equal_ids_get_their_own_answers_over_http() {
    let (daemon, _fakes, _) = three(&[]).await;
    fifty_clients(&daemon, "http__echo", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_with_equal_ids_get_their_own_answers_over_sse() {
    let (daemon, _fakes, _) = three(&[]).await;
    fifty_clients(&daemon, "sse__echo", 200).await;
}

/// The long form of the three above, 10^5 calls over each transport at the same time. By hand:
/// `cargo test --release --test blackbox f53_a_hundred -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn f53_a_hundred_thousand_calls_with_equal_ids_over_each_transport_find_their_own_answers() {
    let (daemon, _fakes, _) = three(&[]).await;
    let of = |tool| fifty_clients(&daemon, tool, 2000);
    tokio::join!(of("stdio__echo"), of("http__echo"), of("sse__echo"));
}

#[tokio::test]
async fn a_dead_child_costs_its_own_calls_and_comes_back() {
    // G-81, F-8: thirty calls pending, the child killed, others untouched.
    let (daemon, _fakes, _) = three(&[]).await;
    let pid = daemon.server("stdio").await["pid"].as_u64().expect("a pid");
    let client = std::sync::Arc::new(daemon.client().await);
    let mut pending = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let client = client.clone();
        pending.spawn(async move { client.call("stdio__hang", "{}").await });
    }
    let elsewhere = {
        let client = client.clone();
        tokio::spawn(async move { client.call("http__sleep", r#"{"ms":1500}"#).await })
    };
    crate::harness::until("all calls to be in flight", async || {
        (daemon.server("stdio").await["in_flight"] == 30).then_some(())
    })
    .await;
    crate::harness::census::signal(child_of_guard(pid), rustix::process::Signal::KILL);

    while let Some(result) = pending.join_next().await {
        let result: Value = result.expect("an answer");
        let fault = fault_of(&result);
        assert_eq!((&fault["code"], &fault["server"]), (&json("-31002"), &json("\"stdio\"")), "{result}");
        assert_eq!(fault["outcome"], "unknown");
        assert!(text_of(&result).contains("stdio"), "{result}");
    }
    assert!(client.tools().await.contains(&"stdio__echo".to_owned()), "still listed");
    assert_eq!(text_of(&client.call("stdio__echo", r#"{"message":"again"}"#).await), "again");
    assert_eq!(text_of(&elsewhere.await.expect("no panic")), "slept");
    assert!(daemon.server("stdio").await["restarts"].as_u64() >= Some(1));
}

/// The pid that is shown may be the guard's or the child's own; the fake itself is what must die.
fn child_of_guard(pid: u64) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
    child.unwrap_or_else(|| u32::try_from(pid).expect("a pid"))
}

#[tokio::test]
async fn noise_between_the_messages_is_skipped_and_counted() {
    // F-31, F-32.
    let (daemon, _fakes, _) = three(&[]).await;
    let client = daemon.client().await;
    assert_eq!(text_of(&client.call("stdio__noise", "{}").await), "quiet again");
    assert_eq!(text_of(&client.call("stdio__stderr", r#"{"bytes":10485760}"#).await), "written");
    assert!(daemon.metric("trunkline_stdio_bad_lines_total", &["server=\"stdio\""]).await >= 4.0);
    assert_eq!(daemon.server("stdio").await["restarts"], 0);
}
