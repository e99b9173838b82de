//! Lists as servers send them, sound and otherwise.

use trunkline_wire::Revision;

use super::*;
use crate::fakes::{canned, canned_by};
use crate::transport::FaultPoint;

async fn fetched(answers: impl IntoIterator<Item = Result<&'static str, FaultPoint>>) -> (Lists, Capabilities) {
    let (link, _) = canned(r#"{"tools":{},"prompts":{}}"#, answers);
    let lists = Lists::fetch(&link, Kinds::ALL, &Lists::default(), Duration::from_secs(30)).await;
    (lists, link.capabilities)
}

#[tokio::test(start_paused = true)]
async fn a_page_that_failed_on_its_way_is_asked_for_again() {
    let prompts = Ok(r#"{"prompts":[]}"#);
    let tools = Ok(r#"{"tools":[{"name":"a","inputSchema":{}}]}"#);
    let (lists, _) = fetched([Err(FaultPoint::ServerFailed), prompts, Err(FaultPoint::LostUnanswered), tools]).await;
    assert_eq!((lists.failed(), lists.tools.entries.len()), (Kinds::default(), 1));
}

/// A list with one sound annotation and one that is none.
const ANNOTATED: &str = r#"{"tools":[
    {"name":"good","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}},
    {"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}]}"#;

async fn annotated(revision: Revision) -> Offer {
    let (link, _) = canned_by(revision, r#"{"tools":{}}"#, [Ok(ANNOTATED)]);
    let lists = Lists::fetch(&link, Kinds::ALL, &Lists::default(), Duration::from_secs(30)).await;
    lists.offer(&link)
}

#[tokio::test(start_paused = true)]
async fn s19_a_tool_with_a_bad_annotation_is_left_out_alone_where_arguments_go_into_headers() {
    let offer = annotated(Revision::V2026_07_28).await;
    let names: Vec<&str> = offer.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    assert_eq!(offer.complaints[0].what, "tool `bad`");
    assert!(offer.complaints[0].why.contains("`x-mcp-header` at `a`"), "{}", offer.complaints[0].why);
    assert_eq!(&*offer.mirrored["good"][0].name, "mcp-param-a");
}

#[tokio::test(start_paused = true)]
async fn elsewhere_the_bad_annotation_is_taken_out_and_the_tool_kept() {
    let offer = annotated(Revision::NEWEST_LEGACY).await;
    let texts: Vec<_> = offer.tools.iter().map(|tool| String::from_utf8_lossy(tool.body.as_bytes())).collect();
    assert!(texts[0].contains("x-mcp-header"), "a sound one stays: {}", texts[0]);
    assert!(texts[1].contains(r#""a":{"type":"number"}"#), "{}", texts[1]);
    assert!(offer.complaints.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_a_server_that_answers_no_list_at_all_is_in_doubt() {
    let lost = || Err(FaultPoint::NothingSent);
    let (none, declared) = fetched((0..6).map(|_| lost())).await;
    assert_eq!(none.unanswered(declared), Some("as told"));
    let (half, declared) = fetched([lost(), Ok(r#"{"prompts":[]}"#), lost(), lost()]).await;
    assert_eq!((half.failed(), half.unanswered(declared)), (Kinds::TOOLS, None));
    assert_eq!(none.unanswered(Capabilities::default()), None);
}

fn read(kind: Kind, pages: &[&str]) -> List {
    let mut reading = Reading::new(kind, false);
    for page in pages {
        reading.page(&Json::parse((*page).to_owned()).expect("JSON")).expect("a page");
    }
    reading.finish()
}

#[test]
fn a_bad_entry_is_left_out_alone() {
    let schema = format!(r#"{{"type":"object","x":"{}"}}"#, "x".repeat(SCHEMA_BYTES_MAX));
    let long = "d".repeat(DESCRIPTION_BYTES_MAX);
    let page = format!(
        r#"{{"tools":[7,{{"name":"a","inputSchema":{{}},"z":1.0}},{{"inputSchema":{{}}}},{{"name":"b"}},
        {{"name":"c","inputSchema":{schema}}},{{"name":"d","inputSchema":{{}},"description":"{long}"}},
        {{"name":"a","inputSchema":{{}}}},{{"name":"e","inputSchema":{{}}}}]}}"#
    );
    let list = read(TOOLS, &[&page]);
    let names: Vec<&str> = list.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "e"]);
    assert_eq!(list.entries[0].body, Json::literal(r#"{"name":"a","inputSchema":{},"z":1.0}"#));
    let about: Vec<&str> = list.complaints.iter().map(|complaint| complaint.what.as_str()).collect();
    assert_eq!(about, ["tool number 1", "tool number 3", "tool `b`", "tool `c`", "tool `d`", "tool `a`"]);
}

#[test]
fn an_empty_cursor_is_a_cursor_and_null_is_none() {
    let mut reading = Reading::new(RESOURCES, false);
    let next = |reading: &mut Reading, text| reading.page(&Json::literal(text)).expect("a page");
    assert_eq!(next(&mut reading, r#"{"resources":[],"nextCursor":""}"#), Some(Json::from("")));
    assert_eq!(next(&mut reading, r#"{"resources":[],"nextCursor":null}"#), None);
    assert_eq!(next(&mut reading, r#"{"resources":[{"uri":"a:b"}]}"#), None);
    assert!(reading.page(&Json::literal(r#"{"resources":{}}"#)).is_err());
    assert!(reading.page(&Json::literal(r#"{"tools":[]}"#)).is_err());
}

#[test]
fn s16_no_list_grows_beyond_its_bound() {
    let tools: Vec<String> =
        (0..TOOLS_MAX + 5).map(|number| format!(r#"{{"name":"t{number}","inputSchema":{{}}}}"#)).collect();
    let list = read(TOOLS, &[&format!(r#"{{"tools":[{}]}}"#, tools.join(","))]);
    assert_eq!((list.entries.len(), list.complaints.len()), (TOOLS_MAX, 1));
    let bad = vec!["7"; COMPLAINTS_MAX + 9].join(",");
    let list = read(PROMPTS, &[&format!(r#"{{"prompts":[{bad}]}}"#)]);
    assert_eq!(list.complaints.len(), COMPLAINTS_MAX + 1);
    assert_eq!(list.complaints[COMPLAINTS_MAX].why, "9 more entries were left out");
}
