//! The service as units of the user's systemd.
//!
//! Socket and service are started together and stopped together: a socket that stays would start the daemon with the next
//! client. A daemon that was started by hand holds the port, and is told of before anything is written.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use super::files::{UNITS, units_directory};
use super::{Action, Place, Told, bounded, next_steps, printed, remove, write};
use crate::exit::Failure;
use crate::lock;

/// A stop may take 45 s by the unit, a start as long as the state directory is held.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);

/// A question to the manager.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(action: &Action, place: &Place<'_>) -> Result<Told, Failure> {
    if let Action::Print = action {
        return Ok(printed(&place.facts()?.units()));
    }
    session()?;
    match action {
        Action::Install => install(place),
        Action::Uninstall => uninstall(place),
        Action::Start => {
            installed(place)?;
            begin()?;
            Ok(Told::good("it runs"))
        }
        Action::Stop => {
            installed(place)?;
            call(&["stop", UNITS[0], UNITS[1]])?;
            Ok(Told::good("it is stopped; `trunkline service start` starts it again"))
        }
        Action::Restart => {
            installed(place)?;
            // After a wrong configuration the manager has given up, and closed the port.
            call(&["reset-failed", UNITS[0], UNITS[1]]).ok();
            call(&["start", UNITS[0]])?;
            call(&["restart", UNITS[1]])?;
            Ok(Told::good("it was restarted; clients go on with the sessions they have"))
        }
        Action::Status => status(place),
        Action::Logs { follow, lines } => Err(logs(*follow, *lines)),
        Action::Print => unreachable!("printed above"),
    }
}

/// Whether there is a manager of this user's to speak to; if not, what would bring one.
fn session() -> Result<(), Failure> {
    let asked = bounded::run(systemctl().arg("show-environment"), ASK_TIMEOUT);
    let why = match asked {
        Ok(ended) if ended.well => return Ok(()),
        Ok(ended) => ended.complaint(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::failed(
                "there is no systemd here (`systemctl` is not in PATH), so nothing was done\nrun `trunkline serve` from \
                 what starts programs on this machine; in a container make it the command"
                    .to_owned(),
            ));
        }
        Err(error) => error.to_string(),
    };
    let why = why.lines().next().unwrap_or_default().trim();
    Err(Failure::failed(format!(
        "systemd has no session of yours here, so nothing was done: {why}\n\
         over ssh, or after `su` and `sudo`: `loginctl enable-linger` (as root: `loginctl enable-linger USER`), log in \
         anew, and try again\nin a container there is none: make `trunkline serve` its command"
    )))
}

fn install(place: &Place<'_>) -> Result<Told, Failure> {
    let facts = place.facts()?;
    let was_active = is_active();
    if !was_active && let Some(pid) = lock::holder(place.state_dir) {
        return Err(Failure::taken(format!(
            "a daemon that was started by hand runs already (pid {pid}), so nothing was done: stop it (`kill {pid}`) and try \
             again"
        )));
    }
    let mut out = String::new();
    let (mut changed, mut first) = (Vec::new(), true);
    for file in facts.units() {
        first &= !file.path.exists();
        if let Some(said) = write(&file)? {
            let _ = writeln!(out, "{said}");
            changed.push(file.path);
        }
    }
    let _ = writeln!(out, "PATH in it is from {}", facts.path.from);
    let mut calls: Vec<Vec<&str>> = Vec::new();
    if !changed.is_empty() {
        calls.push(vec!["daemon-reload"]);
    }
    // A socket takes another address only while it is stopped, and the service with it.
    if was_active && changed.iter().any(|path| path.ends_with(UNITS[0])) {
        calls.push(vec!["stop", UNITS[0], UNITS[1]]);
    }
    calls.push(vec!["enable", "--now", UNITS[0], UNITS[1]]);
    if was_active && !changed.is_empty() {
        calls.push(vec!["restart", UNITS[1]]);
    }
    if !was_active && !first {
        call(&["reset-failed", UNITS[0], UNITS[1]]).ok();
    }
    for args in calls {
        let _ = writeln!(out, "systemctl --user {}", args.join(" "));
        call(&args)?;
    }
    if changed.is_empty() && was_active {
        out.push_str("nothing had to be changed\n");
    }
    let _ = write!(out, "\n{}", next_steps(&facts));
    let hints = [facts.of_absent(), lingering(), facts.of_a_build()];
    for hint in hints.into_iter().flatten() {
        let _ = write!(out, "\n{hint}\n");
    }
    Ok(Told::good(out))
}

fn uninstall(place: &Place<'_>) -> Result<Told, Failure> {
    let directory = units_directory(place.env());
    let files = UNITS.map(|unit| directory.join(unit));
    if !files.iter().any(|file| file.exists()) {
        return Ok(Told::good("it is not installed"));
    }
    call(&["disable", "--now", UNITS[0], UNITS[1]])?;
    let mut out = String::new();
    for file in &files {
        if remove(file)? {
            let _ = writeln!(out, "removed {}", file.display());
        }
    }
    call(&["daemon-reload"])?;
    out.push_str("it is stopped and does not start any more; configuration, sign-ins and state are where they were\n");
    Ok(Told::good(out))
}

fn installed(place: &Place<'_>) -> Result<(), Failure> {
    let file = units_directory(place.env()).join(UNITS[1]);
    if file.exists() {
        return Ok(());
    }
    let text =
        format!("it is not installed: {} is not there\n`trunkline service install` puts it there", file.display());
    Err(Failure::failed(text))
}

fn begin() -> Result<(), Failure> {
    call(&["reset-failed", UNITS[0], UNITS[1]]).ok();
    call(&["start", UNITS[0], UNITS[1]])
}

fn status(place: &Place<'_>) -> Result<Told, Failure> {
    installed(place)?;
    let service = shown(UNITS[1]);
    let socket = shown(UNITS[0]);
    let of = |unit: &[(String, String)], key: &str| {
        unit.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let active = of(&service, "ActiveState");
    let well = active == "active";
    let mut out = format!("service  {active} ({})", of(&service, "SubState"));
    if well {
        let _ = write!(out, ", pid {}", of(&service, "MainPID"));
    } else if of(&service, "Result") != "success" {
        let _ = write!(out, ", ended with {} {}", of(&service, "Result"), of(&service, "ExecMainStatus"));
    }
    let at_login =
        if of(&service, "UnitFileState") == "enabled" { "starts at login" } else { "does not start at login" };
    let _ = writeln!(out, ", {at_login}");
    let _ = writeln!(out, "socket   {} ({})", of(&socket, "ActiveState"), of(&socket, "SubState"));
    if !well {
        out.push_str(
            "\n`trunkline service logs` says why it ended, `trunkline check` whether the configuration is sound,\n",
        );
        out.push_str("`trunkline service start` starts it\n");
    }
    if let Some(hint) = lingering() {
        let _ = write!(out, "\n{hint}\n");
    }
    Ok(Told { text: out, well })
}

/// What the manager says of a unit.
fn shown(unit: &str) -> Vec<(String, String)> {
    let keys = "ActiveState,SubState,MainPID,UnitFileState,Result,ExecMainStatus";
    let asked = bounded::run(systemctl().args(["show", unit, "--property", keys]), ASK_TIMEOUT);
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), crate::render::field(value)));
    asked.map(|ended| ended.out.lines().filter_map(pair).collect()).unwrap_or_default()
}

/// Whether the service runs, by the manager's word.
pub(crate) fn is_active() -> bool {
    let asked = bounded::run(systemctl().args(["is-active", "--quiet", UNITS[1]]), ASK_TIMEOUT);
    asked.is_ok_and(|ended| ended.well)
}

/// What to know if the service ends with the last session of its user.
fn lingering() -> Option<String> {
    let mut command = Command::new("loginctl");
    let asked = bounded::run(command.args(["show-user", "--property=Linger", "--value"]), ASK_TIMEOUT).ok()?;
    let ends = asked.well && asked.out.trim() == "no";
    ends.then(|| "It ends when you log out; `loginctl enable-linger` has it stay.".to_owned())
}

/// Becomes the program that shows the log.
fn logs(follow: bool, lines: u32) -> Failure {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("journalctl");
    command.args(["--user", "--unit", UNITS[1], "--lines", &lines.to_string()]);
    if follow {
        command.arg("--follow");
    }
    Failure::failed(format!("`journalctl` cannot be run: {}", command.exec()))
}

fn systemctl() -> Command {
    let mut command = Command::new("systemctl");
    command.arg("--user");
    command
}

/// A call that changes something.
fn call(args: &[&str]) -> Result<(), Failure> {
    let failed = |why: &str| {
        let hint = "`trunkline service logs` says more";
        Failure::failed(format!("`systemctl --user {}` failed: {why}\n{hint}", args.join(" ")))
    };
    match bounded::run(systemctl().args(args), CALL_TIMEOUT) {
        Ok(ended) if ended.well => Ok(()),
        Ok(ended) => Err(failed(&ended.complaint())),
        Err(error) => Err(failed(&error.to_string())),
    }
}
