use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::Json;

fn arguments(text: &'static str) -> Object {
    Object::parse(&Json::literal(text)).expect("an object")
}

fn header(name: &str, path: &[&str]) -> ParamHeader {
    ParamHeader { name: name.into(), path: path.iter().map(|key| (*key).into()).collect() }
}

/// A schema whose properties are these.
fn schema(properties: &str) -> Json {
    Json::trusted(format!(r#"{{"type":"object","properties":{properties}}}"#))
}

fn why(schema: &Json) -> &'static str {
    param_headers(schema).expect_err("not allowed").why
}

#[test]
fn a_value_that_a_header_can_carry_goes_as_it_is_and_all_others_between_markers() {
    assert_eq!(encode("a b/c?=ü".trim_end_matches('ü')), "a b/c?=");
    assert_eq!(encode("Köln"), "=?base64?S8O2bG4=?=");
    assert_eq!(encode(""), "=?base64??=");
    for marked in [" a", "a ", "a\tb", "a\nb", "=?base64?x?=", "=?base64?="] {
        assert!(encode(marked).starts_with("=?base64?"), "{marked:?}");
        assert_eq!(decode(encode(marked).as_bytes()).as_deref(), Ok(marked));
    }
}

#[test]
fn s19_only_exact_markers_are_read_as_such() {
    assert_eq!(decode(b" =?base64?S8O2bG4=?=\t").as_deref(), Ok("Köln"));
    assert_eq!((decode(b""), decode(b"=?base64??=")), (Ok(String::new()), Ok(String::new())));
    for literal in ["=?BASE64?S8O2bG4=?=", "=?base64?S8O2bG4=", "x=?base64??=", "=?base64?="] {
        assert_eq!(decode(literal.as_bytes()).as_deref(), Ok(literal));
    }
    for bad in [&b"=?base64?S8O2bG4?="[..], b"=?base64?***?=", b"=?base64?/w==?=", b"\xff"] {
        assert_eq!(decode(bad), Err(Undecodable));
    }
}

#[test]
fn annotated_arguments_are_found_on_the_way_through_properties_alone() {
    let found = param_headers(&schema(
        r#"{"region":{"type":"string","x-mcp-header":"Region"},"plain":{"type":"string"},
            "deep":{"type":"object","properties":{"n":{"x-mcp-header":"Count","type":"integer"}}},
            "x-mcp-header":{"type":"object","default":{"x-mcp-header":7}}}"#,
    ));
    let expected = vec![header("mcp-param-region", &["region"]), header("mcp-param-count", &["deep", "n"])];
    assert_eq!(found, Ok(expected));
    assert_eq!(param_headers(&Json::literal(r#"{"type":"object"}"#)), Ok(Vec::new()));
}

#[test]
fn each_rule_of_the_annotation_is_kept() {
    let of = |property: &str| schema(&format!(r#"{{"a":{property}}}"#));
    for kind in [r#""number""#, r#""object""#, r#"["string","null"]"#] {
        assert_eq!(
            why(&of(&format!(r#"{{"type":{kind},"x-mcp-header":"A"}}"#))),
            "on what is no string, integer or boolean"
        );
    }
    for name in [r#""""#, r#""a b""#, r#""ä""#, r#""a\n""#, "7"] {
        assert_eq!(why(&of(&format!(r#"{{"type":"string","x-mcp-header":{name}}}"#))), "that is no name of a header");
    }
    let twice = r#"{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}"#;
    assert_eq!(why(&schema(twice)), "that stands on another argument too");
    let annotation = r#"{"type":"string","x-mcp-header":"A"}"#;
    for elsewhere in [
        format!(r#"{{"type":"array","items":{annotation}}}"#),
        format!(r#"{{"anyOf":[{{"type":"object","properties":{{"b":{annotation}}}}}]}}"#),
        format!(r#"{{"if":{annotation}}}"#),
        format!(r#"{{"additionalProperties":{annotation}}}"#),
        format!(r#"{{"$defs":{{"b":{annotation}}}}}"#),
        r#"{"items":{"type":"string","x\u002dmcp-header":"A"}}"#.to_owned(),
    ] {
        assert_eq!(why(&of(&elsewhere)), "where no single argument is described", "{elsewhere}");
    }
    assert_eq!(why(&Json::literal(r#"{"type":"string","x-mcp-header":"A"}"#)), "where no single argument is described");
}

#[test]
fn what_is_not_allowed_is_taken_out_alone() {
    let found = annotated(&schema(
        r#"{"a":{"type":"string","x-mcp-header":"A"},"b":{"x-mcp-header":"a","type":"string"},
            "c":{"anyOf":[1,{"type":"string","x-mcp-header":"C","big":1e400}]}}"#,
    ));
    assert_eq!(found.headers, [header("mcp-param-a", &["a"])]);
    let cleaned = found.cleaned.expect("changed");
    let text = String::from_utf8_lossy(cleaned.as_bytes());
    assert!(text.contains(r#""a":{"type":"string","x-mcp-header":"A"}"#), "{text}");
    assert!(text.contains(r#""b":{"type":"string"},"c":{"anyOf":[1,{"type":"string","big":1e400}]}"#), "{text}");
    assert_eq!(param_headers(&cleaned), Ok(found.headers));
}

#[test]
fn arguments_are_written_by_their_own_kind() {
    let headers = ["s", "n", "w", "b", "u", "o", "none"].map(|key| header(key, &[key]));
    let given = arguments(r#"{"s":"Köln","n":42.0,"w":-7,"b":true,"u":null,"o":{}}"#);
    let values = param_values(&headers, &given);
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(values, [("s", "=?base64?S8O2bG4=?="), ("n", "42"), ("w", "-7"), ("b", "true")]);
    let deep = param_values(&[header("d", &["a", "b"])], &arguments(r#"{"a":{"b":"x"}}"#)).len();
    assert_eq!(deep, 1);
}

#[test]
fn s20_headers_must_say_what_the_arguments_say() {
    let headers = [header("mcp-param-n", &["n"])];
    let check = |given: &'static str, values: &'static [&'static [u8]]| {
        check_params(&headers, &arguments(given), |_| values.iter().copied())
    };
    assert_eq!(check(r#"{"n":42}"#, &[b" 42.0 "]), Ok(()));
    assert_eq!(check(r#"{"n":42}"#, &[b"42", b"42"]), Ok(()));
    assert_eq!(check(r#"{"n":""}"#, &[b""]), Ok(()));
    assert_eq!(check(r#"{"n":null}"#, &[b"1"]), Ok(()), "a header without argument is ignored");
    let name = || "mcp-param-n".into();
    assert_eq!(check(r#"{"n":42}"#, &[]), Err(Mismatch::Missing(name())));
    assert_eq!(check(r#"{"n":42}"#, &[b"42", b"43"]), Err(Mismatch::Repeated(name())));
    assert_eq!(check(r#"{"n":"a"}"#, &[b"A"]), Err(Mismatch::Different(name())));
    assert_eq!(check(r#"{"n":"042"}"#, &[b"42"]), Err(Mismatch::Different(name())), "text is no number");
    assert_eq!(check(r#"{"n":"a"}"#, &[b"=?base64?!?="]), Err(Mismatch::Undecodable(name())));
    // Neighbours beyond 2^53 are one and the same to a reader of floating numbers, but not here.
    assert_eq!(check(r#"{"n":9007199254740993}"#, &[b"9007199254740992"]), Err(Mismatch::Different(name())));
}

#[test]
fn each_method_that_is_about_one_thing_names_it() {
    assert_eq!(name_key(&Method::ToolsCall), Some("name"));
    assert_eq!(name_key(&Method::ResourcesRead), Some("uri"));
    assert_eq!(name_key(&Method::TasksUpdate), Some("taskId"));
    assert_eq!(name_key(&Method::ToolsList), None);
}

proptest! {
    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let value = encode(&text);
        prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value);
        prop_assert_eq!(decode(value.as_bytes()), Ok(text));
    }

    #[test]
    fn what_is_written_passes_the_check(
        given in proptest::collection::btree_map("[a-c]{1,2}", "[ -~\u{e9}\n]{0,8}", 0..6),
        numbers in proptest::collection::btree_map("[d-f]", any::<i64>(), 0..3),
    ) {
        let mut object: Object = given.iter().map(|(key, text)| (key.as_str(), Json::from(text.as_str()))).collect();
        for (key, number) in &numbers {
            object.set(key, Json::encode(number));
        }
        let headers: Vec<ParamHeader> = object.iter().map(|(key, _)| header(key, &[key])).collect();
        let sent: HashMap<&str, String> = param_values(&headers, &object).into_iter().collect();
        prop_assert_eq!(sent.len(), headers.len());
        let checked = check_params(&headers, &object, |name| sent.get(name).map(String::as_bytes));
        prop_assert_eq!(checked, Ok(()));
    }
}
