//! The official conformance suite, against the daemon in front of the suite's own fixture.
//!
//! `tests/conformance-expected.txt` lists the scenarios that may fail, each with the reason. One that passes
//! although it stands there fails this test: the list only ever shrinks.

use std::collections::BTreeMap;

use crate::harness::daemon::{Daemon, sources};
use crate::harness::parts;

/// Scenario and reason, of every line that is no comment.
fn expected() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(sources().join("tests/conformance-expected.txt")).expect("the list");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entries = lines.map(|line| {
        let (scenario, reason) = line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"));
        (scenario.to_owned(), reason.to_owned())
    });
    entries.collect()
}

/// The scenarios of a run: name, and whether nothing failed.
fn outcomes(report: &str) -> BTreeMap<String, bool> {
    let summary = report.split("=== SUMMARY ===").nth(1).unwrap_or_else(|| panic!("no summary in:\n{report}"));
    let lines = summary.lines().filter_map(|line| {
        let passed = line.starts_with('✓');
        let rest = line.strip_prefix(['✓', '✗'])?;
        Some((rest.trim().split_once(':')?.0.to_owned(), passed))
    });
    lines.collect()
}

#[tokio::test]
async fn the_official_suite_passes_but_for_what_is_listed() {
    let fixture = parts::conformance_fixture().await;
    let daemon =
        Daemon::start(&format!("[mcp_servers.fixture]\nurl = {:?}\nprefix = \"\"\nsampling = true\n", fixture.url))
            .await;
    daemon.until_ready(&["fixture"]).await;
    let (report, _) = parts::conformance(&daemon.url, &["--suite", "all"]).await;

    let expected = expected();
    let outcomes = outcomes(&report);
    assert!(outcomes.len() >= 30, "too few scenarios ran:\n{report}");
    for (scenario, passed) in &outcomes {
        match (passed, expected.get(scenario)) {
            (true, Some(reason)) => panic!("{scenario} passes now; take it off the list ({reason})"),
            (false, None) => panic!("{scenario} failed:\n{report}"),
            _ => {}
        }
    }
    for scenario in expected.keys() {
        assert!(outcomes.contains_key(scenario), "{scenario} is listed, but the suite has none of that name");
    }
}
