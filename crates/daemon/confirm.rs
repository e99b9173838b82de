//! Asks a person on the terminal before something is changed.

use std::io::{self, BufRead, IsTerminal as _, Write};

use crate::exit::Failure;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// How often somebody is asked whose answer is neither yes nor no.
const TRIES_MAX: usize = 3;

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
    let said = put(question, &mut io::stdin().lock(), &mut io::stdout());
    said.map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")))
}

/// Asks until there is an answer. What is neither yes nor no, three times, changes nothing: it is taken as no.
fn put(question: &str, person: &mut dyn BufRead, screen: &mut dyn Write) -> io::Result<bool> {
    for _ in 0..TRIES_MAX {
        write!(screen, "{question} [y/N] ")?;
        screen.flush()?;
        let mut answer = String::new();
        let read = io::Read::take(&mut *person, ANSWER_BYTES_MAX).read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" | "" => {
                if read == 0 {
                    // The line of the question was not ended by the person.
                    writeln!(screen)?;
                }
                return Ok(false);
            }
            _ => writeln!(screen, "`y` is yes, `n` is no.")?,
        }
    }
    writeln!(screen, "That was neither, so it is taken as no.")?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answers: &str) -> (bool, String) {
        let mut screen = Vec::new();
        let yes = put("Write it?", &mut answers.as_bytes(), &mut screen).expect("it is in memory");
        (yes, String::from_utf8(screen).expect("text"))
    }

    #[test]
    fn what_is_neither_yes_nor_no_is_asked_again_three_times_and_then_is_no() {
        assert_eq!(said("y\n"), (true, "Write it? [y/N] ".to_owned()));
        assert!(said("YES\n").0);
        for no in ["n\n", "No\n", "\n", ""] {
            let (yes, screen) = said(no);
            assert!(!yes && screen.matches("Write it?").count() == 1, "{no:?}: {screen}");
        }
        let (yes, screen) = said("yse\ny\n");
        assert!(yes && screen.contains("`y` is yes, `n` is no.\nWrite it? [y/N] "), "{screen}");
        let (yes, screen) = said("a\nb\nc\ny\n");
        assert!(!yes && screen.matches("Write it?").count() == 3, "{screen}");
        assert!(screen.ends_with("taken as no.\n"), "{screen}");
        let (yes, _) = said(&format!("{}y\ny\n", "x".repeat(2000)));
        assert!(yes, "an answer without end is no yes by its tail, and is asked again");
    }
}
