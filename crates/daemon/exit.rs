//! Exit codes and the one place that prints why the process ends (architecture 10).

use std::process::ExitCode;
use std::{fmt, io};

use crate::render;

/// Something failed.
pub(crate) const FAILED: u8 = 1;
/// The orderly stop hung, or the whole process.
const HUNG: i32 = 70;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The address or the state directory is taken.
pub(crate) const TAKEN: u8 = 75;
/// The configuration is wrong; a restart will not mend it.
pub(crate) const CONFIG: u8 = 78;

/// Why the process ends, and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub(crate) fn failed(text: String) -> Self {
        Self { code: FAILED, text }
    }

    pub(crate) fn usage(text: String) -> Self {
        Self { code: USAGE, text }
    }

    pub(crate) fn taken(text: String) -> Self {
        Self { code: TAKEN, text }
    }

    pub(crate) fn config(text: String) -> Self {
        Self { code: CONFIG, text }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Prints a failure and returns the exit code.
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("trunkline: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Prints the last word, and returns the exit code: a script that got half of it must not take it for the whole.
pub(crate) fn printed(text: &str, well: bool) -> ExitCode {
    match unwritten(render::put(text)) {
        Ok(()) if well => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(FAILED),
        Err(failure) => report(Err(failure)),
    }
}

/// What it means that standard output took no more. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn unwritten(put: io::Result<()>) -> Result<(), Failure> {
    match put {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the error's text followed by its causes'.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// How long the reason may take to be written: whoever reads standard error may be what hangs.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// Ends the process at once, without any clean-up: children notice by their life pipe.
///
/// `why` is written by a thread of its own, since the lock of standard error may be held by what hangs.
pub(crate) fn abort(why: &'static str) -> ! {
    let _ = std::thread::Builder::new().name("last-words".into()).spawn(move || eprintln!("trunkline: {why}"));
    std::thread::sleep(LAST_WORDS);
    std::process::exit(HUNG)
}
