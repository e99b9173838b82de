//! What has to be changed in an entry so that it is ours: keys that are missing or say something else, and keys that we would
//! have written once and would not write now. What stands beside them is its user's, and stays.

use serde_json::{Map, Value, json};
use url::Url;

use super::entry::{TOKEN, is_variable_of_ours};

/// Where in an entry something stands: its key, and the key within, if it is a table.
pub(super) type Path = (String, Option<String>);

/// What has to be done to an entry.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// In the order that they are written.
    pub(super) set: Vec<(Path, Value)>,
    pub(super) unset: Vec<Path>,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }
}

/// Keys that say how the daemon is reached; of those only ours can stay.
const REACH: [&str; 5] = ["url", "serverUrl", "httpUrl", "command", "args"];

/// Compares what is wanted with what is there.
pub(super) fn of(wanted: &[(String, Value)], there: Option<&Map<String, Value>>) -> Difference {
    let none = Map::new();
    let (there, mut out) = (there.unwrap_or(&none), Difference::default());
    for (key, value) in wanted {
        if let (Some(wanted), Some(have)) = (value.as_object(), there.get(key).and_then(Value::as_object)) {
            let missing = wanted.iter().filter(|(name, value)| have.get(*name) != Some(value));
            let path = |name: &String| (key.clone(), Some(name.clone()));
            out.set.extend(missing.map(|(name, value)| (path(name), value.clone())));
            continue;
        }
        let value = kept(key, there.get(key), value);
        if there.get(key) != Some(&value) {
            out.set.push(((key.clone(), None), value));
        }
    }
    let is_wanted = |key: &str| wanted.iter().find(|(own, _)| own == key).map(|(_, value)| value);
    for (key, value) in there {
        let is_reach = REACH.contains(&key.as_str());
        let is_token = key == "bearer_token_env_var" && value == TOKEN;
        if (is_reach || is_token) && is_wanted(key).is_none() {
            out.unset.push((key.clone(), None));
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            let ours = key == "headers" && value.as_str().is_some_and(|text| text.contains(TOKEN));
            let ours = ours || (key == "env" && is_variable_of_ours(name));
            if ours && is_wanted(key).and_then(|table| table.get(name)).is_none() {
                out.unset.push((key.clone(), Some(name.clone())));
            }
        }
    }
    out
}

/// What an entry is to say in place of what it says: an address that leads to a profile keeps that.
fn kept(key: &str, there: Option<&Value>, own: &Value) -> Value {
    let profile = || {
        let there = Url::parse(there?.as_str()?).ok()?;
        let name = there.path().strip_prefix("/mcp/").filter(|name| !name.is_empty())?;
        Some(json!(format!("{}/{name}", own.as_str()?)))
    };
    let of_profile = if matches!(key, "url" | "serverUrl" | "httpUrl") { profile() } else { None };
    of_profile.unwrap_or_else(|| own.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(wanted: &Value, there: &Value) -> Difference {
        let wanted: Vec<_> = wanted.as_object().expect("a table").clone().into_iter().collect();
        of(&wanted, there.as_object())
    }

    #[test]
    fn what_is_ours_is_brought_up_to_date_and_what_stands_beside_it_stays() {
        let there = json!({
            "url": "http://127.0.0.1:6270/mcp/work", "startup_timeout_sec": 60, "bearer_token_env_var": "TRUNKLINE_TOKEN",
            "headers": { "X-Mine": "1", "Authorization": "Bearer ${TRUNKLINE_TOKEN}" }, "env": { "XDG_STATE_HOME": "/s", "A": "b" },
        });
        let wanted = json!({ "url": "http://127.0.0.1:6270/mcp", "type": "http" });
        let path = |key: &str, name: Option<&str>| (key.to_owned(), name.map(str::to_owned));
        let difference_now = difference(&wanted, &there);
        assert_eq!(difference_now.set, [(path("type", None), json!("http"))], "the profile stays");
        let stale = ["bearer_token_env_var"].map(|key| path(key, None));
        let stale = stale
            .into_iter()
            .chain([("env", "XDG_STATE_HOME"), ("headers", "Authorization")].map(|(key, name)| path(key, Some(name))));
        let mut unset = difference_now.unset;
        unset.sort();
        assert_eq!(unset, stale.collect::<Vec<_>>());
        let wanted = json!({ "url": "http://127.0.0.1:6270/mcp", "headers": { "Authorization": "Bearer new" } });
        let token = difference(&wanted, &there).set;
        assert_eq!(token, [(path("headers", Some("Authorization")), json!("Bearer new"))]);
        assert!(difference(&wanted, &wanted).is_empty());
        let other = difference(&json!({ "command": "trunkline" }), &json!({ "url": "http://127.0.0.1:6270/mcp" }));
        assert_eq!(other.unset, [path("url", None)]);
    }
}
