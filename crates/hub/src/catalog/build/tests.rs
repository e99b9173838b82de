use trunkline_config::PinRule;
use trunkline_wire::Revision;

use super::*;
use crate::catalog::Pages;
use crate::fakes::{entries, server, source};

const SHAPE: Shape = Shape { name_chars: 48, page_size: None, bare_names: false, own_tools: false };

fn tools(bodies: &[&str]) -> Offer {
    Offer { tools: entries("name", bodies), ..Offer::default() }
}

/// All that a list holds.
fn whole(pages: &Pages) -> Json {
    let sealer = crate::seal::Sealer::new(&crate::Keep::nowhere().key);
    pages.asked(&Object::new(), &sealer, None).expect("a page")
}

fn list(catalog: &Catalog, list: List) -> String {
    let page = whole(catalog.page(list, Revision::V2025_11_25));
    String::from_utf8(page.as_bytes().to_vec()).expect("text")
}

#[test]
fn s15_a_tool_that_is_not_as_pinned_is_told_of_or_withheld_and_takes_no_name_from_others() {
    let of = |description: &str| {
        // Two names that differ in case alone: one gets a suffix.
        let bodies = ["get", "GET"].map(|name| {
            let description = if name == "get" { description } else { "other" };
            format!(r#"{{"name":"{name}","description":"{description}","inputSchema":{{}}}}"#)
        });
        Arc::new(tools(&[&bodies[0], &bodies[1]]))
    };
    for (rule, listed) in [(PinRule::Warn, 2), (PinRule::Block, 1), (PinRule::Off, 2)] {
        let pins = Pins::at(crate::pins::Place::Nowhere, trunkline_telemetry::Metrics::new());
        let mut server = server();
        server.expose.pin = rule;
        let (upstream, _) = source("git", server, Offer::default());
        let first = of_judged(1, &[(upstream.clone(), of("reads"))], SHAPE, &pins);
        let names: Vec<String> = first.tools().iter().map(|entry| entry.name.to_string()).collect();
        assert!(first.tools().len() == 2 && first.complaints("git").is_empty());
        let catalog = of_judged(2, &[(upstream, of("writes"))], SHAPE, &pins);
        assert_eq!(catalog.tools().len(), listed, "{rule:?}");
        assert!(catalog.tools.get(&names[1]).is_some_and(|entry| &*entry.original == "GET"), "{rule:?}");
        let withheld = catalog.tools.withheld(&names[0]).map(|tool| tool.why);
        assert_eq!(withheld, (rule == PinRule::Block).then_some(Why::Changed));
        assert_eq!(catalog.complaints("git").len(), usize::from(rule != PinRule::Off));
    }
}

#[test]
fn what_the_configuration_says_of_arguments_is_in_the_schema_and_what_is_not_there_is_told() {
    let rules = |tool: &str, fixed: &str| trunkline_config::ToolRules {
        tool: tool.into(),
        fixed: vec![(fixed.into(), Json::literal("1"))],
        ..Default::default()
    };
    let mut server = server();
    for (tool, fixed) in [("add", "a"), ("odd", "z"), ("gone", "a")] {
        server.expose.rules.insert(tool.to_owned(), Arc::new(rules(tool, fixed)));
    }
    let schema = r#""inputSchema":{"type":"object","properties":{"a":{},"b":{}},"required":["a","b"]}"#;
    let bodies = ["add", "odd", "sub"].map(|name| format!(r#"{{"name":"{name}",{schema}}}"#));
    let catalog = of_offers(1, &[source("x", server, tools(&bodies.each_ref().map(String::as_str)))], SHAPE);
    let shown = |name: &str| {
        let body = Object::parse(&catalog.tools.get(name).expect("listed").body).expect("an object");
        String::from_utf8(body.get("inputSchema").expect("a schema").as_bytes().to_vec()).expect("text")
    };
    assert_eq!(shown("x__add"), r#"{"type":"object","properties":{"b":{}},"required":["b"]}"#);
    assert_eq!(shown("x__sub"), r#"{"type":"object","properties":{"a":{},"b":{}},"required":["a","b"]}"#);
    let told: Vec<String> = catalog.complaints("x").iter().map(|it| format!("{} {}", it.what, it.why)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("tool `odd` has no arguments `z`"), "{told:?}");
    assert!(told[1].starts_with("tool `gone` is named in `tools`"), "{told:?}");
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
fn the_extensions_of_all_servers_are_told_once_with_the_settings_of_the_first() {
    // mcp-protocol 5.15.
    let offer = |text: &str| {
        let extensions = Object::parse(&Json::parse(text.to_owned()).expect("JSON")).expect("an object");
        Offer { extensions, ..Offer::default() }
    };
    let ui = r#"{"io.modelcontextprotocol/ui":{"mimeTypes":["x"],"n":1e2}}"#;
    let more = r#"{"io.modelcontextprotocol/ui":{},"io.modelcontextprotocol/tasks":{"own":1}}"#;
    let sources = [source("a", server(), offer(ui)), source("b", server(), offer(more))];
    let expected = r#"{"io.modelcontextprotocol/ui":{"mimeTypes":["x"],"n":1e2},"io.modelcontextprotocol/tasks":{}}"#;
    assert_eq!(of_offers(1, &sources, SHAPE).extensions.to_json(), Json::literal(expected));
    assert!(of_offers(1, &[source("a", server(), offer("{}"))], SHAPE).extensions.is_empty());
}

#[test]
fn a_tool_points_to_its_view_by_the_uri_that_clients_know() {
    // mcp-protocol 5.15: the first server keeps the URI, the other's is wrapped, and the rest of `_meta` is untouched.
    let offer = || Offer {
        resources: entries("uri", &[r#"{"uri":"ui://app/x","name":"x"}"#]),
        ..tools(&[
            r#"{"name":"a","inputSchema":{},"_meta":{"ui":{"csp":{"n":1.0},"resourceUri":"ui://app/x"},"v/k":1e2}}"#,
            r#"{"name":"b","inputSchema":{},"_meta":{"ui":{"resourceUri":"ui://app/unlisted"}}}"#,
        ])
    };
    let catalog = of_offers(1, &[source("one", server(), offer()), source("two", server(), offer())], SHAPE);
    let meta = |tool: &str| {
        let body = Object::parse(&catalog.tools.get(tool).expect("listed").body).expect("an object");
        body.get("_meta").cloned().expect("kept")
    };
    let own = r#"{"ui":{"csp":{"n":1.0},"resourceUri":"ui://app/x"},"v/k":1e2}"#;
    assert_eq!(meta("one__a"), Json::literal(own));
    let wrapped = r#"{"ui":{"csp":{"n":1.0},"resourceUri":"ui://two+app/x"},"v/k":1e2}"#;
    assert_eq!(meta("two__a"), Json::literal(wrapped));
    assert_eq!(meta("two__b"), Json::literal(r#"{"ui":{"resourceUri":"ui://app/unlisted"}}"#));
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
    tuned.expose.tools.not = vec!["b".to_owned()].into();
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
        assert!(once.lists_alike(&again, kind));
        assert_eq!(once.page(kind, Revision::V2024_11_05), again.page(kind, Revision::V2024_11_05));
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

#[test]
fn lists_are_alike_only_if_every_class_of_clients_sees_the_same() {
    let of = |bodies: &[&str]| of_offers(1, &[source("x", server(), tools(bodies))], SHAPE);
    let one = of(&[r#"{"name":"a","inputSchema":{},"outputSchema":{"type":"object"}}"#]);
    let other = of(&[r#"{"name":"a","inputSchema":{},"outputSchema":{"type":"object","x":1}}"#]);
    assert!(!one.lists_alike(&other, List::Tools) && one.lists_alike(&other, List::Prompts));
}

#[test]
fn g79_a_list_is_rendered_as_each_revision_knows_it() {
    let offer = tools(&[
        r#"{"name":"a","inputSchema":{}}"#,
        r#"{"name":"b","inputSchema":{},"outputSchema":{"type":"object"}}"#,
        r#"{"name":"c","inputSchema":{},"outputSchema":{"type":"array"}}"#,
        r#"{"name":"d","inputSchema":{},"outputSchema":null}"#,
    ]);
    let mut bare = server();
    bare.expose.prefix = Some(String::new());
    let catalog = of_offers(1, &[source("x", bare, offer)], SHAPE);
    let seen = |revision| {
        let page: serde_json::Value = whole(catalog.page(List::Tools, revision)).decode().expect("JSON");
        let tools = page["tools"].as_array().expect("tools");
        tools.iter().map(|tool| tool.get("outputSchema").map(ToString::to_string)).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    for old in [Revision::V2024_11_05, Revision::V2025_03_26] {
        assert_eq!(seen(old), [None, None, None, None]);
    }
    let wrapped = r#"{"properties":{"result":{"type":"array"}},"required":["result"],"type":"object"}"#;
    for middle in [Revision::V2025_06_18, Revision::V2025_11_25] {
        assert_eq!(seen(middle), [None, text(r#"{"type":"object"}"#), text(wrapped), None]);
    }
    assert_eq!(seen(Revision::V2026_07_28), [None, text(r#"{"type":"object"}"#), text(r#"{"type":"array"}"#), None]);
}

#[test]
fn nothing_is_rendered_before_it_is_asked_for_and_nothing_twice() {
    let catalog = of_offers(1, &[source("x", server(), tools(&[r#"{"name":"a","inputSchema":{}}"#]))], SHAPE);
    assert_eq!(catalog.book.rendered(), 0);
    for revision in Revision::ALL {
        catalog.page(List::Tools, revision);
    }
    assert_eq!(catalog.book.rendered(), 1, "nothing tells the classes apart here");
}
