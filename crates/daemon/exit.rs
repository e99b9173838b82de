//! Exit codes and the one place that prints why the process ends (architecture 10).

use std::fmt;
use std::process::ExitCode;

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
