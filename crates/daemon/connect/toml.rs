//! Changes of Codex's TOML file in one place: text is put in or taken out where the parser says, and the rest stays byte for
//! byte. Where servers are written in a way that leaves no such place (inline tables, dotted keys), the editing parser does it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use toml_edit::{DocumentMut, ImDocument, Item, TableLike, value};

use super::change::Difference;
use super::ledger::Off;
use crate::edit;

const SERVERS: &str = "mcp_servers";

/// Brings an entry up to date where it stands, or writes it at the end.
pub(super) fn put(text: &str, name: &str, change: &Difference) -> Result<String, String> {
    let document: DocumentMut = text.parse().map_err(|_| "is no TOML")?;
    let servers = document.get(SERVERS).and_then(Item::as_table_like);
    if servers.is_some_and(|servers| servers.get(name).is_some_and(Item::is_table_like)) {
        return edited(text, |document| {
            let servers = document.get_mut(SERVERS).and_then(Item::as_table_like_mut);
            let entry = servers.and_then(|servers| servers.get_mut(name)?.as_table_like_mut());
            update(entry.ok_or_else(|| format!("`{SERVERS}.{name}` is no table"))?, change);
            Ok(())
        });
    }
    let newline = newline(text);
    let mut block = format!("[{SERVERS}.{name}]\n");
    for ((key, _), value) in &change.set {
        // These are texts and switches, whose JSON is TOML too.
        let _ = writeln!(block, "{key} = {value}");
    }
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str(newline);
    }
    if !out.trim().is_empty() {
        out.push_str(newline);
    }
    out.push_str(&block.replace('\n', newline));
    if out.parse::<DocumentMut>().is_ok() {
        return Ok(out);
    }
    edited(text, |document| {
        let mut table = toml_edit::Table::new();
        update(&mut table, change);
        let inline = document.get(SERVERS).is_some_and(Item::is_inline_table);
        let servers = document.get_mut(SERVERS).and_then(Item::as_table_like_mut);
        let servers = servers.ok_or_else(|| format!("`{SERVERS}` is no table"))?;
        let entry = if inline { value(table.into_inline_table()) } else { Item::Table(table) };
        servers.insert(name, entry);
        Ok(())
    })
}

/// Ours are texts and switches, none in a table of its own. What stands around a value, a comment perhaps, stays.
fn update(entry: &mut dyn TableLike, change: &Difference) {
    for (key, _) in &change.unset {
        entry.remove(key);
    }
    for ((key, _), own) in &change.set {
        let own: toml_edit::Value = own.as_bool().map_or_else(|| own.as_str().unwrap_or_default().into(), Into::into);
        match entry.get_mut(key).and_then(Item::as_value_mut) {
            Some(written) => {
                let decor = written.decor().clone();
                *written = own;
                *written.decor_mut() = decor;
            }
            None => {
                entry.insert(key, Item::Value(own));
            }
        }
    }
}

/// Takes an entry out; the text as it is, if there is none.
pub(super) fn remove(text: &str, name: &str) -> Result<String, String> {
    let document: DocumentMut = text.parse().map_err(|_| "is no TOML")?;
    let there = document.get(SERVERS).and_then(Item::as_table_like).is_some_and(|servers| servers.contains_key(name));
    if !there {
        return Ok(text.to_owned());
    }
    edited(text, |document| edit::remove(document, name))
}

/// Switches a server off, and says what it takes to switch it on again.
pub(super) fn switch_off(text: &str, name: &str) -> Option<(String, Off)> {
    let had = with_server(text, name, |server| server.get("enabled").and_then(Item::as_bool))?;
    let off = Off {
        name: name.to_owned(),
        project: None,
        key: Some("enabled".to_owned()),
        had: had.map(|had| json!(had)),
        raw: None,
        index: 0,
    };
    Some((set(text, name, Some(false))?, off))
}

/// Switches a server on again; `None` if it is not there.
pub(super) fn switch_on(text: &str, off: &Off) -> Option<String> {
    set(text, &off.name, off.had.as_ref().and_then(Value::as_bool))
}

/// Sets `enabled` of a server, or takes the key out.
fn set(text: &str, name: &str, enabled: Option<bool>) -> Option<String> {
    let document = ImDocument::parse(text).ok()?;
    let item = document.get(SERVERS)?.as_table_like()?.get(name)?;
    let server = item.as_table_like()?;
    let written = server.get_key_value("enabled").and_then(|(key, value)| Some((key.span()?, value.span()?)));
    let plain = item.as_table().filter(|table| !table.is_dotted() && !table.is_implicit());
    match (plain, written, enabled) {
        (Some(_), Some((_, value)), Some(enabled)) => {
            Some(format!("{}{enabled}{}", &text[..value.start], &text[value.end..]))
        }
        (Some(_), Some((key, value)), None) => {
            let from = text[..key.start].rfind('\n').map_or(0, |at| at + 1);
            let to = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at + 1);
            Some(format!("{}{}", &text[..from], &text[to..]))
        }
        (Some(table), None, Some(enabled)) => {
            // Below the head, above everything that may be a table of its own.
            let head = table.span()?.start;
            let newline = newline(text);
            let (before, after) = match text[head..].find('\n') {
                Some(at) => (text[..=head + at].to_owned(), &text[head + at + 1..]),
                None => (format!("{text}{newline}"), ""),
            };
            Some(format!("{before}enabled = {enabled}{newline}{after}"))
        }
        (_, None, None) => Some(text.to_owned()),
        (None, _, _) => edited(text, |document| {
            let servers = document.get_mut(SERVERS).and_then(Item::as_table_like_mut);
            let server =
                servers.and_then(|servers| servers.get_mut(name)?.as_table_like_mut()).ok_or("no such server")?;
            match enabled {
                Some(enabled) => server.insert("enabled", value(enabled)),
                None => server.remove("enabled"),
            };
            Ok(())
        })
        .ok(),
    }
}

fn with_server<T>(text: &str, name: &str, read: impl FnOnce(&dyn TableLike) -> T) -> Option<T> {
    let document: DocumentMut = text.parse().ok()?;
    document.get(SERVERS)?.as_table_like()?.get(name)?.as_table_like().map(read)
}

/// The editing parser writes every line's end as LF: a file that has the other keeps it.
fn edited(text: &str, edit: impl FnOnce(&mut DocumentMut) -> Result<(), String>) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|_| "is no TOML")?;
    edit(&mut document)?;
    let out = document.to_string();
    Ok(if newline(text) == "\n" { out } else { out.replace("\r\n", "\n").replace('\n', "\r\n") })
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../../tests/fixtures/clients/codex.toml");

    fn entry() -> Difference {
        let url = (("url".to_owned(), None), json!("http://127.0.0.1:6270/mcp"));
        Difference { set: vec![url], unset: Vec::new() }
    }

    #[test]
    fn a_file_keeps_every_byte_but_those_that_are_put_in() {
        let whole = put(FILE, "tl", &entry()).expect("sound");
        assert_eq!(whole, format!("{FILE}\n[mcp_servers.tl]\nurl = \"http://127.0.0.1:6270/mcp\"\n"));
        assert_eq!(remove(&whole, "tl").expect("sound"), FILE);
        assert_eq!(put("", "tl", &entry()).expect("sound"), "[mcp_servers.tl]\nurl = \"http://127.0.0.1:6270/mcp\"\n");
        let (off, github) = switch_off(FILE, "github").expect("there");
        assert_eq!(off, FILE.replace("[mcp_servers.github]\n", "[mcp_servers.github]\nenabled = false\n"));
        assert_eq!(switch_on(&off, &github).as_deref(), Some(FILE));
        let (off, old) = switch_off(FILE, "old").expect("there");
        assert_eq!((off.as_str(), switch_on(&off, &old).as_deref()), (FILE, Some(FILE)), "it was off");
    }

    #[test]
    fn windows_line_ends_and_odd_ways_of_writing_stay() {
        let windows = FILE.replace('\n', "\r\n");
        let whole = put(&windows, "tl", &entry()).expect("sound");
        assert!(
            whole.starts_with(&windows) && whole.ends_with("/mcp\"\r\n") && !whole.replace("\r\n", "").contains('\n')
        );
        assert_eq!(remove(&whole, "tl").expect("sound"), windows);
        let (off, snyk) = switch_off(&windows, "snyk").expect("there");
        assert_eq!(switch_on(&off, &snyk).as_deref(), Some(windows.as_str()));
        for odd in [
            "mcp_servers = { a = { command = \"a\" } } # one line\n",
            "mcp_servers.a.command = \"a\"\n",
            "[mcp_servers]\na.command = \"a\" # dotted\nb = { command = \"b\", enabled = true }\n",
            "[mcp_servers.a]\ncommand = \"a\"",
        ] {
            let whole = put(odd, "tl", &entry()).expect("sound");
            let read: DocumentMut = whole.parse().expect("sound");
            assert_eq!(read["mcp_servers"]["tl"]["url"].as_str(), Some("http://127.0.0.1:6270/mcp"), "{whole}");
            let (off, a) = switch_off(odd, "a").expect("there");
            let read: DocumentMut = off.parse().expect("sound");
            assert_eq!(read["mcp_servers"]["a"]["enabled"].as_bool(), Some(false), "{off}");
            let on: DocumentMut = switch_on(&off, &a).expect("there").parse().expect("sound");
            assert!(on["mcp_servers"]["a"].get("enabled").is_none(), "{on}");
        }
    }
}
