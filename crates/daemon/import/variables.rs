//! What clients write for something else: `${env:NAME}`, `${NAME}`, `$NAME`, `${input:id}`, `${userHome}` and their like, in
//! the words of our configuration, which has `${env:NAME}` and `${file:PATH}`.
//!
//! What stands for a place is put in. What a client would ask a person for becomes a variable, and is told: nothing here can
//! ask whenever the daemon starts. So does a word of ours or of another tool that this client does not know: a file from
//! anywhere must not have the daemon read a file or run a program (`${file:…}`, `${cmd:…}`) that its client would not.

use std::path::Path;

use serde_json::{Map, Value};
use trunkline_telemetry::redact::Scrubber;

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
    /// What the text that is looked at is called.
    pub(super) place: String,
    /// The variables that stand for what is not known, by what that was.
    pub(super) stood: Vec<(String, String)>,
}

/// Words that the configuration acts upon.
const ACTED_UPON: [&str; 4] = ["env:", "file:", "cmd:", "keyring:"];

impl<'a> Variables<'a> {
    pub(super) fn new(
        client: Client,
        at: &'a Surroundings,
        project: Option<&'a Path>,
        inputs: &'a Map<String, Value>,
    ) -> Self {
        Self { client, at, project, inputs, needs: Vec::new(), place: String::new(), stood: Vec::new() }
    }

    /// The same text in our words.
    pub(super) fn translate(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            if let Some((inner, after)) = braced {
                let put = if self.replaces() { self.one(inner) } else { self.as_it_stands(inner) };
                out.push_str(&put.unwrap_or_else(|| self.unknown(inner)));
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

    /// Codex replaces nothing, and neither do these.
    fn replaces(&self) -> bool {
        !matches!(self.client, Client::Codex | Client::ClaudeDesktop | Client::Zed)
    }

    /// A text that its client does not look into, and the configuration may.
    fn as_it_stands(&mut self, inner: &str) -> Option<String> {
        if inner.starts_with("env:") {
            let title = self.client.title();
            self.needs.push(format!("`${{{inner}}}` is replaced by the variable here, and is not by {title}"));
            return Some(format!("${{{inner}}}"));
        }
        (!ACTED_UPON.iter().any(|word| inner.starts_with(word))).then(|| format!("${{{inner}}}"))
    }

    /// A word that is not this client's: a variable that is named after its place stands for it.
    fn unknown(&mut self, inner: &str) -> String {
        // It may be of some length, and have a secret in it.
        let shown = Scrubber::default().scrub(inner);
        let title = self.client.title();
        if !ACTED_UPON.iter().any(|word| inner.starts_with(word)) {
            self.needs.push(format!("`${{{shown}}}` means nothing here: write what it stands for"));
            return format!("${{{inner}}}");
        }
        if let Some((_, name)) = self.stood.iter().find(|(known, _)| known == inner) {
            return format!("${{env:{name}}}");
        }
        let base = as_variable(&self.place);
        let taken = |name: &String| self.stood.iter().any(|(_, known)| known == name);
        let name = std::iter::once(base.clone()).chain((2..).map(|number| format!("{base}_{number}")));
        let name = name.into_iter().find(|name| !taken(name)).unwrap_or(base);
        self.needs.push(format!(
            "`${{{shown}}}` is no word of {title}'s, so it is not acted upon: set the variable {name} where the daemon starts"
        ));
        self.stood.push((inner.to_owned(), name.clone()));
        format!("${{env:{name}}}")
    }

    /// What stands between the braces; `None` if that is no word of the client's.
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
        let name = as_variable(id);
        let about = self.inputs.get(id).and_then(|input| input["description"].as_str());
        let about = about.map(|about| format!(" ({about})")).unwrap_or_default();
        let title = self.client.title();
        self.needs
            .push(format!("{title} asked you for `{id}`{about}: set the variable {name} where the daemon starts"));
        format!("${{env:{name}}}")
    }
}

fn as_variable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
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
        let project = Some(Path::new("/srv/shop"));
        let mut variables = Variables::new(client, &at, project, inputs);
        variables.place = "api-key".to_owned();
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
            (Client::Zed, "${input:x} ${open", "${input:x} ${open"),
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

    #[test]
    fn s31_a_word_that_would_have_the_daemon_read_or_run_something_is_a_variable_unless_the_client_knows_it() {
        for client in
            [Client::Codex, Client::ClaudeDesktop, Client::ClaudeCode, Client::Cursor, Client::Vscode, Client::Gemini]
        {
            for (text, inner) in [
                ("a ${cmd:cat --token t-0815-0815}", "cmd:cat --token ***"),
                ("a ${file:~/.ssh/id}", "file:~/.ssh/id"),
                ("a ${keyring:x}", "keyring:x"),
            ] {
                let (ours, needs) = translated(client, text);
                assert_eq!(ours, "a ${env:API_KEY}", "{client:?}");
                let [need] = &needs[..] else { panic!("{needs:?}") };
                assert!(
                    need.contains(inner) && need.contains("the variable API_KEY") && !need.contains("0815"),
                    "{need}"
                );
            }
        }
        let (ours, needs) = translated(Client::Cursor, "${cmd:a}${cmd:b}${cmd:a}");
        assert_eq!((ours.as_str(), needs.len()), ("${env:API_KEY}${env:API_KEY_2}${env:API_KEY}", 2));
        let (ours, needs) = translated(Client::Codex, "${env:A}");
        assert_eq!(ours, "${env:A}");
        assert!(needs[0].contains("is not by Codex"), "{needs:?}");
    }
}
