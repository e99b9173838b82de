//! The audit file: each call in a line, and nothing of what was said (S-31).

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::daemon::Home;
use crate::harness::fake;

#[tokio::test]
async fn s31_the_audit_file_has_each_call_and_no_argument_and_begins_anew_upon_sighup() {
    const CANARY: &str = "canary-0123456789";
    let home = Home::new();
    let (block, _) = fake::stdio(&home, "one", &[]);
    home.configure(&format!("[audit]\nfile = \"calls.jsonl\"\n\n{block}"));
    let (path, old) = (home.path("config/trunkline/calls.jsonl"), home.path("config/trunkline/calls.jsonl.1"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one"]).await;
    let client = daemon.client().await;
    client.call("one__echo", &format!(r#"{{"message":"{CANARY}"}}"#)).await;
    // Whoever moves the file sends the signal then, or asks for a reload.
    std::fs::rename(&path, &old).expect("there is a file from the start on");
    assert_eq!(daemon.cli(["reload"]).status.code(), Some(0));
    client.call("one__size", r#"{"bytes":70000}"#).await;
    let (_, home) = daemon.stop().await;
    for (path, tool) in [(&old, "one__echo"), (&path, "one__size")] {
        let text = std::fs::read_to_string(path).expect("written");
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one line of JSON");
        assert_eq!((&line["tool"], &line["server"], &line["outcome"]), (&tool.into(), &"one".into(), &"ok".into()));
        assert!(line["client"].as_str().is_some_and(|client| !client.is_empty()), "{line}");
        assert_eq!(std::fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!text.contains(CANARY), "{text}");
    }
    assert!(!home.log().contains(CANARY));
}
