//! Proptest strategies: JSON as peers in the field write it, names as they choose them, bytes as they come.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// JSON text with numbers that no float holds, unusual escapes, unsorted keys and white space, line ends
/// among it. Nested a few levels; keys of one object are distinct.
pub fn json_text() -> BoxedStrategy<String> {
    leaf().prop_recursive(4, 40, 6, |inner| prop_oneof![array_of(inner.clone()), object_of(inner)]).boxed()
}

/// Like [`json_text`], an object at the top.
pub fn object_text() -> BoxedStrategy<String> {
    object_of(json_text()).boxed()
}

/// Names of tools: what the standard allows, and what servers send all the same.
pub fn tool_name() -> BoxedStrategy<String> {
    prop_oneof![
        6 => "[A-Za-z][A-Za-z0-9_-]{0,24}",
        2 => "[A-Za-z0-9_./-]{1,128}",
        1 => "[a-z]{1,3}[-_]{1,3}[a-z]{1,3}",
        1 => "[ a-zé日\u{1f980}:()]{1,20}",
    ]
    .boxed()
}

/// Bytes cut into chunks, as a pipe or a socket hands them out: some empty, many small.
pub fn chunks(bytes: impl Strategy<Value = Vec<u8>> + 'static) -> BoxedStrategy<Vec<Bytes>> {
    (bytes, vec(0_usize..40, 0..60))
        .prop_map(|(bytes, sizes)| {
            let mut rest = Bytes::from(bytes);
            let mut chunks: Vec<Bytes> = sizes.iter().map(|size| rest.split_to((*size).min(rest.len()))).collect();
            chunks.push(rest);
            chunks
        })
        .boxed()
}

/// Messages as lines of a stdio server, with some lines that are none, and the same bytes cut into chunks.
pub fn frames() -> BoxedStrategy<(Vec<String>, Vec<Bytes>)> {
    let line = prop_oneof![
        4 => object_text().prop_map(|text| message(&text)),
        1 => select(vec!["", "Loading model...", "{\"half\":", "\u{1b}[32mready\u{1b}[0m", "[]"]).prop_map(str::to_owned),
    ];
    vec((line, any::<bool>()), 0..8)
        .prop_flat_map(|lines| {
            let text: String =
                lines.iter().map(|(line, crlf)| line.clone() + if *crlf { "\r\n" } else { "\n" }).collect();
            let lines: Vec<String> = lines.into_iter().map(|(line, _)| line).collect();
            chunks(Just(text.into_bytes())).prop_map(move |chunks| (lines.clone(), chunks))
        })
        .boxed()
}

fn message(params: &str) -> String {
    let params = params.replace(['\n', '\r'], " ");
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x/y","params":{params}}}"#)
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.0",
            "1.50",
            "-7",
            "9007199254740993",
            "18446744073709551616",
            "1e3",
            "1E+400",
            "0.1000000000000000055511151231257827",
            "\"\"",
            "{}",
            "[]",
            "[ ]",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        string_text(),
    ]
}

/// A string, with escapes that a writer need not have used.
fn string_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => "[ -!#-\\[\\]-~é日\u{2028}\u{1f980}]{0,8}",
        1 => select(vec![
            "\\n", "\\u0061", "\\\"", "\\\\", "\\/", "\\ud83e\\udd80", "\\u0000", "\\u00E9", "\\u001b",
        ])
        .prop_map(str::to_owned),
    ];
    vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => select(vec![" ", "\n", "\r\n  ", "\t"])]
}

fn array_of(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (vec(inner, 0..5), space()).prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(",")))
}

fn object_of(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (vec(("[a-z_]{0,6}", inner, space()), 0..6)).prop_map(|members| {
        // A number makes each key its own, wherever it stands.
        let members: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(number, (key, value, space))| format!("{space}\"{key}{number}\"{space}:{space}{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

#[cfg(test)]
mod tests {
    use trunkline_wire::{Json, Object};

    use super::*;

    proptest! {
        #[test]
        fn json_is_json(text in json_text(), object in object_text()) {
            prop_assert!(Json::parse(text).is_ok());
            prop_assert!(Object::parse(&Json::parse(object).expect("JSON")).is_ok());
        }

        #[test]
        fn chunks_hold_all_lines((lines, chunks) in frames()) {
            let text = String::from_utf8(chunks.concat()).expect("UTF-8");
            prop_assert_eq!(text.lines().collect::<Vec<_>>(), lines);
        }

        #[test]
        fn names_are_not_empty(name in tool_name()) {
            prop_assert!(!name.is_empty());
        }
    }
}
