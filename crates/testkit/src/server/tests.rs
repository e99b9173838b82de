use tokio::io::{DuplexStream, Lines};

use super::*;
use crate::duplex::pipes;
use crate::faults::Fault;
use crate::script::tool;

/// The client's end of the pipes.
struct Peer {
    lines: Lines<BufReader<DuplexStream>>,
    writer: DuplexStream,
}

impl Peer {
    async fn ask(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.expect("room");
        self.writer.write_all(b"\n").await.expect("room");
    }

    async fn hear(&mut self) -> Option<String> {
        self.lines.next_line().await.expect("text")
    }
}

async fn ready(script: Script) -> (Peer, Handle) {
    let (here, there) = pipes(64 * 1024);
    let handle = serve(script, there);
    let mut peer = Peer { lines: BufReader::new(here.reader).lines(), writer: here.writer };
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    peer.ask(hello).await;
    assert!(peer.hear().await.expect("an answer").contains(r#""protocolVersion":"2025-06-18""#));
    (peer, handle)
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"n":1.0},"_meta":{"progressToken":"p"}}}"#;

fn with(fault: Fault) -> Script {
    Script { faults: vec![fault], ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn shows_every_byte_that_it_was_given() {
    let (mut peer, handle) = ready(Script::default()).await;
    peer.ask(CALL).await;
    let answer = peer.hear().await.expect("an answer");
    assert!(
        answer.contains(r#""echo":{"name":"echo","arguments":{"n":1.0},"_meta":{"progressToken":"p"}}"#),
        "{answer}"
    );
    assert_eq!(handle.seen_of("tools/call").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lists_page_by_page() {
    let tools = vec![tool("a"), tool("b"), tool("c")];
    let (mut peer, _handle) = ready(Script { tools, page_size: Some(2), ..Script::default() }).await;
    peer.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    let first = peer.hear().await.expect("a page");
    assert!(first.contains(r#""nextCursor":"from:2""#) && !first.contains(r#""name":"c""#), "{first}");
    peer.ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":"from:2"}}"#).await;
    let second = peer.hear().await.expect("a page");
    assert!(second.contains(r#""name":"c""#) && !second.contains("nextCursor"), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_overtaken_and_a_cancelled_one_not_answered() {
    let script = Script {
        tools: vec![tool("echo"), tool("slow")],
        faults: vec![Fault::slow("tools/call", Duration::from_secs(5)).for_tool("slow")],
        ..Script::default()
    };
    let (mut peer, _handle) = ready(script).await;
    for id in [1, 2] {
        peer.ask(&CALL.replace('7', &id.to_string()).replace(r#""name":"echo""#, r#""name":"slow""#)).await;
    }
    peer.ask(CALL).await;
    assert!(peer.hear().await.expect("the fast one").contains(r#""id":7"#));
    peer.ask(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#).await;
    assert!(peer.hear().await.expect("the slow one").contains(r#""id":2"#));
}

#[tokio::test(start_paused = true)]
async fn each_fault_does_what_its_name_says() {
    let answers = async |fault: Fault, more: &'static [&'static str]| {
        let (mut peer, _handle) = ready(with(fault)).await;
        peer.ask(CALL).await;
        for line in more {
            peer.ask(line).await;
        }
        drop(peer.writer);
        let mut heard = Vec::new();
        while let Some(line) = peer.lines.next_line().await.expect("text") {
            heard.push(line);
        }
        heard
    };
    assert_eq!(answers(Fault::silent("tools/call"), &[]).await.len(), 0);
    assert_eq!(answers(Fault::exit("tools/call"), &[]).await.len(), 0);
    assert_eq!(answers(Fault::reply_twice("tools/call"), &[]).await.len(), 2);
    assert_eq!(answers(Fault::reply_twice("tools/call").for_tool("other"), &[]).await.len(), 1);
    assert!(answers(Fault::id_as_string("tools/call"), &[]).await[0].contains(r#""id":"7""#));
    assert!(answers(Fault::wrong_id("tools/call"), &[]).await[0].contains(r#""id":999999999"#));
    assert_eq!(answers(Fault::garbage("tools/call", b"Loading...\n"), &[]).await[0], "Loading...");
    let half = answers(Fault::half_line_then_exit("tools/call"), &[]).await;
    assert!(half.len() == 1 && serde_json::from_str::<serde_json::Value>(&half[0]).is_err());
    assert!(answers(Fault::error("tools/call", r#"{"code":-1,"message":"no"}"#), &[]).await[0].contains("-1"));
    let cancel = &[r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#];
    assert_eq!(answers(Fault::reply_after_cancel("tools/call"), cancel).await.len(), 1);
    assert_eq!(answers(Fault::reply_after_cancel("tools/call"), &[]).await.len(), 0);
    let told = &[r#"{"jsonrpc":"2.0","id":"ask-1","result":{"roots":[]}}"#];
    let asked = answers(Fault::ask("tools/call", "roots/list", "{}"), told).await;
    assert!(asked[0].contains("roots/list") && asked[1].contains(r#"\"roots\":[]"#), "{asked:?}");
    assert!(answers(Fault::large("tools/call", 5000), &[]).await[0].len() > 5000);
    assert!(answers(Fault::log("tools/call"), &[]).await[0].contains("notifications/message"));
    let changed = Fault::list_changed_after("tools/call", "notifications/tools/list_changed");
    assert!(answers(changed, &[]).await[1].contains("list_changed"));
}

#[tokio::test(start_paused = true)]
async fn progress_carries_the_token_of_the_request() {
    let (mut peer, _handle) = ready(with(Fault::progress("tools/call", 2, Duration::from_secs(1)))).await;
    peer.ask(CALL).await;
    for step in ["1", "2"] {
        let line = peer.hear().await.expect("progress");
        assert!(line.contains(&format!(r#""progressToken":"p","progress":{step},"total":2"#)), "{line}");
    }
    assert!(peer.hear().await.expect("the answer").contains(r#""id":7"#));
}

#[tokio::test(start_paused = true)]
async fn a_list_can_change_while_it_is_read() {
    let script = Script {
        tools: vec![tool("a"), tool("b")],
        page_size: Some(1),
        faults: vec![Fault::list_changes_mid_page("tools/list")],
        ..Script::default()
    };
    let (mut peer, handle) = ready(script).await;
    peer.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert!(peer.hear().await.expect("a page").contains("nextCursor"));
    peer.ask(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"cursor":"from:1"}}"#).await;
    assert!(peer.hear().await.expect("an error").contains("-32602"));
    assert!(peer.hear().await.expect("a notice").contains("notifications/tools/list_changed"));
    handle.change(Script::default()).await;
    handle.notify("notifications/tools/list_changed", "{}").await;
    assert!(peer.hear().await.expect("a notice").contains("notifications/tools/list_changed"));
    peer.ask(r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#).await;
    assert!(peer.hear().await.expect("a page").contains(r#""name":"echo""#));
    assert!(matches!(handle.saw("tools/list", 3).await, Message::Request(_)));
}

#[tokio::test(start_paused = true)]
async fn insists_on_a_handshake() {
    let (here, there) = pipes(64 * 1024);
    let _handle = serve(Script::default(), there);
    let mut peer = Peer { lines: BufReader::new(here.reader).lines(), writer: here.writer };
    peer.ask(CALL).await;
    assert!(peer.hear().await.expect("an error").contains("before initialization"));
}
