//! Connections on in-memory pipes with the paused clock; the whole of [`serve`] on real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::tests::{OWN, config, door, edge};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Serves one connection with `answer` and returns the client's end.
fn connect<A, F>(edge: &Arc<Edge>, room: usize, answer: A) -> DuplexStream
where
    A: Fn(http::Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (client, server) = duplex(room);
    let edge = edge.clone();
    trunkline_telemetry::spawn("connection", async move { connection(server, &edge, answer).await });
    client
}

async fn fine(_request: http::Request<Incoming>) -> Response<Body> {
    plain(StatusCode::OK, "fine")
}

/// All that comes until the connection closes.
async fn rest(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.expect("it closes cleanly");
    String::from_utf8(text).expect("text")
}

/// One small response.
async fn response(client: &mut DuplexStream) -> String {
    let mut text = vec![0; 4096];
    let length = client.read(&mut text).await.expect("an answer");
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn s23_whoever_does_not_finish_a_head_within_ten_seconds_is_closed() {
    for begun in ["", "PRI * HTTP/2.0\r\n\r\nSM", "PRI * HT", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let mut client = connect(&edge(config()), 4096, fine);
        let start = Instant::now();
        client.write_all(begun.as_bytes()).await.expect("room");
        let answer = rest(&mut client).await;
        assert!(!answer.contains(" 200 "), "{begun:?}: {answer}");
        assert!(start.elapsed() <= Duration::from_secs(11), "{begun:?} held for {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn s23_the_clocks_of_head_and_rest_go_by_the_configuration() {
    let mut patient = config();
    patient.limits.head_read = Duration::from_secs(40);
    patient.limits.idle_connection = Duration::from_secs(5);
    let edge = edge(patient);
    let mut client = connect(&edge, 4096, fine);
    let start = Instant::now();
    rest(&mut client).await;
    assert_eq!(start.elapsed().as_secs(), 40);
    let mut client = connect(&edge, 4096, fine);
    client.write_all(GET.as_bytes()).await.expect("open");
    response(&mut client).await;
    let idle = Instant::now();
    rest(&mut client).await;
    assert_eq!(idle.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn s23_a_head_that_drips_does_not_win_time() {
    let mut client = connect(&edge(config()), 4096, fine);
    let start = Instant::now();
    for byte in GET.bytes() {
        if client.write_all(&[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(2)).await;
    }
    let mut text = Vec::new();
    let _ = client.read_to_end(&mut text).await;
    assert_eq!(text, b"");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_rests_for_75_seconds_and_its_next_head_has_ten() {
    let edge = edge(config());
    let mut client = connect(&edge, 4096, fine);
    for pause in [0, 60, 60] {
        sleep(Duration::from_secs(pause)).await;
        client.write_all(GET.as_bytes()).await.expect("still open");
        assert!(response(&mut client).await.starts_with("HTTP/1.1 200"));
    }
    let idle = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(idle.elapsed().as_secs(), 75);

    let mut client = connect(&edge, 4096, fine);
    client.write_all(GET.as_bytes()).await.expect("open");
    response(&mut client).await;
    sleep(Duration::from_secs(30)).await;
    client.write_all(b"GET /").await.expect("open");
    let begun = Instant::now();
    rest(&mut client).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_meets_no_clock() {
    let mut client = connect(&edge(config()), 4096, |request| async {
        sleep(Duration::from_secs(270)).await;
        fine(request).await
    });
    client.write_all(GET.as_bytes()).await.expect("open");
    assert!(response(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn r27_a_reader_that_takes_nothing_is_cut_after_30_seconds() {
    let mut client = connect(&edge(config()), 1024, |_| async {
        Response::new(Body::whole(bytes::Bytes::from(vec![b'x'; 1 << 20])))
    });
    client.write_all(GET.as_bytes()).await.expect("open");
    for _ in 0..3 {
        // Slow, but it reads: no reason to cut it.
        sleep(Duration::from_secs(29)).await;
        let mut piece = vec![0; 1024];
        assert_ne!(client.read(&mut piece).await.expect("open"), 0);
    }
    sleep(Duration::from_secs(31)).await;
    assert!(rest(&mut client).await.len() <= 1024, "only what lay in the pipe is left");
}

#[tokio::test(start_paused = true)]
async fn s21_s22_heads_out_of_bounds_are_refused_and_closed() {
    let long = "x".repeat(33 * 1024);
    let fields = "X-A: 1\r\n".repeat(101);
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), 431),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Folded: a\r\n b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), 400),
    ] {
        let mut client = connect(&edge(config()), 64 * 1024, fine);
        client.write_all(head.as_bytes()).await.expect("room");
        let answer = rest(&mut client).await;
        let shown: String = head.chars().take(120).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn s22_there_is_no_upgrade_and_no_http2() {
    let mut client = connect(&edge(config()), 4096, fine);
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    client.write_all(upgrade.as_bytes()).await.expect("room");
    assert!(response(&mut client).await.starts_with("HTTP/1.1 200"), "the upgrade is ignored");
    let mut client = connect(&edge(config()), 4096, fine);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("room");
    let answer = rest(&mut client).await;
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn r35_the_soft_stop_closes_idle_connections_and_lets_work_finish() {
    let edge = edge(config());
    let mut fresh = connect(&edge, 4096, fine);
    let mut idle = connect(&edge, 4096, fine);
    idle.write_all(GET.as_bytes()).await.expect("open");
    response(&mut idle).await;
    let mut busy = connect(&edge, 4096, |request| async {
        sleep(Duration::from_secs(15)).await;
        fine(request).await
    });
    busy.write_all(GET.as_bytes()).await.expect("open");
    sleep(Duration::from_secs(1)).await;
    edge.stop.soft.cancel();
    let stop = Instant::now();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut fresh).await, "");
    assert!(stop.elapsed() < Duration::from_secs(1));
    let answer = rest(&mut busy).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn r4_what_was_accepted_before_the_doors_closed_is_served_once_more() {
    let edge = edge(config());
    let mut fresh = connect(&edge, 4096, fine);
    let mut kept = connect(&edge, 4096, fine);
    kept.write_all(GET.as_bytes()).await.expect("open");
    response(&mut kept).await;
    edge.stop.doors.cancel();
    sleep(Duration::from_millis(50)).await;
    for client in [&mut fresh, &mut kept] {
        client.write_all(GET.as_bytes()).await.expect("still open");
        let answer = rest(client).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn r35_the_hard_stop_waits_a_second_for_last_words() {
    let edge = edge(config());
    let mut stuck = connect(&edge, 4096, |_| std::future::pending());
    stuck.write_all(GET.as_bytes()).await.expect("open");
    sleep(Duration::from_secs(1)).await;
    edge.stop.soft.cancel();
    sleep(Duration::from_secs(20)).await;
    edge.stop.hard.cancel();
    let hard = Instant::now();
    assert_eq!(rest(&mut stuck).await, "");
    assert_eq!(hard.elapsed(), LAST_WORDS);
}

#[tokio::test]
async fn both_loopbacks_and_the_owners_socket_answer_and_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trunkline.sock");
    let mut settings = config();
    settings.listen.port = 0;
    let listeners = crate::bind(&settings.listen).await.expect("a free port");
    let addresses = listeners.addresses();
    let owner = OwnerSocket::bind(&path).expect("free");
    let stop = Steps::default();
    let serving = tokio::join!(serve(listeners, Some(owner), door(settings), stop.clone()), async {
        for address in addresses {
            let mut client = TcpStream::connect(address).await.expect("listening");
            let request = format!("GET /health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            assert!(ask(&mut client, &request).await.starts_with("HTTP/1.1 200"), "{address}");
        }
        let mut client = UnixStream::connect(&path).await.expect("listening");
        let request = "GET /health HTTP/1.1\r\nHost: trunkline\r\nConnection: close\r\n\r\n";
        assert!(ask(&mut client, request).await.contains("\"servers\":[]"));
        stop.doors.cancel();
        stop.soft.cancel();
    });
    let ((), ()) = serving;
    assert!(!path.exists(), "the socket's file is gone");
}

#[tokio::test]
async fn r36_a_connection_goes_on_however_often_the_port_changes_since() {
    let mut settings = config();
    settings.listen.port = 0;
    let listen = settings.listen.clone();
    let bound = async || crate::bind(&listen).await.expect("a free port");
    let (relocate, relocations) = mpsc::channel(1);
    let door = Door { relocations, ..door(settings) };
    let (listeners, stop) = (bound().await, Steps::default());
    let first = listeners.addresses()[0];
    let serving = tokio::join!(serve(listeners, None, door, stop.clone()), async {
        let request = |host, rest| format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n");
        let mut early = TcpStream::connect(first).await.expect("listening");
        for _ in 0..3 {
            early.write_all(request(first, "").as_bytes()).await.expect("open");
            let mut head = [0; 12];
            early.read_exact(&mut head).await.expect("an answer");
            assert_eq!(&head, b"HTTP/1.1 200");
            let rest = early.read(&mut [0; 1024]).await.expect("the rest");
            assert!(rest > 0);
            let next = bound().await;
            let address = next.addresses()[0];
            relocate.send(next).await.expect("the door is there");
            for (host, status) in [(address, "200"), (first, "403")] {
                let mut late = TcpStream::connect(address).await.expect("listening");
                let answer = ask(&mut late, &request(host, "Connection: close\r\n")).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            }
        }
        stop.doors.cancel();
        stop.soft.cancel();
    });
    let ((), ()) = serving;
}

async fn ask(client: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    client.write_all(request.as_bytes()).await.expect("open");
    let mut text = String::new();
    client.read_to_string(&mut text).await.expect("it closes");
    text
}

/// Serves one connection with the real ladder, as over TCP.
fn connect_door(edge: &Arc<Edge>) -> DuplexStream {
    let behind = edge.clone();
    connect(edge, 16 * 1024, move |request| {
        let edge = behind.clone();
        async move { crate::answer(&edge, OWN, request).await }
    })
}

fn post(length: &str) -> String {
    format!("POST /mcp HTTP/1.1\r\nHost: localhost:6270\r\nContent-Type: application/json\r\n{length}\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn g8_a_client_that_sends_too_much_gets_to_read_so() {
    let mut small = config();
    small.limits.request_body_bytes = 64 * 1024;
    let edge = edge(small);
    for length in ["Content-Length: 1048576", "Transfer-Encoding: chunked"] {
        let mut client = connect_door(&edge);
        client.write_all(post(length).as_bytes()).await.expect("open");
        let chunk = format!("{:x}\r\n{}\r\n", 1020, "x".repeat(1020));
        for _ in 0..1024 {
            client.write_all(chunk.as_bytes()).await.expect("what is too much is still taken");
        }
        client.write_all(b"0\r\n\r\n").await.expect("open");
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{length}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn s23_a_body_that_does_not_come_is_waited_for_30_seconds() {
    let mut client = connect_door(&edge(config()));
    client.write_all(post("Content-Length: 10").as_bytes()).await.expect("open");
    let start = Instant::now();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_body_in_pieces_is_put_together() {
    let mut client = connect_door(&edge(config()));
    let body = r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#;
    client.write_all(post("Transfer-Encoding: chunked").as_bytes()).await.expect("open");
    for piece in body.as_bytes().chunks(5) {
        let chunk = format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        client.write_all(chunk.as_bytes()).await.expect("open");
        sleep(Duration::from_millis(100)).await;
    }
    client.write_all(b"0\r\n\r\n").await.expect("open");
    let answer = response(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(r#""id":"a""#), "it was read: {answer}");
}

#[tokio::test(start_paused = true)]
async fn s23_that_all_connections_are_taken_is_counted_and_stands_in_health() {
    let edge = edge(config());
    let slots = edge.slots.clone();
    let held = slots.clone().acquire_many_owned(u32::try_from(slots.available_permits()).expect("few")).await;
    {
        let waiting = pin!(slot(&edge, &slots));
        assert!(waiting.now_or_never().is_none(), "nobody is refused");
    }
    assert!(edge.metrics.render().contains(r#"trunkline_rejected_total{reason="connections"} 1"#));
    assert_eq!(edge.strain.warnings(false, 1).count(), 1);
    drop(held);
    assert!(slot(&edge, &slots).now_or_never().is_some());
    assert!(edge.metrics.render().contains(r#"reason="connections"} 1"#), "nothing waits any more");
}
