//! What clients write for something else: `${env:NAME}`, `${NAME}`, `$NAME`, `${input:id}`, `${userHome}` and their like, in
//! the words of our configuration, which has `${env:NAME}` and `${file:PATH}`.
//!
//! What stands for a place is put in. What a client would ask a person for becomes a variable, and is told: nothing here can
//! ask whenever the daemon starts.

use std::path::Path;

use serde_json::{Map, Value};

use crate::clients::{Client, Surroundings};

/// Replaces what a client's variables stand for.
pub(super) struct Variables<'a> {
    pub(super) client: Client,
    pub(super) at: &'a Surroundings,
    pub(super) project: Option<&'a Path>,
    /// What the client asks a person for.
    pub(super) inputs: &'a Map<String, Value>,
    /// What a person has to see to, one sentence each.
    pub(super) needs: Vec<String>,
}

impl Variables<'_> {
    /// The same text in our words.
    pub(super) fn translate(&mut self, text: &str) -> String {
        // Codex replaces nothing, and neither does Claude Desktop.
        if matches!(self.client, Client::Codex | Client::ClaudeDesktop | Client::Zed) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            if let Some((inner, after)) = braced {
                let put = self.one(inner).unwrap_or_else(|| {
                    self.needs.push(format!("`${{{inner}}}` means nothing here: write what it stands for"));
                    format!("${{{inner}}}")
                });
                out.push_str(&put);
                rest = after;
                continue;
            }
            let plain = rest.len() - rest.trim_start_matches(is_letter).len();
            if self.client == Client::Gemini && plain > 0 && !rest.starts_with(|c: char| c.is_ascii_digit()) {
                out.extend(["${env:", &rest[..plain], "}"]);
                rest = &rest[plain..];
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        out
    }

    /// What stands between the braces; `None` if that is nobody's word.
    fn one(&mut self, inner: &str) -> Option<String> {
        if let Some(name) = inner.strip_prefix("env:") {
            return Some(format!("${{env:{name}}}"));
        }
        if self.client == Client::Windsurf && inner.starts_with("file:") {
            return Some(format!("${{{inner}}}"));
        }
        if let Some(id) = inner.strip_prefix("input:") {
            return Some(self.asked(id));
        }
        match inner {
            "userHome" => return Some(self.at.home.display().to_string()),
            "pathSeparator" | "/" => return Some("/".to_owned()),
            "workspaceFolder" | "workspaceRoot" | "cwd" => return Some(self.project?.display().to_string()),
            "workspaceFolderBasename" => {
                return Some(self.project?.file_name()?.to_string_lossy().into_owned());
            }
            _ => {}
        }
        if !matches!(self.client, Client::ClaudeCode | Client::Gemini) {
            return None;
        }
        let (name, otherwise) = inner.split_once(":-").map_or((inner, None), |(name, text)| (name, Some(text)));
        if name.is_empty() || !name.chars().all(is_letter) {
            return None;
        }
        match otherwise {
            // It has a value where it is needed, or it gets the one that was written for that case.
            Some(text) if self.at.variable(name).is_none() => Some(text.to_owned()),
            _ => Some(format!("${{env:{name}}}")),
        }
    }

    /// The variable that stands for what a person was asked.
    fn asked(&mut self, id: &str) -> String {
        let name: String =
            id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let about = self.inputs.get(id).and_then(|input| input["description"].as_str());
        let about = about.map(|about| format!(" ({about})")).unwrap_or_default();
        let title = self.client.title();
        self.needs
            .push(format!("{title} asked you for `{id}`{about}: set the variable {name} where the daemon starts"));
        format!("${{env:{name}}}")
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn translated(client: Client, text: &str) -> (String, Vec<String>) {
        let env = vec![("SET".to_owned(), "1".to_owned())];
        let at = Surroundings { home: "/home/me".into(), project: "/p".into(), env };
        let inputs = json!({ "api-key": { "id": "api-key", "description": "Key of the shop" } });
        let inputs = inputs.as_object().expect("an object");
        let mut variables =
            Variables { client, at: &at, project: Some(Path::new("/srv/shop")), inputs, needs: Vec::new() };
        (variables.translate(text), variables.needs)
    }

    #[test]
    fn each_clients_variables_become_ours_or_what_they_stand_for() {
        for (client, text, ours) in [
            (Client::Cursor, "Bearer ${env:A}", "Bearer ${env:A}"),
            (
                Client::Cursor,
                "${userHome}${/}x ${workspaceFolder} ${workspaceFolderBasename}",
                "/home/me/x /srv/shop shop",
            ),
            (Client::ClaudeCode, "${A}-${SET:-no}-${UNSET:-yes}-$5", "${env:A}-${env:SET}-yes-$5"),
            (Client::Gemini, "$A_1/${B} $ x", "${env:A_1}/${env:B} $ x"),
            (Client::Windsurf, "${file:~/key}", "${file:~/key}"),
            (Client::Codex, "${A} $B", "${A} $B"),
        ] {
            assert_eq!(translated(client, text), (ours.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_a_person_was_asked_or_nobody_knows_is_told() {
        let (text, needs) = translated(Client::Vscode, "k=${input:api-key}");
        assert_eq!(text, "k=${env:API_KEY}");
        assert_eq!(
            needs,
            ["VS Code asked you for `api-key` (Key of the shop): set the variable API_KEY where the daemon starts"]
        );
        let (text, needs) = translated(Client::Vscode, "${command:x} ${open");
        assert_eq!(text, "${command:x} ${open");
        assert_eq!(needs.len(), 1);
    }
}
