use proptest::prelude::*;

use super::*;

use Revision::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28};

fn shaped(from: Revision, to: Revision, method: &Method, text: &str, output: Output) -> String {
    let json = Json::parse(text.to_owned()).expect("JSON");
    let shaped = result(Crossing { from, to }, method, json, || output);
    String::from_utf8(shaped.as_bytes().to_vec()).expect("text")
}

fn called(from: Revision, to: Revision, text: &str) -> String {
    shaped(from, to, &Method::ToolsCall, text, Output::Object)
}

#[test]
fn what_needs_no_change_keeps_its_bytes() {
    let odd = r#"{ "content" : [ {"type":"text","text":"\u0041 resultType audio"} ],"n":1.50e1,"structuredContent":{"a":1} }"#;
    for from in Revision::ALL {
        for to in [V2025_06_18, V2025_11_25, V2026_07_28] {
            assert_eq!(called(from, to, odd), odd, "{from} to {to}");
        }
    }
    // The words stand there, but not in the place that counts.
    let quoted = r#"{ "content":[{"type":"text","text":"\"audio\" \"resource_link\" \"structuredContent\""}],"x":{"structuredContent":7,"resultType":1,"a":{"type":"audio"}} }"#;
    for to in Revision::ALL {
        assert_eq!(called(V2026_07_28, to, quoted), quoted, "{to}");
    }
    let twice = r#"{"resultType":"complete","resultType":"complete"}"#;
    assert_eq!(called(V2026_07_28, V2025_11_25, twice), twice, "not ours to judge");
}

#[test]
fn g49_no_stamp_of_the_modern_era_reaches_a_session() {
    let stamped = r#"{"resultType":"complete","content":[],"ttlMs":5,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"},"a.b/c":1},"v":1.0}"#;
    for to in [V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25] {
        for method in [Method::ToolsCall, Method::PromptsGet, Method::ResourcesRead, Method::CompletionComplete] {
            let seen = shaped(V2026_07_28, to, &method, stamped, Output::Absent);
            assert_eq!(seen, r#"{"content":[],"_meta":{"a.b/c":1},"v":1.0}"#);
        }
    }
    assert_eq!(called(V2026_07_28, V2026_07_28, stamped), stamped);
    let alone = r#"{"content":[],"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#;
    assert_eq!(called(V2026_07_28, V2025_11_25, alone), r#"{"content":[]}"#);
}

#[test]
fn a_legacy_server_cannot_pose_as_one_that_asks() {
    let posing = r#"{"resultType":"input_required","inputRequests":{},"requestState":"x","content":[],"ttlMs":5}"#;
    let plain = r#"{"inputRequests":{},"requestState":"x","content":[],"ttlMs":5}"#;
    assert_eq!(called(V2025_11_25, V2026_07_28, posing), plain);
    assert_eq!(called(V2025_11_25, V2025_06_18, posing), posing, "which means nothing to a session");
}

#[test]
fn the_task_that_a_result_came_from_is_nobodys_business() {
    let related = r#"{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"1"}}}"#;
    for to in Revision::ALL {
        assert_eq!(called(V2025_11_25, to, related), r#"{"content":[]}"#, "{to}");
    }
}

#[test]
fn content_that_a_revision_does_not_know_becomes_text() {
    let text = r#"{"content":[{"type":"audio","data":"AAAA","mimeType":"audio/wav","annotations":{"priority":1}},{"type":"resource_link","uri":"file:///a","name":"a","title":"A","description":"the first","mimeType":"text/plain","size":3},{"type":"image","data":"","mimeType":"x"}]}"#;
    let audio = r#"{"type":"text","annotations":{"priority":1},"text":"[audio audio/wav, 3 bytes omitted]"}"#;
    let link = r#"{"type":"text","text":"[resource a, file:///a, the first]"}"#;
    let image = r#"{"type":"image","data":"","mimeType":"x"}"#;
    let kept = r#"{"type":"audio","data":"AAAA","mimeType":"audio/wav","annotations":{"priority":1}}"#;
    for from in Revision::ALL {
        assert_eq!(called(from, V2024_11_05, text), format!(r#"{{"content":[{audio},{link},{image}]}}"#));
        assert_eq!(called(from, V2025_03_26, text), format!(r#"{{"content":[{kept},{link},{image}]}}"#));
        for to in [V2025_06_18, V2025_11_25, V2026_07_28] {
            assert_eq!(called(from, to, text), text);
        }
    }
    let prompt = format!(r#"{{"description":"d","messages":[{{"role":"user","content":{kept},"x":1.0}}]}}"#);
    let seen = shaped(V2025_11_25, V2024_11_05, &Method::PromptsGet, &prompt, Output::Absent);
    let expected = format!(r#"{{"description":"d","messages":[{{"role":"user","content":{audio},"x":1.0}}]}}"#);
    assert_eq!(seen, expected);
    assert_eq!(shaped(V2025_11_25, V2025_03_26, &Method::PromptsGet, &prompt, Output::Absent), prompt);
}

#[test]
fn structure_is_for_those_who_know_it_and_the_others_get_it_as_text() {
    let only = r#"{"content":[],"structuredContent":{"a":1.0}}"#;
    let both = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"a":1.0}}"#;
    for to in [V2024_11_05, V2025_03_26] {
        assert_eq!(called(V2025_06_18, to, only), r#"{"content":[{"type":"text","text":"{\"a\":1.0}"}]}"#);
        assert_eq!(called(V2025_06_18, to, both), r#"{"content":[{"type":"text","text":"x"}]}"#);
    }
    assert_eq!(called(V2025_06_18, V2025_06_18, only), only);
}

#[test]
fn g79_structure_is_wrapped_where_the_schema_was() {
    let list = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":[1.0]}"#;
    let with = |to, text, output| shaped(V2026_07_28, to, &Method::ToolsCall, text, output);
    for to in [V2025_06_18, V2025_11_25] {
        let wrapped = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"result":[1.0]}}"#;
        assert_eq!(with(to, list, Output::Wrapped), wrapped);
        // An object too, if the schema that was shown speaks of `result`.
        let object = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"a":1}}"#;
        let wrapped = r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"result":{"a":1}}}"#;
        assert_eq!(with(to, object, Output::Wrapped), wrapped);
        assert_eq!(with(to, object, Output::Object), object);
        let dropped = r#"{"content":[{"type":"text","text":"x"}]}"#;
        for output in [Output::Absent, Output::Object, Output::Dropped] {
            assert_eq!(with(to, list, output), dropped, "{output:?}");
        }
        assert_eq!(with(to, object, Output::Dropped), dropped);
        let silent = r#"{"structuredContent":7}"#;
        assert_eq!(
            with(to, silent, Output::Wrapped),
            r#"{"structuredContent":{"result":7},"content":[{"type":"text","text":"7"}]}"#
        );
    }
    assert_eq!(with(V2026_07_28, list, Output::Wrapped), list);
    // A server of the handshake era that ignores its own rule is shown wrapped as well.
    let seen = shaped(V2025_06_18, V2025_06_18, &Method::ToolsCall, list, Output::Wrapped);
    assert!(seen.contains(r#"{"result":[1.0]}"#), "{seen}");
}

#[test]
fn g32_each_era_has_its_own_number_for_a_missing_resource() {
    let told = |from, to, method: &Method, text: &str| {
        let json = Json::parse(text.to_owned()).expect("JSON");
        String::from_utf8(error(Crossing { from, to }, method, json).as_bytes().to_vec()).expect("text")
    };
    let read = &Method::ResourcesRead;
    let old = r#"{"code":-32002,"message":"gone","data":{"uri":"x:1"}}"#;
    let new = r#"{"code":-32602,"message":"gone","data":{"uri":"x:1"}}"#;
    let said = r#"{"code":-32602,"message":"Resource x:1 not found"}"#;
    let other = r#"{"code":-32602,"message":"bad cursor"}"#;
    assert_eq!(told(V2025_11_25, V2026_07_28, read, old), new);
    assert_eq!(told(V2026_07_28, V2025_11_25, read, new), old);
    assert!(told(V2026_07_28, V2024_11_05, read, said).contains("-32002"));
    assert_eq!(told(V2026_07_28, V2025_11_25, read, other), other);
    for (from, to, method, text) in [
        (V2025_11_25, V2025_03_26, read, old),
        (V2025_11_25, V2025_03_26, read, new),
        (V2026_07_28, V2026_07_28, read, new),
        (V2026_07_28, V2025_11_25, &Method::ToolsCall, new),
    ] {
        assert_eq!(told(from, to, method, text), text);
    }
}

fn revision() -> impl Strategy<Value = Revision> {
    proptest::sample::select(&Revision::ALL[..])
}

/// Members that mean something here, and some that do not, with values of any kind.
fn member() -> impl Strategy<Value = (String, serde_json::Value)> {
    let block = serde_json::json!({ "type": "audio", "data": "AA==", "mimeType": "a/b" });
    let link = serde_json::json!({ "type": "resource_link", "uri": "x:1", "name": "n" });
    let meta = serde_json::json!({ "io.modelcontextprotocol/serverInfo": {}, "a": 1 });
    let keys = ["content", "structuredContent", "resultType", "ttlMs", "_meta", "messages", "other"];
    let values = vec![
        serde_json::json!([block, link, 7]),
        serde_json::json!([{ "role": "user", "content": link }, null]),
        block.clone(),
        meta,
        serde_json::json!(null),
        serde_json::json!("complete"),
    ];
    (proptest::sample::select(keys.to_vec()), proptest::sample::select(values))
        .prop_map(|(key, value)| (key.into(), value))
}

proptest! {
    #[test]
    fn whatever_is_sent_stays_json_and_holds_nothing_that_its_reader_refuses(
        (from, to) in (revision(), revision()),
        method in proptest::sample::select(vec![Method::ToolsCall, Method::PromptsGet, Method::ResourcesRead]),
        output in proptest::sample::select(vec![Output::Absent, Output::Object, Output::Wrapped, Output::Dropped]),
        members in proptest::collection::btree_map(member().prop_map(|(key, _)| key), member().prop_map(|(_, value)| value), 0..6),
    ) {
        let text = serde_json::to_string(&members).expect("JSON");
        let seen = shaped(from, to, &method, &text, output);
        let value: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
        if from.era() == Era::Modern && to.era() == Era::Legacy {
            prop_assert!(STAMPS.iter().all(|stamp| value.get(stamp).is_none()), "{}", seen);
        }
        if to < V2025_06_18 && method == Method::ToolsCall {
            prop_assert!(value.get("structuredContent").is_none(), "{}", seen);
        }
        let poses = to.era() == Era::Modern && members.contains_key("resultType");
        if from.era() == Era::Legacy && from < V2025_11_25 && to >= V2025_06_18 && matches!(output, Output::Absent | Output::Object) {
            prop_assert!(seen == text || poses, "{}", seen);
            prop_assert!(!poses || value.get("resultType").is_none(), "{}", seen);
        }
    }
}
