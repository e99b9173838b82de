//! `trunkline remove`, `enable`, `disable` and `rename`, and the writing that `add` shares: the operator's own file, changed
//! in one place.
//!
//! Comments, order and spacing of everything else stay as they are. What comes out is read as the daemon would read it
//! before it takes the file's place, at once and whole; if it cannot be used nothing is written. A running daemon notices by
//! itself. Only whoever may write the file can do this: no request over the network leads here (S-34).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use toml_edit::{DocumentMut, Item, Key, RawString, Table, TableLike, TomlError, value};
use trunkline_config::{Config, Sources};
use trunkline_wire::ServerName;

use crate::cli::Edit;
use crate::exit::Failure;
use crate::render;
use crate::swap::{behind_links, failed, stage};

const SERVERS: &str = "mcp_servers";

/// How often a file that somebody else writes at the same time is read anew.
const ATTEMPTS: usize = 3;

/// Carries out a change of the file.
pub(crate) fn run(edit: &Edit, sources: &Sources) -> Result<String, Failure> {
    let (done, name) = match edit {
        Edit::Remove { server } => ("removed", server),
        Edit::Enable { server } => ("switched on", server),
        Edit::Disable { server } => ("switched off", server),
        Edit::Rename { server, .. } => ("renamed", server),
    };
    let path = change(
        sources,
        &|document| match edit {
            Edit::Remove { server } => remove(document, server),
            Edit::Enable { server } => switch(document, server, true),
            Edit::Disable { server } => switch(document, server, false),
            Edit::Rename { server, to } => rename(document, server, to),
        },
        &mut |_| Ok(()),
    )?;
    Ok(format!("{} is {done} in {}; a running daemon takes it up by itself", render::field(name), shown(&path)))
}

/// Changes the file that `sources` lead to, once `agree` has seen what would be read from it then. Returns its path.
pub(crate) fn change(
    sources: &Sources,
    edit: &dyn Fn(&mut DocumentMut) -> Result<(), String>,
    agree: &mut dyn FnMut(Config) -> Result<(), Failure>,
) -> Result<PathBuf, Failure> {
    let path = path(sources)?;
    for _ in 0..ATTEMPTS {
        let before = read(&path)?;
        let text = before.clone().unwrap_or_default();
        let mut document: DocumentMut = text.parse().map_err(|error: TomlError| no_toml(&path, &text, &error))?;
        edit(&mut document).map_err(|why| Failure::failed(format!("{why}; nothing was written")))?;
        let after = document.to_string();
        // Nothing lies ready meanwhile: whoever loses patience ends the process, and it would stay, with all its secrets.
        agree(as_read(&path, &after, sources)?)?;
        let staged = stage(&path, after.as_bytes())?;
        if read(&path)? == before {
            staged.take_place(&path).map_err(|error| failed("write", &path, &error))?;
            return Ok(path);
        }
    }
    let text = format!("{} is being written by somebody else all the time; nothing was changed", shown(&path));
    Err(Failure::failed(text))
}

/// Why the daemon would not read this text; nothing is written where anybody would look for it.
pub(crate) fn unusable(text: &str, sources: &Sources) -> Option<String> {
    // Several at a time in one process, in tests.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("trunkline-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    match as_read(&path, text, sources) {
        Ok(_) => None,
        // Where it stands is of no interest.
        Err(failure) => failure.to_string().lines().nth(1).map(|line| {
            let place = format!("{}:", shown(&path));
            let line = line.trim().strip_prefix(&place).unwrap_or(line);
            line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').trim().to_owned()
        }),
    }
}

/// What the daemon would read if `text` were in the file.
fn as_read(path: &Path, text: &str, sources: &Sources) -> Result<Config, Failure> {
    let staged = stage(path, text.as_bytes())?;
    let read = trunkline_config::load(&Sources { file: Some(staged.path().to_path_buf()), ..sources.clone() });
    let loaded = read.map_err(|errors| {
        let told = errors.to_string().replace(&staged.path().display().to_string(), &path.display().to_string());
        let text = format!("with this change the configuration could not be used, so nothing was written:\n{told}");
        Failure::config(render::safe(&text))
    })?;
    Ok(loaded.config)
}

/// Says where, and quotes nothing: the line may hold a secret.
fn no_toml(path: &Path, text: &str, error: &TomlError) -> Failure {
    let at = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let why = error.message().lines().next().unwrap_or_default();
    let text = format!("{}:{line}: this is no TOML, so nothing in it is changed: {why}", path.display());
    Failure::config(render::safe(&text))
}

/// The block of a server that is new: an error if there is one already.
pub(crate) fn insert(document: &mut DocumentMut, name: &str, block: Table) -> Result<(), String> {
    if named(document, name).is_some() {
        return Err(format!("there is a server `{name}` already: `trunkline remove {name}` makes room"));
    }
    let servers = document.entry(SERVERS).or_insert_with(|| {
        let mut servers = Table::new();
        servers.set_implicit(true);
        Item::Table(servers)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| format!("`{SERVERS}` is no table"))?;
    servers.insert(name, Item::Table(block));
    Ok(())
}

pub(crate) fn remove(document: &mut DocumentMut, name: &str) -> Result<(), String> {
    known(document, name)?;
    if let Some(Item::Table(gone)) = servers(document).and_then(|servers| servers.remove(name)) {
        keep_above(document, &gone);
    }
    // A file without any key is taken for one that was lost; the bare heading says that no servers are meant.
    if let Some(table) = document.get_mut("mcp_servers").and_then(Item::as_table_mut).filter(|table| table.is_empty()) {
        table.set_implicit(false);
    }
    Ok(())
}

/// Gives what stands above a table that is gone to the next one, but for the lines right above it, which are about it.
fn keep_above(document: &mut DocumentMut, gone: &Table) {
    let above = gone.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
    let kept = above.rfind("\n\n").map_or("", |end| &above[..=end]);
    if kept.trim().is_empty() {
        return;
    }
    let next = gone.position().and_then(|place| next_place(document, place));
    if let Some(table) = next.and_then(|place| table_at(document, place)) {
        let own = table.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
        let gap = if own.starts_with('\n') { "" } else { "\n" };
        let prefix = format!("{kept}{gap}{own}");
        table.decor_mut().set_prefix(prefix);
    } else {
        let trailing = document.trailing().as_str().unwrap_or_default();
        document.set_trailing(format!("{kept}{trailing}"));
    }
}

/// The place in the file of the first table behind `place`.
fn next_place(within: &Table, place: usize) -> Option<usize> {
    let tables = within.iter().flat_map(|(_, item)| match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(tables) => tables.iter().collect(),
        Item::Value(_) | Item::None => Vec::new(),
    });
    let places = tables.flat_map(|table| {
        let own = table.position().filter(|own| *own > place && !table.is_implicit());
        own.into_iter().chain(next_place(table, place))
    });
    places.min()
}

fn table_at(within: &mut Table, place: usize) -> Option<&mut Table> {
    within.iter_mut().find_map(|(_, item)| {
        let tables: Vec<&mut Table> = match item {
            Item::Table(table) => vec![table],
            Item::ArrayOfTables(tables) => tables.iter_mut().collect(),
            Item::Value(_) | Item::None => Vec::new(),
        };
        tables.into_iter().find_map(|table| {
            if table.position() == Some(place) && !table.is_implicit() { Some(table) } else { table_at(table, place) }
        })
    })
}

fn switch(document: &mut DocumentMut, name: &str, on: bool) -> Result<(), String> {
    known(document, name)?;
    let block = servers(document).and_then(|servers| servers.get_mut(name)?.as_table_like_mut());
    let block = block.ok_or_else(|| format!("`{SERVERS}.{name}` is no table"))?;
    match block.get_mut("enabled").and_then(Item::as_value_mut) {
        Some(written) => {
            // What stands around it, a comment perhaps, stays.
            let decor = written.decor().clone();
            *written = on.into();
            *written.decor_mut() = decor;
        }
        // That is how it is without the key.
        None if on => {}
        None => {
            block.insert("enabled", value(false));
        }
    }
    Ok(())
}

fn rename(document: &mut DocumentMut, name: &str, to: &str) -> Result<(), String> {
    known(document, name)?;
    ServerName::new(to).map_err(|error| format!("`{}` is no name for a server: {error}", render::field(to)))?;
    if named(document, to).is_some() {
        return Err(format!("there is a server `{to}` already"));
    }
    let servers = document.get_mut(SERVERS).and_then(Item::as_table_mut);
    let servers =
        servers.ok_or_else(|| format!("`{SERVERS}` is not written as a table, so no name is changed in it"))?;
    let names: Vec<String> = servers.iter().map(|(name, _)| name.to_owned()).collect();
    // All are put back one after the other, so that the order, which clients see, stays.
    for (key, block) in names.iter().filter_map(|name| servers.remove_entry(name)).collect::<Vec<_>>() {
        let key = if key.get() == name {
            Key::new(to).with_leaf_decor(key.leaf_decor().clone()).with_dotted_decor(key.dotted_decor().clone())
        } else {
            key
        };
        servers.insert_formatted(&key, block);
    }
    Ok(())
}

fn servers(document: &mut DocumentMut) -> Option<&mut dyn TableLike> {
    document.get_mut(SERVERS)?.as_table_like_mut()
}

fn named<'a>(document: &'a DocumentMut, name: &str) -> Option<&'a Item> {
    document.get(SERVERS)?.as_table_like()?.get(name)
}

/// An error that names those there are, if there is no such server.
fn known(document: &DocumentMut, name: &str) -> Result<(), String> {
    if named(document, name).is_some() {
        return Ok(());
    }
    let all = document.get(SERVERS).and_then(Item::as_table_like);
    let all: Vec<String> =
        all.into_iter().flat_map(|servers| servers.iter().map(|(name, _)| render::field(name))).collect();
    let those = if all.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", all.join(", ")) };
    Err(format!("there is no server `{}`: {those}", render::field(name)))
}

/// The file that is to be changed.
fn path(sources: &Sources) -> Result<PathBuf, Failure> {
    let path = sources.file.clone().unwrap_or_else(|| trunkline_config::default_config_path(&sources.env));
    behind_links(&path)
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

pub(crate) fn shown(path: &Path) -> String {
    render::field(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use trunkline_config::Flags;

    use super::*;

    const FILE: &str = "\
# my servers

# the company's
[mcp_servers.linear] # issues
url = \"https://mcp.linear.test/mcp\"   # theirs
enabled = false  # for now

[mcp_servers.git]
command = \"git-mcp\"

[limits]
in_flight = 7
";

    fn edited(edit: impl Fn(&mut DocumentMut) -> Result<(), String>) -> Result<String, String> {
        let mut document: DocumentMut = FILE.parse().expect("TOML");
        edit(&mut document)?;
        Ok(document.to_string())
    }

    /// The lines that are gone, then those that are new.
    fn differing(edit: impl Fn(&mut DocumentMut) -> Result<(), String>) -> Vec<String> {
        let after = edited(edit).expect("it can be done");
        let (old, new): (Vec<&str>, Vec<&str>) = (FILE.lines().collect(), after.lines().collect());
        let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
        let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
        gone.chain(come).collect()
    }

    #[test]
    fn what_is_not_meant_stays_as_it_is() {
        let switched = ["- enabled = false  # for now", "+ enabled = true  # for now"];
        assert_eq!(differing(|document| switch(document, "linear", true)), switched);
        assert_eq!(differing(|document| switch(document, "git", false)), ["+ enabled = false"]);
        assert!(differing(|document| switch(document, "git", true)).is_empty(), "it is on");
        let removed = differing(|document| remove(document, "git"));
        assert_eq!(removed, ["- [mcp_servers.git]", "- command = \"git-mcp\""]);
        let removed = edited(|document| remove(document, "linear")).expect("known");
        assert!(removed.starts_with("# my servers\n\n[mcp_servers.git]\n"), "{removed}");
        let renamed = differing(|document| rename(document, "linear", "issues"));
        assert_eq!(renamed, ["- [mcp_servers.linear] # issues", "+ [mcp_servers.issues] # issues"]);
    }

    #[test]
    fn r36_without_its_last_server_the_file_says_that_none_are_meant() {
        let mut document: DocumentMut = "# mine\n\n[mcp_servers.a]\ncommand = \"a\"\n".parse().expect("TOML");
        remove(&mut document, "a").expect("known");
        assert!(document.to_string().contains("[mcp_servers]\n"), "{document}");
    }

    #[test]
    fn what_stands_between_servers_stays_and_so_does_their_order() {
        let text = "[mcp_servers.a]\ncommand = \"a\"\n\n# [mcp_servers.b]\n# command = \"b\"\n\n[mcp_servers.c]\ncommand = \"c\"\n";
        let mut last: DocumentMut = text.parse().expect("TOML");
        remove(&mut last, "c").expect("known");
        assert_eq!(last.to_string(), text.replace("\n[mcp_servers.c]\ncommand = \"c\"\n", ""));
        let text = "[mcp_servers]\na = { command = \"a\" } # first\n# second\nb = { command = \"b\" }\n";
        let mut inline: DocumentMut = text.parse().expect("TOML");
        rename(&mut inline, "a", "z").expect("known");
        assert_eq!(inline.to_string(), text.replace("a = {", "z = {"));
        rename(&mut inline, "b", "y").expect("known");
        assert_eq!(inline.to_string(), text.replace("a = {", "z = {").replace("b = {", "y = {"));
    }

    #[test]
    fn s31_what_is_no_toml_is_told_by_its_line_and_not_quoted() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.toml");
        fs::write(&file, "[mcp_servers.x]\nurl = \"https://x.test/\"\nhttp_headers = { K = \"secret-0815\"\n")
            .expect("written");
        let sources = Sources { file: Some(file), env: Vec::new(), flags: Flags::default() };
        let told = change(&sources, &|_| Ok(()), &mut |_| Ok(())).expect_err("refused").to_string();
        assert!(told.contains("config.toml:3") && !told.contains("0815"), "{told}");
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).expect("linked");
        let sources = Sources { file: Some(link), ..sources };
        let told = change(&sources, &|_| Ok(()), &mut |_| Ok(())).expect_err("refused").to_string();
        assert!(told.contains("leads nowhere"), "{told}");
    }

    #[test]
    fn a_new_server_stands_behind_the_others() {
        let mut block = Table::new();
        block.insert("url", value("http://127.0.0.1:9/mcp"));
        let text = edited(|document| insert(document, "new", block.clone())).expect("free");
        let new = "command = \"git-mcp\"\n\n[mcp_servers.new]\nurl = \"http://127.0.0.1:9/mcp\"\n\n[limits]";
        assert!(text.contains(new), "{text}");
        let mut empty = DocumentMut::new();
        insert(&mut empty, "new", block).expect("free");
        assert_eq!(empty.to_string(), "[mcp_servers.new]\nurl = \"http://127.0.0.1:9/mcp\"\n");
    }

    #[test]
    fn what_cannot_be_done_is_told_with_the_names_that_are_there() {
        let no = |edit: &dyn Fn(&mut DocumentMut) -> Result<(), String>| edited(edit).expect_err("refused");
        assert_eq!(no(&|document| remove(document, "x")), "there is no server `x`: there are linear, git");
        assert!(no(&|document| insert(document, "git", Table::new())).contains("`trunkline remove git`"));
        assert!(no(&|document| rename(document, "git", "linear")).contains("already"));
        assert!(no(&|document| rename(document, "git", "")).contains("no name for a server"));
    }

    #[test]
    fn what_could_not_be_used_is_not_written_and_a_link_stays_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("config.toml"));
        fs::write(&real, FILE).expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let sources = Sources { file: Some(link.clone()), env: Vec::new(), flags: Flags::default() };
        let before = fs::read_to_string(&real).expect("there");
        let mut agreed = 0;
        let mut agree = |_| {
            agreed += 1;
            Ok(())
        };
        let spoil = |document: &mut DocumentMut| {
            document["mcp_servers"]["linear"]["url"] = value("no address");
            Ok(())
        };
        let bad = change(&sources, &spoil, &mut agree);
        let told = bad.expect_err("refused").to_string();
        assert!(told.contains("real.toml") && told.contains("linear.url") && !told.contains(".new"), "{told}");
        assert_eq!(fs::read_to_string(&real).expect("there"), before);
        change(&sources, &|document| switch(document, "linear", true), &mut agree).expect("sound");
        assert_eq!(agreed, 1);
        assert_ne!(fs::read_to_string(&real).expect("there"), before);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 2, "nothing is left lying about");
    }
}
