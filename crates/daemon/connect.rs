//! `trunkline connect`: the one entry in a client's own file, and the way back.
//!
//! The file is changed in one place, and what is changed is shown first. Its bytes from before lie in the state directory
//! (`ledger.rs`), so that `--undo` brings back every one of them if the file is as it was left; if somebody has edited it
//! since, only what is ours is taken out, and that is said. Links are followed, rights stay, and the new file takes the
//! old one's place whole. Servers that the gateway serves too are switched off there on request alone.

mod approvals;
mod change;
mod diff;
mod entry;
mod json;
mod ledger;
mod running;
mod toml;
mod undo;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use trunkline_config::{Config, Sources};

use self::change::Difference;
use self::ledger::{Change, Ledger, Named, Off};
use crate::clients::{self, Client, Found, Surroundings};
use crate::edit::shown;
use crate::exit::Failure;
use crate::import::{configured, is_own, is_served};
use crate::{confirm, render, swap};

pub(crate) const EXAMPLES: &str = "\
The entry is shown as a difference before it is written, and the file's bytes from before are kept: `--undo` brings them
back. If you have edited the file since, it takes out what is ours and leaves the rest.

`--switch-off` also switches off the servers in that file that Trunkline serves, so that the client has each once.

Examples:
  trunkline connect codex                    your own file, for every project
  trunkline connect claude-code --project    the file of the project that you are in
  trunkline connect cursor --switch-off
  trunkline connect codex --print            only shows what would be written
  trunkline connect codex --undo";

/// The entry's name unless another one is wanted: it stands in the name of every tool that a model sees, so it is short.
const NAME: &str = "tl";

/// How long a daemon may take to accept a connection, when it is only asked whether it is there.
const LOOK: Duration = Duration::from_millis(300);

/// Which client, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Connect {
    /// The client
    client: Client,
    /// The file of the project in this directory, in place of your own for all projects
    #[arg(long)]
    project: bool,
    /// Only show what would be written
    #[arg(long, conflicts_with = "undo")]
    print: bool,
    /// Write without asking
    #[arg(long, short)]
    yes: bool,
    /// Also switch off the servers there that Trunkline serves
    #[arg(long, conflicts_with = "undo")]
    switch_off: bool,
    /// Take back what was written and switched off
    #[arg(long)]
    undo: bool,
    /// Let Codex send calls of every kind at once
    #[arg(long, conflicts_with = "undo")]
    parallel: bool,
    /// What the entry is called there
    #[arg(long, default_value = NAME)]
    name: String,
}

/// A client's file as it is.
struct Place {
    client: Client,
    /// The file itself, behind all links.
    file: PathBuf,
    /// The path as people know it.
    shown: String,
    bytes: Option<Vec<u8>>,
    text: String,
}

/// Connects a client, or takes that back.
pub(crate) fn run(connect: &Connect, sources: &Sources, state_dir: &Path) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if connect.name.is_empty() || !connect.name.chars().all(plain) {
        return Err(Failure::usage("`--name` is of letters, digits, `_` and `-`".to_owned()));
    }
    let at = Surroundings::here(&sources.env);
    let place = Place::of(connect, &at)?;
    let ledger = Ledger::of(state_dir, connect.client.word(), &place.file);
    if connect.undo {
        return undo::run(&place, &ledger, connect.yes);
    }
    let word = connect.client.word();
    if connect.parallel && connect.client != Client::Codex {
        return Err(Failure::usage(format!(
            "`--parallel` is for codex: {word} decides by itself what it sends at once"
        )));
    }
    let config = sources.file.clone().unwrap_or_else(|| trunkline_config::default_config_path(&sources.env));
    let mut loaded = load(&config, sources)?;
    let (known, usual) = configured(&config, sources)?;
    let running = running::elsewhere(&loaded.listen, state_dir)?.map(|at| (at, running::note(at, &loaded.listen)));
    if let Some((at, _)) = &running {
        (loaded.listen.hosts, loaded.listen.port) = (vec![at.ip()], at.port());
    }
    let port = running.as_ref().map_or(usual, |(at, _)| at.port());
    let project = connect.project.then_some(at.project.as_path());
    let reading = clients::read(connect.client, &place.file, project);
    let reading = reading.map_err(|why| Failure::failed(format!("{why}; nothing was written")))?.unwrap_or_default();
    let there: Vec<&Found> = reading.servers.iter().filter(|found| found.project.as_deref() == project).collect();

    let entry = entry::of(connect, &loaded, &config, sources)?;
    let name = name(connect, &place, &there, [port, usual])?;
    let written = there.iter().find(|found| found.name == name).map(|found| &found.entry);
    let change = change::of(&entry, written);
    let config_at = config.as_path();
    // Claude Code keeps the servers of projects in the same file.
    let twice: Vec<Named> = reading
        .servers
        .iter()
        .filter(|found| found.project.as_deref() != project || found.name != name)
        .filter(|found| is_on(found) && is_served(found, &at, &known, config_at))
        .map(|found| Named::of(found, project))
        .collect();
    let switch_off = connect.switch_off || (!twice.is_empty() && asked_to_switch_off(connect, &place, &twice)?);
    let (mut text, mut off) = (place.text.clone(), Vec::new());
    if !change.is_empty() {
        text = put(&place, &text, &name, &change).map_err(|why| place.unchanged(&why))?;
    }
    if switch_off {
        (text, off) = switched_off(&place, &text, &twice).map_err(|why| place.unchanged(&why))?;
    }
    let mut notes = entry::notes(connect, &loaded, &twice, switch_off);
    // The bridge asks by itself where the daemon is.
    if let Some((_, note)) = running.filter(|_| !entry.iter().any(|(key, _)| key == "command")) {
        notes.extend(["\n", &note, "\n"]);
    }
    if connect.client == Client::Codex {
        let others = there.iter().copied().filter(|found| found.name != name);
        let taken_over: Vec<&Found> = others.filter(|found| is_served(found, &at, &known, config_at)).collect();
        if let Some(note) = approvals::note(&taken_over, written, &name) {
            notes.extend(["\n", &note, "\n"]);
        }
    }
    if text == place.text {
        return Ok(format!(
            "{} is connected already: {} has it as `{name}`\n{notes}",
            connect.client.title(),
            place.shown
        ));
    }
    let shown_diff = format!("{}:\n\n{}", place.shown, diff::diff(&place.text, &text));
    if connect.print {
        return Ok(shown_diff);
    }
    render::print(&format!("{shown_diff}\n"));
    if !connect.yes && !confirm::ask("Write this?", "`--yes` writes without asking, `--print` only shows")? {
        return Ok("nothing was written".to_owned());
    }
    let done = Change { file: place.file.clone(), name, existed: place.bytes.is_some(), off };
    let before = place.bytes.clone().unwrap_or_default();
    let after = place.with_mark(&text);
    let kept = ledger.keep(done, &before, &after);
    let kept =
        kept.map_err(|error| place.unchanged(&format!("its bytes cannot be kept in the state directory: {error}")))?;
    swap::replace(&place.file, place.bytes.as_deref(), &after)?;
    kept.done();
    let daemon = if answers(port) {
        String::new()
    } else {
        "\nNo daemon answers at this address yet: `trunkline serve` starts one.".to_owned()
    };
    Ok(format!(
        "{} is connected from its next start on. `trunkline connect {word}{} --undo` takes it back.{daemon}\n{notes}",
        connect.client.title(),
        if connect.project { " --project" } else { "" },
    ))
}

/// What the entry is called: as ours is that is there, at the port that the daemon has or at the one it usually has.
fn name(connect: &Connect, place: &Place, there: &[&Found], ports: [u16; 2]) -> Result<String, Failure> {
    let own = |port: u16| there.iter().find(|found| is_own(&found.entry, port));
    if let Some(own) = ports.into_iter().find_map(own) {
        return Ok(own.name.clone());
    }
    let taken = there.iter().find(|found| found.name == connect.name);
    if taken.is_some_and(|taken| !entry::was_ours(&taken.entry)) {
        return Err(Failure::failed(format!(
            "{} has another server of the name `{}`; `--name` calls ours otherwise",
            place.shown,
            render::field(&connect.name)
        )));
    }
    Ok(connect.name.clone())
}

impl Place {
    fn of(connect: &Connect, at: &Surroundings) -> Result<Self, Failure> {
        let client = connect.client;
        let file = if connect.project {
            client
                .project_file(&at.project)
                .ok_or_else(|| Failure::usage(format!("{} has no file for a single project", client.title())))?
        } else {
            client.user_file(at)
        };
        let shown = shown(&file);
        let file = swap::behind_links(&file)?;
        let bytes = clients::bytes(&file).map_err(|why| Failure::failed(format!("{why}; nothing was written")))?;
        let text = String::from_utf8(bytes.clone().unwrap_or_default())
            .map_err(|_| Failure::failed(format!("{shown}: is no UTF-8 text; nothing was written")))?;
        let text = text.strip_prefix(MARK).map(str::to_owned).unwrap_or(text);
        Ok(Self { client, file, shown, bytes, text })
    }

    /// A text as bytes of this file, with the byte order mark that it may begin with.
    fn with_mark(&self, text: &str) -> Vec<u8> {
        let marked = self.bytes.as_ref().is_some_and(|bytes| bytes.starts_with(MARK.as_bytes()));
        if marked { format!("{MARK}{text}").into_bytes() } else { text.as_bytes().to_vec() }
    }

    fn unchanged(&self, why: &str) -> Failure {
        Failure::failed(format!("{}: {why}; nothing was written", self.shown))
    }
}

/// What some editors put in front of a text.
const MARK: &str = "\u{feff}";

fn load(config: &Path, sources: &Sources) -> Result<Config, Failure> {
    if !config.exists() {
        return Ok(Config::default());
    }
    let loaded = trunkline_config::load(sources).map_err(|errors| {
        Failure::config(render::safe(&format!(
            "the configuration has to be mended first (`trunkline check`):\n{errors}"
        )))
    })?;
    Ok(loaded.config)
}

fn put(place: &Place, text: &str, name: &str, change: &Difference) -> Result<String, String> {
    if place.client == Client::Codex {
        return toml::put(text, name, change);
    }
    let document = json::Document::parse(place.client, text)?;
    document.put(name, change)?;
    Ok(document.text())
}

fn switched_off(place: &Place, text: &str, names: &[Named]) -> Result<(String, Vec<Off>), String> {
    let mut off = Vec::new();
    if place.client == Client::Codex {
        let mut text = text.to_owned();
        for Named { name, .. } in names {
            let (after, one) =
                toml::switch_off(&text, name).ok_or_else(|| format!("`{name}` cannot be switched off"))?;
            text = after;
            off.push(one);
        }
        return Ok((text, off));
    }
    let document = json::Document::parse(place.client, text)?;
    for named in names {
        off.push(document.switch_off(named).ok_or_else(|| format!("`{}` cannot be switched off", named.name))?);
    }
    Ok((document.text(), off))
}

/// Whether a client starts this server.
fn is_on(found: &Found) -> bool {
    let is = |key: &str, value: bool| found.entry.get(key) == Some(&Value::Bool(value));
    !(found.off || is("enabled", false) || is("disabled", true))
}

fn asked_to_switch_off(connect: &Connect, place: &Place, twice: &[Named]) -> Result<bool, Failure> {
    if connect.print || connect.yes || !confirm::can_ask() {
        return Ok(false);
    }
    let names: Vec<String> = twice.iter().map(Named::shown).collect();
    let question = format!(
        "Trunkline serves {} in {} too: {}. Switch {} off there?",
        render::counted(twice.len(), "server"),
        place.shown,
        names.join(", "),
        if twice.len() == 1 { "it" } else { "them" }
    );
    confirm::ask(&question, "`--switch-off` says so")
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), LOOK).is_ok()
}

#[cfg(test)]
mod tests;
