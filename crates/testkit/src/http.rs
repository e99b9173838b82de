//! [`Http`]: an axum router called in this process, so that its timers run with time paused.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;
use trunkline_wire::Message;
use trunkline_wire::sse::{Decoder, Event};

/// `Host` of the requests of [`request`]: the gateway's own address.
pub const HOST: &str = "127.0.0.1:6270";

/// The largest event a test expects.
const EVENT_BYTES_MAX: usize = 128 * 1024 * 1024;

type Prepare = Arc<dyn Fn(&mut Request<Body>) + Send + Sync>;

/// A way to call a router without a socket. Cloning shares the router.
#[derive(Clone)]
pub struct Http {
    router: Router,
    prepare: Option<Prepare>,
}

impl fmt::Debug for Http {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Http")
    }
}

impl Http {
    /// Calls go to `router`.
    pub fn new(router: Router) -> Self {
        Self { router, prepare: None }
    }

    /// Every request passes `prepare` first: for what a listener would add, such as the peer's address.
    #[must_use]
    pub fn prepared(self, prepare: impl Fn(&mut Request<Body>) + Send + Sync + 'static) -> Self {
        Self { prepare: Some(Arc::new(prepare)), ..self }
    }

    /// Sends a request; returns when the head of the response is there.
    pub async fn send(&self, mut request: Request<Body>) -> Response<Body> {
        if let Some(prepare) = &self.prepare {
            prepare(&mut request);
        }
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }
}

/// Begins a request to the gateway's own address.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", HOST)
}

/// Reads the whole body.
///
/// # Panics
/// If the body breaks off.
pub async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.expect("a whole body").to_bytes()
}

/// The events of a response that is a stream.
#[derive(Debug)]
pub struct Events {
    body: BodyDataStream,
    decoder: Decoder,
}

impl Events {
    /// Reads the body of `response` as a stream of events.
    ///
    /// # Panics
    /// If its content type says that it is none.
    pub fn of(response: Response<Body>) -> Self {
        assert!(is_stream(&response), "no event stream: {} {:?}", response.status(), response.headers());
        Self { body: response.into_body().into_data_stream(), decoder: Decoder::new(EVENT_BYTES_MAX) }
    }

    /// Waits for the next event; `None` at the end of the stream.
    ///
    /// # Panics
    /// If the body breaks off.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Some(event.expect("an event of a size that tests use"));
            }
            self.decoder.push(self.body.next().await?.expect("an unbroken body"));
        }
    }

    /// Waits for the next message, priming events left out; `None` at the end of the stream.
    ///
    /// # Panics
    /// If an event's data is no message.
    pub async fn message(&mut self) -> Option<Message> {
        loop {
            let event = self.next().await?;
            if !event.data.is_empty() {
                return Some(Message::parse(&event.data).expect("a message"));
            }
        }
    }
}

/// Whether the response is a stream of events.
pub fn is_stream(response: &Response<Body>) -> bool {
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}
