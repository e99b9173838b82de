//! [`dial`]: from a server's configuration to a connection with the handshake done, or to a sentence that says what
//! stood in the way.
//!
//! A URL says nothing about the transport behind it, so it is found out (mcp-protocol 4.6): `initialize` by POST
//! first, since most servers speak streamable HTTP; a refusal that a server of the other kind would give leads to a
//! GET. A refusal for want of a credential, an overloaded server and a dead network prove nothing and end the
//! attempt; the supervisor decides when the next one is made.
//!
//! This is the place for the era probe: it comes before `initialize` on the ladder.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use trunkline_config::{Connect, Http, HttpTransport as Wanted, Server};
use trunkline_telemetry::redact::{self, Scrubber};
use trunkline_wire::{Revision, ServerName};

use crate::environment::Environment;
use crate::error::{DialError, DialErrorKind};
use crate::handshake::{self, Handshake, Missed};
use crate::limits::{FIRST_START, LATER_START, LEAVE_GRACE};
use crate::transport::body::Bounds;
use crate::transport::client::Address;
use crate::transport::failure::{Failure, Seen};
use crate::transport::http::HttpTransport;
use crate::transport::peer::Peer;
use crate::transport::sse::SseTransport;
use crate::transport::{Dialed, MessageStream, Outgoing, SendError, Sent, Transport, stdio};

/// The id of `initialize`. The ids of the connection go on from there.
const FIRST_ID: u64 = 1;

/// Connects to the server `name`. `first_start`: it never was ready since the daemon started.
///
/// The error is a sentence without the server's name, for people.
pub(crate) async fn dial(
    name: &ServerName,
    server: &Server,
    first_start: bool,
    environment: &Environment,
) -> Result<Dialed, DialError> {
    match &server.connect {
        Connect::Http(http) => {
            let limit = server.tuning.startup_timeout.unwrap_or(LATER_START);
            let message_bytes = environment.limits.upstream_message_bytes;
            let bounds = Bounds { message_bytes, budget: environment.budget.clone() };
            let ladder = Ladder { name, server, http, bounds };
            // On the heap: with two transports to try, the future is large.
            let climb = Box::pin(ladder.climb());
            timeout(limit, climb).await.unwrap_or_else(|_| Err(ladder.too_slow(limit)))
        }
        Connect::Stdio(stdio) => {
            let usual = if first_start { FIRST_START } else { LATER_START };
            let limit = server.tuning.startup_timeout.unwrap_or(usual);
            child(name, server, stdio, limit, environment).await
        }
    }
}

/// Starts a child and shakes hands with it, within `limit`.
async fn child(
    name: &ServerName,
    server: &Server,
    stdio: &trunkline_config::Stdio,
    limit: Duration,
    environment: &Environment,
) -> Result<Dialed, DialError> {
    let deadline = Instant::now() + limit;
    let (transport, mut shared) = stdio::start(name, stdio, environment).await?;
    let mut revision = Revision::NEWEST_LEGACY;
    let mut id = FIRST_ID;
    let error = loop {
        let greeting = greet(&*transport, &mut shared, handshake::initialize(id, revision, &server.declared), id);
        match timeout_at(deadline, greeting).await {
            Ok(Ok(handshake)) => return Ok(Dialed { transport, shared, handshake, next_id: id + 1 }),
            Ok(Err(Missed::OtherRevision(other))) if other < revision => (revision, id) = (other, id + 1),
            Ok(Err(Missed::Ended(text))) => {
                break DialError::new(DialErrorKind::Exited, format!("no answer to `initialize`: {text}"));
            }
            Ok(Err(missed)) => break answer_sentence(missed, "the process"),
            Err(_elapsed) => break too_slow_child(name, limit, environment),
        }
    };
    transport.close(LEAVE_GRACE).await;
    Err(error)
}

/// Sends `initialize` to a child, and completes the handshake.
async fn greet(
    transport: &dyn Transport,
    shared: &mut MessageStream,
    initialize: Outgoing,
    id: u64,
) -> Result<Handshake, Missed> {
    match transport.send(initialize).await {
        Ok(sent) => handshake::finish(transport, shared, sent, id).await,
        // The child is gone already: its stream knows why.
        Err(error) => match shared.next().await {
            Some(Err(broken)) => Err(Missed::Ended(broken.text)),
            Some(Ok(_)) | None => Err(Missed::Unsent(error)),
        },
    }
}

fn too_slow_child(name: &ServerName, limit: Duration, environment: &Environment) -> DialError {
    let tail = environment.journal.stderr_tail(name, 300);
    let said = match tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("; the last it wrote to stderr is: {}", redact::printable(line.trim(), 300)),
        None => String::new(),
    };
    let text = format!(
        "started, but did not answer `initialize` within {} s; if it is only slow, as a launcher that downloads first \
         is, raise `startup_timeout_sec` in [mcp_servers.{name}]{said}",
        limit.as_secs_f64(),
    );
    DialError::new(DialErrorKind::Timeout, text)
}

/// Everything that an attempt over HTTP goes by.
struct Ladder<'a> {
    name: &'a ServerName,
    server: &'a Server,
    http: &'a Http,
    bounds: Bounds,
}

impl Ladder<'_> {
    async fn climb(&self) -> Result<Dialed, DialError> {
        let tried = match self.http.transport {
            Wanted::Http => self.streamable().await,
            Wanted::Sse => self.sse().await,
            // Such a URL names what stands behind it; the order saves it two refusals (mcp-protocol 4.6).
            Wanted::Auto if self.http.url.path().ends_with("/sse") => match self.sse().await {
                Err(missed) if is_other_kind(&missed) => self.streamable().await.map_err(|_| missed),
                tried => tried,
            },
            Wanted::Auto => match self.streamable().await {
                Err(missed) if is_other_kind(&missed) => self.sse().await.map_err(|second| {
                    // The status of the POST tells more, unless the GET met somebody who may let us in later.
                    if is_other_kind(&second) { missed } else { second }
                }),
                tried => tried,
            },
        };
        tried.map_err(|missed| self.sentence(missed))
    }

    async fn streamable(&self) -> Result<Dialed, Missed> {
        let mut revision = Revision::NEWEST_LEGACY;
        loop {
            let transport = Arc::new(HttpTransport::new(self.peer()?));
            let out = handshake::initialize(FIRST_ID, revision, &self.server.declared);
            let sent = transport.post(&out).await.map_err(Missed::Failed)?;
            let shared = transport.shared();
            match settle(transport, shared, sent).await {
                // Each step down names an older revision, so this ends.
                Err(Missed::OtherRevision(other)) if other < revision => revision = other,
                settled => return settled,
            }
        }
    }

    async fn sse(&self) -> Result<Dialed, Missed> {
        let mut revision = Revision::NEWEST_LEGACY;
        loop {
            let (transport, shared) = SseTransport::connect(self.peer()?).await.map_err(Missed::Failed)?;
            let initialize = handshake::initialize(FIRST_ID, revision, &self.server.declared);
            let sent = transport.post(initialize).await.map_err(Missed::Failed)?;
            match settle(transport, shared, sent).await {
                Err(Missed::OtherRevision(other)) if other < revision => revision = other,
                settled => return settled,
            }
        }
    }

    fn peer(&self) -> Result<Peer, Missed> {
        let secrets = self.server.secrets.iter().map(|secret| secret.expose().to_owned());
        Peer::new(self.http, Scrubber::new(secrets), self.bounds.clone()).map_err(Missed::Failed)
    }

    /// Puts into words why there is no connection, and what may help.
    fn sentence(&self, missed: Missed) -> DialError {
        let address = redact::url(self.http.url.as_str());
        let failure = match missed {
            Missed::Failed(failure) => failure,
            Missed::Unsent(error) => {
                return DialError::new(DialErrorKind::Connect, format!("during the handshake at {address}: {error}"));
            }
            answered @ (Missed::Ended(_)
            | Missed::OtherRevision(_)
            | Missed::Refused(..)
            | Missed::UnknownRevision(_)
            | Missed::Unreadable(_)) => return answer_sentence(answered, &format!("the server at {address}")),
        };
        let error = match failure.seen {
            Seen::Unreachable => DialError::new(DialErrorKind::Connect, failure.text),
            Seen::Tls => DialError::new(DialErrorKind::Tls, format!("no connection to {address}: {}", failure.text)),
            Seen::CaFile => DialError::new(DialErrorKind::Config, failure.text),
            Seen::Status(status) => self.status_sentence(status, &failure.text, &address),
            Seen::Other => {
                let check = format!("check that `url` in [mcp_servers.{}] is its MCP address", self.name);
                DialError::new(DialErrorKind::Handshake, format!("the server at {address} {}; {check}", failure.text))
            }
        };
        error.retry_after(failure.retry_after)
    }

    fn status_sentence(&self, status: http::StatusCode, seen: &str, address: &str) -> DialError {
        let name = self.name;
        // What the body said, behind the status that the text begins with.
        let said = seen.strip_prefix(&format!("answered {status}")).unwrap_or_default();
        let text = match status.as_u16() {
            401 | 403 => return DialError::new(DialErrorKind::Auth, self.auth_sentence(status, address)),
            503 if Address::new(self.http.url.clone()).is_some_and(|address| address.is_loopback()) => {
                format!("{status} from its address ({address}){said}; is the desktop app's MCP server switched on?")
            }
            429 | 500..=599 => format!("{status} from its address ({address}){said}"),
            300..=399 => format!("its address ({address}) {seen}"),
            _ => format!(
                "{status} from its address ({address}){said}; check `url` and `transport` in [mcp_servers.{name}]"
            ),
        };
        DialError::new(DialErrorKind::Http(status.as_u16()), text)
    }

    /// Says whether a credential was sent, and which key sets one.
    fn auth_sentence(&self, status: http::StatusCode, address: &str) -> String {
        let name = self.name;
        let has_header = self.http.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case("authorization"));
        match (&self.http.bearer, &self.http.bearer_source) {
            (Some(_), Some(source)) => format!(
                "{status} from its address ({address}): the token of `{source}` was sent and refused; put a valid one \
                 there, or another variable's name in `bearer_token_env_var` of [mcp_servers.{name}]"
            ),
            (Some(_), None) => format!(
                "{status} from its address ({address}): a token was sent and refused; set a valid one with \
                 `bearer_token_env_var` in [mcp_servers.{name}]"
            ),
            (None, _) if has_header => format!(
                "{status} from its address ({address}): the `Authorization` header of `http_headers` was sent and \
                 refused; correct it in [mcp_servers.{name}]"
            ),
            (None, _) => format!(
                "{status} from its address ({address}): no token was sent; set `bearer_token_env_var`, or \
                 `http_headers` if it wants another header, in [mcp_servers.{name}]"
            ),
        }
    }

    fn too_slow(&self, limit: Duration) -> DialError {
        let text = format!(
            "no answer to `initialize` from {} within {} s; if the server is only slow, raise `startup_timeout_sec` in \
             [mcp_servers.{}]",
            redact::url(self.http.url.as_str()),
            limit.as_secs_f64(),
            self.name
        );
        DialError::new(DialErrorKind::Timeout, text)
    }
}

/// Completes the handshake over a transport that stands, or takes leave of the server.
async fn settle(transport: Arc<dyn Transport>, mut shared: MessageStream, sent: Sent) -> Result<Dialed, Missed> {
    match handshake::finish(&*transport, &mut shared, sent, FIRST_ID).await {
        Ok(handshake) => Ok(Dialed { transport, shared, handshake, next_id: FIRST_ID + 1 }),
        Err(missed) => {
            transport.close(LEAVE_GRACE).await;
            Err(missed)
        }
    }
}

/// Whether a refusal is what a server of the other HTTP transport would give (mcp-protocol 4.6, step B): a 4xx that
/// speaks neither of credentials nor of load, or 501. What is no stream of events, at the GET, is one as well.
fn is_other_kind(missed: &Missed) -> bool {
    let Missed::Failed(failure) = missed else {
        return false;
    };
    match failure.seen {
        Seen::Status(status) => match status.as_u16() {
            401 | 403 | 408 | 425 | 429 => false,
            200..=299 | 400..=499 | 501 => true,
            _ => false,
        },
        Seen::Other => true,
        Seen::Unreachable | Seen::Tls | Seen::CaFile => false,
    }
}

/// Puts into words what kind of answer `initialize` got from `who`.
fn answer_sentence(missed: Missed, who: &str) -> DialError {
    match missed {
        Missed::Ended(text) => {
            DialError::new(DialErrorKind::Handshake, format!("no answer to `initialize` from {who}: {text}"))
        }
        Missed::Refused(code, message) => {
            DialError::new(DialErrorKind::Handshake, format!("{who} refused `initialize` with error {code}: {message}"))
        }
        Missed::OtherRevision(revision) => {
            DialError::new(DialErrorKind::Revision, format!("{who} offered revision {revision} and then refused it"))
        }
        Missed::UnknownRevision(revision) => DialError::new(
            DialErrorKind::Revision,
            format!(
                "{who} speaks revision {revision} of the protocol; this gateway speaks {} to {} with servers",
                Revision::ALL[0],
                Revision::NEWEST_LEGACY
            ),
        ),
        Missed::Unreadable(text) => DialError::new(DialErrorKind::Handshake, format!("{who} {text}")),
        Missed::Unsent(SendError { text, .. }) | Missed::Failed(Failure { text, .. }) => {
            DialError::new(DialErrorKind::Connect, format!("{who}: {text}"))
        }
    }
}

#[cfg(test)]
mod tests;
