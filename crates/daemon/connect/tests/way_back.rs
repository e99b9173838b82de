//! The way back, whatever was written and edited in between: every byte if nobody else wrote, and otherwise the file as it
//! would be had nobody ever connected it.

use jsonc_parser::cst::CstRootNode;
use proptest::prelude::*;
use toml_edit::DocumentMut;

use super::*;
use crate::clients::JSON;

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way of writing, and all go together")]
struct Layout {
    /// Which of the entries it has, a bit for each.
    entries: u8,
    indent: &'static str,
    /// One line for each entry, or all keys on lines of their own.
    spread: bool,
    comments: bool,
    windows: bool,
    mark: bool,
    ends: bool,
    /// Without a table of servers, or without a file.
    bare: bool,
    absent: bool,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Connect,
    SwitchOff,
    /// Another port, which changes the entry in place.
    Move(u16),
    /// An edit of somebody else's.
    Edit(Edit),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Edit {
    ServerInFront,
    KeyInFront,
    CommentInFront,
    LineBehind,
    OtherArgument,
    /// As a client does that writes its whole file anew.
    Rewritten,
}

/// Entries: `linear` and `memory` are served, and `own` is not.
const ENTRIES: [(&str, &str, &str); 4] = [
    ("linear", r#"{ "url": "https://mcp.linear.app/mcp" }"#, "url = \"https://mcp.linear.app/mcp\"\n"),
    ("own", r#"{ "command": "own", "args": ["keep-me"] }"#, "command = \"own\"\nargs = [\"keep-me\"]\n"),
    (
        "memory",
        r#"{ "command": "npx", "args": ["-y", "@modelcontextprotocol/server-memory"], "env": {} }"#,
        "command = \"npx\"\nargs = [\"-y\", \"@modelcontextprotocol/server-memory\"] # theirs\n[mcp_servers.memory.env]\nA = \"b\"\n",
    ),
    ("browser", r#"{ "command": "browser-mcp" }"#, "enabled = true\ncommand = \"browser-mcp\"\n"),
];

impl Layout {
    fn text(self, client: Client) -> String {
        let text = if client == Client::Codex { self.toml() } else { self.json(client) };
        let text = if self.windows { text.replace('\n', "\r\n") } else { text };
        let text = if self.ends { text } else { text.trim_end().to_owned() };
        if self.mark { format!("{MARK}{text}") } else { text }
    }

    fn chosen(self) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
        (0..ENTRIES.len()).filter(move |at| self.entries >> at & 1 == 1 && !self.bare).map(|at| &ENTRIES[at])
    }

    fn toml(self) -> String {
        let block = |(name, _, keys): &(&str, &str, &str)| {
            let comment = if self.comments { format!("\n# about {name}\n") } else { String::new() };
            format!("{comment}[mcp_servers.{name}]\n{keys}")
        };
        let blocks: Vec<String> = self.chosen().map(block).collect();
        let comment = if self.comments { "# mine\n" } else { "" };
        format!("{comment}model = \"m\"\n{}\n[tui]\nnotifications = true\n", blocks.concat())
    }

    fn json(self, client: Client) -> String {
        let (one, two) = (self.indent, self.indent.repeat(2));
        let entry = |(name, json, _): &(&str, &str, &str)| {
            let json = if self.spread {
                json.replace("{ ", &format!("{{\n{two}{one}")).replace(" }", &format!("\n{two}}}"))
            } else {
                (*json).to_owned()
            };
            let comment = if self.comments { format!("{two}// about {name}\n") } else { String::new() };
            format!("{comment}{two}\"{name}\": {json}")
        };
        let entries = self.chosen().map(entry).collect::<Vec<_>>().join(",\n");
        let servers = if self.bare {
            String::new()
        } else {
            let entries = if entries.is_empty() { String::new() } else { format!("\n{entries}\n{one}") };
            format!("{one}\"{}\": {{{entries}}},\n", client.key())
        };
        // Of projects, in the file of the one client that has them.
        let projects = if client == Client::ClaudeCode {
            let memory = ENTRIES[2].1;
            format!("{one}\"projects\": {{ \"/srv/x\": {{ \"mcpServers\": {{ \"memory\": {memory} }} }} }},\n")
        } else {
            String::new()
        };
        format!("{{\n{servers}{projects}{one}\"theme\": \"dark\"\n}}\n")
    }
}

impl Edit {
    fn done(self, client: Client, text: &str) -> String {
        let (mark, text) = text.strip_prefix(MARK).map_or(("", text), |text| (MARK, text));
        let line = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let after_brace = |text: &str, put: &str| text.replacen('{', &format!("{{{put}"), 1);
        let servers = format!("\"{}\": {{", client.key());
        let own = match (self, client) {
            (Self::OtherArgument, _) => text.replace("keep-me", "changed"),
            (Self::LineBehind, _) => format!("{text}{line}{line}"),
            (Self::ServerInFront, Client::Codex) => {
                text.replace("[tui]", &format!("[mcp_servers.mine]{line}command = \"mine\"{line}{line}[tui]"))
            }
            (Self::KeyInFront, Client::Codex) => format!("mine = 1{line}{text}"),
            (Self::CommentInFront, Client::Codex) => format!("# of theirs{line}{text}"),
            (Self::Rewritten, Client::Codex) => text.to_owned(),
            // Without a table of the user's servers the first one in the text would be a project's.
            (Self::ServerInFront, _) if !has_servers(client, text) => text.to_owned(),
            (Self::ServerInFront, _) => {
                let alone = text.contains(&format!("{servers}}}"));
                let comma = if alone { "" } else { "," };
                text.replacen(&servers, &format!("{servers} \"mine\": {{ \"command\": \"mine\" }}{comma} "), 1)
            }
            (Self::KeyInFront, _) => after_brace(text, " \"mine\": 1,"),
            (Self::CommentInFront, _) => format!("// of theirs{line}{text}"),
            (Self::Rewritten, _) => serde_json::to_string_pretty(&value(client, text)).expect("JSON"),
        };
        format!("{mark}{own}")
    }
}

/// Whether a JSON file has a table of the user's servers.
fn has_servers(client: Client, text: &str) -> bool {
    let root = CstRootNode::parse(text, &JSON).expect("JSON");
    root.object_value().is_some_and(|root| root.get(client.key()).is_some())
}

/// What a text says; a table or list that is empty says what none would.
fn value(client: Client, text: &str) -> Value {
    let text = text.trim_start_matches(MARK);
    let mut value = if client == Client::Codex {
        let document: DocumentMut = text.parse().unwrap_or_else(|error| panic!("{error}:\n{text}"));
        toml_value(document.as_item())
    } else {
        let root = CstRootNode::parse(text, &JSON).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        root.to_serde_value().expect("JSON")
    };
    without_empty(&mut value, 0);
    value
}

fn toml_value(item: &toml_edit::Item) -> Value {
    match item.as_table_like() {
        Some(table) => {
            table.iter().map(|(key, item)| (key.to_owned(), toml_value(item))).collect::<serde_json::Map<_, _>>().into()
        }
        // As it is written, without what stands around it.
        None => {
            Value::String(item.as_value().map(|value| value.clone().decorated("", "").to_string()).unwrap_or_default())
        }
    }
}

/// Those that hold the entries, that is: what stands in an entry is its owner's.
fn without_empty(value: &mut Value, depth: usize) {
    let Value::Object(pairs) = value else { return };
    if depth < 3 {
        pairs.values_mut().for_each(|value| without_empty(value, depth + 1));
        pairs.retain(|key, value| {
            key == "env"
                || !(value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty))
        });
    }
}

fn comments(client: Client, text: &str) -> Vec<String> {
    let begins = if client == Client::Codex { "#" } else { "//" };
    let mut all: Vec<String> =
        text.lines().map(str::trim).filter(|line| line.starts_with(begins)).map(str::to_owned).collect();
    all.sort();
    all
}

fn layouts() -> impl Strategy<Value = Layout> {
    let flags = any::<[bool; 6]>();
    let rare = (0_u8..8, 0_u8..8);
    (0_u8..16, prop::sample::select(vec!["  ", "    ", "\t"]), flags, rare).prop_map(
        |(entries, indent, [spread, comments, windows, mark, ends, _], (bare, absent))| Layout {
            entries,
            indent,
            spread,
            comments,
            windows,
            mark: mark && bare > 3,
            ends,
            bare: bare == 0,
            absent: absent == 0,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edits = [
        Edit::ServerInFront,
        Edit::KeyInFront,
        Edit::CommentInFront,
        Edit::LineBehind,
        Edit::OtherArgument,
        Edit::Rewritten,
    ];
    let step = prop_oneof![
        Just(Step::Connect),
        Just(Step::SwitchOff),
        (7000_u16..7003).prop_map(Step::Move),
        prop::sample::select(edits.to_vec()).prop_map(Step::Edit),
    ];
    prop::collection::vec(step, 0..5)
}

proptest! {
    // Each is a home of its own on the disk, and every step is synced to it.
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn an_undo_leaves_every_byte_or_what_somebody_else_made_of_it(
        client in prop::sample::select(Client::ALL.to_vec()),
        layout in layouts(),
        mut steps in steps(),
    ) {
        let house = House { dir: tempfile::tempdir().expect("a directory") };
        let config = house.dir.path().join(".config/trunkline/config.toml");
        house.write(&config, CONFIG);
        let file = house.file(client);
        let before = layout.text(client);
        let mut wanted = (!layout.absent).then(|| before.clone());
        if let Some(text) = &wanted {
            house.write(&file, text);
        }
        steps.insert(0, Step::Connect);
        let mut edited = false;
        for step in steps {
            match step {
                Step::Connect => drop(house.run(client, |_| {}).expect("connected")),
                Step::SwitchOff => drop(house.run(client, |connect| connect.switch_off = true).expect("connected")),
                Step::Move(port) => {
                    house.write(&config, &format!("{CONFIG}\n[listen]\nport = {port}\n"));
                    house.run(client, |_| {}).expect("connected");
                }
                Step::Edit(edit) => {
                    let now = house.text(client);
                    let then = edit.done(client, &now);
                    let of_wanted = wanted.as_deref().map(|text| edit.done(client, text));
                    // A file that was not there has no place for some edits, and what changes nothing is none.
                    let Some(of_wanted) = of_wanted.filter(|text| Some(text) != wanted.as_ref()) else { continue };
                    let is_twice = edit == Edit::ServerInFront && now.contains("mine\"") || edit == Edit::KeyInFront && now.contains("mine\": 1");
                    if then == now || is_twice || now.contains("mine = 1") {
                        continue;
                    }
                    edited = true;
                    fs::write(&file, then).expect("written");
                    wanted = Some(of_wanted);
                }
            }
        }
        house.run(client, |connect| connect.undo = true).expect("undone");
        let Some(wanted) = wanted else {
            prop_assert!(!file.exists(), "it was not there before");
            return Ok(());
        };
        let now = house.text(client);
        if !edited {
            prop_assert_eq!(now, before);
            return Ok(());
        }
        prop_assert_eq!(value(client, &now), value(client, &wanted), "{}", now);
        prop_assert_eq!(comments(client, &now), comments(client, &wanted), "{}", now);
        prop_assert_eq!(now.starts_with(MARK), wanted.starts_with(MARK));
    }
}
