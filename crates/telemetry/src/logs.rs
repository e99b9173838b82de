//! The log: one line per event on stderr, as text for people or JSON for machines.
//!
//! Whatever a line holds, it stays one line and shows no secret: it passes the scrubber and the escapes on
//! its way out, panics included (S-17, S-31). A cause that repeats itself is cut to ten lines a minute, and
//! the whole log to 1 MiB a minute; what is left out is counted in `trunkline_log_dropped_total`.
//!
//! A cause is a place in the code and the `server` it speaks of, so events about a server should have that
//! field. Below `INFO` nothing is collapsed: who asks for detail gets it, within the budget.
//!
//! There are no colours: the bytes that make them are the ones that S-17 bans.

mod throttle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};
use trunkline_wire::ServerName;

use crate::redact::{Scrubber, disturbs};
use throttle::{Budget, Repeats};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, target, message, fields.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Bytes of one line. A longer one says nothing more to anybody; foreign text is cut to 512 bytes per field
/// where it is logged (S-17).
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Servers whose looked-up secrets are held: more than anybody configures.
const LOOKED_UP_MAX: usize = 1024;

/// Targets that are never shown, at any level.
const SILENT: [&str; 2] = ["rmcp", "oauth2"];

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What the log masks. A static, because a subscriber is one per process and lives before any configuration.
static SCRUBBER: Mutex<Option<Arc<Scrubber>>> = Mutex::new(None);

/// What the scrubber was made of: the configuration's secrets, and by server those that its last start looked up.
static HIDDEN: Mutex<Hidden> = Mutex::new(Hidden { configured: Vec::new(), looked_up: BTreeMap::new() });

struct Hidden {
    configured: Vec<String>,
    looked_up: BTreeMap<ServerName, Vec<String>>,
}

/// The way to another level. A static for the same reason.
static LEVEL: OnceLock<FilterHandle> = OnceLock::new();

/// Changes which events are shown.
type FilterHandle = reload::Handle<EnvFilter, Registry>;

/// Starts the log of this process and sends panics through it. `level` is a level or a list of directives
/// (`info,trunkline_upstream=debug`); one that cannot be read counts as `info`.
///
/// Only the first call has an effect.
pub fn init(level: &str, format: Format) {
    let (subscriber, filter) = subscriber(level, format, Stderr);
    if subscriber.try_init().is_ok() {
        let _ = LEVEL.set(filter);
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Shows what this level says from now on. Without a log there is nothing to change.
pub fn set_level(level: &str) {
    if let Some(filter) = LEVEL.get() {
        // It fails only if the log is gone.
        let _ = filter.reload(filter_of(level));
    }
}

/// Has the log mask these secrets from now on, in place of those given before.
pub fn hide(secrets: impl IntoIterator<Item = String>) {
    let secrets = secrets.into_iter().collect();
    hide_anew(|hidden| hidden.configured = secrets);
}

/// Has the log mask what a server's start looked up, in place of what the start before it did.
pub fn hide_of(server: &ServerName, secrets: impl IntoIterator<Item = String>) {
    let secrets = secrets.into_iter().collect();
    hide_anew(|hidden| {
        if hidden.looked_up.len() >= LOOKED_UP_MAX {
            // Names that came and went with the configuration.
            hidden.looked_up.clear();
        }
        hidden.looked_up.insert(server.clone(), secrets);
    });
}

fn hide_anew(change: impl FnOnce(&mut Hidden)) {
    let mut hidden = HIDDEN.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut hidden);
    let all = hidden.configured.iter().chain(hidden.looked_up.values().flatten()).cloned();
    *SCRUBBER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Scrubber::new(all)));
}

/// Returns how many lines were collapsed or went over the budget.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn filter_of(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn subscriber<W>(level: &str, format: Format, out: W) -> (impl Subscriber + Send + Sync, FilterHandle)
where
    W: Write + Clone + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let sink = Sink { out, format, budget: Mutex::default() };
    let lines = match format {
        Format::Text => fmt::layer().with_ansi(false).with_writer(sink).boxed(),
        Format::Json => fmt::layer().json().with_writer(sink).boxed(),
    };
    (tracing_subscriber::registry().with(filter).with(Collapse::default()).with(lines), handle)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("a panic without a text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panic: {text}");
}

/// Lets at most ten events of one cause through in a minute.
#[derive(Debug, Default)]
struct Collapse(Mutex<Repeats>);

impl<S: Subscriber> Layer<S> for Collapse {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // The library that signs in writes codes and identifiers into its log (S-31). What went wrong is said by our own.
        if SILENT.iter().any(|target| metadata.target().starts_with(target)) {
            return false;
        }
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut cause = Cause(DefaultHasher::new());
        metadata.callsite().hash(&mut cause.0);
        event.record(&mut cause);
        let mut repeats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted(repeats.allow(cause.0.finish(), Instant::now()))
    }
}

/// Hashes what tells one cause from another at the same place in the code.
struct Cause(DefaultHasher);

impl Visit for Cause {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if matches!(field.name(), "server" | "task") {
            format!("{value:?}").hash(&mut self.0);
        }
    }
}

/// Where lines go: through the scrubber, the escapes and the budget.
struct Sink<W> {
    out: W,
    format: Format,
    budget: Mutex<Budget>,
}

impl<'a, W: Write + Clone + 'a> MakeWriter<'a> for Sink<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

/// Takes one whole line: the formatter writes each event at once.
struct Line<'a, W>(&'a Sink<W>);

impl<W: Write + Clone> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sink = self.0;
        let scrubber = SCRUBBER.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let mut shown = on_one_line(&scrubber.scrub(text.trim_end_matches('\n')), sink.format);
        shown.push('\n');
        let fits = shown.len() <= LINE_BYTES_MAX
            && sink.budget.lock().unwrap_or_else(PoisonError::into_inner).allow(shown.len(), Instant::now());
        if counted(fits) {
            // A closed stderr must not stop the gateway, and there is nobody left to tell.
            let _ = sink.out.clone().write_all(shown.as_bytes());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Escapes what would forge or disturb a line, so that JSON stays JSON.
fn on_one_line(text: &str, format: Format) -> String {
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match format {
            _ if !disturbs(c) => out.push(c),
            Format::Text => out.extend(c.escape_default()),
            // All that disturbs has at most four hex digits.
            Format::Json => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    out
}

fn counted(allowed: bool) -> bool {
    if !allowed {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
    allowed
}

#[derive(Debug, Clone, Copy)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, events: impl FnOnce()) -> Vec<String> {
        let out = Captured::default();
        tracing::subscriber::with_default(subscriber("debug", format, out.clone()).0, events);
        let text = String::from_utf8(out.0.lock().expect("no panic").clone()).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn s17_foreign_text_cannot_forge_a_line() {
        let hostile = "x\nERROR all lost\r\u{1b}[2J\u{2028}";
        let lines = logged(Format::Text, || tracing::info!(text = hostile, "hello\nworld"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains(disturbs), "{lines:?}");
        let lines = logged(Format::Json, || tracing::info!(text = hostile, "hello"));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("one JSON object");
        assert_eq!(line["fields"]["text"], hostile);
    }

    #[test]
    fn s31_secrets_do_not_reach_the_log() {
        hide(["correct-horse".to_owned()]);
        for format in [Format::Text, Format::Json] {
            let lines = logged(format, || tracing::warn!(header = "Bearer abcdefgh1", "sent correct-horse"));
            assert!(lines[0].contains("sent ***"), "{lines:?}");
            assert!(!lines[0].contains("abcdefgh1"), "{lines:?}");
        }
    }

    #[test]
    fn s31_the_library_that_signs_in_writes_no_line() {
        let lines = logged(Format::Text, || {
            tracing::debug!(target: "rmcp::transport::auth", "start exchange code for token: \"code\"");
            tracing::warn!(target: "oauth2", "as well");
            tracing::debug!("our own");
        });
        assert!(lines.len() == 1 && lines[0].contains("our own"), "{lines:?}");
    }

    #[test]
    fn r40_a_repeated_cause_is_cut_short_and_others_are_not() {
        let before = dropped();
        let lines = logged(Format::Text, || {
            for number in 0..30 {
                tracing::warn!(server = "git", number, "cannot connect");
                tracing::debug!(server = "git", number, "in detail");
            }
            tracing::warn!(server = "git", "another place");
        });
        let of = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((of("cannot connect"), of("in detail"), of("another place")), (10, 30, 1));
        assert!(dropped() >= before + 20);
    }

    /// F-43: a thousand servers, each failing as often as one can in a minute, with as much to say as is let through.
    #[test]
    fn r40_a_flood_of_many_causes_stays_within_a_mebibyte_and_is_counted() {
        let before = dropped();
        let lines = logged(Format::Json, || {
            for number in 0..20 {
                for server in 0..1000 {
                    tracing::warn!(server, number, "cannot connect: {}", "x".repeat(500));
                }
            }
        });
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        assert!((900 << 10..=1 << 20).contains(&bytes), "{bytes} bytes");
        assert!(dropped() >= before + 20_000 - lines.len() as u64);
    }

    #[test]
    fn two_servers_are_two_causes() {
        let lines = logged(Format::Text, || {
            for _ in 0..30 {
                for server in ["git", "web"] {
                    tracing::warn!(%server, "cannot connect");
                }
            }
        });
        assert_eq!(lines.len(), 20);
    }

    #[test]
    fn another_level_holds_from_the_next_event_on() {
        let out = Captured::default();
        let (subscriber, level) = subscriber("warn", Format::Text, out.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("too small");
            level.reload(filter_of("debug")).expect("the log is there");
            tracing::debug!("small enough");
        });
        let text = String::from_utf8_lossy(&out.0.lock().expect("no panic")).into_owned();
        assert!(text.contains("small enough") && !text.contains("too small"), "{text}");
    }

    #[test]
    fn a_level_that_cannot_be_read_counts_as_info() {
        let out = Captured::default();
        tracing::subscriber::with_default(subscriber("=,=", Format::Text, out.clone()).0, || {
            tracing::debug!("no");
            tracing::info!("yes");
        });
        assert_eq!(String::from_utf8_lossy(&out.0.lock().expect("no panic")).lines().count(), 1);
    }
}
