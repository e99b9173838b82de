//! CORS for pages whose origin the configuration lists, and for nobody else (mcp-protocol 3.15, S-3).
//!
//! A foreign origin never gets here: `guard` has refused it. The gateway's own pages need none of this.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::guard::Guard;

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, DELETE, OPTIONS");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After");
const REQUESTABLE: [&str; 8] = [
    "content-type",
    "accept",
    "authorization",
    "last-event-id",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
];

/// Answers the preflight of a listed origin; `None` for any other request.
pub(crate) fn preflight<B>(guard: &Guard, request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let origin = guard.listed_origin(request.headers())?.clone();
    let wanted = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|wanted| wanted.to_str().ok());
    let granted: Vec<&str> =
        wanted.unwrap_or_default().split(',').map(str::trim).filter(|name| is_fine(name)).collect();
    let mut response = exposed(Response::new(Body::empty()), origin);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Ok(granted) = HeaderValue::from_str(&granted.join(", ")) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, granted);
    }
    Some(response)
}

/// Lets a page of the listed `origin` read the response.
pub(crate) fn exposed(mut response: Response<Body>, origin: HeaderValue) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    response
}

fn is_fine(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    REQUESTABLE.contains(&name.as_str()) || name.starts_with("mcp-param-")
}
