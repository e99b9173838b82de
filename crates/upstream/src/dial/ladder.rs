//! The ladder down to what stands behind a URL (mcp-protocol 4.6): `server/discover` by POST, then `initialize` by POST,
//! then a GET for the address of the legacy pair.
//!
//! One rung leads to the next only where `era.rs`, or a status that a server of the other kind would give, says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trunkline_config::{Http, HttpTransport as Wanted};
use trunkline_telemetry::redact::{self, Scrubber};
use trunkline_wire::{Era, Message, Revision, ServerName};

use super::{FIRST_ID, NEWEST, Order};
use crate::discover::{self, Observed};
use crate::era::{Evidence, Memory, Verdict, Way, verdict};
use crate::error::{DialError, DialErrorKind};
use crate::handshake::{self, Missed};
use crate::limits::LEAVE_GRACE;
use crate::transport::body::Bounds;
use crate::transport::failure::{Failure, Seen};
use crate::transport::http::HttpTransport;
use crate::transport::modern::ModernTransport;
use crate::transport::peer::Peer;
use crate::transport::proxies::Proxies;
use crate::transport::sse::SseTransport;
use crate::transport::{Dialed, MessageStream, Outgoing, Sent, Transport};

/// Everything that an attempt over HTTP goes by.
pub(super) struct Ladder<'a> {
    order: Order<'a>,
    http: &'a Http,
    /// The answer to the probe is awaited.
    probing: AtomicBool,
}

/// What the probe led to.
enum Rung {
    /// A modern server.
    Stands(Dialed),
    /// Not a modern server; what it did, for people.
    Down(String),
}

impl<'a> Ladder<'a> {
    pub(super) fn new(order: Order<'a>, http: &'a Http) -> Self {
        Self { order, http, probing: AtomicBool::new(false) }
    }

    pub(super) fn name(&self) -> &ServerName {
        self.order.name
    }

    pub(super) fn http(&self) -> &Http {
        self.http
    }

    pub(super) async fn climb(&self) -> Result<Dialed, DialError> {
        let known = self.order.shortcut();
        let modern = self.order.server.era == Some(Era::Modern);
        // Such a URL names what stands behind it; the order saves it refusals (mcp-protocol 4.6).
        let named = self.http.url.path().ends_with("/sse") && known.is_none();
        let tried = match self.http.transport {
            Wanted::Sse => self.sse().await,
            Wanted::Http => self.by_post(known).await,
            Wanted::Auto if !modern && (named || known == Some(Way::Pair)) => match self.sse().await {
                Err(missed) if is_other_kind(&missed) => {
                    self.order.note(|memory, _| memory.forget());
                    self.by_post(None).await.map_err(|_| missed)
                }
                tried => tried,
            },
            Wanted::Auto => match self.by_post(known).await {
                Err(missed) if !modern && is_other_kind(&missed) => self.sse().await.map_err(|second| {
                    // The status of the POST tells more, unless the GET met somebody who may let us in later.
                    if is_other_kind(&second) { missed } else { second }
                }),
                tried => tried,
            },
        };
        tried.map_err(|missed| self.sentence(missed))
    }

    /// Streamable HTTP of either era. `known`: a legacy way that needs no probe.
    async fn by_post(&self, known: Option<Way>) -> Result<Dialed, Missed> {
        let era = self.order.server.era;
        let probe = era != Some(Era::Legacy) && known.is_none();
        if probe {
            match self.modern().await? {
                Rung::Stands(dialed) => return Ok(dialed),
                Rung::Down(seen) if era == Some(Era::Modern) => return Err(Missed::NotModern(seen)),
                Rung::Down(_) => {}
            }
        }
        let missed = match self.streamable().await {
            Err(missed) if era.is_none() => missed,
            tried => return tried,
        };
        // A server that was upgraded may not know `initialize` any more, and one that starts slowly may not have known
        // its own mind. What says neither does not lead back.
        let surprised = match &missed {
            Missed::ModernOnly(_) => true,
            Missed::Failed(_) => !probe && is_other_kind(&missed),
            Missed::Refused(..) | Missed::UnknownRevision(_) | Missed::Unreadable(_) => !probe,
            Missed::Unsent(_)
            | Missed::Ended(_)
            | Missed::Garbled(_)
            | Missed::OtherRevision(_)
            | Missed::NotModern(_) => false,
        };
        if !surprised {
            return Err(missed);
        }
        self.order.note(|memory, _| memory.forget());
        match self.modern().await? {
            Rung::Stands(dialed) => Ok(dialed),
            Rung::Down(_) => Err(missed),
        }
    }

    /// Step A: asks by the modern form. `Err`: nothing is known, or nothing in common.
    async fn modern(&self) -> Result<Rung, Missed> {
        let mut revision = NEWEST;
        let mut asked = 0;
        loop {
            asked += 1;
            let transport = Arc::new(ModernTransport::new(self.peer()?, revision));
            self.probing.store(true, Ordering::Relaxed);
            let (seen, failure) = probe(&transport, revision).await;
            self.probing.store(false, Ordering::Relaxed);
            match verdict(&seen.evidence) {
                Verdict::Modern(revision) => {
                    self.order.note(|memory, _| memory.forget());
                    let (shared, handshake) = (transport.shared(), seen.handshake(revision));
                    return Ok(Rung::Stands(Dialed { transport, shared, handshake, next_id: FIRST_ID + 1 }));
                }
                Verdict::AskBy(other) if asked == 1 => revision = other,
                Verdict::AskAgain if asked == 1 => {}
                Verdict::AskBy(_) | Verdict::Foreign => return Err(Missed::UnknownRevision(seen.revisions())),
                Verdict::Nothing => {
                    return Err(failure.map_or_else(|| Missed::Ended(seen.words), Missed::Failed));
                }
                Verdict::AskAgain | Verdict::Legacy | Verdict::LegacyAnew => return Ok(Rung::Down(seen.words)),
            }
        }
    }

    /// Step B: streamable HTTP with a handshake.
    async fn streamable(&self) -> Result<Dialed, Missed> {
        let mut revision = Revision::NEWEST_LEGACY;
        loop {
            let transport = Arc::new(HttpTransport::new(self.peer()?));
            let sent = transport.post(&self.initialize(revision)).await.map_err(Missed::Failed)?;
            let shared = transport.shared();
            match self.settle(Way::Initialize, transport, shared, sent).await {
                // Each step down names an older revision, so this ends.
                Err(Missed::OtherRevision(other)) if other < revision => revision = other,
                settled => return settled,
            }
        }
    }

    /// Step C: the legacy pair.
    async fn sse(&self) -> Result<Dialed, Missed> {
        let mut revision = Revision::NEWEST_LEGACY;
        loop {
            let (transport, shared) = SseTransport::connect(self.peer()?).await.map_err(Missed::Failed)?;
            let sent = transport.post(self.initialize(revision)).await.map_err(Missed::Failed)?;
            match self.settle(Way::Pair, transport, shared, sent).await {
                Err(Missed::OtherRevision(other)) if other < revision => revision = other,
                settled => return settled,
            }
        }
    }

    /// Completes the legacy handshake over a transport that stands, or takes leave of the server.
    async fn settle(
        &self,
        way: Way,
        transport: Arc<dyn Transport>,
        mut shared: MessageStream,
        sent: Sent,
    ) -> Result<Dialed, Missed> {
        match handshake::finish(&*transport, &mut shared, sent, FIRST_ID).await {
            Ok(handshake) => {
                self.order.note(|memory, now| Memory::legacy(memory, way, now));
                Ok(Dialed { transport, shared, handshake, next_id: FIRST_ID + 1 })
            }
            Err(missed) => {
                transport.close(LEAVE_GRACE).await;
                Err(missed)
            }
        }
    }

    fn initialize(&self, revision: Revision) -> Outgoing {
        handshake::initialize(FIRST_ID, revision, &self.order.server.declared)
    }

    fn peer(&self) -> Result<Peer, Missed> {
        let server = self.order.server;
        let environment = self.order.environment;
        let secrets = server.secrets.iter().map(|secret| secret.expose().to_owned());
        let message_bytes = environment.limits.upstream_message_bytes;
        let bounds = Bounds { message_bytes, budget: environment.budget.clone() };
        let proxies = Proxies::of(&environment.inherited);
        let peer = Peer::new(self.http, (&proxies, server.tuning.connect_timeout), Scrubber::new(secrets), bounds)
            .map_err(Missed::Failed)?;
        let key = environment.signin.as_ref().and_then(|signin| signin.key(self.order.name, self.http));
        Ok(Peer { client: peer.client.with_key(key), ..peer })
    }

    /// Whether somebody may sign in to the server.
    pub(super) fn signs_in(&self) -> bool {
        self.order.environment.signin.as_ref().is_some_and(|signin| signin.key(self.order.name, self.http).is_some())
    }

    /// The whole attempt took too long.
    pub(super) fn too_slow(&self, limit: Duration) -> DialError {
        let (asked, hint) = if self.probing.load(Ordering::Relaxed) {
            ("server/discover", ", and if it is one of the older kind that hangs on this, set `era = \"legacy\"`")
        } else {
            ("initialize", "")
        };
        let text = format!(
            "no answer to `{asked}` from {} within {} s; if the server is only slow, raise `startup_timeout_sec` in \
             [mcp_servers.{}]{hint}",
            redact::url(self.http.url.as_str()),
            limit.as_secs_f64(),
            self.name()
        );
        DialError::new(DialErrorKind::Timeout, text)
    }
}

/// Asks `server/discover` and says what came of it.
async fn probe(transport: &ModernTransport, revision: Revision) -> (Observed, Option<Failure>) {
    let response = match transport.post(&discover::request(FIRST_ID, revision)).await {
        Ok(Sent::Reply(Message::Response(response))) => Ok(response),
        Ok(Sent::OnOwnStream(mut stream)) => handshake::answer(transport, &mut stream, FIRST_ID, &mut None).await,
        Ok(Sent::Reply(Message::Request(_) | Message::Notification(_)) | Sent::OnSharedStream) => {
            Err(Missed::Unreadable("answered with a message of its own".to_owned()))
        }
        Err(failure) => return (Observed::failure(&failure), Some(failure)),
    };
    match response {
        Ok(response) => (Observed::answer(&response), None),
        // A stream of an old server that does not answer what it does not know, or one that broke.
        Err(Missed::Ended(text) | Missed::Garbled(text) | Missed::Unreadable(text)) => {
            (Observed::other(Evidence::Malformed, text), None)
        }
        Err(_) => (Observed::other(Evidence::Malformed, "gave no answer to `server/discover`"), None),
    }
}

/// Whether a refusal is what a server of the other HTTP transport would give (mcp-protocol 4.6, step B): a 4xx that
/// speaks neither of credentials nor of load, or 501. What is no stream of events, at the GET, is one as well.
fn is_other_kind(missed: &Missed) -> bool {
    let Missed::Failed(failure) = missed else {
        return false;
    };
    match failure.seen {
        Seen::Status(status) => crate::era::says_something(status.as_u16()),
        Seen::Other => true,
        Seen::Unreachable | Seen::Tls | Seen::Setting => false,
    }
}
