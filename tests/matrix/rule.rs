//! Where something cannot be, and why: the one place that knows, and the page that says it to people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::features::{Feature, Outcome};
use super::{CLIENTS, SERVERS, Side};

/// What must come of a feature between two sides.
pub(crate) enum Expected {
    Works,
    /// By the daemon itself; the number of the reason.
    Answered(usize),
    /// The number of the reason.
    Refused(usize),
}

impl Expected {
    pub(crate) fn fits(&self, outcome: &Outcome) -> bool {
        match self {
            Expected::Works => *outcome == Outcome::Works,
            Expected::Answered(_) => *outcome == Outcome::Answered,
            Expected::Refused(_) => *outcome == Outcome::Refused,
        }
    }
}

/// Why something is refused, with the line of mcp-protocol 5.18 that it falls under.
const REASONS: [&str; 3] = [
    "Clients before 2025-06-18 cannot show a form. The server hears that the person cancelled, or that the client lacks \
     the capability, and its tool ends as it sees fit (mcp-protocol 5.18: an upstream that insists, and a client that \
     has nothing to ask with: the tool's own error).",
    "Clients before 2025-11-25 cannot send a person to a web page. The server hears that the person cancelled, or that \
     the client lacks the capability, and its tool ends as it sees fit (mcp-protocol 5.18, as before).",
    "A legacy server is told its roots once for all clients: those of the configuration, by the daemon (mcp-protocol \
     5.18: the roots of one client have no place at a shared upstream).",
];

pub(crate) fn expected(client: Side, server: Side, feature: Feature) -> Expected {
    use Feature::{Form, FormInPrompt, FormInRead, Roots, ThreeRounds, Url};
    if matches!(feature, Form | ThreeRounds | FormInPrompt | FormInRead) && client.revision < "2025-06-18" {
        Expected::Refused(0)
    } else if feature == Url && client.revision < "2025-11-25" {
        Expected::Refused(1)
    } else if feature == Roots && server.revision < "2026-07-28" {
        Expected::Answered(2)
    } else {
        Expected::Works
    }
}

/// docs/matrix.md.
pub(crate) fn page() -> String {
    let mut page = "# Which client gets what from which server\n\n\
        Clients of five revisions in front of the daemon, servers of five behind it, over every transport that a \
        revision has. `tests/matrix.rs` runs each pair through each feature, holds the outcome against this page, and \
        writes it (`MATRIX_WRITE=1 cargo test --test blackbox matrix`).\n\n\
        A cell counts the features that the server has and the client gets. Where they are not all, it says which \
        are not, and which are there in another way, with the number of the reason.\n\n"
        .to_owned();
    let mut columns: BTreeMap<&str, Vec<Side>> = BTreeMap::new();
    for server in SERVERS {
        columns.entry(server.revision).or_default().push(server);
    }
    page += "| client \\ server |";
    for (revision, sides) in &columns {
        let transports: Vec<&str> = sides.iter().map(|side| side.transport).collect();
        let _ = write!(page, " {revision} ({}) |", transports.join(", "));
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(columns.len()));
    for client in CLIENTS {
        let _ = write!(page, "| {} ({}) |", client.revision, client.transport);
        for sides in columns.values() {
            let mut cells: Vec<String> = sides.iter().map(|server| cell(client, *server)).collect();
            cells.dedup();
            let _ = write!(page, " {} |", cells.join("; "));
        }
        page.push('\n');
    }
    page += "\n## The features\n\n| feature | servers have it since |\n|---|---|\n";
    for feature in Feature::ALL {
        let _ = writeln!(page, "| {} | {} |", feature.name(), feature.since());
    }
    page += "\n## Why not\n\n";
    for (number, reason) in REASONS.iter().enumerate() {
        let _ = writeln!(page, "{}. {reason}", number + 1);
    }
    page
}

fn cell(client: Side, server: Side) -> String {
    let there = Feature::ALL.into_iter().filter(|feature| feature.since() <= server.revision);
    let (mut all, mut works) = (0, 0);
    let (mut answered, mut missing): (Notes, Notes) = (Notes::new(), Notes::new());
    for feature in there {
        all += 1;
        match expected(client, server, feature) {
            Expected::Works => works += 1,
            Expected::Answered(reason) => {
                works += 1;
                answered.entry(reason).or_default().push(feature.name());
            }
            Expected::Refused(reason) => missing.entry(reason).or_default().push(feature.name()),
        }
    }
    let mut cell = if works == all { format!("all {all}") } else { format!("{works} of {all}") };
    for (word, notes) in [("with", answered), ("without", missing)] {
        for (reason, names) in notes {
            let _ = write!(cell, ", {word} {} [{}]", names.join(", "), reason + 1);
        }
    }
    cell
}

/// Features by the number of the reason.
type Notes = BTreeMap<usize, Vec<&'static str>>;
