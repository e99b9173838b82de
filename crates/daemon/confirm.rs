//! Asks a person on the terminal, once, before something is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::exit::Failure;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Whether somebody can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Whether the person says yes; an empty answer is none. Without a terminal nobody can be asked, and `instead` says what
/// would be needed.
pub(crate) fn ask(question: &str, instead: &str) -> Result<bool, Failure> {
    if !can_ask() {
        return Err(Failure::usage(format!("nobody can be asked here, so nothing was changed: {instead}")));
    }
    print!("{question} [y/N] ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let read = io::Read::take(io::stdin().lock(), ANSWER_BYTES_MAX).read_line(&mut answer);
    read.map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
