//! What `deploy/` offers for watching the daemon asks for series that it prints, with labels that they have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A daemon whose servers have been called, and the names of the series that it prints then.
async fn printed() -> (Daemon, BTreeSet<String>) {
    let home = Home::new();
    home.configure(&fake::stdio(&home, "one", &[]).0);
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    daemon.client().await.call("one__echo", r#"{"message":"x"}"#).await;
    let text = daemon.metrics().await;
    let names = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let mut names: BTreeSet<String> = names.map(str::to_owned).collect();
    // A counter that nothing was counted by has its description alone.
    names.extend(text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())));
    (daemon, names)
}

/// The names of our series, and of the process's, in a query.
fn names(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| word.starts_with("trunkline_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_alert_rules_ask_for_series_that_are_there() {
    let (_daemon, printed) = printed().await;
    let rules = text("prometheus/alerts.yml");
    let asked: BTreeSet<String> = rules.lines().filter(|line| !line.contains("description:")).flat_map(names).collect();
    assert!(asked.len() > 8, "{asked:?}");
    let missing: Vec<_> = asked.difference(&printed).collect();
    assert!(missing.is_empty(), "nobody prints {missing:?}");
    let alerts = rules.matches("- alert: ").count();
    for each in ["expr:", "severity:", "summary:", "description:"] {
        assert_eq!(rules.matches(each).count(), alerts, "each alert has its `{each}`");
    }
    let Ok(output) =
        std::process::Command::new("promtool").args(["check", "rules"]).arg(file("prometheus/alerts.yml")).output()
    else {
        return eprintln!("promtool is not here; what it would check stays unchecked");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn each_panel_of_the_board_asks_for_series_that_are_there() {
    let (_daemon, printed) = printed().await;
    let board: Value = serde_json::from_str(&text("grafana/trunkline.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "two panels have one number: {panel}");
        let targets = panel["targets"].as_array().expect("targets");
        for target in targets {
            let asked = names(target["expr"].as_str().expect("a query"));
            assert!(!asked.is_empty() && asked.is_subset(&printed), "{}: {asked:?}", panel["title"]);
        }
    }
    for variable in board["templating"]["list"].as_array().expect("variables") {
        let asked = names(variable["query"].as_str().expect("a query"));
        assert!(asked.is_subset(&printed), "{asked:?}");
    }
}

#[tokio::test]
async fn the_states_that_are_asked_for_are_states() {
    let known =
        ["starting", "handshake", "ready", "suspect", "probing", "backoff", "open", "needs_auth", "misconfigured"];
    for text in [text("prometheus/alerts.yml"), text("grafana/trunkline.json").replace("\\\"", "\"")] {
        for part in text.split("state=").skip(1) {
            let states = part.trim_start_matches('~').split('"').nth(1).expect("a value");
            assert!(states.split('|').all(|state| known.contains(&state)), "{states}");
        }
    }
}

#[test]
fn the_image_runs_as_somebody_who_is_not_root_and_gets_its_signals() {
    let text = text("docker/Dockerfile");
    let lines: Vec<&str> = text.lines().collect();
    let user = lines.iter().rposition(|line| line.starts_with("USER ")).expect("a user");
    assert!(lines.iter().rposition(|line| line.starts_with("RUN ")).is_some_and(|run| run < user));
    assert_ne!(lines[user], "USER root");
    // In this form there is no shell before it that would keep the signal.
    assert!(lines.contains(&"ENTRYPOINT [\"/usr/local/bin/trunkline\"]") && lines.contains(&"CMD [\"serve\"]"));
    let manifest = std::fs::read_to_string(file("../rust-toolchain.toml")).expect("the toolchain");
    let version = manifest.split('"').nth(1).expect("a version");
    let major = version.split('.').take(2).collect::<Vec<_>>().join(".");
    assert!(text.contains(&format!("FROM rust:{major}-")), "the image is built by {major}");
}
