use super::*;
use crate::fakes::{entries, server, source};

fn offer(resources: &[&str], templates: &[&str]) -> Offer {
    let resources: Vec<String> = resources.iter().map(|uri| format!(r#"{{"uri":"{uri}","name":"n"}}"#)).collect();
    let templates: Vec<String> =
        templates.iter().map(|uri| format!(r#"{{"uriTemplate":"{uri}","name":"n"}}"#)).collect();
    let texts = |list: &[String], key| entries(key, &list.iter().map(String::as_str).collect::<Vec<_>>());
    Offer { resources: texts(&resources, "uri"), templates: texts(&templates, "uriTemplate"), ..Offer::default() }
}

/// The server and its own URI that `uri` leads to.
fn owner(sources: &[(Upstream, std::sync::Arc<Offer>)], seen: &Seen, uri: &str) -> Option<(String, String)> {
    let servers: Vec<Upstream> = sources.iter().map(|(upstream, _)| upstream.clone()).collect();
    let place =
        Resources::collect(sources.iter().map(|(upstream, offer)| (upstream, &**offer))).owner(uri, seen, &servers)?;
    Some((place.upstream.name().to_string(), place.uri.into()))
}

fn pair(server: &str, uri: &str) -> (String, String) {
    (server.to_owned(), uri.to_owned())
}

#[test]
fn the_owner_is_found_by_list_then_result_then_template_then_authority() {
    let sources = [
        source("a", server(), offer(&["x://h/1", "only://h/1"], &["t://{id}"])),
        source("b", server(), offer(&["x://h/2"], &["t://{id}/deep/{more}"])),
    ];
    let seen = Seen::default();
    seen.note("free:7", &ServerName::new("b").expect("a name"));
    let owner = |uri| owner(&sources, &seen, uri);
    assert_eq!(owner("x://h/2"), Some(pair("b", "x://h/2")));
    assert_eq!(owner("free:7"), Some(pair("b", "free:7")));
    assert_eq!(owner("t://1"), Some(pair("a", "t://1")));
    assert_eq!(owner("t://1/deep/2"), Some(pair("b", "t://1/deep/2")), "the closest template wins");
    assert_eq!(owner("only://h/unlisted"), Some(pair("a", "only://h/unlisted")));
    assert_eq!(owner("x://h/3"), None, "two servers share this authority, and none is tried");
    assert_eq!(owner("nothing"), None);
}

#[test]
fn a_uri_listed_twice_is_wrapped_for_the_second_server() {
    let sources = [
        source("a", server(), offer(&["f:///x"], &["f:///{p}"])),
        source("my_b", server(), offer(&["f:///x"], &["f:///{p}"])),
    ];
    let all = Resources::collect(sources.iter().map(|(upstream, offer)| (upstream, &**offer)));
    assert_eq!(all.entries[1], Json::literal(r#"{"uri":"my-b+f:///x","name":"n"}"#));
    assert_eq!(all.templates[1], Json::literal(r#"{"uriTemplate":"my-b+f:///{p}","name":"n"}"#));
    let seen = Seen::default();
    assert_eq!(owner(&sources, &seen, "f:///x"), Some(pair("a", "f:///x")));
    assert_eq!(owner(&sources, &seen, "my-b+f:///x"), Some(pair("my_b", "f:///x")));
    assert_eq!(owner(&sources, &seen, "my-b+f:///y"), Some(pair("my_b", "f:///y")));
    assert_eq!(all.published(sources[1].0.name(), "f:///x"), "my-b+f:///x");
    assert_eq!(all.published(sources[0].0.name(), "f:///x"), "f:///x");
}

#[test]
fn a_view_stays_a_view_when_its_uri_is_wrapped() {
    // mcp-protocol 5.15, 6.10.
    let sources = [
        source("a", server(), offer(&["ui://app/main"], &["ui://app/{p}"])),
        source("b", server(), offer(&["ui://app/main"], &["ui://app/{p}"])),
    ];
    let all = Resources::collect(sources.iter().map(|(upstream, offer)| (upstream, &**offer)));
    assert_eq!(all.published(sources[1].0.name(), "ui://app/main"), "ui://b+app/main");
    assert_eq!(all.templates[1], Json::literal(r#"{"uriTemplate":"ui://b+app/{p}","name":"n"}"#));
    let seen = Seen::default();
    assert_eq!(owner(&sources, &seen, "ui://b+app/main"), Some(pair("b", "ui://app/main")));
    assert_eq!(owner(&sources, &seen, "ui://b+app/other"), Some(pair("b", "ui://app/other")));
    assert_eq!(owner(&sources, &seen, "ui://app/other"), Some(pair("a", "ui://app/other")));
    let read = wrap_contents(&Json::literal(r#"{"contents":[{"uri":"ui://app/main","text":""}]}"#), "b+");
    assert_eq!(read, Json::literal(r#"{"contents":[{"uri":"ui://b+app/main","text":""}]}"#));
}

#[test]
fn contents_of_a_wrapped_resource_are_wrapped_too() {
    let result = Json::literal(r#"{"contents":[{"uri":"f:///x","text":"1","n":1e2}],"k":null}"#);
    assert_eq!(
        wrap_contents(&result, "b+"),
        Json::literal(r#"{"contents":[{"uri":"b+f:///x","text":"1","n":1e2}],"k":null}"#)
    );
    let odd = Json::literal(r#"{"contents":7}"#);
    assert_eq!(wrap_contents(&odd, "b+"), odd);
}

#[test]
fn results_tell_which_resources_they_mention() {
    let mut found = Vec::new();
    for result in [
        r#"{"content":[{"type":"resource_link","uri":"a:1"},{"type":"text","text":"x"},{"type":"new","uri":"no"}]}"#,
        r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:2","text":""}}}]}"#,
        r#"{"contents":[{"uri":"a:3","text":""}]}"#,
        r#"{"content":"\"uri\"","uri":7}"#,
    ] {
        mentioned(&Json::literal(result), |uri| found.push(uri.to_owned()));
    }
    assert_eq!(found, ["a:1", "a:2", "a:3"]);
}

#[test]
fn what_was_seen_is_bounded_and_the_first_to_show_it_keeps_it() {
    let seen = Seen::default();
    let name = |name| ServerName::new(name).expect("a name");
    seen.note("u:0", &name("a"));
    for at in 0..SEEN_URIS_MAX * 2 {
        seen.note(&format!("u:{at}"), &name("b"));
        seen.note("u:0", &name("b"));
    }
    assert_eq!(seen.get("u:0"), Some(name("a")));
    assert_eq!(seen.get("u:1"), None);
    let held = seen.0.lock().expect("no panic");
    assert!(held.young.len() + held.old.len() <= SEEN_URIS_MAX);
}

mod templates {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn s25_a_template_matches_what_it_expands_to(pieces in proptest::collection::vec("[a-c/]{0,3}", 1..5), value in "[a-z]{0,4}") {
            let template = pieces.join("{v}");
            let (upstream, _) = source("a", server(), Offer::default());
            let place = Place { upstream, uri: "".into(), head: None };
            let pattern = Pattern { literals: literals(&template), text: template.as_str().into(), place };
            prop_assert!(pattern.matches(&pieces.join(&value)));
        }
    }
}
