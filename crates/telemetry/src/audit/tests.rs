//! The audit file: what a line holds, who may read it, and what is told when there is no room.

use std::time::Duration;

use trunkline_wire::{ExposedName, ServerName};

use super::*;
use crate::{Ended, RecentCalls};

fn ended(outcome: &'static str) -> Ended {
    Ended {
        client: Some("codex#1\n\u{1b}".into()),
        token: Some("laptop".into()),
        server: ServerName::new("git").expect("a name"),
        tool: ExposedName::new("git__log").expect("a name"),
        outcome,
        lasted: Duration::from_micros(1500),
        sent_bytes: 10,
        received_bytes: 2000,
    }
}

/// Calls that go to `path`, and the audit that writes them.
fn audited(path: &Path, metrics: &Metrics) -> (RecentCalls, Audit) {
    let (calls, audit) = (RecentCalls::new(), Audit::start(metrics.clone()));
    audit.open(Some(path.to_owned()));
    calls.also_to(audit.clone());
    (calls, audit)
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn s31_a_line_says_who_called_what_and_how_it_ended_and_nothing_of_what_was_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("audit.jsonl");
    let (calls, audit) = audited(&path, &Metrics::new());
    calls.note(ended("ok"));
    calls.note(Ended { client: None, token: None, ..ended("fault") });
    audit.settled().await;
    let lines = lines(&path);
    let keys = |at: usize| lines[at].as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let all = ["client", "micros", "outcome", "received_bytes", "sent_bytes", "server", "time", "token", "tool"];
    assert_eq!(keys(0), all);
    assert_eq!(
        (&lines[0]["token"], &lines[0]["tool"], &lines[0]["outcome"]),
        (&"laptop".into(), &"git__log".into(), &"ok".into())
    );
    assert_eq!(
        (&lines[0]["micros"], &lines[0]["sent_bytes"], &lines[0]["received_bytes"]),
        (&1500.into(), &10.into(), &2000.into())
    );
    let time = lines[0]["time"].as_str().expect("text");
    assert!(time.len() == "2026-11-28T12:00:00.123Z".len() && time.contains('T') && time.ends_with('Z'), "{time}");
    assert_eq!((lines.len(), &lines[1]["outcome"]), (2, &"fault".into()));
    assert!(lines[1].get("client").is_none(), "the owner's own command");
    let mode = fs::metadata(&path).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(audit.trouble(), None);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew_when_it_is_opened_and_none_is_written_without_a_path() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (path, old) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
    fs::write(&path, "{\"earlier\":1}\n").expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
    let (calls, audit) = audited(&path, &Metrics::new());
    calls.note(ended("ok"));
    audit.settled().await;
    assert_eq!((lines(&path).len(), fs::metadata(&path).expect("there").permissions().mode() & 0o777), (2, 0o600));
    fs::rename(&path, &old).expect("moved");
    audit.open(Some(path.clone()));
    calls.note(ended("error"));
    audit.settled().await;
    assert_eq!((lines(&old).len(), lines(&path).len()), (2, 1));
    audit.open(None);
    calls.note(ended("ok"));
    audit.settled().await;
    assert_eq!((lines(&path).len(), calls.last()), (1, 3));
}

#[tokio::test]
async fn a_line_that_broke_off_spoils_no_other() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "{\"broken").expect("written");
    let (calls, audit) = audited(&path, &Metrics::new());
    calls.note(ended("ok"));
    audit.settled().await;
    let text = fs::read_to_string(&path).expect("there");
    let second: serde_json::Value = serde_json::from_str(text.lines().nth(1).expect("a second line")).expect("JSON");
    assert_eq!((text.lines().next(), &second["outcome"]), (Some("{\"broken"), &serde_json::json!("ok")));
}

#[tokio::test]
async fn calls_that_no_disk_takes_are_counted_told_of_and_keep_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (below, metrics) = (dir.path().join("later"), Metrics::new());
    let (calls, audit) = audited(&below.join("audit.jsonl"), &metrics);
    calls.note(ended("ok"));
    calls.note(ended("ok"));
    audit.settled().await;
    let trouble = audit.trouble().expect("nothing is written");
    assert!(trouble.contains("takes nothing now") && trouble.contains("2 calls"), "{trouble}");
    assert!(metrics.render().contains(r#"trunkline_audit_calls_total{outcome="failed"} 2"#));
    fs::create_dir(&below).expect("made");
    calls.note(ended("ok"));
    audit.settled().await;
    assert_eq!(lines(&below.join("audit.jsonl")).len(), 1);
    let trouble = audit.trouble().expect("a gap stays one");
    assert_eq!(trouble, "2 calls since the start are not in the audit file");
    // A link might lead anywhere.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(below.join("audit.jsonl"), &link).expect("made");
    audit.open(Some(link));
    audit.settled().await;
    assert!(audit.trouble().is_some_and(|trouble| trouble.contains("no regular file")));
}

#[tokio::test]
async fn a_queue_that_is_full_loses_calls_and_says_so() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let metrics = Metrics::new();
    let (calls, audit) = audited(&dir.path().join("audit.jsonl"), &metrics);
    // Nothing is written while this does not wait: the writer is a task of the same thread.
    for _ in 0..WAITING_MAX + 3 {
        calls.note(ended("ok"));
    }
    assert_eq!(audit.trouble().as_deref(), Some("3 calls since the start are not in the audit file"));
    audit.settled().await;
    assert_eq!(lines(&dir.path().join("audit.jsonl")).len(), WAITING_MAX);
    let shown = metrics.render();
    assert!(shown.contains(r#"trunkline_audit_calls_total{outcome="queue_full"} 3"#), "{shown}");
    assert!(shown.contains(&format!(r#"trunkline_audit_calls_total{{outcome="written"}} {WAITING_MAX}"#)));
}
