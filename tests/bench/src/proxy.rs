//! The yardstick: a bare hyper reverse proxy that moves bodies and reads nothing.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, hyper::Error>;

/// Forwards everything to `target` until the process is ended.
pub(crate) async fn serve(listener: TcpListener, target: SocketAddr) -> std::io::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        let service = service_fn(move |request| forward(client.clone(), request, target));
        crate::background(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    mut request: Request<Incoming>,
    target: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = format!("http://{target}{path}").parse().expect("a socket address and a path make a URI");
    *request.uri_mut() = uri;
    if let Ok(response) = client.request(request).await {
        return Ok(response.map(BodyExt::boxed));
    }
    let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed();
    let mut response = Response::new(empty);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    Ok(response)
}
