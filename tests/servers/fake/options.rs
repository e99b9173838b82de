//! The command line, and the faults by name.

use std::path::PathBuf;
use std::time::Duration;

use crate::probe::Probe;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Stdio,
    Http,
    Sse,
    /// Hidden: the descendant that `--family` leaves behind.
    Grandchild,
}

/// What goes wrong. Given by `--fault`, or at any time by the desk's file `fault` (which wins while it exists).
/// `NAME:N` limits an HTTP fault to the first N requests of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Exits with status 3 and a line on stderr before it reads anything (stdio).
    Exit,
    /// Reads, and never answers.
    Hang,
    /// Answers everything with text that is no JSON.
    Garbage,
    /// Writes 10 MiB to stderr, without a line end, before it serves (stdio).
    Loud,
    /// Answers HTTP requests with this status and a one-line body.
    Status(u16),
    /// 503 with `Retry-After: 1`.
    Busy,
    /// 401 with a `WWW-Authenticate` challenge.
    Unauthorized,
    /// 200 with an HTML page.
    Html,
    /// 200, `application/json`, nothing in it.
    Empty,
    /// 202 to everything, requests too.
    Swallow,
    /// Answers `tools/list` with an error, everything else well.
    NoTools,
}

impl Fault {
    pub(crate) fn named(name: &str) -> Result<(Fault, Option<u64>), String> {
        let (name, limit) = match name.split_once(':') {
            Some((name, limit)) => (name, Some(limit.parse().map_err(|_| format!("not a number: {limit}"))?)),
            None => (name, None),
        };
        let fault = match name {
            "exit" => Fault::Exit,
            "hang" => Fault::Hang,
            "garbage" => Fault::Garbage,
            "loud" => Fault::Loud,
            "busy" => Fault::Busy,
            "401" | "unauthorized" => Fault::Unauthorized,
            "html" => Fault::Html,
            "empty" => Fault::Empty,
            "swallow" => Fault::Swallow,
            "no-tools" => Fault::NoTools,
            other => match other.parse() {
                Ok(status) => Fault::Status(status),
                Err(_) => return Err(format!("no fault is named {other}")),
            },
        };
        Ok((fault, limit))
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is one switch of the command line")]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    /// `serverInfo.name`, and the authority of the resources' URIs, so that several can stand side by side.
    pub(crate) name: String,
    pub(crate) listen: String,
    /// The URL is written here once the socket listens (http, sse).
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) desk: Option<PathBuf>,
    pub(crate) fault: Option<(Fault, Option<u64>)>,
    /// How `server/discover` is met, if not as the revision has it.
    pub(crate) probe: Option<(Probe, Option<u64>)>,
    /// Waits this long before it serves: a launcher that fetches packages first.
    pub(crate) slow_start: Duration,
    /// Every `tools/call` waits this long.
    pub(crate) delay: Duration,
    /// Further plain tools `tool_0000`, ...
    pub(crate) tools: usize,
    /// Entries per page of every list; 0 is everything in one page.
    pub(crate) page: usize,
    /// The newest legacy revision it knows, or 2026-07-28 and no other.
    pub(crate) revision: String,
    /// Serves the legacy revisions beside 2026-07-28, by the claim of each request.
    pub(crate) dual: bool,
    /// Declares neither changes of lists nor subscriptions.
    pub(crate) no_changes: bool,
    /// Lists a tool whose `x-mcp-header` is invalid.
    pub(crate) bad_headers: bool,
    /// `ttlMs` of what may be cached.
    pub(crate) ttl_ms: u64,
    /// Answers requests as SSE even when nothing precedes the outcome (http).
    pub(crate) streams: bool,
    /// Puts event ids on answer streams, and keeps them for `Last-Event-ID` (http).
    pub(crate) resumable: bool,
    /// 405 to GET (http).
    pub(crate) no_get: bool,
    /// No `Mcp-Session-Id` (http).
    pub(crate) no_session: bool,
    /// Demands `Authorization: Bearer TOKEN`.
    pub(crate) bearer: Option<String>,
    /// Lists its tools in another order each time, and every other time the keys of `echo` too; its desk counts the times.
    pub(crate) unsteady: bool,
    /// Lists entries that are no valid tools among the good ones.
    pub(crate) bad_entries: bool,
    /// Starts a grandchild that left the group and ignores TERM.
    pub(crate) family: bool,
    /// Ignores that stdin closed, and TERM.
    pub(crate) stubborn: bool,
    pub(crate) threads: usize,
}

impl Options {
    pub(crate) fn from_args(args: impl IntoIterator<Item = String>) -> Result<Options, String> {
        let mut args = args.into_iter();
        let mode = match args.next().as_deref() {
            Some("stdio") => Mode::Stdio,
            Some("http") => Mode::Http,
            Some("sse") => Mode::Sse,
            Some("grandchild") => Mode::Grandchild,
            other => return Err(format!("the first argument is stdio, http or sse, not {other:?}")),
        };
        let mut options = Options {
            mode,
            name: "fake".into(),
            listen: "127.0.0.1:0".into(),
            ready_file: None,
            desk: None,
            fault: None,
            probe: None,
            slow_start: Duration::ZERO,
            delay: Duration::ZERO,
            tools: 0,
            page: 0,
            revision: "2025-11-25".into(),
            dual: false,
            no_changes: false,
            bad_headers: false,
            ttl_ms: 0,
            streams: false,
            resumable: false,
            no_get: false,
            no_session: false,
            bearer: None,
            unsteady: false,
            bad_entries: false,
            family: false,
            stubborn: false,
            threads: 2,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--name" => options.name = value()?,
                "--listen" => options.listen = value()?,
                "--ready-file" => options.ready_file = Some(value()?.into()),
                "--desk" => options.desk = Some(value()?.into()),
                "--fault" => options.fault = Some(Fault::named(&value()?)?),
                "--probe" => options.probe = Some(Probe::named(&value()?)?),
                "--ttl-ms" => options.ttl_ms = number(&value()?)?,
                "--dual" => options.dual = true,
                "--no-changes" => options.no_changes = true,
                "--bad-headers" => options.bad_headers = true,
                "--slow-start-ms" => options.slow_start = Duration::from_millis(number(&value()?)?),
                "--delay-ms" => options.delay = Duration::from_millis(number(&value()?)?),
                "--tools" => options.tools = usize::try_from(number(&value()?)?).map_err(|e| e.to_string())?,
                "--page" => options.page = usize::try_from(number(&value()?)?).map_err(|e| e.to_string())?,
                "--threads" => options.threads = usize::try_from(number(&value()?)?).map_err(|e| e.to_string())?,
                "--revision" => options.revision = value()?,
                "--bearer" => options.bearer = Some(value()?),
                "--streams" => options.streams = true,
                "--resumable" => options.resumable = true,
                "--no-get" => options.no_get = true,
                "--no-session" => options.no_session = true,
                "--unsteady" => options.unsteady = true,
                "--bad-entries" => options.bad_entries = true,
                "--family" => options.family = true,
                "--stubborn" => options.stubborn = true,
                other => return Err(format!("no option is named {other}")),
            }
        }
        if options.is_modern() && options.mode == Mode::Sse {
            return Err("HTTP+SSE has no revision 2026-07-28".into());
        }
        Ok(options)
    }

    pub(crate) fn is_modern(&self) -> bool {
        self.revision.as_str() >= crate::modern::REVISION
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}
