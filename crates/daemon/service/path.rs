//! The `PATH` of the login shell: what makes nvm, fnm, mise and Homebrew known there is in files that only a shell reads, and
//! a service manager has nothing of it.
//!
//! The shell is asked once, at `install`, as a terminal would start it. Files of the user's run then, so it has ten seconds,
//! and its answer is looked for between two marks, since such files print things.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::bounded;

/// A shell with many plugins takes a second or two.
const SHELL_TIMEOUT: Duration = Duration::from_secs(10);

const MARK: &str = "__trunkline_path__";

/// A `PATH`, and where it comes from, for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) path: String,
    pub(super) from: String,
}

/// Asks the login shell of whoever's variables these are; their own `PATH` if it does not answer.
pub(super) fn captured(env: &[(String, String)]) -> Captured {
    let variable = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let own = variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let shell = variable("SHELL").filter(|shell| shell.starts_with('/')).unwrap_or("/bin/sh");
    let (text, from) = match asked(shell) {
        Ok(path) => (path, format!("your login shell, {shell}")),
        Err(why) => (own.to_owned(), format!("here, since your login shell {shell} did not tell: {why}")),
    };
    Captured { path: lasting(&text), from }
}

fn asked(shell: &str) -> Result<String, String> {
    // In quotes: fish, too, joins the list by colons then. Blanks: what else could follow the name means something to one
    // shell or another.
    let script = format!("printf '%s' \"{MARK} $PATH {MARK}\"");
    let ended = bounded::run(Command::new(shell).args(["-l", "-i", "-c", &script]), SHELL_TIMEOUT);
    let ended = ended.map_err(|error| error.to_string())?;
    let between = ended.out.split(MARK).nth(1).map(str::trim).filter(|path| !path.is_empty());
    between.map(str::to_owned).ok_or_else(|| "it printed none".to_owned())
}

/// Directories that will be there tomorrow, each once: fnm has a link of its own for each terminal, below the runtime
/// directory, and what it leads to lasts.
fn lasting(path: &str) -> String {
    let fleeting = |directory: &str| {
        directory.contains("fnm_multishells") || ["/run/", "/tmp/"].iter().any(|place| directory.starts_with(place))
    };
    let mut kept: Vec<String> = Vec::new();
    for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
        let directory = match fs::canonicalize(directory) {
            Ok(real) if fleeting(directory) => real.display().to_string(),
            _ => directory.to_owned(),
        };
        if !fleeting(&directory) && !kept.contains(&directory) {
            kept.push(directory);
        }
    }
    kept.join(":")
}

/// The directories of a `PATH` that are not there.
pub(crate) fn gone(path: &str) -> Vec<&str> {
    path.split(':').filter(|directory| !Path::new(directory).is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Variables of somebody whose shell is this script.
    fn with_shell(directory: &Path, script: &str) -> Vec<(String, String)> {
        let shell = directory.join("shell");
        fs::write(&shell, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).expect("ours");
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![pair("SHELL", shell.display().to_string()), pair("PATH", "/own/bin".to_owned())]
    }

    #[test]
    fn the_login_shell_is_asked_and_what_its_files_print_is_no_answer() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = "echo \"Welcome to $PATH\"; [ \"$1 $2 $3\" = '-l -i -c' ] || exit 1\nPATH=/nvm/bin:/usr/bin:relative:/nvm/bin; \
                      eval \"$4\"; echo bye";
        let captured = captured(&with_shell(dir.path(), script));
        assert_eq!(captured.path, "/nvm/bin:/usr/bin");
        assert!(captured.from.starts_with("your login shell"), "{captured:?}");
    }

    #[test]
    fn a_shell_that_says_nothing_leaves_the_own_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let captured = captured(&with_shell(dir.path(), "echo no; exit 1"));
        assert_eq!(captured.path, "/own/bin");
        assert!(captured.from.contains("it printed none"), "{captured:?}");
    }

    #[test]
    fn what_lasts_as_long_as_a_terminal_is_replaced_by_what_it_leads_to() {
        let dir = tempfile::tempdir().expect("a directory");
        // The directory itself is one of those that go, so what the link leads to lies elsewhere.
        let (link, real) = (dir.path().join("fnm_multishells/1_2"), Path::new("/usr"));
        fs::create_dir_all(link.parent().expect("a directory")).expect("made");
        std::os::unix::fs::symlink(real, &link).expect("linked");
        let path = format!("{}/bin:/tmp/gone:/bin", link.display());
        assert_eq!(lasting(&path), "/usr/bin:/bin");
        assert_eq!(gone("/usr/bin:/no/such"), ["/no/such"]);
    }
}
