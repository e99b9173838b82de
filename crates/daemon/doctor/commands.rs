//! The commands of the servers: is each there, in the `PATH` that it will be looked for in, and if it is a script, is the
//! program there that reads it? A launcher of Node is one (`#!/usr/bin/env node`), and fails by an exit code that says
//! little.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use trunkline_config::{Config, Connect, Stdio};
use trunkline_upstream::find_program;

use super::report::{Finding, Mark, Report};

/// The first line of a script is no longer than this anywhere that matters.
const SHEBANG_BYTES: u64 = 256;

/// Looks for the command of each enabled server. `inherited` are the variables of the daemon, or of whoever would start it.
pub(super) fn examine(config: &Config, inherited: &[(String, String)], whose: &str, report: &mut Report) {
    let children = config.servers.iter().filter(|(_, server)| server.enabled);
    let children: Vec<_> = children
        .filter_map(|(name, server)| match &server.connect {
            Connect::Stdio(stdio) => Some((name.as_str(), stdio)),
            Connect::Http(_) => None,
        })
        .collect();
    if children.is_empty() {
        return report.note("commands", Mark::Absent, "no server is a program of this machine");
    }
    let findings: Vec<Finding> =
        children.iter().filter_map(|(name, stdio)| Some(look(stdio, inherited)?.of(*name))).collect();
    let says = format!("{} of {} are there, by {whose}", children.len() - findings.len(), children.len());
    report.part("commands", says, findings);
}

fn look(stdio: &Stdio, inherited: &[(String, String)]) -> Option<Finding> {
    let advice = "Install it, or give its full path; if your shell finds it, have your shell's PATH taken over.";
    let (program, path) = match find_program(stdio, inherited) {
        Ok(found) => found,
        Err(why) => return Some(Finding::error("TL-COMMAND", why, advice).by("trunkline service install")),
    };
    let interpreter = interpreter(&program)?;
    let missing = if interpreter.starts_with('/') {
        !Path::new(&interpreter).exists()
    } else {
        in_path(&interpreter, &path).is_none()
    };
    let says = || {
        format!(
            "{} is a script for `{interpreter}`, which is not in the PATH that it is started with: {path}",
            program.display()
        )
    };
    missing.then(|| Finding::error("TL-INTERPRETER", says(), advice).by("trunkline service install"))
}

/// The program that reads a script: a path, or the name that `env` looks for.
fn interpreter(program: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(program).ok()?.take(SHEBANG_BYTES).read_to_end(&mut head).ok()?;
    let text = String::from_utf8_lossy(head.strip_prefix(b"#!")?).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name().is_some_and(|name| name == "env") {
        return words.find(|word| !word.starts_with('-') && !word.contains('=')).map(str::to_owned);
    }
    Some(first.to_owned())
}

/// The file of this name that a directory of `path` has.
pub(super) fn in_path(name: &str, path: &str) -> Option<PathBuf> {
    let mut files = path.split(':').filter(|directory| directory.starts_with('/')).map(|at| Path::new(at).join(name));
    files.find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(directory: &Path, name: &str, text: &str) {
        let path = directory.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    #[test]
    fn a_script_whose_interpreter_is_not_in_the_path_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        script(dir.path(), "launcher", "#!/usr/bin/env -S no-such-node --quiet\n");
        let inherited = [("PATH".to_owned(), dir.path().display().to_string())];
        let told = look(&Stdio::new("launcher", []), &inherited).expect("it cannot run");
        assert_eq!(told.code, "TL-INTERPRETER");
        assert!(told.says.contains("`no-such-node`"), "{told:?}");
        script(dir.path(), "no-such-node", "#!/bin/sh\n");
        assert_eq!(look(&Stdio::new("launcher", []), &inherited), None, "now it is there");
        script(dir.path(), "absolute", "#!/nowhere/python -u\n");
        let told = look(&Stdio::new("absolute", []), &inherited).expect("it cannot run");
        assert!(told.says.contains("`/nowhere/python`"), "{told:?}");
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_where_it_was_looked_for() {
        let told = look(&Stdio::new("no-such-command", []), &[("PATH".to_owned(), "/nowhere".to_owned())]);
        let told = told.expect("it is not there");
        assert_eq!(told.code, "TL-COMMAND");
        assert!(told.says.contains("`no-such-command`") && told.says.contains("/nowhere"), "{told:?}");
    }
}
