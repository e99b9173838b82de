//! The official conformance suites, against the daemon in front of servers with what the suites expect.
//!
//! `tests/conformance-expected.txt` lists the scenarios of the released suite that may fail, each with the reason;
//! `tests/conformance-next-expected.txt` those of the suite that knows 2026-07-28, and `tests/conformance-client-expected.txt`
//! those in which the gateway is the client and signs in. A scenario that passes although it stands there fails its test: the
//! lists only ever shrink.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;

use crate::harness::daemon::{Daemon, sources};
use crate::harness::parts::{self, Service, Suite};

/// Scenario and reason, of every line that is no comment.
fn expected(list: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(sources().join("tests").join(list)).expect("the list");
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

/// Holds a run against its list; `least` is how many scenarios it has when none is left out.
fn hold(report: &str, expected: &BTreeMap<String, String>, least: usize) -> BTreeMap<String, bool> {
    let outcomes = outcomes(report);
    assert!(outcomes.len() >= least, "only {} scenarios ran:\n{report}", outcomes.len());
    for (scenario, passed) in &outcomes {
        match (passed, expected.get(scenario)) {
            (true, Some(reason)) => panic!("{scenario} passes now; take it off the list ({reason})"),
            (false, None) => panic!("{scenario} failed:\n{report}"),
            _ => {}
        }
    }
    outcomes
}

fn block(name: &str, server: &Service) -> String {
    format!("[mcp_servers.{name}]\nurl = {:?}\nprefix = \"\"\nsampling = true\n", server.url)
}

#[tokio::test]
async fn the_official_suite_passes_but_for_what_is_listed() {
    let fixture = parts::conformance_fixture().await;
    let daemon = Daemon::start(&block("fixture", &fixture)).await;
    daemon.until_ready(&["fixture"]).await;
    let expected = expected("conformance-expected.txt");
    let outcomes = hold(&Suite::Legacy.run(&daemon.url, &[]).await, &expected, 30);
    for scenario in expected.keys() {
        assert!(outcomes.contains_key(scenario), "{scenario} is listed, but the suite has none of that name");
    }
}

/// A legacy server and a modern one, which clients of every revision see as one.
#[tokio::test]
async fn the_suite_of_2026_07_28_passes_for_clients_of_every_revision_but_for_what_is_listed() {
    let (fixture, next) = (parts::conformance_fixture().await, parts::conformance_fixture_next().await);
    let daemon = Daemon::start(&(block("fixture", &fixture) + &block("next", &next))).await;
    daemon.until_ready(&["fixture", "next"]).await;
    let expected = expected("conformance-next-expected.txt");
    // Each scenario once, at the newest released revision that has it, those of extensions among them.
    let outcomes = hold(&Suite::Next.run(&daemon.url, &[]).await, &expected, 64);
    // What is common to the eras once more on the modern wire, and on an older legacy one.
    for (revision, least) in [("2026-07-28", 38), ("2025-06-18", 20)] {
        hold(&Suite::Next.run(&daemon.url, &["--spec-version", revision]).await, &expected, least);
    }
    for scenario in expected.keys() {
        assert!(outcomes.contains_key(scenario), "{scenario} is listed, but the suite has none of that name");
    }
}

/// Scenarios of signing in that run at a time: each is a server, a daemon and a handful of commands.
const SIGN_INS_AT_A_TIME: usize = 4;

#[tokio::test]
async fn s27_the_suites_scenarios_of_signing_in_pass_with_the_gateway_as_the_client_but_for_what_is_listed() {
    let expected = expected("conformance-client-expected.txt");
    let names = Suite::Next.client_scenarios("auth/").await;
    assert!(names.len() >= 33, "only {names:?}");
    for scenario in expected.keys() {
        assert!(names.contains(scenario), "{scenario} is listed, but the suite has none of that name");
    }
    let runs = names.into_iter().map(async |name| (Suite::Next.run_client(&name).await, name));
    let mut runs = futures_util::stream::iter(runs).buffer_unordered(SIGN_INS_AT_A_TIME);
    while let Some((report, name)) = runs.next().await {
        match (report.contains("OVERALL: PASSED"), expected.get(&name)) {
            (true, Some(reason)) => panic!("{name} passes now; take it off the list ({reason})"),
            (false, None) => panic!("{name} failed:\n{report}"),
            _ => {}
        }
    }
}
