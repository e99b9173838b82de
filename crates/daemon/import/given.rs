//! What a server is given by whoever starts or calls it: variables, headers, a token. Two entries that are given otherwise are
//! two servers: another account, another database, or one of them may only read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::translate::Translated;

/// The keys that give something.
const KEYS: [&str; 6] = ["env", "env_vars", "http_headers", "env_http_headers", "bearer_token", "bearer_token_env_var"];

/// Whether a key of a block gives something.
pub(super) fn gives(key: &str) -> bool {
    KEYS.contains(&key)
}

/// The names of what one is given and the other is not, or otherwise. Values are secrets, names are not.
pub(super) fn otherwise(one: &Translated, two: &Translated) -> Vec<String> {
    let (one, two) = (given(one), given(two));
    let names: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != two.get(*name)).cloned().collect()
}

/// All of it by name, in one spelling: a variable that is passed on and one that is set to itself are the same, and so are the
/// ways to write a bearer token.
fn given(translated: &Translated) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let variable = |name: &str| json!(format!("${{env:{name}}}"));
    for (key, value) in &translated.block {
        match (key.as_str(), value) {
            ("env", Value::Object(pairs)) => {
                all.extend(pairs.iter().map(|(name, value)| (format!("env {name}"), value.clone())));
            }
            ("env_vars", Value::Array(names)) => {
                // Codex takes a name, or a table with one.
                let names = names.iter().filter_map(|name| name.as_str().or_else(|| name.get("name")?.as_str()));
                for name in names {
                    all.entry(format!("env {name}")).or_insert_with(|| variable(name));
                }
            }
            ("http_headers", Value::Object(pairs)) => {
                all.extend(pairs.iter().map(|(name, value)| (header(name), value.clone())));
            }
            ("env_http_headers", Value::Object(pairs)) => {
                let named = pairs.iter().filter_map(|(name, value)| Some((header(name), variable(value.as_str()?))));
                all.extend(named);
            }
            ("bearer_token", Value::String(token)) => {
                all.insert(header("authorization"), json!(format!("Bearer {token}")));
            }
            ("bearer_token_env_var", Value::String(name)) => {
                all.insert(header("authorization"), json!(format!("Bearer ${{env:{name}}}")));
            }
            _ => {}
        }
    }
    all
}

fn header(name: &str) -> String {
    format!("header {}", name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(block: &Value) -> Translated {
        let block = block.as_object().expect("a block").clone().into_iter().collect();
        Translated { block, left_out: Vec::new(), needs: Vec::new() }
    }

    #[test]
    fn the_ways_to_write_the_same_are_the_same() {
        for (one, two) in [
            (json!({ "env_vars": ["A", { "name": "B" }] }), json!({ "env": { "B": "${env:B}", "A": "${env:A}" } })),
            (json!({ "bearer_token_env_var": "T" }), json!({ "http_headers": { "Authorization": "Bearer ${env:T}" } })),
            (json!({ "env_http_headers": { "X-Key": "K" } }), json!({ "http_headers": { "x-key": "${env:K}" } })),
            (json!({ "bearer_token": "t" }), json!({ "http_headers": { "authorization": "Bearer t" } })),
            (json!({ "env": {} }), json!({ "tool_timeout_sec": 3 })),
        ] {
            assert_eq!(otherwise(&block(&one), &block(&two)), Vec::<String>::new());
        }
    }

    #[test]
    fn what_only_one_is_given_tells_them_apart_by_its_name_alone() {
        let prod = block(&json!({ "env": { "URL": "secret" } }));
        let safe = block(&json!({ "env": { "URL": "other", "READ_ONLY": "1" }, "http_headers": { "X-Org": "a" } }));
        assert_eq!(otherwise(&prod, &safe), ["env READ_ONLY", "env URL", "header x-org"]);
        assert_eq!(otherwise(&safe, &prod), otherwise(&prod, &safe));
    }
}
