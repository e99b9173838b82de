use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;
use trunkline_wire::{Budget, Method};

use super::*;
use crate::environment::GuardProgram;

fn environment() -> Environment {
    Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::new()),
        budget: Budget::new(64 << 20),
        limits: trunkline_config::Limits::default(),
        notices: mpsc::channel(1).0,
        guard: GuardProgram::new("/nowhere", []),
        shelf: crate::Shelf::none(),
        signin: None,
        inherited: Vec::new(),
    }
}

fn name() -> ServerName {
    ServerName::new("git").expect("a name")
}

/// The far ends of a server's stdin and stdout.
struct Server {
    stdin: BufReader<DuplexStream>,
    stdout: DuplexStream,
}

impl Server {
    async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stdout.write_all(text.as_ref()).await.expect("somebody reads");
    }
}

fn pipes(environment: &Environment) -> (Arc<dyn Transport>, MessageStream, Server) {
    let (ours, stdin) = tokio::io::duplex(1024);
    let (stdout, theirs) = tokio::io::duplex(1 << 16);
    let (transport, stream) = over(&name(), theirs, ours, environment);
    (transport, stream, Server { stdin: BufReader::new(stdin), stdout })
}

fn request(id: u64, filler: usize) -> Outgoing {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":{{"x":"{}"}}}}"#, "x".repeat(filler));
    Outgoing::new(text.into(), Some(id), Method::Ping)
}

fn answer(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

async fn next_id(stream: &mut MessageStream) -> u64 {
    let message = stream.next().await.expect("not the end").expect("a message");
    message.id().and_then(trunkline_wire::Id::minted).expect("an answer to us")
}

async fn next_broken(stream: &mut MessageStream) -> Broken {
    stream.next().await.expect("not the end").expect_err("broken")
}

#[tokio::test(start_paused = true)]
async fn r28_messages_come_through_noise_bom_crlf_and_empty_lines() {
    let environment = environment();
    let (_transport, mut stream, mut server) = pipes(&environment);
    server.say("Server started!\n\n   \n\u{feff}").await;
    server.say(format!("{}\r\n", answer(1))).await;
    server.say(b"\0\xff\xfe\n{\"level\":\"info\",\"id\":2}\n").await;
    server.say(format!("{}{}\n", answer(8), answer(9))).await;
    server.say(format!(" {}\n", answer(2))).await;
    assert_eq!(next_id(&mut stream).await, 1);
    // Two answers on one line: the first at least is known not to come.
    let broken = next_broken(&mut stream).await;
    assert_eq!((broken.fault, broken.request), (FaultPoint::Unreadable, Some(8)));
    assert_eq!(next_id(&mut stream).await, 2);
    assert!(environment.journal.stderr_tail(&name(), 9999).contains("Server started!"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_unpacked_in_order() {
    let (_transport, mut stream, mut server) = pipes(&environment());
    server.say(format!("[{},7,{}]\n{}\n", answer(3), answer(1), answer(2))).await;
    for id in [3, 1, 2] {
        assert_eq!(next_id(&mut stream).await, id);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_json_fails_its_own_call() {
    let (_transport, mut stream, mut server) = pipes(&environment());
    server.say("{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"x\":NaN}}\n").await;
    server.say(format!("{}\n", answer(6))).await;
    let broken = next_broken(&mut stream).await;
    assert_eq!((broken.fault, broken.request), (FaultPoint::Unreadable, Some(5)));
    assert_eq!(next_id(&mut stream).await, 6);
}

#[tokio::test(start_paused = true)]
async fn r28_an_oversized_answer_fails_its_own_call_and_the_next_one_is_read() {
    let mut environment = environment();
    environment.limits.upstream_message_bytes = 50_000;
    let (_transport, mut stream, mut server) = pipes(&environment);
    let filler = "x".repeat(100_000);
    let feed = async {
        server.say(format!("{{\"result\":{{\"t\":\"{filler}\"}},\"jsonrpc\":\"2.0\",\"id\":4}}\n")).await;
        server.say(format!("{{\"result\":\"{filler}\"}}\n")).await;
        server.say(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{{\"t\":\"{filler}\"}}}}\n")).await;
        server.say(format!("{}\n", answer(6))).await;
    };
    let read = async {
        let broken = next_broken(&mut stream).await;
        assert_eq!((broken.fault, broken.request), (FaultPoint::Unreadable, Some(4)));
        assert!(broken.text.contains("limits.upstream_message_bytes"), "{}", broken.text);
        // Whom this one answered cannot be told; the notification after it answered nobody.
        assert_eq!(next_broken(&mut stream).await.request, None);
        assert_eq!(next_id(&mut stream).await, 6);
    };
    tokio::join!(feed, read);
}

#[tokio::test(start_paused = true)]
async fn half_a_line_then_death_ends_the_stream() {
    let (_transport, mut stream, mut server) = pipes(&environment());
    server.say(format!("{}\n{{\"jsonrpc\":\"2.0\",\"id\":2", answer(1))).await;
    drop(server);
    assert_eq!(next_id(&mut stream).await, 1);
    let broken = next_broken(&mut stream).await;
    assert_eq!(broken.fault, FaultPoint::LostUnanswered);
    assert_eq!(broken.text, "it closed its stdout in the middle of a message");
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn r28_a_server_that_only_babbles_is_broken() {
    let (_transport, mut stream, mut server) = pipes(&environment());
    let feed = async {
        for _ in 0..=BAD_LINES_MAX {
            server.say("DEBUG: nothing of interest\n").await;
        }
    };
    let ((), broken) = tokio::join!(feed, next_broken(&mut stream));
    assert_eq!(broken.fault, FaultPoint::LostUnanswered);
    assert!(broken.text.contains("does it log to stdout?"), "{}", broken.text);
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn lines_reach_the_server_whole_and_in_order_through_a_full_pipe() {
    let (transport, _stream, mut server) = pipes(&environment());
    for id in 1..=20 {
        transport.send(request(id, 500)).await.expect("queued");
    }
    for id in 1..=20 {
        let mut line = String::new();
        server.stdin.read_line(&mut line).await.expect("readable");
        assert_eq!(line.trim_end(), std::str::from_utf8(&request(id, 500).text).expect("text"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_for_ten_seconds_is_broken_and_a_slow_one_is_not() {
    let (transport, mut stream, mut server) = pipes(&environment());
    transport.send(request(1, 5000)).await.expect("queued");
    for _ in 0..4 {
        sleep(Duration::from_secs(9)).await;
        let mut some = [0; 600];
        server.stdin.get_mut().read_exact(&mut some).await.expect("readable");
    }
    let broken = next_broken(&mut stream).await;
    assert_eq!(broken.fault, FaultPoint::LostUnanswered);
    assert_eq!(broken.text, "it did not read its stdin for 10 s");
    let refused = transport.send(request(2, 0)).await.err().expect("refused");
    assert_eq!(refused.fault, FaultPoint::NothingSent);
}

#[tokio::test(start_paused = true)]
async fn a_flood_to_a_server_that_does_not_read_is_refused_at_the_bound() {
    let (transport, _stream, _server) = pipes(&environment());
    let mut sent = 0;
    while transport.send(request(sent, 1000)).await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the queue has no bound");
    }
    assert!(sent > 1000);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_stdin_and_the_stream_without_an_error() {
    let (transport, mut stream, mut server) = pipes(&environment());
    transport.close(Duration::from_secs(1)).await;
    assert!(stream.next().await.is_none());
    let mut line = String::new();
    assert_eq!(server.stdin.read_line(&mut line).await.expect("the end"), 0);
    assert_eq!(transport.send(request(1, 0)).await.err().expect("refused").fault, FaultPoint::NothingSent);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_transport_ends_stdin_even_while_it_stalls() {
    let (transport, mut stream, mut server) = pipes(&environment());
    transport.send(request(1, 5000)).await.expect("queued");
    drop(transport);
    assert!(stream.next().await.is_none());
    let mut rest = Vec::new();
    server.stdin.read_to_end(&mut rest).await.expect("the end");
    assert_eq!(rest.len(), 1024);
}
