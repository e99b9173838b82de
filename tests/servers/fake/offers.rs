//! Prompts, resources, a template and completion. The prompt `asking` and the resource `item/asking` ask first.

use serde_json::json;

use crate::message::{Failure, Outcome, Params};
use crate::protocol::Server;
use crate::tools::string;

pub(crate) fn prompts(server: &Server) -> String {
    let asking = if server.options.revision.as_str() < "2025-06-18" { "" } else { r#",{"name":"asking"}"# };
    format!(
        concat!(
            r#"{{"prompts":[{{"name":"plain","description":"A prompt without arguments","x-odd":9007199254740993}},"#,
            r#"{{"name":"greet","description":"Greets somebody","arguments":[{{"name":"who","required":true}}]}}{}]}}"#
        ),
        asking
    )
}

pub(crate) fn prompt(params: &Params<'_>) -> Outcome {
    let said = match params.name.as_deref() {
        Some("plain") => "Say something.".to_owned(),
        Some("greet") => {
            format!("Say hello to {}.", string(params.arguments(), "who", "nobody"))
        }
        other => return Err((-32602, format!("Unknown prompt: {}", other.unwrap_or_default())).into()),
    };
    Ok(json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": said } }] }).to_string())
}

pub(crate) fn resources(server: &Server) -> String {
    let name = &server.options.name;
    format!(
        concat!(
            r#"{{"resources":[{{"uri":"fake://{0}/text","name":"text","mimeType":"text/plain","size":18014398509481985}},"#,
            r#"{{"uri":"fake://{0}/blob","name":"blob","mimeType":"application/octet-stream"}}]}}"#
        ),
        name
    )
}

pub(crate) fn templates(server: &Server) -> String {
    let name = &server.options.name;
    format!(r#"{{"resourceTemplates":[{{"uriTemplate":"fake://{name}/item/{{id}}","name":"item"}}]}}"#)
}

pub(crate) fn read(server: &Server, params: &Params<'_>) -> Outcome {
    let uri = params.uri.as_deref().unwrap_or_default();
    let prefix = format!("fake://{}/", server.options.name);
    let content = match uri.strip_prefix(&prefix) {
        Some("text") => {
            json!({ "uri": uri, "mimeType": "text/plain", "text": format!("text of {}", server.options.name) })
        }
        Some("blob") => json!({ "uri": uri, "mimeType": "application/octet-stream", "blob": "AAEC/w==" }),
        Some(rest) if rest.starts_with("item/") => json!({ "uri": uri, "text": rest }),
        _ => {
            return Err(Failure {
                code: -32002,
                message: format!("Resource not found: {uri}"),
                data: Some(json!({ "uri": uri }).to_string()),
            });
        }
    };
    Ok(format!(r#"{{"contents":[{content}],"x-odd":1e400}}"#))
}

pub(crate) fn complete(params: &Params<'_>) -> String {
    let argument = params.argument.map_or("{}", serde_json::value::RawValue::get);
    let typed = string(argument, "value", "");
    let values: Vec<&str> = ["alice", "albert", "bob"].into_iter().filter(|known| known.starts_with(&typed)).collect();
    json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }).to_string()
}
