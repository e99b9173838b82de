use super::*;
use crate::fakes::{entries, server, source};

const SHAPE: Shape = Shape { name_chars: 48, page_size: None };

fn tools(bodies: &[&str]) -> Offer {
    Offer { tools: entries("name", bodies), ..Offer::default() }
}

fn list(catalog: &Catalog, list: List) -> String {
    let page = catalog.page(list).asked(&Object::new()).expect("a page");
    String::from_utf8(page.as_bytes().to_vec()).expect("text")
}

#[test]
fn an_entry_keeps_its_text_but_for_name_and_title() {
    let body = r#"{"name":"get_issue","inputSchema":{"type":"object","x":1.0},"execution":{"taskSupport":"optional"},"annotations":{"readOnlyHint":true},"v/k":[1e2]}"#;
    let catalog = of_offers(1, &[source("linear", server(), tools(&[body]))], SHAPE);
    assert_eq!(
        list(&catalog, List::Tools),
        r#"{"tools":[{"name":"linear__get_issue","inputSchema":{"type":"object","x":1.0},"annotations":{"readOnlyHint":true},"v/k":[1e2],"title":"Linear: Get issue"}]}"#
    );
    let entry = catalog.tools.get("linear__get_issue").expect("listed");
    assert_eq!((entry.server().as_str(), &*entry.original), ("linear", "get_issue"));
}

#[test]
fn a_server_without_prefix_keeps_names_and_titles() {
    let mut bare = server();
    bare.expose.prefix = Some(String::new());
    let body = r#"{"name":"echo","title":"Echo it","inputSchema":{}}"#;
    let catalog = of_offers(1, &[source("suite", bare, tools(&[body]))], SHAPE);
    assert_eq!(list(&catalog, List::Tools), format!(r#"{{"tools":[{body}]}}"#));
}

#[test]
fn the_operator_hides_renames_and_describes() {
    let mut tuned = server();
    tuned.expose.disabled_tools = vec!["b".into()];
    tuned.expose.rename.insert("a".into(), "mine".into());
    tuned.expose.describe.insert("c".into(), "better".into());
    let offer = tools(&[
        r#"{"name":"a","inputSchema":{}}"#,
        r#"{"name":"b","inputSchema":{}}"#,
        r#"{"name":"c","description":"worse","inputSchema":{}}"#,
    ]);
    let catalog = of_offers(1, &[source("x", tuned, offer)], SHAPE);
    let names: Vec<&str> = catalog.tools().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["mine", "x__c"]);
    assert!(list(&catalog, List::Tools).contains(r#""description":"better""#));
}

#[test]
fn one_bad_tool_is_left_out_alone_and_complained_about() {
    let long = format!(r#"{{"name":"d","inputSchema":{{}},"description":"{}"}}"#, "x".repeat(DESCRIPTION_BYTES_MAX));
    let offer = tools(&[
        r#"{"name":"a","inputSchema":{}}"#,
        r#"{"name":"b"}"#,
        r#"{"name":"a","inputSchema":{"type":"object"}}"#,
        &long,
    ]);
    let catalog = of_offers(1, &[source("x", server(), offer)], SHAPE);
    assert_eq!(catalog.tools().len(), 1);
    let what: Vec<&str> = catalog.complaints("x").iter().map(|complaint| complaint.what.as_str()).collect();
    assert_eq!(what, ["tool `b`", "tool `a`", "tool `d`"]);
}

#[test]
fn the_order_is_that_of_the_configuration_and_the_text_repeats() {
    let sources = || {
        let prompts = Offer { prompts: entries("name", &[r#"{"name":"p"}"#]), ..Offer::default() };
        [source("z", server(), tools(&[r#"{"name":"a","inputSchema":{}}"#])), source("a", server(), prompts)]
    };
    let (once, again) = (of_offers(1, &sources(), SHAPE), of_offers(2, &sources(), SHAPE));
    for kind in List::ALL {
        assert_eq!(once.page(kind), again.page(kind));
    }
    assert_eq!(list(&once, List::Prompts), r#"{"prompts":[{"name":"a__p","title":"A: P"}]}"#);
    assert!(once.instructions.decode_str().expect("text").contains("z, a."));
}

#[test]
fn names_read_as_words() {
    for (name, words) in
        [("get_issue", "Get issue"), ("getIssue", "Get issue"), ("getURL", "Get URL"), ("a-b.c", "A b c")]
    {
        assert_eq!(in_words(name), words);
    }
    for (name, words) in [("linear", "Linear"), ("my-server", "My server"), ("GitHub", "GitHub"), ("__", "")] {
        assert_eq!(capitalised(name), words);
    }
}
