//! Opening a process (mcp-protocol 4.1): `server/discover` first, and on the same process `initialize` after any other
//! answer, or after silence, for a launcher may still be busy. A process that ends on the probe, or answers neither, is
//! started again, once, and then sent `initialize` alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use trunkline_config::Stdio;
use trunkline_telemetry::redact;
use trunkline_wire::{Era, Response, Revision};

use super::words::answer_sentence;
use super::{FIRST_ID, NEWEST, Order};
use crate::discover::{self, Observed};
use crate::era::{Evidence, Memory, Verdict, Way, verdict};
use crate::error::{DialError, DialErrorKind};
use crate::handshake::{self, Handshake, Missed};
use crate::limits::{DISCOVER_TIMEOUT, LATER_START, LEAVE_GRACE};
use crate::transport::{Dialed, MessageStream, Outgoing, Transport, stdio};

/// A process that is being opened.
struct Child<'a> {
    order: Order<'a>,
    transport: Arc<dyn Transport>,
    shared: MessageStream,
    next_id: u64,
    limit: Duration,
    deadline: Instant,
    /// It was sent the probe, in whatever way that ended.
    probed: bool,
    /// How much the journal had of earlier starts.
    journal_before: u64,
}

/// Why a process could not be opened.
enum Failed {
    /// For good.
    Final(DialError),
    /// It may be one that cannot bear the probe.
    TryAgain(DialError),
}

/// How a process comes about: by its command, or as pipes in tests.
pub(crate) trait Start: Sync {
    fn start(&self) -> BoxFuture<'_, Started>;
}

pub(crate) type Started = Result<(Arc<dyn Transport>, MessageStream), DialError>;

/// Starts the configured command.
pub(super) struct Command<'a>(pub(super) Order<'a>, pub(super) &'a Stdio);

impl Start for Command<'_> {
    fn start(&self) -> BoxFuture<'_, Started> {
        Box::pin(stdio::start(self.0.name, self.1, &self.0.server.secrets, self.0.environment))
    }
}

/// Starts a process and opens it, within `limit`; a second start has a limit of its own.
pub(crate) async fn open(order: Order<'_>, process: &impl Start, limit: Duration) -> Result<Dialed, DialError> {
    let probe = order.server.era != Some(Era::Legacy) && order.shortcut().is_none();
    let child = Child::start(order, process, limit).await?;
    let error = match child.settle(probe).await {
        Ok(dialed) => return Ok(dialed),
        Err(Failed::Final(error)) => {
            // A guess that brought no handshake is not worth keeping.
            if error.kind == DialErrorKind::Exited && !probe {
                order.note(Memory::perhaps_legacy);
            }
            return Err(error);
        }
        Err(Failed::TryAgain(error)) => error,
    };
    tracing::info!(server = %order.name, reason = %error, "started again without the probe");
    let limit = order.server.tuning.startup_timeout.unwrap_or(LATER_START);
    let child = Child::start(order, process, limit).await?;
    match child.settle(false).await {
        Ok(dialed) => Ok(dialed),
        Err(Failed::Final(error) | Failed::TryAgain(error)) => {
            if error.kind == DialErrorKind::Exited {
                order.note(Memory::perhaps_legacy);
            }
            Err(error)
        }
    }
}

impl<'a> Child<'a> {
    async fn start(order: Order<'a>, process: &impl Start, limit: Duration) -> Result<Self, DialError> {
        let journal_before = order.environment.journal.stderr_read(order.name);
        let (transport, shared) = process.start().await?;
        // From here on: that an earlier daemon's processes had to end first is not the server's fault.
        let deadline = Instant::now() + limit;
        Ok(Self { order, transport, shared, next_id: FIRST_ID, limit, deadline, probed: false, journal_before })
    }

    /// Opens it, or ends it.
    async fn settle(mut self, probe: bool) -> Result<Dialed, Failed> {
        let opened = if probe { self.by_probe().await } else { self.by_handshake(None).await };
        match opened {
            Ok(handshake) => {
                let Self { transport, shared, next_id, .. } = self;
                Ok(Dialed { transport, shared, handshake, next_id })
            }
            Err(failed) => {
                self.transport.close(LEAVE_GRACE).await;
                Err(failed)
            }
        }
    }

    /// Asks by the modern form, and goes on as the answer suggests.
    async fn by_probe(&mut self) -> Result<Handshake, Failed> {
        self.probed = true;
        let must = self.order.server.era == Some(Era::Modern);
        let mut revision = NEWEST;
        let mut asked = 0;
        loop {
            asked += 1;
            let id = self.mint();
            let limit = if must { self.deadline } else { self.deadline.min(Instant::now() + DISCOVER_TIMEOUT) };
            let seen = self.discover(id, revision, limit).await;
            match verdict(&seen.evidence) {
                Verdict::Modern(revision) => return Ok(self.modern(&seen, revision)),
                Verdict::AskBy(other) if asked == 1 => revision = other,
                Verdict::AskAgain if asked == 1 => {}
                Verdict::AskBy(_) | Verdict::Foreign => {
                    return Err(self.missed(Missed::UnknownRevision(seen.revisions())));
                }
                _ if must && seen.evidence == Evidence::Silent => {
                    return Err(Failed::Final(self.too_slow("server/discover")));
                }
                Verdict::LegacyAnew => {
                    let error = DialError::new(
                        DialErrorKind::Exited,
                        format!("no answer to `server/discover`: {}", seen.words),
                    );
                    return Err(if must { Failed::Final(error) } else { Failed::TryAgain(error) });
                }
                _ if must => return Err(self.missed(Missed::NotModern(seen.words))),
                Verdict::Legacy | Verdict::AskAgain | Verdict::Nothing => {
                    let silent = (seen.evidence == Evidence::Silent).then_some(id);
                    return self.by_handshake(silent).await;
                }
            }
        }
    }

    /// Asks by `initialize`. `probe`: the id of the probe, if its answer may still come.
    async fn by_handshake(&mut self, probe: Option<u64>) -> Result<Handshake, Failed> {
        let mut revision = Revision::NEWEST_LEGACY;
        let mut late = None;
        loop {
            let id = self.mint();
            let deadline = self.deadline;
            let greeting = self.greet(id, revision, &mut late);
            let missed = match timeout_at(deadline, greeting).await {
                Ok(Ok(handshake)) => {
                    self.order.note(|memory, now| {
                        // A probe that was answered after all tells more than the haste of this start.
                        if late.is_some() { memory.forget() } else { memory.legacy(Way::Initialize, now) }
                    });
                    return Ok(handshake);
                }
                Ok(Err(Missed::OtherRevision(other))) if other < revision => {
                    revision = other;
                    continue;
                }
                Ok(Err(missed)) => Some(missed),
                Err(_elapsed) => None,
            };
            if let Some(response) = late.filter(|response| is(response, probe)) {
                let seen = Observed::answer(&response);
                if let Verdict::Modern(revision) = verdict(&seen.evidence) {
                    return Ok(self.modern(&seen, revision));
                }
            }
            return match missed {
                None if probe.is_some() => Err(Failed::TryAgain(self.too_slow("initialize"))),
                None => Err(Failed::Final(self.too_slow("initialize"))),
                Some(Missed::Ended(text)) => {
                    let error = DialError::new(DialErrorKind::Exited, format!("no answer to `initialize`: {text}"));
                    Err(if probe.is_some() { Failed::TryAgain(error) } else { Failed::Final(error) })
                }
                Some(missed) => self.after_refusal(missed).await,
            };
        }
    }

    /// A server that refuses `initialize` and was not asked by the modern form, or says that it is modern, is asked so.
    async fn after_refusal(&mut self, missed: Missed) -> Result<Handshake, Failed> {
        let answered = matches!(missed, Missed::Refused(..) | Missed::UnknownRevision(_) | Missed::Unreadable(_));
        let again = matches!(missed, Missed::ModernOnly(_)) || answered && !self.probed;
        if again && self.order.server.era.is_none() {
            self.order.note(|memory, _| memory.forget());
            let id = self.mint();
            let limit = self.deadline.min(Instant::now() + DISCOVER_TIMEOUT);
            let seen = self.discover(id, NEWEST, limit).await;
            if let Verdict::Modern(revision) = verdict(&seen.evidence) {
                return Ok(self.modern(&seen, revision));
            }
        }
        Err(self.missed(missed))
    }

    /// Sends the probe and says what came of it by `limit`.
    async fn discover(&mut self, id: u64, revision: Revision, limit: Instant) -> Observed {
        let mut other = None;
        let asked = self.ask(discover::request(id, revision), id, &mut other);
        match timeout_at(limit, asked).await {
            Ok(Ok(response)) => Observed::answer(&response),
            Ok(Err(Missed::Ended(text))) => Observed::other(Evidence::Exited, text),
            Ok(Err(Missed::Unsent(error))) => Observed::other(Evidence::Exited, error.text),
            Ok(Err(_)) => Observed::other(Evidence::Malformed, "answered `server/discover` with what cannot be read"),
            Err(_elapsed) => Observed::other(Evidence::Silent, "does not answer `server/discover`"),
        }
    }

    /// Sends `initialize` and completes the handshake.
    async fn greet(&mut self, id: u64, revision: Revision, other: &mut Option<Response>) -> Result<Handshake, Missed> {
        let initialize = handshake::initialize(id, revision, &self.order.server.declared);
        let response = self.ask(initialize, id, other).await?;
        handshake::complete(&*self.transport, response).await
    }

    async fn ask(&mut self, out: Outgoing, id: u64, other: &mut Option<Response>) -> Result<Response, Missed> {
        if let Err(error) = self.transport.send(out).await {
            // The child is gone already: its stream knows why.
            return Err(match self.shared.next().await {
                Some(Err(broken)) => Missed::Ended(broken.text),
                Some(Ok(_)) | None => Missed::Unsent(error),
            });
        }
        handshake::answer(&*self.transport, &mut self.shared, id, other).await
    }

    fn modern(&self, seen: &Observed, revision: Revision) -> Handshake {
        self.order.note(|memory, _| memory.forget());
        seen.handshake(revision)
    }

    fn mint(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn missed(&self, missed: Missed) -> Failed {
        Failed::Final(answer_sentence(missed, "the process", self.order.name))
    }

    fn too_slow(&self, asked: &str) -> DialError {
        let name = self.order.name;
        let journal = &self.order.environment.journal;
        let own = journal.stderr_read(name).saturating_sub(self.journal_before);
        let tail = journal.stderr_tail(name, usize::try_from(own).unwrap_or(usize::MAX));
        // The first line tells most: a usage text begins with what the program is.
        let noise = tail.lines().find_map(|line| line.trim().strip_prefix(stdio::NOT_A_MESSAGE));
        let why = match (noise, tail.lines().rev().find(|line| !line.trim().is_empty())) {
            // It is not slow: it speaks, and something else than MCP.
            (Some(noise), _) => {
                let noise = noise.split_once("): ").map_or(noise, |(_, line)| line);
                format!("it wrote to standard output what is no message of MCP: {}", redact::printable(noise, 300))
            }
            (None, said) => {
                let said = said
                    .map(|line| format!("; the last it wrote to stderr is: {}", redact::printable(line.trim(), 300)));
                format!(
                    "if it is only slow, as a launcher that downloads first is, raise `startup_timeout_sec` in \
                     [mcp_servers.{name}]{}",
                    said.unwrap_or_default()
                )
            }
        };
        let text = format!("started, but did not answer `{asked}` within {} s; {why}", self.limit.as_secs_f64());
        DialError::new(DialErrorKind::Timeout, text)
    }
}

fn is(response: &Response, id: Option<u64>) -> bool {
    id.is_some() && response.id.as_ref().and_then(trunkline_wire::Id::minted) == id
}

#[cfg(test)]
mod tests;
