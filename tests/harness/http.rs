//! HTTP/1 as it is: one connection, the headers that were given and no others.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::in_time;

pub(crate) type Connection = SendRequest<Full<Bytes>>;

pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: ::http::HeaderMap,
    body: Incoming,
    /// Where the connection goes once the body was read.
    connection: Connection,
}

/// One event of an event stream. Comments are skipped.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: String,
    pub(crate) retry: Option<String>,
}

pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    connection: Connection,
}

/// `host:port` of a URL.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("http://").expect("an http URL");
    rest.split('/').next().expect("split yields one")
}

/// The path of a URL, query included.
pub(crate) fn path(url: &str) -> &str {
    &url["http://".len() + authority(url).len()..]
}

pub(crate) async fn connect(authority: &str) -> Connection {
    let socket = TcpStream::connect(authority).await.expect("somebody listens");
    socket.set_nodelay(true).expect("a TCP socket");
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("no exchange yet");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// Sends a request with exactly these headers (and `content-length`), and `Host` unless given.
pub(crate) async fn send(
    mut connection: Connection,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    let mut request = ::http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a valid request");
    let answer = async {
        connection.ready().await.expect("the connection is open");
        connection.send_request(request).await.expect("an answer")
    };
    let (head, body) = in_time(&format!("the answer to {method} {target}"), answer).await.into_parts();
    Reply { status: head.status.as_u16(), headers: head.headers, body, connection }
}

/// A plain GET on a connection of its own.
pub(crate) async fn get(authority: &str, path: &str) -> Reply {
    send(connect(authority).await, "GET", path, &[("host", authority)], "").await
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII headers"))
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    pub(crate) async fn text(self) -> String {
        self.text_and_connection().await.0
    }

    pub(crate) async fn text_and_connection(self) -> (String, Connection) {
        let body = in_time("a whole body", self.body.collect()).await.expect("a whole body").to_bytes();
        (String::from_utf8(body.into()).expect("UTF-8"), self.connection)
    }

    pub(crate) fn events(self) -> Events {
        assert!(self.is_stream(), "not an event stream: {} {:?}", self.status, self.headers);
        Events { body: self.body, buffer: Vec::new(), connection: self.connection }
    }
}

impl Events {
    /// The next event; none when the stream ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        in_time("an event", self.next_whenever()).await
    }

    /// The same, however long that takes.
    pub(crate) async fn next_whenever(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(std::str::from_utf8(&block).expect("UTF-8")) {
                    return Some(event);
                }
            }
            let frame = self.body.frame().await?;
            let Ok(frame) = frame else { return None };
            if let Some(data) = frame.data_ref() {
                // Lines may end with CRLF; nothing that is sent here holds a bare CR.
                self.buffer.extend(data.iter().filter(|byte| **byte != b'\r'));
            }
        }
    }

    /// The next event that carries a message, priming skipped.
    pub(crate) async fn message(&mut self) -> Option<String> {
        loop {
            let event = self.next().await?;
            if !event.data.is_empty() {
                return Some(event.data);
            }
        }
    }

    /// Everything until the stream ends.
    pub(crate) async fn rest(mut self) -> (Vec<Event>, Connection) {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        (events, self.connection)
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut any = false;
    for line in block.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = Some(value.to_owned()),
            "event" => event.name = Some(value.to_owned()),
            "retry" => event.retry = Some(value.to_owned()),
            "data" => event.data.push_str(value),
            _ => continue,
        }
        any = true;
    }
    any.then_some(event)
}
