//! Runs a program of the system, with bounds on what it may take and say: a login shell may wait for an answer, and leave
//! behind what holds its output open.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Most that is read of what a program says; a `PATH` or a status has a few kilobytes.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// How long its last words may take once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) well: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    /// Its complaint, in short.
    pub(super) fn complaint(&self) -> String {
        let text = if self.err.trim().is_empty() { &self.out } else { &self.err };
        crate::render::safe(text.trim())
    }
}

/// Runs a command to its end, or for `limit`.
pub(super) fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (out, err) = (Reading::of(child.stdout.take()), Reading::of(child.stderr.take()));
    let ended = wait(&mut child, limit)?;
    Ok(Ended { well: ended, out: out.said(), err: err.said() })
}

/// Whether it ended well. One that is late is ended, with what it started in a group of its own.
fn wait(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let mut left = limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if left.is_zero() {
            let _ = Pid::from_raw(child.id().cast_signed()).map(|group| kill_process_group(group, Signal::KILL));
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not end within {} s", limit.as_secs()),
            ));
        }
        thread::sleep(LOOK);
        left = left.saturating_sub(LOOK);
    }
}

/// What is read of a pipe, by a thread of its own: it ends with the pipe, and nobody waits for it.
#[derive(Default)]
struct Reading(Arc<Mutex<(Vec<u8>, bool)>>);

impl Reading {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let shared = Arc::new(Mutex::new((Vec::new(), pipe.is_none())));
        let theirs = Arc::clone(&shared);
        if let Some(pipe) = pipe {
            thread::spawn(move || {
                let (mut pipe, mut some) = (pipe.take(OUTPUT_BYTES_MAX), [0; 4096]);
                while let Ok(count @ 1..) = pipe.read(&mut some) {
                    theirs.lock().unwrap_or_else(PoisonError::into_inner).0.extend_from_slice(&some[..count]);
                }
                theirs.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            });
        }
        Self(shared)
    }

    fn said(&self) -> String {
        let mut left = LAST_WORDS;
        loop {
            {
                let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if read.1 || left.is_zero() {
                    return String::from_utf8_lossy(&read.0).into_owned();
                }
            }
            left = left.saturating_sub(LOOK);
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> io::Result<Ended> {
        run(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_is_said_and_how_it_ends_is_told() {
        let ended = shell("echo out; echo err >&2; exit 3", Duration::from_secs(10)).expect("it runs");
        assert_eq!((ended.well, ended.out.trim(), ended.err.trim()), (false, "out", "err"));
        assert_eq!(ended.complaint(), "err");
    }

    #[test]
    fn one_that_does_not_end_is_ended_and_one_that_leaves_somebody_behind_is_not_waited_for() {
        let late = shell("sleep 600", Duration::from_millis(200)).expect_err("too late");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let ended = shell("sleep 2 & echo here", Duration::from_secs(10)).expect("it runs");
        assert_eq!(ended.out.trim(), "here");
    }
}
