//! `[mcp_servers.NAME.tools.TOOL]`: what a call of one tool carries besides what its client says, and how many there may be.
//!
//! The table is Codex's own, for what it knows of single tools; those keys are accepted there as everywhere, without effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use trunkline_wire::Json;

use crate::clients::Ignored;
use crate::findings::Findings;

/// Longest value of a fixed or default argument, as JSON.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Most arguments that can be named of one tool.
const ARGUMENTS_MAX: usize = 64;

/// What is said of one tool.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tool")]
pub(crate) struct ToolFile {
    /// Arguments that are always these. Clients do not see them, and may not say otherwise.
    pub(crate) fixed: BTreeMap<String, Value>,
    /// Arguments that are these where the client leaves them out.
    pub(crate) default: BTreeMap<String, Value>,
    /// Arguments that clients do not see and may not give.
    pub(crate) hidden: Vec<String>,
    /// Calls of it at the same time, those that wait for a person's answer too; the others wait as long as `limits.queue_wait_sec` says. Default: as many as the
    /// server takes.
    pub(crate) in_flight: Option<usize>,
    /// Calls of it within a minute; what is beyond waits in the same way, and is refused if it would be longer. Default: no
    /// limit.
    pub(crate) per_minute: Option<usize>,
    /// Codex's own; without effect here.
    pub(crate) approval_mode: Option<Ignored>,
    /// Codex's own; without effect here.
    pub(crate) output_token_limit: Option<Ignored>,
}

/// What holds for the calls of one tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolRules {
    /// The tool, as its server calls it.
    pub tool: Box<str>,
    /// Arguments that are always these.
    pub fixed: Vec<(Box<str>, Json)>,
    /// Arguments that are these where the client leaves them out.
    pub default: Vec<(Box<str>, Json)>,
    /// Arguments that clients do not see and may not give.
    pub hidden: Vec<Box<str>>,
    /// Calls at the same time.
    pub in_flight_max: Option<usize>,
    /// Calls within a minute.
    pub per_minute: Option<u32>,
}

impl ToolRules {
    /// Whether anything is said of arguments.
    pub fn shapes_arguments(&self) -> bool {
        !(self.fixed.is_empty() && self.default.is_empty() && self.hidden.is_empty())
    }

    /// Whether anything is said of how many calls there may be.
    pub fn limits_calls(&self) -> bool {
        self.in_flight_max.is_some() || self.per_minute.is_some()
    }
}

/// Reads what a server's block says of its tools, by the server's own names of them.
pub(crate) fn check(
    server: &str,
    files: &BTreeMap<String, ToolFile>,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Arc<ToolRules>> {
    let mut all = BTreeMap::new();
    for (tool, file) in files {
        let key = |rest: &'static str| ["mcp_servers", server, "tools", tool.as_str(), rest];
        if tool.contains(['*', '?']) {
            findings.error_with_hint(
                &["mcp_servers", server, "tools", tool],
                "names one tool; `*` and `?` stand for nothing here",
                "`enabled_tools` and `disabled_tools` take patterns",
            );
        }
        for (word, given) in
            [("approval_mode", file.approval_mode.is_some()), ("output_token_limit", file.output_token_limit.is_some())]
        {
            if given {
                findings.ignored.entry(word).or_default().push(format!("{server}.tools.{tool}"));
            }
        }
        if file.fixed.len() + file.default.len() + file.hidden.len() > ARGUMENTS_MAX {
            findings
                .error(&["mcp_servers", server, "tools", tool], format!("names more than {ARGUMENTS_MAX} arguments"));
        }
        let twice = file.default.keys().chain(&file.hidden).find(|name| file.fixed.contains_key(*name));
        let twice = twice.or_else(|| file.hidden.iter().find(|name| file.default.contains_key(*name)));
        if let Some(name) = twice {
            findings.error(
                &["mcp_servers", server, "tools", tool],
                format!("says two things of the argument `{name}`: it is fixed, has a default, or is hidden"),
            );
        }
        let in_flight_max = count(&key("in_flight"), file.in_flight, IN_FLIGHT_MAX, findings);
        let per_minute = per_minute(&key("per_minute"), file.per_minute, findings);
        let fixed = values(&key("fixed"), &file.fixed, findings);
        let default = values(&key("default"), &file.default, findings);
        let hidden = file.hidden.iter().map(|name| name.as_str().into()).collect();
        let rules = ToolRules { tool: tool.as_str().into(), fixed, default, hidden, in_flight_max, per_minute };
        if rules.shapes_arguments() || rules.limits_calls() {
            all.insert(tool.clone(), Arc::new(rules));
        }
    }
    all
}

/// Most calls a minute that can be named as a limit.
pub(crate) const PER_MINUTE_MAX: usize = 1_000_000;

/// Most calls at the same time that can be named as a limit.
pub(crate) const IN_FLIGHT_MAX: usize = 65_536;

/// A limit on calls, from 1 to `most`; what is beyond that is reported, and none.
pub(crate) fn count(key: &[&str], value: Option<usize>, most: usize, findings: &mut Findings<'_>) -> Option<usize> {
    let fits = value.filter(|value| (1..=most).contains(value));
    if fits != value {
        findings.error(key, format!("must be from 1 to {most}"));
    }
    fits
}

/// The same for calls within a minute.
pub(crate) fn per_minute(key: &[&str], value: Option<usize>, findings: &mut Findings<'_>) -> Option<u32> {
    count(key, value, PER_MINUTE_MAX, findings).and_then(|count| count.try_into().ok())
}

/// Arguments as JSON. A reference in one would be a secret in what is logged of arguments nowhere else, so it is none.
fn values(key: &[&str], given: &BTreeMap<String, Value>, findings: &mut Findings<'_>) -> Vec<(Box<str>, Json)> {
    let mut out = Vec::with_capacity(given.len());
    for (name, value) in given {
        let key: Vec<&str> = key.iter().copied().chain([name.as_str()]).collect();
        if value.as_str().is_some_and(|text| text.contains("${")) {
            findings.error_with_hint(
                &key,
                "references are not replaced in arguments",
                "what a server needs as a secret belongs into its `env` or `http_headers`",
            );
        }
        let Some(value) = plain(value) else {
            findings.error(&key, "has a number that JSON does not have (`inf` or `nan`)");
            continue;
        };
        let json = Json::encode(&value);
        if json.as_bytes().len() > VALUE_BYTES_MAX {
            findings.error(&key, format!("is longer than {} KiB", VALUE_BYTES_MAX / 1024));
        }
        out.push((name.as_str().into(), json));
    }
    out
}

/// A value of TOML as JSON has it: a date is the text that stands there. `None` if it holds what JSON cannot say, which the
/// parser gives as null; TOML has none of its own.
fn plain(value: &Value) -> Option<Value> {
    /// What the parser makes of a date: a table with this one key.
    const DATE: &str = "$__toml_private_datetime";
    match value {
        Value::Null => None,
        Value::Array(list) => list.iter().map(plain).collect::<Option<_>>().map(Value::Array),
        Value::Object(table) if table.contains_key(DATE) => table.get(DATE).cloned(),
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| Some((key.clone(), plain(value)?)));
            pairs.collect::<Option<_>>().map(Value::Object)
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{errors as errors_of, sound as load_text};

    const TOOL: &str = "[mcp_servers.git]\ncommand = 'x'\n[mcp_servers.git.tools.commit]\n";

    fn shown(list: &[(Box<str>, trunkline_wire::Json)]) -> Vec<String> {
        list.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes()))).collect()
    }

    #[test]
    fn what_a_tool_is_given_is_kept_as_json() {
        let text = format!(
            "{TOOL}fixed = {{ all = true, who = {{ name = 'me' }} }}\ndefault = {{ tags = ['a', 2] }}\nhidden = ['force']\n\
             in_flight = 2\nper_minute = 30\napproval_mode = 'auto'"
        );
        let loaded = load_text(&text);
        let rules = &loaded.config.servers[0].1.expose.rules["commit"];
        assert_eq!(shown(&rules.fixed), ["all=true", r#"who={"name":"me"}"#]);
        assert_eq!(shown(&rules.default), [r#"tags=["a",2]"#]);
        assert_eq!((&*rules.hidden[0], rules.in_flight_max, rules.per_minute), ("force", Some(2), Some(30)));
        assert!(loaded.warnings.iter().any(|it| it.contains("approval_mode (of git.tools.commit)")), "{loaded:?}");
    }

    #[test]
    fn a_date_is_the_text_that_stands_there() {
        let loaded = load_text(&format!("{TOOL}fixed = {{ on = 1979-05-27, within = [{{ at = 07:32:00 }}] }}"));
        let rules = &loaded.config.servers[0].1.expose.rules["commit"];
        assert_eq!(shown(&rules.fixed), [r#"on="1979-05-27""#, r#"within=[{"at":"07:32:00"}]"#]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_place() {
        for (body, place, says) in [
            ("fixed = { a = 1 }\nhidden = ['a']", "tools.commit", "says two things of the argument `a`"),
            ("fixed = { a = '${env:KEY}' }", "tools.commit.fixed.a", "references are not replaced"),
            ("fixed = { a = [1, inf] }", "tools.commit.fixed.a", "`inf` or `nan`"),
            ("default = { a = { b = nan } }", "tools.commit.default.a", "`inf` or `nan`"),
            ("per_minute = 0", "tools.commit.per_minute", "must be from 1 to 1000000"),
            ("hiden = ['a']", "tools.commit.hiden", "did you mean `hidden`?"),
        ] {
            let errors = errors_of(&format!("{TOOL}{body}"));
            assert!(errors.contains(place) && errors.contains(says), "{body}: {errors}");
        }
        let errors = errors_of("[mcp_servers.git]\ncommand = 'x'\n[mcp_servers.git.tools.'c*']\nin_flight = 1");
        assert!(errors.contains("names one tool"), "{errors}");
    }
}
