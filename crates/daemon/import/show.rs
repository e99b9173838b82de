//! What a person and a script read of an import. Nothing of a secret is shown, only where it stood and where it goes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trunkline_telemetry::redact::{self, Scrubber};

use super::kept::DIRECTORY;
use super::plan::{Row, Verdict};
use crate::clients::{Client, Found};
use crate::edit::shown;
use crate::render::{self, Table, field};

/// What was found, and what becomes of it.
pub(super) struct Report<'a> {
    pub(super) rows: &'a [Row],
    pub(super) files: &'a [(Client, PathBuf)],
    pub(super) problems: &'a [String],
    pub(super) config: &'a Path,
    pub(super) home: &'a Path,
}

impl Report<'_> {
    /// The table, and below it what does not fit into one. `lines`: what would be written, for a dry run.
    pub(super) fn text(&self, dry: bool, lines: &str) -> String {
        let mut out = String::new();
        if self.files.is_empty() && self.problems.is_empty() {
            return "No client's file was found, so there is nothing to take over.\n\
                    A file of another client can be named: trunkline import FILE\n"
                .to_owned();
        }
        for (client, file) in self.files {
            let own = self.rows.iter().filter(|row| row.found.file == *file).count();
            let _ = writeln!(out, "{}: {}, {}", client.title(), self.short(file), render::counted(own, "server"));
        }
        if !self.rows.is_empty() {
            let mut table = Table::new(&["SERVER", "FROM", "WHAT", "REACHED BY"]);
            for row in self.rows {
                table.row([field(&row.name), from(&row.found), what(row), reached_by(row)]);
            }
            let _ = write!(out, "\n{table}");
        }
        let mut notes = Vec::new();
        for row in self.rows.iter().filter(|row| row.verdict == Verdict::New) {
            let name = field(&row.name);
            let translated = row.translated.as_ref();
            if let Some((other, names)) = &row.unlike {
                let (other, names) = (field(other), field(&names.join(", ")));
                notes.push(format!("{name}: reached as {other} is, but not the same: {names}"));
            }
            for kept in &row.kept {
                let (place, file) = (field(&kept.place), field(&kept.file));
                notes.push(format!(
                    "{name}: {place} looks like a secret; it goes into {DIRECTORY}/{file}, for you alone"
                ));
            }
            for need in translated.into_iter().flat_map(|translated| &translated.needs) {
                notes.push(format!("{name}: {}", field(need)));
            }
            let left: Vec<String> =
                translated.into_iter().flat_map(|translated| &translated.left_out).map(|key| field(key)).collect();
            if !left.is_empty() {
                notes.push(format!("{name}: left out: {}", left.join(", ")));
            }
        }
        notes.extend(self.problems.iter().map(|problem| field(problem)));
        if !notes.is_empty() {
            let _ = writeln!(out, "\n{}", notes.join("\n"));
        }
        if self.fresh().next().is_none() {
            let _ = writeln!(out, "\nNothing new: {} stays as it is.", self.short(self.config));
        } else if dry {
            let _ = writeln!(out, "\n{} would get:\n\n{}", self.short(self.config), render::safe(lines));
        }
        out
    }

    /// What to do now.
    pub(super) fn done(&self, new: &[&Row]) -> String {
        let config = self.short(self.config);
        let mut clients: Vec<&str> = self.rows.iter().map(|row| row.found.client.word()).collect();
        clients.dedup();
        let first = clients.first().copied().unwrap_or("codex");
        format!(
            "{} written into {config}.\n\nNext:\n  \
             trunkline serve             serves them; a running daemon has taken them up already\n  \
             trunkline status            says how each is doing\n  \
             trunkline connect {first:<10}gives {} the one URL, and can switch off what it has twice then\n",
            if new.len() == 1 { "1 server was".to_owned() } else { format!("{} servers were", new.len()) },
            self.rows.first().map_or("Codex", |row| row.found.client.title()),
        )
    }

    /// The same for a script.
    pub(super) fn json(&self, written: bool) -> String {
        let servers: Vec<Value> = self.rows.iter().map(server_json).collect();
        let files: Vec<Value> =
            self.files.iter().map(|(client, file)| json!({ "client": client.word(), "file": file })).collect();
        let report = json!({
            "config": self.config,
            "written": written,
            "files": files,
            "servers": servers,
            "problems": self.problems,
        });
        render::safe_json(&format!("{report:#}\n"))
    }

    fn short(&self, path: &Path) -> String {
        short(path, self.home)
    }

    fn fresh(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict == Verdict::New)
    }
}

/// A path as people write it.
fn short(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(below) if home != Path::new("/") => shown(&Path::new("~").join(below)),
        _ => shown(path),
    }
}

fn server_json(row: &Row) -> Value {
    let (verdict, detail) = match &row.verdict {
        Verdict::New => ("new", Value::Null),
        Verdict::Same => ("same", Value::Null),
        Verdict::Differs(keys) => ("differs", json!(keys)),
        Verdict::Duplicate(of) => ("duplicate", json!(of)),
        Verdict::Own => ("own", Value::Null),
        Verdict::LeftOut(why) => ("left_out", json!(why)),
    };
    let translated = row.translated.as_ref();
    json!({
        "name": row.name,
        "client": row.found.client.word(),
        "file": row.found.file,
        "project": row.found.project,
        "name_there": row.found.name,
        "verdict": verdict,
        "detail": detail,
        "off_there": row.off_there,
        "on_in": row.on_in.map(Client::word),
        "unlike": row.unlike.as_ref().map(|(name, differs)| json!({ "name": name, "differs": differs })),
        "secrets": row.kept.iter().map(|kept| format!("{DIRECTORY}/{}", kept.file)).collect::<Vec<_>>(),
        "needs": translated.map(|translated| translated.needs.clone()).unwrap_or_default(),
        "left_out": translated.map(|translated| translated.left_out.clone()).unwrap_or_default(),
    })
}

fn from(found: &Found) -> String {
    let project = found.project.as_deref().and_then(Path::file_name);
    match project {
        Some(project) => format!("{} ({})", found.client.word(), field(&project.to_string_lossy())),
        None => found.client.word().to_owned(),
    }
}

fn what(row: &Row) -> String {
    match &row.verdict {
        Verdict::New => {
            let off = match (row.off_there, row.on_in) {
                (true, Some(client)) => format!(", off there, on in {}", client.word()),
                (true, None) => ", switched off".to_owned(),
                (false, _) => String::new(),
            };
            let renamed = if row.name == row.found.name {
                String::new()
            } else {
                format!(", is `{}` there", field(&row.found.name))
            };
            format!("new{off}{renamed}")
        }
        Verdict::Same => "known already".to_owned(),
        Verdict::Differs(keys) => format!("kept as configured; differs there: {}", field(&keys.join(", "))),
        Verdict::Duplicate(of) => {
            let off = if row.off_there { ", off there" } else { "" };
            let named =
                if *of == row.found.name { String::new() } else { format!(", is `{}` there", field(&row.found.name)) };
            format!("the same{off}{named}")
        }
        Verdict::Own => "Trunkline itself".to_owned(),
        Verdict::LeftOut(why) => format!("left out: {}", field(why)),
    }
}

/// What it is, without what may be secret in it.
fn reached_by(row: &Row) -> String {
    let Some(translated) = &row.translated else { return "-".to_owned() };
    if let Some(url) = translated.get("url").and_then(Value::as_str) {
        return field(&if url.starts_with("${") { "an address that is kept".to_owned() } else { redact::url(url) });
    }
    let args = translated.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let command = translated.get("command").and_then(Value::as_str).map(program);
    let words: Vec<&str> = command.as_deref().into_iter().chain(args).collect();
    redact::printable(&Scrubber::default().scrub(&words.join(" ")), COMMAND_BYTES_MAX)
}

/// A program as it is told from others: of a long path the end, since a line that is cut loses that.
fn program(command: &str) -> String {
    let name = Path::new(command).file_name().filter(|_| command.len() > COMMAND_BYTES_MAX / 2);
    name.map_or_else(|| command.to_owned(), |name| format!("…/{}", name.to_string_lossy()))
}

/// Enough to know a command by.
const COMMAND_BYTES_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_shown_by_its_end() {
        assert_eq!(program("/opt/tools/some/where/version-1.2/bin/git-mcp"), "…/git-mcp");
        assert_eq!(program("./tools/db-mcp"), "./tools/db-mcp");
        assert_eq!(program("npx"), "npx");
    }
}
