//! Tools whose definition changes after it was seen first (S-15, F-58).

use crate::harness::client::{Client, fault_of};
use crate::harness::daemon::{Daemon, Home};
use crate::harness::fake;

async fn has(client: &Client, tool: &str) -> bool {
    client.tools().await.iter().any(|name| name == tool)
}

fn printed(daemon: &Daemon, args: &[&str]) -> (Option<i32>, String) {
    let output = daemon.cli(args);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn s15_f58_a_description_that_changed_between_two_runs_is_told_of_withheld_and_taken_by_a_person() {
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &[]);
    let (two, _) = fake::stdio(&home, "two", &[]);
    home.configure(&format!("{one}pin = \"block\"\n\n{two}"));
    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    assert_eq!(printed(&daemon, &["pins"]).0, Some(0));
    let (_, home) = daemon.stop().await;

    for name in ["one", "two"] {
        std::fs::write(home.path(&format!("desk-{name}")).join("reworded"), "").expect("written");
    }
    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    let client = daemon.client().await;
    // What the servers list now takes a moment into the catalogue, which holds what they listed last.
    while daemon.metric("trunkline_tools_changed", &["one"]).await
        + daemon.metric("trunkline_tools_changed", &["two"]).await
        < 2.0
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    while has(&client, "one__region").await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(has(&client, "one__echo").await, "the others stay");
    assert!(has(&client, "two__region").await, "`warn` withholds nothing");
    let refused = client.call("one__region", "{}").await;
    assert_eq!(fault_of(&refused)["code"], -31008, "{refused}");
    let text = refused["content"][0]["text"].as_str().expect("text");
    assert!(text.contains("one__region") && text.contains("trunkline pins accept one"), "{text}");
    let warnings = daemon.health().await["warnings"].to_string();
    assert!(warnings.contains("`one`") && warnings.contains("`two`") && warnings.contains("withheld"), "{warnings}");

    let (code, shown) = printed(&daemon, &["pins", "diff", "one"]);
    assert_eq!(
        (code, shown.as_str()),
        (Some(1), "one: region\n  description\n    - Says where\n    + Says where, and to whom\n")
    );
    let (code, shown) = printed(&daemon, &["pins", "accept", "one"]);
    assert_eq!((code, shown.as_str()), (Some(0), "pinned 1 tool of one as listed now: region\n"));
    while !has(&client, "one__region").await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(client.call("one__region", "{}").await.get("isError").is_none());
    let (_, home) = daemon.stop().await;
    assert!(home.log().contains("Says where, and to whom"), "the log has the difference: {}", home.log());

    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    let (code, shown) = printed(&daemon, &["pins"]);
    assert_eq!(code, Some(1), "nobody has taken what two lists: {shown}");
    let rows: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert!(rows[1].starts_with("one") && rows[1].ends_with("as pinned"), "{shown}");
    assert!(rows[2].starts_with("two") && rows[2].ends_with("changed: region"), "{shown}");
    daemon.stop().await;
}
