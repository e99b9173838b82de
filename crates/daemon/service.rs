//! `trunkline service`: the daemon as a service of this user, started at login and kept running by systemd or launchd
//! (reliability 12).
//!
//! What is written comes from the files in `deploy/`, which are in the binary, with the paths, the port and the `PATH` of
//! this user put in (`files.rs`, `path.rs`). `systemd.rs` and `launchd.rs` know which calls make each change; every call that
//! changes something is shown. Nothing needs the rights of root, and nothing is done that `uninstall` does not undo.

mod bounded;
mod files;
mod launchd;
mod path;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use trunkline_config::Sources;

use self::files::{Facts, File};
use crate::exit::{self, Failure};
use crate::render;

pub(crate) use self::files::{installed_addresses, installed_unit, is_absent};
pub(crate) use self::path::gone;
pub(crate) use self::systemd::is_active;

/// The help's last words.
pub(crate) const EXAMPLES: &str = "\
It is a service of yours, not of the machine: no rights of root are needed, and `uninstall`
undoes all of it. The PATH of your login shell is written into it, so that npx, uvx and their
like are found as in your terminal; after a change of your tools `install` takes it over anew,
and `trunkline doctor` says when that is due.

Examples:
  trunkline service print                    what would be written, and nothing else
  trunkline service install                  writes it, starts it, and has it start at login
  trunkline service logs --follow";

/// What is done to the service.
#[derive(Debug, Args)]
pub(crate) struct Service {
    #[command(subcommand)]
    action: Action,
    /// The service manager, where it is not the system's usual one.
    #[arg(long, global = true, hide = true)]
    manager: Option<Manager>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    Systemd,
    Launchd,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write it, start it, and have it start at login; again after an upgrade or a change of your PATH
    Install,
    /// Stop it and take it away; configuration, sign-ins and state stay
    Uninstall,
    /// Start it
    Start,
    /// Stop it, until it is started or you log in anew
    Stop,
    /// Stop it, letting calls end, and start it anew; clients wait and go on
    Restart,
    /// Say whether it is installed and runs
    Status,
    /// Show what it wrote to its log
    Logs {
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// How many lines to begin with
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: u32,
    },
    /// Print what `install` would write
    Print,
}

/// What was done or seen, and whether it is good news.
struct Told {
    text: String,
    well: bool,
}

impl Told {
    fn good(text: impl Into<String>) -> Self {
        Self { text: text.into(), well: true }
    }
}

/// Carries out what was asked.
pub(crate) fn run(service: &Service, sources: &Sources, state_dir: &Path) -> ExitCode {
    let told = match service.manager.unwrap_or_else(Manager::of_this_system) {
        Manager::Systemd => systemd::run(&service.action, &Place { sources, state_dir }),
        Manager::Launchd => launchd::run(&service.action, &Place { sources, state_dir }),
    };
    match told {
        Ok(Told { text, well }) => exit::printed(&text, well),
        Err(failure) => exit::report(Err(failure)),
    }
}

impl Manager {
    pub(crate) fn of_this_system() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// Where the service's facts come from.
struct Place<'a> {
    sources: &'a Sources,
    state_dir: &'a Path,
}

impl Place<'_> {
    /// All that goes into the files. The configuration must be sound: a service that ends at once helps nobody.
    fn facts(&self) -> Result<Facts, Failure> {
        let loaded = trunkline_config::load(self.sources).map_err(|errors| {
            Failure::config(render::safe(&format!("the configuration cannot be used, so nothing was done:\n{errors}")))
        })?;
        if loaded.config.listen.port == 0 {
            return Err(Failure::config("a service needs a `port` in `[listen]` that is not 0".to_owned()));
        }
        Facts::gather(self.sources, self.state_dir, &loaded.config.listen)
    }

    fn env(&self) -> &[(String, String)] {
        &self.sources.env
    }
}

/// Writes a file, at once and whole, if it is not there as it should be. Says what it did; `None`: nothing.
fn write(file: &File) -> Result<Option<String>, Failure> {
    let failed = |error: &io::Error| Failure::failed(format!("{} cannot be written: {error}", file.path.display()));
    let before = std::fs::read_to_string(&file.path).ok();
    if before.as_deref() == Some(&file.text) {
        return Ok(None);
    }
    let directory = file.path.parent().unwrap_or_else(|| Path::new("/"));
    std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    let mut said = format!("wrote {}", file.path.display());
    // One that was put there by hand may hold what its owner wants back.
    if before.is_some_and(|before| !before.contains(files::MARK)) {
        let kept = with_ending(&file.path, "before");
        std::fs::copy(&file.path, &kept).map_err(|error| failed(&error))?;
        said = format!("{said}; what was there is kept as {}", kept.display());
    }
    let staged = with_ending(&file.path, "new");
    std::fs::write(&staged, &file.text)
        .and_then(|()| std::fs::rename(&staged, &file.path))
        .map_err(|error| failed(&error))?;
    Ok(Some(said))
}

/// Takes a file away; whether it was there.
fn remove(path: &Path) -> Result<bool, Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::failed(format!("{} cannot be removed: {error}", path.display()))),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// What `print` prints: each file under its name.
fn printed(files: &[File]) -> Told {
    let texts = files.iter().map(|file| format!("# {}\n{}", file.path.display(), file.text));
    Told::good(texts.collect::<Vec<_>>().join("\n"))
}

/// What to do next, once it runs.
fn next_steps(facts: &Facts) -> String {
    format!(
        "It runs, starts at login, and is at {url}\n\nNext:\n  trunkline status            how your servers are\n  \
         trunkline connect codex     gives a client the one URL\n  trunkline doctor            if anything is not as it \
         should be\n",
        url = facts.url()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_put_there_by_hand_is_kept_and_ours_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below/unit");
        let file = |text: &str| File { path: path.clone(), text: format!("# {}\n{text}", files::MARK) };
        assert!(write(&file("one")).expect("written").is_some_and(|said| !said.contains("kept")));
        assert_eq!(write(&file("one")).expect("as it should be"), None);
        assert!(write(&file("two")).expect("written").is_some_and(|said| !said.contains("kept")));
        std::fs::write(&path, "by hand").expect("written");
        assert!(write(&file("two")).expect("written").is_some_and(|said| said.contains("kept as")));
        assert_eq!(std::fs::read_to_string(dir.path().join("below/unit.before")).expect("kept"), "by hand");
        assert!(remove(&path).expect("removed") && !remove(&path).expect("gone already"));
    }
}
