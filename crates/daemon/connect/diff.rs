//! What a change does to a file, line by line, as people know it from `diff -u`.
//!
//! Lines around a change are shown too, and a client's file holds keys: what looks like a secret is masked.

use std::fmt::Write as _;

use trunkline_telemetry::redact::Scrubber;

use super::entry::TOKEN;
use crate::render;

/// Lines shown around a change.
const AROUND: usize = 2;

/// Above this many pairs of lines the changed part is shown as one, gone and come.
const PAIRS_MAX: usize = 4_000_000;

/// Longest line that is shown whole: Claude Code may write its whole file into one.
const LINE_CHARS_MAX: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kept,
    Gone,
    Come,
}

/// The differing lines of two texts, with some around them; empty if there are none.
pub(super) fn diff(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let lines = aligned(&old, &new);
    let scrubber = Scrubber::default();
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        lines[from..(at + AROUND + 1).min(lines.len())].iter().any(|(kind, _)| *kind != Kind::Kept)
    };
    let secrets: Vec<&str> = [before, after].into_iter().flat_map(|text| after_flags(text, &scrubber)).collect();
    let mut out = String::new();
    let mut skipped = false;
    for (at, (kind, line)) in lines.iter().enumerate() {
        if !near(at) {
            skipped = true;
            continue;
        }
        if skipped && !out.is_empty() {
            out.push_str("  …\n");
        }
        skipped = false;
        let mark = match kind {
            Kind::Kept => ' ',
            Kind::Gone => '-',
            Kind::Come => '+',
        };
        let line = secrets.iter().fold((*line).to_owned(), |line, secret| line.replace(secret, "***"));
        let mut shown: String = line.chars().take(LINE_CHARS_MAX).collect();
        if shown.len() < line.len() {
            shown.push('…');
        }
        let _ = writeln!(out, "{mark} {}", render::safe(&scrubbed(&shown, &scrubber)).trim_end());
    }
    out
}

/// A line without its secrets. A header that only names the variable with our token is none, and says what is written.
fn scrubbed(line: &str, scrubber: &Scrubber) -> String {
    if names_our_token(line) { line.to_owned() } else { scrubber.scrub(line) }
}

/// Whether a line is nothing but the header that names the variable of our token, with the key of the headers or without.
fn names_our_token(line: &str) -> bool {
    const KEYS: [&str; 4] = ["headers", "http_headers", "Authorization", "authorization"];
    let references = [format!("Bearer ${{{TOKEN}}}"), format!("Bearer ${{env:{TOKEN}}}"), format!("Bearer ${TOKEN}")];
    let pieces: Vec<&str> = line.split('"').collect();
    let mut signs = pieces.iter().step_by(2).flat_map(|piece| piece.chars());
    let quoted: Vec<&str> = pieces.iter().skip(1).step_by(2).copied().collect();
    let Some((value, keys)) = quoted.split_last() else { return false };
    signs.all(|sign| sign.is_whitespace() || "{}:=,".contains(sign))
        && keys.iter().all(|key| KEYS.contains(key))
        && references.iter().any(|reference| reference == value)
}

/// The texts in quotes that follow a flag for a secret, wherever in a list of arguments that is.
fn after_flags<'a>(text: &'a str, scrubber: &Scrubber) -> Vec<&'a str> {
    let quoted = quoted(text);
    let is_secret = |flag: &str, value: &str| {
        let together = format!("{flag} {value}");
        flag.starts_with('-') && !value.is_empty() && scrubber.scrub(&together) != together
    };
    quoted.windows(2).filter(|pair| is_secret(pair[0], pair[1])).map(|pair| pair[1]).collect()
}

/// The texts between double quotes, as they stand there.
fn quoted(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('"') {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends || c == '\n'
        });
        let Some(end) = end else { break };
        out.push(&after[..end]);
        rest = &after[end + 1..];
    }
    out
}

/// Both texts as one list of lines, by their longest common subsequence.
fn aligned<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Kind, &'a str)> {
    let front = old.iter().zip(new).take_while(|(one, two)| one == two).count();
    let back = old[front..].iter().rev().zip(new[front..].iter().rev()).take_while(|(one, two)| one == two).count();
    let (old_middle, new_middle) = (&old[front..old.len() - back], &new[front..new.len() - back]);
    let mut out: Vec<(Kind, &str)> = old[..front].iter().map(|line| (Kind::Kept, *line)).collect();
    let (rows, columns) = (old_middle.len(), new_middle.len());
    if rows * columns > PAIRS_MAX {
        out.extend(old_middle.iter().map(|line| (Kind::Gone, *line)));
        out.extend(new_middle.iter().map(|line| (Kind::Come, *line)));
    } else {
        // `common[i][j]`: how many lines the rests from i and j on have in common.
        let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
        for i in (0..rows).rev() {
            for j in (0..columns).rev() {
                common[i][j] = if old_middle[i] == new_middle[j] {
                    common[i + 1][j + 1] + 1
                } else {
                    common[i + 1][j].max(common[i][j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < rows || j < columns {
            if i < rows && j < columns && old_middle[i] == new_middle[j] {
                out.push((Kind::Kept, old_middle[i]));
                (i, j) = (i + 1, j + 1);
            } else if i < rows && (j == columns || common[i + 1][j] >= common[i][j + 1]) {
                out.push((Kind::Gone, old_middle[i]));
                i += 1;
            } else {
                out.push((Kind::Come, new_middle[j]));
                j += 1;
            }
        }
    }
    out.extend(old[old.len() - back..].iter().map(|line| (Kind::Kept, *line)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_shown_with_their_neighbours_and_without_secrets() {
        let before = "a\nb\nc\nd\ne\nAPI_TOKEN = \"secret-0815\"\ng\nh\n";
        let after = "a\nb\nc\nd\ne\nAPI_TOKEN = \"secret-0815\"\nG\nh\ni\n";
        assert_eq!(diff(before, after), "  e\n  API_TOKEN = \"***\"\n- g\n+ G\n  h\n+ i\n");
        assert_eq!(diff("1\n2\n3\n4\n5\n6\n7\n8\n", "0\n1\n2\n3\n4\n5\n6\n7\n"), "+ 0\n  1\n  2\n  …\n  6\n  7\n- 8\n");
        assert_eq!(diff(before, before), "");
        assert_eq!(diff("", "x\n"), "+ x\n");
        let args =
            "\"args\": [\n\"git\",\n\"--api-key\",\n\"k0815secret\"\n]\n{\"args\":[\"--api-key\",\"k0815secret\"]}\n";
        let shown = diff("", args);
        assert!(!shown.contains("0815") && shown.contains("--api-key"), "{shown}");
        let reference = "\"Authorization\": \"Bearer ${TRUNKLINE_TOKEN}\"\n";
        assert_eq!(diff("", reference), format!("+ {reference}"), "a reference is no secret");
        let inline = "\"headers\": { \"Authorization\": \"Bearer ${env:TRUNKLINE_TOKEN}\" }\n";
        assert_eq!(diff("", inline), format!("+ {inline}"));
        for beside in [
            "\"Authorization\": \"Bearer k0815secret\"\n",
            "API_KEY=k0815secret \"a\": \"Bearer ${TRUNKLINE_TOKEN}\"\n",
        ] {
            let shown = diff("", beside);
            assert!(!shown.contains("0815"), "{shown}");
        }
    }
}
