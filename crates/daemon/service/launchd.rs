//! The service as a job of the user's launchd. Written by the manual, and proven with a stand-in for `launchctl`: nobody has
//! tried it on a Mac yet.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::files::{LABEL, home, log_path, plist_path};
use super::{Action, Place, Told, bounded, next_steps, printed, remove, write};
use crate::exit::Failure;
use crate::lock;

/// A stop may take 45 s by the job.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

pub(super) fn run(action: &Action, place: &Place<'_>) -> Result<Told, Failure> {
    let file = plist_path(&home(place.env()));
    match action {
        Action::Print => Ok(printed(&[place.facts()?.plist()])),
        Action::Install => install(place),
        Action::Uninstall => {
            if !file.exists() {
                return Ok(Told::good("it is not installed"));
            }
            if is_loaded() {
                call(&["bootout", &job()])?;
            }
            remove(&file)?;
            let rest =
                "it is stopped and does not start any more; configuration, sign-ins and state are where they were";
            Ok(Told::good(format!("removed {}\n{rest}", file.display())))
        }
        Action::Start => {
            installed(place)?;
            begin(&file)?;
            Ok(Told::good("it runs"))
        }
        Action::Stop => {
            installed(place)?;
            if is_loaded() {
                call(&["bootout", &job()])?;
            }
            Ok(Told::good("it is stopped; `trunkline service start` starts it again"))
        }
        Action::Restart => {
            installed(place)?;
            if is_loaded() {
                call(&["kickstart", "-k", &job()])?;
            } else {
                begin(&file)?;
            }
            Ok(Told::good("it was restarted; clients go on with the sessions they have"))
        }
        Action::Status => {
            installed(place)?;
            let loaded = is_loaded();
            let text = if loaded {
                "it is loaded; `trunkline status` shows how it is"
            } else {
                "it is installed and not loaded; `trunkline service start` starts it"
            };
            Ok(Told { text: text.to_owned(), well: loaded })
        }
        Action::Logs { follow, lines } => Err(logs(place, *follow, *lines)),
    }
}

fn install(place: &Place<'_>) -> Result<Told, Failure> {
    let facts = place.facts()?;
    let was_loaded = is_loaded();
    if !was_loaded && let Some(pid) = lock::holder(place.state_dir) {
        return Err(Failure::taken(format!(
            "a daemon that was started by hand runs already (pid {pid}), so nothing was done: stop it (`kill {pid}`) and try \
             again"
        )));
    }
    let file = facts.plist();
    let written = write(&file)?;
    let mut out = String::new();
    for line in written.iter().cloned().chain([format!("PATH in it is from {}", facts.path.from)]) {
        let _ = writeln!(out, "{line}");
    }
    // A job that is loaded keeps what its file said then.
    if was_loaded && written.is_some() {
        call(&["bootout", &job()])?;
    }
    if written.is_some() || !was_loaded {
        let file = file.path.display().to_string();
        let _ = writeln!(out, "launchctl bootstrap {} {file}", domain());
        call(&["bootstrap", &domain(), &file])?;
    } else {
        out.push_str("nothing had to be changed\n");
    }
    let _ = write!(out, "\n{}", next_steps(&facts));
    if let Some(hint) = facts.of_a_build() {
        let _ = write!(out, "\n{hint}\n");
    }
    Ok(Told::good(out))
}

fn installed(place: &Place<'_>) -> Result<(), Failure> {
    let file = plist_path(&home(place.env()));
    if file.exists() {
        return Ok(());
    }
    let text =
        format!("it is not installed: {} is not there\n`trunkline service install` puts it there", file.display());
    Err(Failure::failed(text))
}

fn begin(file: &Path) -> Result<(), Failure> {
    if is_loaded() {
        call(&["kickstart", &job()])
    } else {
        call(&["bootstrap", &domain(), &file.display().to_string()])
    }
}

fn is_loaded() -> bool {
    let asked = bounded::run(Command::new("launchctl").args(["print", &job()]), CALL_TIMEOUT);
    asked.is_ok_and(|ended| ended.well)
}

fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

fn job() -> String {
    format!("{}/{LABEL}", domain())
}

/// Becomes the program that shows the log.
fn logs(place: &Place<'_>, follow: bool, lines: u32) -> Failure {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("tail");
    command.args(["-n", &lines.to_string()]);
    if follow {
        command.arg("-F");
    }
    command.arg(log_path(&home(place.env())));
    Failure::failed(format!("`tail` cannot be run: {}", command.exec()))
}

fn call(args: &[&str]) -> Result<(), Failure> {
    let failed = |why: &str| Failure::failed(format!("`launchctl {}` failed: {why}", args.join(" ")));
    match bounded::run(Command::new("launchctl").args(args), CALL_TIMEOUT) {
        Ok(ended) if ended.well => Ok(()),
        Ok(ended) => Err(failed(&ended.complaint())),
        Err(error) => Err(failed(&error.to_string())),
    }
}
