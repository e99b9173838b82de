//! `trunkline import`: the servers that other clients have, taken over into the configuration.
//!
//! Clients' files are only read. What would change is shown before anything is written; what is written is the
//! configuration, with everything that stands in it kept, and the secrets that stood in clients' files in plain text, each in
//! a file for its owner alone. A file with a mistake is named and left alone, and the others go on.

mod given;
mod kept;
mod plan;
mod secrets;
mod show;
mod translate;
mod variables;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use toml_edit::{Array, DocumentMut, Formatted, InlineTable, Item, Table};
use trunkline_config::{Listen, Sources};

pub(crate) use plan::{is_own, is_served};

use self::kept::Files;
use self::plan::{Planner, Row, Verdict};

use crate::clients::{self, Client, Found, Surroundings};
use crate::edit::{self, shown};
use crate::exit::Failure;
use crate::{confirm, render};

pub(crate) const EXAMPLES: &str = "\
Looked through, unless you name some: the files of codex, claude-code (with its projects), claude-desktop, cursor, vscode,
windsurf, zed and gemini; your own ones, and those of the directory that you are in. They are only read.

A token that stands there in plain text is put into a file that only you can read, and referred to: `--keep-literal`
copies it as it is. Nothing that stands in your configuration is changed.

Examples:
  trunkline import                           everything that is found; asks before it writes
  trunkline import codex cursor --dry-run    only shows what would be written
  trunkline import ~/shop/.mcp.json --yes    a file, without a question";

/// Whose servers are taken over, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Import {
    /// Clients, or files of theirs; without any, all that are found
    #[arg(value_name = "CLIENT|FILE")]
    from: Vec<String>,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write without asking
    #[arg(long, short)]
    yes: bool,
    /// Copy secrets into the configuration as they are, in place of a file for each
    #[arg(long)]
    keep_literal: bool,
    /// Print what was found, and what becomes of it, as JSON
    #[arg(long)]
    json: bool,
}

/// What was read.
#[derive(Default)]
struct Gathered {
    found: Vec<(Found, Map<String, Value>)>,
    /// Files that were there.
    files: Vec<(Client, PathBuf)>,
    problems: Vec<String>,
}

/// Takes servers over.
pub(crate) fn run(import: &Import, sources: &Sources) -> Result<String, Failure> {
    let at = Surroundings::here(&sources.env);
    let gathered = gather(&import.from, &at)?;
    let config = sources.file.clone().unwrap_or_else(|| trunkline_config::default_config_path(&sources.env));
    let (configured, port) = configured(&config, sources)?;
    let files = Files::beside(&config);
    let planner = Planner { at: &at, port, files: &files, keep_literal: import.keep_literal };
    let mut rows = planner.plan(&configured, gathered.found);
    for row in rows.iter_mut().filter(|row| row.verdict == Verdict::New) {
        let mut alone = DocumentMut::new();
        insert(&mut alone, row).map_err(Failure::failed)?;
        if let Some(why) = edit::unusable(&alone.to_string(), sources) {
            row.verdict = Verdict::LeftOut(why);
            row.kept.clear();
        }
    }
    let new: Vec<&Row> = rows.iter().filter(|row| row.verdict == Verdict::New).collect();
    let report = show::Report {
        rows: &rows,
        files: &gathered.files,
        problems: &gathered.problems,
        config: &config,
        home: &at.home,
    };
    if import.dry_run || new.is_empty() {
        return Ok(if import.json { report.json(false) } else { report.text(import.dry_run, &block_text(&new)?) });
    }
    if !import.yes {
        if import.json {
            return Err(Failure::usage("`--json` asks nobody: `--yes` writes, `--dry-run` only shows".to_owned()));
        }
        render::print(&report.text(false, ""));
        let question = format!("Write {} into {}?", render::counted(new.len(), "server"), shown(&config));
        if !confirm::ask(&question, "`--yes` writes without asking, `--dry-run` only shows")? {
            return Ok("nothing was written".to_owned());
        }
    }
    let kept: Vec<_> = new.iter().flat_map(|row| row.kept.iter().cloned()).collect();
    let written = files.write(&kept).map_err(|(path, error)| {
        Failure::failed(format!("cannot write {}: {error}; nothing was changed", shown(&path)))
    })?;
    let changed =
        edit::change(sources, &|document| new.iter().try_for_each(|row| insert(document, row)), &mut |_| Ok(()));
    if let Err(failure) = changed {
        kept::undo(&written);
        return Err(failure);
    }
    Ok(if import.json {
        report.json(true)
    } else {
        let before = if import.yes { report.text(false, "") + "\n" } else { String::new() };
        before + &report.done(&new)
    })
}

/// Reads the files that are meant.
fn gather(from: &[String], at: &Surroundings) -> Result<Gathered, Failure> {
    let mut out = Gathered::default();
    if from.is_empty() {
        for client in Client::ALL {
            look(client, at, &mut out);
        }
    }
    for word in from {
        if let Some(client) = Client::named(word) {
            let before = out.files.len() + out.problems.len();
            look(client, at, &mut out);
            if out.files.len() + out.problems.len() == before {
                let file = shown(&client.user_file(at));
                out.problems.push(format!("{} has no file here: {file} is not there", client.title()));
            }
        } else {
            named(word, at, &mut out)?;
        }
    }
    Ok(out)
}

fn look(client: Client, at: &Surroundings, out: &mut Gathered) {
    take(client, &client.user_file(at), None, out);
    // The file of the home directory is the user's own, and no project's.
    if at.project != at.home
        && let Some(file) = client.project_file(&at.project)
    {
        take(client, &file, Some(&at.project), out);
    }
}

/// A file that was named. Whose it is, is told by what it is called and what stands in it.
fn named(word: &str, at: &Surroundings, out: &mut Gathered) -> Result<(), Failure> {
    let path = std::path::absolute(word).unwrap_or_else(|_| PathBuf::from(word));
    let clients = || Client::ALL.map(Client::word).join(", ");
    if !path.exists() {
        let word = render::field(word);
        return Err(Failure::usage(format!("`{word}` is neither a file nor a client; clients are {}", clients())));
    }
    let known = Client::ALL.into_iter().find(|client| client.user_file(at) == path);
    if let Some(client) = known {
        take(client, &path, None, out);
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    let of_project = |client: &Client| {
        let project =
            if client.project_file(parent).as_deref() == Some(&path) { Some(parent) } else { parent.parent() };
        project.is_some_and(|project| client.project_file(project).as_deref() == Some(&path))
    };
    if let Some(client) = Client::ALL.into_iter().find(of_project) {
        let project = if client == Client::ClaudeCode { Some(parent) } else { parent.parent() };
        take(client, &path, project, out);
        return Ok(());
    }
    if path.extension().is_some_and(|end| end == "toml") {
        take(Client::Codex, &path, None, out);
        return Ok(());
    }
    for client in [Client::ClaudeCode, Client::Vscode, Client::Zed] {
        let before = out.found.len();
        take(client, &path, None, out);
        if out.found.len() > before || !out.problems.is_empty() {
            break;
        }
    }
    Ok(())
}

fn take(client: Client, path: &Path, project: Option<&Path>, out: &mut Gathered) {
    if out.files.iter().any(|(_, known)| known == path) && out.found.iter().any(|(found, _)| found.file == path) {
        return;
    }
    match clients::read(client, path, project) {
        Ok(None) => {}
        Ok(Some(reading)) => {
            if !out.files.iter().any(|(_, known)| known == path) {
                out.files.push((client, path.to_path_buf()));
            }
            out.problems.extend(reading.notes);
            out.found.extend(reading.servers.into_iter().map(|found| (found, reading.inputs.clone())));
        }
        Err(problem) => out.problems.push(format!("{problem}; it is left alone")),
    }
}

/// What stands in the configuration, in the form in which clients' servers are compared, and the port that the daemon has.
pub(crate) fn configured(config: &Path, sources: &Sources) -> Result<(Vec<Found>, u16), Failure> {
    if !config.exists() {
        return Ok((Vec::new(), Listen::PORT));
    }
    let loaded = trunkline_config::load(sources).map_err(|errors| {
        let text = format!("the configuration has to be mended first (`trunkline check`):\n{errors}");
        Failure::config(render::safe(&text))
    })?;
    let reading = clients::read(Client::Codex, config, None).map_err(Failure::config)?;
    Ok((reading.unwrap_or_default().servers, loaded.config.listen.port))
}

fn insert(document: &mut DocumentMut, row: &Row) -> Result<(), String> {
    let block = row.translated.as_ref().map(|translated| translated.block.as_slice());
    edit::insert(document, &row.name, table(block.unwrap_or_default()))
}

fn table(block: &[(String, Value)]) -> Table {
    let mut table = Table::new();
    for (key, value) in block {
        if let Some(value) = as_toml(value) {
            table.insert(key, Item::Value(value));
        }
    }
    table
}

fn as_toml(value: &Value) -> Option<toml_edit::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(yes) => (*yes).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "it has no fraction, and fits")]
                let whole = float as i64;
                whole.into()
            }
            (None, float) => float?.into(),
        },
        Value::String(text) => toml_edit::Value::String(Formatted::new(text.clone())),
        Value::Array(list) => list.iter().filter_map(as_toml).collect::<Array>().into(),
        Value::Object(pairs) => {
            let pairs = pairs.iter().filter_map(|(key, value)| Some((key.clone(), as_toml(value)?)));
            pairs.collect::<InlineTable>().into()
        }
    })
}

/// The lines that would be added, as they may be shown.
fn block_text(new: &[&Row]) -> Result<String, Failure> {
    let mut document = DocumentMut::new();
    for row in new {
        let block = row.translated.as_ref().map(|translated| secrets::masked(&translated.block));
        edit::insert(&mut document, &row.name, table(&block.unwrap_or_default())).map_err(Failure::failed)?;
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests;
