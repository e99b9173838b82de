//! [`Audit`]: who called which tool when, in a file, for whoever has to answer for it later.
//!
//! One line of JSON per call, appended: when it ended, with whose token and from which client, the server and the tool, how it
//! ended, how long it took, how large arguments and answer were. What was said is never in it (S-31). The file is the
//! owner's alone, and opened anew whenever the configuration is read, so that it can be moved away and SIGHUP begins the next.
//!
//! No call waits for it. Calls are noted in a bounded queue, one task writes them where waiting for a disk delays nobody, and
//! what has no room, in the queue or on the disk, is lost, counted, and told of until the next start: a trail with a gap must
//! say so.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use trunkline_wire::{Json, Object};

use crate::{Metrics, RecentCall, date, spawn};

/// Calls that wait to be written: some seconds of the busiest daemon, in half a mebibyte.
const WAITING_MAX: usize = 4096;

/// Calls that are written at once.
const BATCH_MAX: usize = 256;

/// Writes calls into a file. Cloning shares it; its task ends with the last.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    notes: mpsc::Sender<Note>,
    /// Where to, and how often that was said: each time the file is opened anew.
    path: watch::Sender<(u64, Option<PathBuf>)>,
    on: AtomicBool,
    gaps: Arc<Gaps>,
    metrics: Metrics,
}

enum Note {
    Call(RecentCall),
    Settle(oneshot::Sender<()>),
}

/// What is missing in the file.
#[derive(Debug, Default)]
struct Gaps {
    lost: AtomicU64,
    /// What the system said last, while it takes nothing.
    error: Mutex<Option<String>>,
}

impl Audit {
    /// Begins; nothing is written until there is a file.
    pub fn start(metrics: Metrics) -> Self {
        let (notes, queue) = mpsc::channel(WAITING_MAX);
        let (path, paths) = watch::channel((0, None));
        let gaps = Arc::new(Gaps::default());
        spawn("audit", run(queue, paths, Arc::clone(&gaps), metrics.clone()));
        Self(Arc::new(Handle { notes, path, on: AtomicBool::new(false), gaps, metrics }))
    }

    /// Writes to this file from now on, opened anew even if it is the same one; `None`: to none.
    pub fn open(&self, path: Option<PathBuf>) {
        self.0.on.store(path.is_some(), Ordering::Relaxed);
        self.0.path.send_modify(|(count, now)| (*count, *now) = (*count + 1, path));
    }

    /// Whether there is a file.
    pub(crate) fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }

    /// Notes a call. Waits for nothing.
    pub(crate) fn note(&self, call: RecentCall) {
        if self.0.notes.try_send(Note::Call(call)).is_err() {
            self.0.gaps.lost.fetch_add(1, Ordering::Relaxed);
            self.0.metrics.audited("queue_full", 1);
        }
    }

    /// What a person should know: that the file lacks calls, or takes none now. `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        let lost = self.0.gaps.lost.load(Ordering::Relaxed);
        let error = self.0.gaps.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let error = error.map(|error| format!("the audit file takes nothing now ({error})"));
        let lost = (lost > 0).then(|| format!("{lost} calls since the start are not in the audit file"));
        match (error, lost) {
            (Some(error), Some(lost)) => Some(format!("{error}, and {lost}")),
            (error, lost) => error.or(lost),
        }
    }

    /// Waits until what was noted so far is written, or lost.
    pub async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        if self.0.notes.send(Note::Settle(done)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

/// Writes what is noted, until nobody can note anything any more.
async fn run(
    mut queue: mpsc::Receiver<Note>,
    mut paths: watch::Receiver<(u64, Option<PathBuf>)>,
    gaps: Arc<Gaps>,
    metrics: Metrics,
) {
    let mut sink = Sink::default();
    let mut notes = Vec::with_capacity(BATCH_MAX);
    loop {
        let count = tokio::select! {
            biased;
            changed = paths.changed() => {
                if changed.is_err() {
                    return;
                }
                0
            }
            count = queue.recv_many(&mut notes, BATCH_MAX) => {
                if count == 0 {
                    return;
                }
                count
            }
        };
        if paths.has_changed().unwrap_or(false) || count == 0 {
            sink = Sink { path: paths.borrow_and_update().1.clone(), ..Sink::default() };
        }
        let (mut calls, mut waiting) = (Vec::with_capacity(count), Vec::new());
        for note in notes.drain(..) {
            match note {
                Note::Call(call) => calls.push(call),
                Note::Settle(done) => waiting.push(done),
            }
        }
        let amount = u64::try_from(calls.len()).unwrap_or(u64::MAX);
        let write = spawn_blocking(move || {
            let written = sink.write(&calls);
            (sink, written)
        });
        let written = match write.await {
            Ok((kept, written)) => {
                sink = kept;
                written
            }
            Err(error) => {
                sink = Sink { path: paths.borrow().1.clone(), file: None, torn: true };
                Err(io::Error::other(error))
            }
        };
        note_outcome(&sink, written, amount, &gaps, &metrics);
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn note_outcome(sink: &Sink, written: io::Result<()>, calls: u64, gaps: &Gaps, metrics: &Metrics) {
    let mut standing = gaps.error.lock().unwrap_or_else(PoisonError::into_inner);
    match written {
        Ok(()) => {
            if standing.take().is_some() {
                tracing::info!("the audit file takes calls again");
            }
            if sink.path.is_some() {
                metrics.audited("written", calls);
            }
        }
        Err(error) => {
            let text = error.to_string();
            if standing.as_ref() != Some(&text) {
                tracing::error!(error = text, "calls cannot be written into the audit file, and are not kept");
            }
            *standing = Some(text);
            gaps.lost.fetch_add(calls, Ordering::Relaxed);
            metrics.audited("failed", calls);
        }
    }
}

/// The file.
#[derive(Default)]
struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
    /// A write ended in the middle, perhaps of a line.
    torn: bool,
}

impl Sink {
    /// Writes these calls, and opens the file for that if need be. All of them are lost if that fails.
    fn write(&mut self, calls: &[RecentCall]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.file.is_none() {
            self.file = Some(open(path)?);
        }
        let mut text = if self.torn { b"\n".to_vec() } else { Vec::new() };
        for call in calls {
            text.extend_from_slice(line(call).as_bytes());
            text.push(b'\n');
        }
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&text));
        self.torn = written.is_err();
        if self.torn {
            self.file = None;
        }
        written
    }
}

/// Opens the file to append to it, readable by its owner alone. Through a link nothing is written.
fn open(path: &Path) -> io::Result<File> {
    let is_other = fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if is_other {
        return Err(io::Error::other(format!("{} is no regular file", path.display())));
    }
    let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(said)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(said)?;
    }
    // Whoever wrote last may have been interrupted: what comes next begins a line.
    let (length, mut last) = (file.metadata()?.len(), [b'\n']);
    if length > 0 {
        file.read_exact_at(&mut last, length - 1).map_err(said)?;
    }
    if last != *b"\n" {
        (&file).write_all(b"\n").map_err(said)?;
    }
    Ok(file)
}

/// A call as one line.
fn line(call: &RecentCall) -> Json {
    let RecentCall { number: _, at_unix_ms, client, token, server, tool, outcome, micros, sent_bytes, received_bytes } =
        call;
    let second = date(*at_unix_ms).replace(' ', "T");
    let time = format!("{}.{:03}Z", second.trim_end_matches('Z'), at_unix_ms % 1000);
    let whole = |count: usize| Json::from(u64::try_from(count).unwrap_or(u64::MAX));
    let mut members = Object::new();
    members.set("time", Json::from(time.as_str()));
    for (key, name) in [("token", token), ("client", client)] {
        if let Some(name) = name {
            members.set(key, Json::from(&**name));
        }
    }
    members.set("server", Json::from(server.as_str()));
    members.set("tool", Json::from(tool.as_str()));
    members.set("outcome", Json::from(*outcome));
    members.set("micros", Json::from(*micros));
    members.set("sent_bytes", whole(*sent_bytes));
    members.set("received_bytes", whole(*received_bytes));
    members.to_json()
}

#[cfg(test)]
mod tests;
