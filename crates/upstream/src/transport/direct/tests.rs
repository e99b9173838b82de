//! Real sockets and a server of a few lines, which says how many connections it has seen.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::client;
use super::*;

/// What the server does with each request.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers in two pieces, and keeps the connection.
    Answers,
    /// Answers once on each connection, then closes it without a word.
    ClosesBehind,
    /// Reads the request and closes.
    Drops,
}

async fn server(manner: Manner) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    trunkline_telemetry::spawn("fake server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            trunkline_telemetry::spawn("fake connection", async move {
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    if matches!(manner, Manner::Drops) {
                        return;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let _ = stream.write_all(b"half").await;
                    if matches!(manner, Manner::ClosesBehind) {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn ask(direct: &Direct, to: SocketAddr) -> Result<Bytes, NoAnswer> {
    let mut request = Request::new(Full::from("hello"));
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert(http::header::HOST, "a".parse().expect("a value"));
    let to = format!("http://{to}/").parse().expect("an address");
    let answer = direct.send(&to, request).await?;
    Ok(answer.into_body().collect().await.map_err(NoAnswer::Broke)?.to_bytes())
}

#[tokio::test]
async fn a_connection_whose_answer_was_read_serves_the_next_request() {
    let (address, seen) = server(Manner::Answers).await;
    let direct = Direct::new(client::connector(Duration::from_secs(10)));
    for _ in 0..5 {
        assert_eq!(ask(&direct, address).await.expect("an answer"), "halfhalf");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    let (one, other) = tokio::join!(ask(&direct, address), ask(&direct, address));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(seen.load(Ordering::SeqCst), 2, "one for each at the same time");
}

#[tokio::test]
async fn an_answer_that_was_not_read_to_its_end_costs_its_connection() {
    let (address, seen) = server(Manner::Answers).await;
    let direct = Direct::new(client::connector(Duration::from_secs(10)));
    let mut request = Request::new(Full::from("hello"));
    request.headers_mut().insert(http::header::HOST, "a".parse().expect("a value"));
    let to = format!("http://{address}/").parse().expect("an address");
    let mut answer = direct.send(&to, request).await.expect("an answer").into_body();
    let first = answer.frame().await.expect("a piece").expect("a piece").into_data().expect("data");
    assert_eq!(first, "half");
    drop(answer);
    assert_eq!(ask(&direct, address).await.expect("an answer"), "halfhalf");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn r20_a_resting_connection_that_the_server_closed_fails_no_request() {
    let (address, seen) = server(Manner::ClosesBehind).await;
    let direct = Direct::new(client::connector(Duration::from_secs(10)));
    for _ in 0..3 {
        assert_eq!(ask(&direct, address).await.expect("an answer"), "halfhalf");
        // Time for the news of the end; nobody polls the connection meanwhile.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn r18_a_request_that_was_written_is_not_sent_again() {
    let (address, seen) = server(Manner::Drops).await;
    let direct = Direct::new(client::connector(Duration::from_secs(10)));
    assert!(matches!(ask(&direct, address).await, Err(NoAnswer::Broke(_))));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn r20_what_has_rested_for_15_seconds_is_closed() {
    let (address, seen) = server(Manner::Answers).await;
    let direct = Direct::new(client::connector(Duration::from_secs(10)));
    ask(&direct, address).await.expect("an answer");
    assert_eq!(direct.0.resting().len(), 1);
    // Only now: a paused clock runs ahead of sockets.
    tokio::time::pause();
    tokio::time::sleep(REST_MAX * 2).await;
    assert!(direct.0.resting().is_empty(), "the sweeper came");
    tokio::time::resume();
    ask(&direct, address).await.expect("an answer");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
