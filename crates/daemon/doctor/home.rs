//! The state directory, and the variables of a running daemon.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::report::{Finding, Mark, Report};

/// What lies in the state directory that is nobody else's business, and whether the directory says so (S-35).
pub(super) fn state(dir: &Path, report: &mut Report) {
    let Ok(data) = fs::metadata(dir) else {
        return report.note("state", Mark::Absent, format!("{} is not there; the daemon makes it", dir.display()));
    };
    let shown = dir.display();
    let word = trunkline_edge::advice::shell_word(&shown.to_string());
    let mut findings = Vec::new();
    if data.uid() != rustix::process::geteuid().as_raw() {
        let says = format!("{shown} belongs to another user (uid {})", data.uid());
        let advice = "Make yourself its owner, or set XDG_STATE_HOME to a directory of yours.";
        findings.push(Finding::error("TL-STATE", says, advice).by(format!("sudo chown -R \"$(id -u)\" {word}")));
    } else if data.mode() & 0o022 != 0 {
        let says = format!(
            "{shown} can be changed by other users (mode {:o}), so the daemon does not start",
            data.mode() & 0o777
        );
        findings.push(Finding::error("TL-STATE", says, "Take that right away.").by(format!("chmod go-w {word}")));
    } else if data.mode() & 0o077 != 0 {
        let says = format!("{shown} can be read by other users (mode {:o})", data.mode() & 0o777);
        let advice = "Close it; the daemon does so at its next start.";
        findings.push(Finding::warning("TL-STATE", says, advice).by(format!("chmod go= {word}")));
    } else {
        let open = files_that_are_open(dir);
        if let Some(first) = open.first() {
            let says = format!("{} can be read by other users, the first is {first}", files(open.len()));
            let advice = "Close them; what is in there is meant for you alone.";
            findings.push(Finding::warning("TL-STATE", says, advice).by(format!("chmod -R go= {word}")));
        }
    }
    report.part("state", format!("{shown}"), findings);
}

fn files(count: usize) -> String {
    crate::render::counted(count, "file")
}

/// Files of the directory and of those in it whose mode is wider than it should be.
fn files_that_are_open(dir: &Path) -> Vec<String> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().collect::<Vec<_>>();
    let (below, mut all): (Vec<_>, Vec<_>) =
        entries(dir).into_iter().partition(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    all.extend(below.iter().flat_map(|entry| entries(&entry.path())));
    let open = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|data| data.is_file() && data.mode() & 0o077 != 0);
    all.iter().filter(|entry| open(entry)).map(|entry| entry.path().display().to_string()).collect()
}

/// The variables that a process of ours was started with, where the system tells.
pub(super) fn variables(pid: u32) -> Option<Vec<(String, String)>> {
    let text = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let pair = |text: &[u8]| {
        let (name, value) = std::str::from_utf8(text).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Some(text.split(|byte| *byte == 0).filter_map(pair).collect())
}

/// The same variables with another `PATH`.
pub(super) fn with_path(env: &[(String, String)], path: String) -> Vec<(String, String)> {
    let others = env.iter().filter(|(name, _)| name != "PATH").cloned();
    others.chain([("PATH".to_owned(), path)]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    fn seen(dir: &Path) -> Option<(String, Option<String>)> {
        let mut report = Report::default();
        state(dir, &mut report);
        report.findings.pop().map(|finding| (finding.level, finding.command))
    }

    #[test]
    fn s35_a_state_directory_that_others_can_read_or_change_is_told_with_what_closes_it() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("state");
        assert_eq!(seen(&dir), None, "the daemon makes it");
        fs::create_dir_all(dir.join("signin")).expect("made");
        let file = dir.join("signin/linear");
        fs::write(&file, "secret").expect("written");
        mode(&file, 0o600);
        for (of, bits, level, command) in [
            (&dir, 0o777, "error", "chmod go-w "),
            (&dir, 0o755, "warning", "chmod go= "),
            (&file, 0o644, "warning", "chmod -R go= "),
        ] {
            mode(&dir, 0o700);
            assert_eq!(seen(&dir), None, "all is closed");
            mode(of, bits);
            let (seen, by) = seen(&dir).expect("it is open");
            assert_eq!(seen, level);
            assert_eq!(by, Some(format!("{command}{}", dir.display())));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_of_ours_tells_its_variables() {
        let own = variables(std::process::id()).expect("ours");
        assert!(own.iter().any(|(name, _)| name == "PATH"));
    }
}
