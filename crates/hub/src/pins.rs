//! [`Pins`]: the definitions of tools as they were seen first, and what of a server differs from them now (S-15).
//!
//! What a person once looked at and allowed is a name with a description; a server that changes the second keeps the
//! permission. So the first definition of each tool is kept, in one file per server, and each offer is compared with it: at
//! every connection, and at every change of a list. The order of tools, and of keys in a schema, means nothing. A tool that
//! is new is pinned as it is seen, one that vanished stays pinned, and only a person takes a changed one
//! (`trunkline pins accept`). `pin` of the server says whether a changed tool is told of (`warn`) or withheld (`block`).
//!
//! Pins go by the server's name alone: another version, command or address under the same name is a change like any other.
//! A file that cannot be used counts as pins that were lost, here and in the processes to come, until a person has accepted
//! what there is: nobody gets a new first use by spoiling it. The file is written beside everything else; until it is,
//! a restart pins anew what was new to this process, and forgets nothing that was on disk.
//!
//! What stands here is asked for as often as the catalogue is built, and answered from memory where nothing changed.

mod book;
mod definition;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use trunkline_config::{Expose, PinRule, StateDir};
use trunkline_telemetry::redact::printable;
use trunkline_telemetry::{Metrics, Saver};
use trunkline_upstream::{Offer, Upstream};
use trunkline_wire::ServerName;

use crate::catalog::build::is_shown;
use crate::limits::{CHANGED_LOGGED_MAX, PINS_QUIET};
use book::{Book, Trust};
use definition::Definition;

pub use definition::Difference;

/// The directory of the files, below the state directory.
const DIRECTORY: &str = "pins";

/// The pins of all servers.
pub(crate) struct Pins {
    shared: Arc<Shared>,
    saver: Option<Saver>,
    metrics: Metrics,
}

struct Shared {
    place: Place,
    books: Mutex<HashMap<ServerName, Judged>>,
}

/// Where the files are.
#[derive(Clone)]
pub(crate) enum Place {
    /// Nowhere: pins end with the process.
    Nowhere,
    /// Here.
    In(StateDir),
    /// In a directory that cannot be used now.
    Closed,
}

/// The pins of a server, and what was said last by them.
struct Judged {
    book: Book,
    last: Option<Last>,
}

/// A verdict, and of what.
struct Last {
    offer: Arc<Offer>,
    expose: Expose,
    verdict: Arc<Verdict>,
}

/// What is not as it was pinned of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Such tools are withheld.
    pub blocks: bool,
    tools: BTreeMap<Box<str>, Why>,
}

/// Why a tool's definition does not count as pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is another.
    Changed,
    /// The pins of its server cannot be used.
    Lost,
    /// There are too many pins of its server already.
    Full,
}

/// How the tools of a server stand, for people.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// The server.
    pub server: String,
    /// What its configuration says.
    pub pin: PinRule,
    /// How many tools are pinned.
    pub pinned: usize,
    /// Whether the pins can be used at all.
    pub lost: bool,
    /// Tools whose definition is another than the pinned one, by the server's own names.
    pub changed: Vec<Changed>,
    /// Tools that are not pinned.
    pub unpinned: Vec<String>,
    /// Tools that are pinned, and that the server does not list.
    pub vanished: Vec<String>,
}

/// A tool whose definition is another than the pinned one.
#[derive(Debug, Serialize)]
pub struct Changed {
    /// Its name at the server.
    pub tool: String,
    /// In what the two differ.
    pub differences: Vec<Difference>,
}

/// How many tools of a server are not as they were pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The server.
    pub server: ServerName,
    /// How many.
    pub tools: usize,
    /// They are withheld.
    pub withheld: bool,
}

/// Why nothing was accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The server offers no such tool.
    #[error("the server lists no such tool; tools are named here as it names them itself")]
    NoSuchTool,
    /// Its pins cannot be read now. What is on disk may be sound, and is not to be written over.
    #[error(
        "the pins of server `{0}` cannot be read now, so nothing was accepted: the daemon's log says why; make the directory \
         `pins` of its state directory readable (`trunkline doctor` shows where that is), then accept once more"
    )]
    Unread(ServerName),
}

impl Why {
    /// The reason, as the rest of a sentence about the tool.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Changed => "its definition is not the one that was pinned",
            Self::Lost => "what was pinned of its server cannot be read any more",
            Self::Full => "more tools of its server were seen than can be pinned",
        }
    }
}

impl Verdict {
    /// Why a tool is not as it was pinned, by the server's own name of it; `None` if it is.
    pub(crate) fn of(&self, tool: &str) -> Option<Why> {
        self.tools.get(tool).copied()
    }
}

impl Pins {
    /// The pins that lie in the state directory `dir`.
    pub(crate) fn in_directory(dir: Option<&StateDir>, metrics: Metrics) -> Self {
        let place = match dir.map(|dir| dir.below(DIRECTORY)) {
            None => Place::Nowhere,
            Some(Ok(dir)) => Place::In(dir),
            Some(Err(error)) => {
                tracing::error!(%error, "the pins of tools cannot be used; servers with `pin = \"block\"` show no tools");
                Place::Closed
            }
        };
        Self::at(place, metrics)
    }

    pub(crate) fn at(place: Place, metrics: Metrics) -> Self {
        let shared = Arc::new(Shared { place, books: Mutex::default() });
        let saver = matches!(shared.place, Place::In(_)).then(|| {
            let shared = Arc::clone(&shared);
            Saver::new("pins", PINS_QUIET, metrics.clone(), move || shared.write())
        });
        Self { shared, saver, metrics }
    }

    /// Compares what a server offers with its pins, and pins what is new. `None` where nothing is pinned.
    pub(crate) fn judge(&self, upstream: &Upstream, offer: &Arc<Offer>) -> Option<Arc<Verdict>> {
        let (name, config) = (upstream.name(), upstream.config());
        if config.expose.pin == PinRule::Off {
            self.metrics.tools_changed(name, 0);
            return None;
        }
        let mut books = self.shared.books();
        let judged = self.shared.entry(&mut books, name);
        let is_read = judged.book.trust != Trust::Unread;
        let is_same = |last: &&Last| is_read && Arc::ptr_eq(&last.offer, offer) && last.expose == config.expose;
        if let Some(last) = judged.last.as_ref().filter(is_same) {
            return Some(Arc::clone(&last.verdict));
        }
        if judged.book.trust == Trust::Unread {
            judged.book = Book::load(&self.shared.place, name);
        }
        let mut verdict = Verdict { blocks: config.expose.pin == PinRule::Block, tools: BTreeMap::new() };
        let mut told = 0;
        for (tool, now) in shown(offer, &config.expose) {
            let Some(why) = judged.book.look(tool, &now) else { continue };
            verdict.tools.insert(tool.into(), why);
            let is_news = judged.last.as_ref().and_then(|last| last.verdict.of(tool)) != Some(why);
            if is_news && told < CHANGED_LOGGED_MAX {
                told += 1;
                tell(name, tool, why, judged.book.pin(tool), &now, verdict.blocks);
            }
        }
        self.metrics.tools_changed(name, verdict.tools.len());
        let verdict = Arc::new(verdict);
        let (offer, expose) = (Arc::clone(offer), config.expose.clone());
        judged.last = Some(Last { offer, expose, verdict: Arc::clone(&verdict) });
        let unsaved = judged.book.unsaved;
        drop(books);
        if unsaved {
            self.save();
        }
        Some(verdict)
    }

    /// Takes the definitions that a server offers for the pinned ones: of all its tools, or of the one that it calls
    /// `tool`. Returns the names of those that were not pinned so.
    pub(crate) fn accept(&self, upstream: &Upstream, tool: Option<&str>) -> Result<Vec<String>, NotAccepted> {
        let (offer, expose) = (upstream.offer(), upstream.config().expose.clone());
        let wanted: Vec<_> =
            shown(&offer, &expose).filter(|(name, _)| tool.is_none_or(|wanted| wanted == *name)).collect();
        if tool.is_some() && wanted.is_empty() {
            return Err(NotAccepted::NoSuchTool);
        }
        let taken = {
            let mut books = self.shared.books();
            let judged = self.shared.entry(&mut books, upstream.name());
            if judged.book.trust == Trust::Unread {
                judged.book = Book::load(&self.shared.place, upstream.name());
            }
            if judged.book.trust == Trust::Unread {
                return Err(NotAccepted::Unread(upstream.name().clone()));
            }
            judged.last = None;
            judged.book.accept(wanted, tool.is_none())
        };
        tracing::info!(server = %upstream.name(), tools = taken.len(), "definitions of tools were accepted");
        self.save();
        Ok(taken)
    }

    /// How the tools of a server stand.
    pub(crate) fn standing(&self, upstream: &Upstream) -> Standing {
        let (offer, config) = (upstream.offer(), upstream.config());
        let verdict = self.judge(upstream, &offer).unwrap_or_default();
        let mut books = self.shared.books();
        let book = &self.shared.entry(&mut books, upstream.name()).book;
        let mut standing = Standing {
            server: upstream.name().to_string(),
            pin: config.expose.pin,
            pinned: book.len(),
            lost: book.trust != Trust::Good,
            changed: Vec::new(),
            unpinned: Vec::new(),
            vanished: book.names().filter(|name| !offer.tools.iter().any(|tool| tool.name == *name)).collect(),
        };
        for (tool, now) in shown(&offer, &config.expose) {
            match (verdict.of(tool), book.pin(tool)) {
                (None, _) => {}
                (Some(_), Some(pin)) => {
                    standing.changed.push(Changed { tool: tool.to_owned(), differences: pin.differences(&now) });
                }
                (Some(_), None) => standing.unpinned.push(tool.to_owned()),
            }
        }
        standing
    }

    /// The servers with tools that are not as they were pinned, of these.
    pub(crate) fn drift(&self, upstreams: &[Upstream]) -> Vec<Drift> {
        let books = self.shared.books();
        let of = |upstream: &Upstream| {
            let config = upstream.config();
            let last = books.get(upstream.name())?.last.as_ref()?;
            let counts = config.enabled && config.expose.pin != PinRule::Off && !last.verdict.tools.is_empty();
            let (server, tools) = (upstream.name().clone(), last.verdict.tools.len());
            counts.then_some(Drift { server, tools, withheld: last.verdict.blocks })
        };
        upstreams.iter().filter_map(of).collect()
    }

    /// Waits until the pins are on disk, or were tried to be written once more.
    pub(crate) async fn settled(&self) {
        if let Some(saver) = &self.saver {
            saver.settled().await;
        }
    }

    fn save(&self) {
        if let Some(saver) = &self.saver {
            saver.changed();
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, HashMap<ServerName, Judged>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a server, read from its file the first time.
    fn entry<'a>(&self, books: &'a mut HashMap<ServerName, Judged>, name: &ServerName) -> &'a mut Judged {
        books.entry(name.clone()).or_insert_with(|| Judged { book: Book::load(&self.place, name), last: None })
    }

    /// Writes what is not on disk. What the disk does not take stays to be written.
    fn write(&self) -> io::Result<()> {
        let Place::In(dir) = &self.place else { return Ok(()) };
        let mut texts = Vec::new();
        for (name, judged) in self.books().iter_mut().filter(|(_, judged)| judged.book.unsaved) {
            judged.book.unsaved = false;
            texts.push((name.clone(), judged.book.encode(name)));
        }
        let mut failed = None;
        for (name, text) in texts {
            if let Err(error) = text.and_then(|text| dir.write(&book::file_of(&name), &text)) {
                failed = Some(error);
                if let Some(judged) = self.books().get_mut(&name) {
                    judged.book.unsaved = true;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pins").field("servers", &self.shared.books().len()).finish_non_exhaustive()
    }
}

/// The tools of an offer that clients may see, with their definitions. Of a name that is listed twice the first stays.
fn shown<'a>(offer: &'a Offer, expose: &'a Expose) -> impl Iterator<Item = (&'a str, Definition)> {
    let mut known = std::collections::HashSet::with_capacity(offer.tools.len());
    offer.tools.iter().filter_map(move |tool| {
        let wanted = is_shown(expose, tool) && known.insert(tool.name.as_str());
        // What is no definition at all, or too large for one, is withheld in any case.
        wanted.then(|| Definition::of(&tool.body)).flatten().map(|now| (tool.name.as_str(), now))
    })
}

/// Tells the log of a tool that is not as it was pinned. What was pinned and what is there now stand in it in excerpts;
/// they are text of a server's (S-17).
fn tell(server: &ServerName, tool: &str, why: Why, pin: Option<&Definition>, now: &Definition, blocks: bool) {
    let tool = printable(tool, 128);
    let what = if blocks { "withheld" } else { "shown all the same" };
    let differences = pin.map(|pin| pin.differences(now)).unwrap_or_default();
    let members: Vec<&str> = differences.iter().map(|difference| difference.member).collect();
    let (was, is) = differences.first().map(Difference::excerpts).unwrap_or_default();
    let members = members.join(", ");
    tracing::warn!(%server, tool, members, was, is, "tool {what}: {}; `trunkline pins diff` shows it whole", why.text());
}

#[cfg(test)]
mod tests;
