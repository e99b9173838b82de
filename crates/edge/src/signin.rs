//! Logins as the door sees them: the owner's commands on the socket, and `/oauth/callback`, where a person's browser comes
//! back to (S-28, S-29).
//!
//! The callback is answered with plain text: no page of ours holds a word that an authorization server chose, and nothing
//! of it is kept by the browser. What happens with the answer is decided by `state`, which only the login knows.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use http::{Response, StatusCode, Uri};
use serde_json::json;
use tokio::net::TcpListener;
use trunkline_config::{Connect, Http};
use trunkline_signin::{DeviceCode, SignIn, SignedOut};
use trunkline_upstream::Upstream;
use trunkline_wire::ServerName;

use crate::body::Body;
use crate::reply::{json, plain};
use crate::{Edge, callback};

/// Where a person comes back to. Registered with authorization servers, so it never changes.
pub(crate) const CALLBACK: &str = "/oauth/callback";

/// Begins a login: `{"url": …}`, where the person is to go.
pub(crate) async fn login(edge: &Arc<Edge>, upstream: &Upstream) -> Response<Body> {
    let (signin, http) = match counterpart(edge, upstream) {
        Ok(found) => found,
        Err(text) => return no(StatusCode::CONFLICT, &text),
    };
    let (redirect, own) = match way_back(edge, &signin, upstream.name(), http.oauth.callback_port).await {
        Ok(way) => way,
        Err(refused) => return refused,
    };
    match Box::pin(signin.login(upstream.name(), &http, &redirect)).await {
        Ok(url) => {
            if let Some(listener) = own {
                callback::serve(edge, listener, signin, upstream.name().clone());
            }
            json(StatusCode::OK, &json!({ "url": url }))
        }
        Err(error) => no(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// Begins a login by a code that is entered on another device: `{"url": …, "whole": …, "code": …, "seconds": …}`.
pub(crate) async fn login_by_device(edge: &Arc<Edge>, upstream: &Upstream) -> Response<Body> {
    let (signin, http) = match counterpart(edge, upstream) {
        Ok(found) => found,
        Err(text) => return no(StatusCode::CONFLICT, &text),
    };
    // Nobody comes back by it; registrations want one.
    let redirect = redirect((Ipv4Addr::LOCALHOST, http.oauth.callback_port.unwrap_or(6270)).into());
    match Box::pin(signin.login_by_device(upstream.name(), &http, &redirect)).await {
        Ok(DeviceCode { url, whole, code, seconds }) => {
            let (upstream, stop) = (upstream.clone(), edge.stop.soft.clone());
            trunkline_telemetry::spawn("signed in by device", async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    ended = signin.waited(upstream.name()) => if ended.is_ok() {
                        upstream.restart();
                    }
                }
            });
            json(StatusCode::OK, &json!({ "url": url, "whole": whole, "code": code, "seconds": seconds }))
        }
        Err(error) => no(StatusCode::CONFLICT, &error.to_string()),
    }
}

/// Where the person comes back to, and the listener for that if it is not the daemon's own.
async fn way_back(
    edge: &Edge,
    signin: &SignIn,
    server: &ServerName,
    port: Option<u16>,
) -> Result<(String, Option<TcpListener>), Response<Body>> {
    let addresses = edge.addresses.borrow().clone();
    // A browser on this machine reaches those alone without TLS.
    let mut near = addresses.iter().filter(|address| address.ip().is_loopback()).collect::<Vec<_>>();
    near.sort_by_key(|address| address.is_ipv6());
    let own = near.first().copied();
    match (port, own) {
        (Some(port), own) if own.is_none_or(|own| own.port() != port) => {
            // Its port may be this one.
            signin.withdraw(server);
            match callback::bind(port).await {
                Ok(listener) => Ok((redirect((Ipv4Addr::LOCALHOST, port).into()), Some(listener))),
                Err(error) => {
                    tracing::debug!(%server, port, %error, "the port of a sign-in cannot be had");
                    Err(no(
                        StatusCode::CONFLICT,
                        &format!(
                            "port {port}, the `oauth.callback_port` of [mcp_servers.{server}], cannot be had ({error}): end \
                             the program that has it, or set another port and register {} for it",
                            redirect((Ipv4Addr::LOCALHOST, port).into())
                        ),
                    ))
                }
            }
        }
        (_, Some(own)) => Ok((redirect(*own), None)),
        (_, None) => Err(no(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway listens at no loopback address that a browser could come back to; `oauth.callback_port` has \
                 it listen there for a sign-in",
        )),
    }
}

/// Waits for the end of a login: `{"scopes": […]}`.
pub(crate) async fn wait(edge: &Edge, upstream: &Upstream) -> Response<Body> {
    let signin = match counterpart(edge, upstream) {
        Ok((signin, _)) => signin,
        Err(text) => return no(StatusCode::CONFLICT, &text),
    };
    tokio::select! {
        biased;
        () = edge.stop.soft.cancelled() => {
            no(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops, and the sign-in with it; start it again when it is back")
        }
        ended = signin.waited(upstream.name()) => match ended {
            Ok(scopes) => json(StatusCode::OK, &json!({ "scopes": scopes })),
            Err(error) => no(StatusCode::CONFLICT, &error.to_string()),
        }
    }
}

/// Signs out: `{"was_signed_in": …, "revoked": …}`.
pub(crate) async fn logout(edge: &Edge, upstream: &Upstream) -> Response<Body> {
    let (signin, http) = match counterpart(edge, upstream) {
        Ok(found) => found,
        Err(text) => return no(StatusCode::CONFLICT, &text),
    };
    match Box::pin(signin.logout(upstream.name(), &http)).await {
        Ok(done) => {
            if done != SignedOut::WasNot {
                upstream.restart();
            }
            let (was, revoked) = (done != SignedOut::WasNot, done == SignedOut::Revoked);
            json(StatusCode::OK, &json!({ "was_signed_in": was, "revoked": revoked }))
        }
        Err(error) => no(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// A browser comes back.
pub(crate) async fn callback(edge: &Arc<Edge>, target: &Uri) -> Response<Body> {
    let fleet = edge.hub.fleet();
    let Some(signin) = fleet.signin() else {
        return unkept(plain(StatusCode::NOT_FOUND, "nobody signs in here"));
    };
    let returned = Box::pin(signin.callback(target.query().unwrap_or_default())).await;
    let name = returned.server.as_ref().map(ToString::to_string).unwrap_or_default();
    unkept(match returned.outcome {
        Ok(()) => {
            if let Some(upstream) = fleet.get(&name) {
                upstream.restart();
            }
            plain(StatusCode::OK, &format!("Trunkline is signed in to {name}. You can close this page."))
        }
        Err(text) => plain(StatusCode::BAD_REQUEST, &format!("Trunkline is not signed in: {text}.")),
    })
}

/// Who signs in, and to what.
fn counterpart(edge: &Edge, upstream: &Upstream) -> Result<(SignIn, Http), String> {
    let name = upstream.name();
    let Some(signin) = edge.hub.fleet().signin().cloned() else {
        return Err("nobody can sign in here: there is no place to keep tokens".to_owned());
    };
    match &upstream.config().connect {
        Connect::Http(http) => Ok((signin, http.clone())),
        Connect::Stdio(_) => Err(format!(
            "server `{name}` is a child process, which gets its credentials by `env` in [mcp_servers.{name}]"
        )),
    }
}

fn redirect(address: SocketAddr) -> String {
    format!("http://{address}{CALLBACK}")
}

/// The address that led here holds a code: no cache keeps the answer, and no page learns of it.
fn unkept(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in [
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn no(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({ "error": text }))
}
