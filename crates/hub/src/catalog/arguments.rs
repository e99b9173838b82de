//! What a tool's arguments are beside what its client says: fixed ones, defaults, and hidden ones (`tools.TOOL` in a server's
//! block).
//!
//! [`trim`] takes out of a schema what clients do not see, once for each catalogue; [`fill`] makes the arguments of a call
//! those that the server gets. What a schema says elsewhere of an argument, in `allOf` or a condition, stays as it is.

use trunkline_config::ToolRules;
use trunkline_wire::{Json, Object};

/// A schema without what clients do not see, and with the defaults that they do; and the arguments that it does not name.
pub(crate) fn trim(schema: &Json, rules: &ToolRules) -> (Json, Vec<Box<str>>) {
    let Ok(mut schema) = Object::parse(schema) else { return (schema.clone(), Vec::new()) };
    let mut properties = schema.get_object("properties").unwrap_or_default();
    let mut unknown = Vec::new();
    let unseen = rules.fixed.iter().map(|(name, _)| name).chain(&rules.hidden);
    for name in unseen.clone() {
        if properties.remove(name).is_none() {
            unknown.push(name.clone());
        }
    }
    for (name, value) in &rules.default {
        match properties.get_object(name) {
            Some(mut property) => {
                property.set("default", value.clone());
                properties.set(name, property.to_json());
            }
            // `true` is a schema, too.
            None if properties.get(name).is_some() => {}
            None => unknown.push(name.clone()),
        }
    }
    if schema.get("properties").is_some() {
        schema.set("properties", properties.to_json());
    }
    let required = schema.get("required").and_then(|required| required.decode::<Vec<String>>().ok());
    if let Some(mut required) = required {
        let given: Vec<&str> = unseen.chain(rules.default.iter().map(|(name, _)| name)).map(|name| &**name).collect();
        required.retain(|name| !given.contains(&name.as_str()));
        // Older dialects know no empty list.
        if required.is_empty() {
            schema.remove("required");
        } else {
            schema.set("required", Json::encode(&required));
        }
    }
    (schema.to_json(), unknown)
}

/// The arguments as the server gets them. Fails with what the client may not say.
pub(crate) fn fill(arguments: Option<&Json>, rules: &ToolRules) -> Result<Json, String> {
    let mut arguments = match arguments {
        Some(given) => Object::parse(given).map_err(|_| "`arguments` is no object".to_owned())?,
        None => Object::new(),
    };
    if let Some(hidden) = rules.hidden.iter().find(|name| arguments.get(name).is_some()) {
        return Err(format!("there is no argument `{hidden}`; leave it out"));
    }
    for (name, value) in &rules.fixed {
        if arguments.get(name).is_some_and(|given| !is_same(given, value)) {
            return Err(format!("the argument `{name}` is set by the gateway's configuration; leave it out"));
        }
        arguments.set(name, value.clone());
    }
    for (name, value) in &rules.default {
        if arguments.get(name).is_none() {
            arguments.set(name, value.clone());
        }
    }
    Ok(arguments.to_json())
}

/// Whether two values are the same, however they are written.
fn is_same(one: &Json, other: &Json) -> bool {
    let value = |json: &Json| json.decode::<serde_json::Value>().ok();
    one == other || value(one).zip(value(other)).is_some_and(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> ToolRules {
        ToolRules {
            fixed: vec![("owner".into(), Json::literal(r#"{"login":"me"}"#))],
            default: vec![("labels".into(), Json::literal(r#"["bug"]"#))],
            hidden: vec!["draft".into()],
            ..ToolRules::default()
        }
    }

    #[test]
    fn clients_see_a_schema_without_what_is_fixed_or_hidden_and_with_the_defaults() {
        let schema = Json::literal(
            r#"{"type":"object","x":1.0,"properties":{"owner":{"type":"object"},"title":{"type":"string"},"labels":{"type":"array"},"draft":{}},"required":["owner","title","labels"]}"#,
        );
        let (seen, unknown) = trim(&schema, &rules());
        assert_eq!(
            seen.as_bytes(),
            br#"{"type":"object","x":1.0,"properties":{"title":{"type":"string"},"labels":{"type":"array","default":["bug"]}},"required":["title"]}"#
        );
        assert!(unknown.is_empty());
        let bare = Json::literal(r#"{"type":"object","required":["owner"]}"#);
        let (seen, unknown) = trim(&bare, &rules());
        assert_eq!(seen.as_bytes(), br#"{"type":"object"}"#);
        assert_eq!(unknown, ["owner".into(), "draft".into(), "labels".into()] as [Box<str>; 3]);
    }

    #[test]
    fn a_call_carries_what_is_fixed_and_the_defaults_that_its_client_leaves_out() {
        let filled = |text: &'static str| fill(Some(&Json::literal(text)), &rules());
        let text = |json: Json| String::from_utf8(json.as_bytes().to_vec()).expect("text");
        assert_eq!(
            filled(r#"{"title":"a","n":1e400}"#).map(text),
            Ok(r#"{"title":"a","n":1e400,"owner":{"login":"me"},"labels":["bug"]}"#.to_owned())
        );
        assert_eq!(
            filled(r#"{"labels":[],"owner":{ "login" : "me" }}"#).map(text),
            Ok(r#"{"labels":[],"owner":{"login":"me"}}"#.to_owned())
        );
        assert_eq!(fill(None, &rules()).map(text), Ok(r#"{"owner":{"login":"me"},"labels":["bug"]}"#.to_owned()));
    }

    #[test]
    fn what_a_client_may_not_say_is_named_and_not_overruled_in_silence() {
        let refused = |text: &'static str| fill(Some(&Json::literal(text)), &rules()).expect_err("refused");
        assert!(refused(r#"{"owner":"you"}"#).contains("`owner` is set by the gateway's configuration"));
        assert!(refused(r#"{"draft":null}"#).contains("no argument `draft`"));
        assert!(refused("[]").contains("no object"));
    }
}
