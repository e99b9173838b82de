//! Messages as this server reads and writes them: text with a few members looked at.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
}

/// The members of `params` that any method here looks at.
#[derive(Deserialize, Default)]
pub(crate) struct Params<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    pub(crate) request_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "taskId")]
    pub(crate) task_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) task: Option<&'a RawValue>,
    #[serde(borrow, rename = "inputResponses")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestState")]
    pub(crate) request_state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) notifications: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "protocolVersion")]
    pub(crate) revision: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) level: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "_meta")]
    pub(crate) meta: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) argument: Option<&'a RawValue>,
}

/// What went wrong, as the members of a JSON-RPC error.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<String>,
}

pub(crate) type Outcome = Result<String, Failure>;

impl From<(i64, String)> for Failure {
    fn from((code, message): (i64, String)) -> Failure {
        Failure { code, message, data: None }
    }
}

impl Failure {
    pub(crate) fn reply(&self, id: &str) -> String {
        let text = serde_json::to_string(&self.message).expect("a string is JSON");
        let data = self.data.as_ref().map_or(String::new(), |data| format!(r#","data":{data}"#));
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{text}{data}}}}}"#, self.code)
    }
}

impl<'a> Params<'a> {
    pub(crate) fn of(raw: Option<&'a RawValue>) -> Params<'a> {
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    pub(crate) fn arguments(&self) -> &'a str {
        self.arguments.map_or("{}", RawValue::get)
    }

    /// The tool, prompt or resource that is meant.
    pub(crate) fn subject(&self) -> &str {
        self.name.as_deref().or(self.uri.as_deref()).unwrap_or_default()
    }

    /// The raw text of a member of `_meta`.
    pub(crate) fn meta(&self, key: &str) -> Option<String> {
        self.meta.and_then(|meta| member(meta.get(), key))
    }
}

pub(crate) fn success(id: &str, result: &str) -> String {
    let mut text = String::with_capacity(id.len() + result.len() + 36);
    text.push_str(r#"{"jsonrpc":"2.0","id":"#);
    text.push_str(id);
    text.push_str(r#","result":"#);
    text.push_str(result);
    text.push('}');
    text
}

/// The raw text of a member of a JSON object, if it is there.
pub(crate) fn member(object: &str, key: &str) -> Option<String> {
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(object).ok()?;
    members.get(key).map(|value| value.get().to_owned())
}

/// The place of a log level in the order of severity, `debug` being 0.
pub(crate) fn severity(level: &str) -> u8 {
    let levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    let place = levels.iter().position(|known| *known == level).unwrap_or(0);
    u8::try_from(place).expect("there are eight")
}
