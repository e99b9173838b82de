//! What a listen wants to hear of: `params.notifications` (mcp-protocol 3.8).

use trunkline_wire::{Json, Object};

use crate::catalog::List;
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::refusal;

/// The keys of the lists' changes.
pub(crate) const LISTS: [(&str, List); 3] = [
    ("toolsListChanged", List::Tools),
    ("promptsListChanged", List::Prompts),
    ("resourcesListChanged", List::Resources),
];

/// The key of the resources' updates.
pub(crate) const RESOURCES: &str = "resourceSubscriptions";

/// The key of the states of tasks.
const TASKS: &str = "taskIds";

/// What a listen wants to hear of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Lists, as bits.
    pub lists: u8,
    /// Resources, as the client wrote them, each once.
    pub uris: Vec<String>,
    /// Whether it wants to hear of tasks.
    pub tasks: bool,
}

impl Filter {
    /// Reads the filter of a listen. Kinds that nobody knows are passed over: they are not acknowledged.
    pub(crate) fn read(params: &Object) -> Result<Self, Json> {
        let wrong = |key: &str, what: &str| refusal::invalid_params(format!("`notifications.{key}` must be {what}"));
        let wanted = params.get_object("notifications");
        let wanted = wanted.ok_or_else(|| refusal::invalid_params("`notifications` is missing or no object"))?;
        let mut filter = Self::default();
        for (key, list) in LISTS {
            match wanted.get(key).map(Json::as_bytes) {
                None | Some(b"false" | b"null") => {}
                Some(b"true") => filter.lists |= list.bit(),
                Some(_) => return Err(wrong(key, "true or false")),
            }
        }
        let strings = |key: &str| match wanted.get(key) {
            None => Ok(Vec::new()),
            Some(list) => list.decode::<Vec<String>>().map_err(|_| wrong(key, "an array of strings")),
        };
        let uris = strings(RESOURCES)?;
        if uris.len() > SUBSCRIPTIONS_MAX {
            return Err(wrong(RESOURCES, &format!("no longer than {SUBSCRIPTIONS_MAX}")));
        }
        let mut known = std::collections::HashSet::new();
        filter.uris = uris.into_iter().filter(|uri| known.insert(uri.clone())).collect();
        filter.tasks = !strings(TASKS)?.is_empty();
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &'static str) -> Result<Filter, String> {
        let read = Filter::read(&Object::parse(&Json::literal(params)).expect("an object"));
        read.map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    #[test]
    fn g40_a_filter_must_be_there_and_readable() {
        for (params, named) in [
            ("{}", "`notifications`"),
            (r#"{"notifications":[]}"#, "`notifications`"),
            (r#"{"notifications":{"toolsListChanged":1}}"#, "toolsListChanged"),
            (r#"{"notifications":{"resourceSubscriptions":"x:1"}}"#, "resourceSubscriptions"),
            (r#"{"notifications":{"resourceSubscriptions":[1]}}"#, "resourceSubscriptions"),
            (r#"{"notifications":{"taskIds":{}}}"#, "taskIds"),
        ] {
            let error = read(params).expect_err(params);
            assert!(error.contains("-32602") && error.contains(named), "{params}: {error}");
        }
    }

    #[test]
    fn what_is_not_wanted_is_left_out_and_a_resource_is_wanted_once() {
        assert_eq!(read(r#"{"notifications":{"vendorThing":true}}"#), Ok(Filter::default()));
        let filter = read(
            r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["x:1","x:2","x:1"],"taskIds":["t"]}}"#,
        );
        let uris = vec!["x:1".to_owned(), "x:2".to_owned()];
        assert_eq!(filter, Ok(Filter { lists: List::Tools.bit(), uris, tasks: true }));
    }
}
