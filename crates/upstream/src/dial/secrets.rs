//! What a server's values stand for at this start: programs are run for what they print, files are read again
//! (`trunkline_config::Late`).
//!
//! A program is run as its own user would: the daemon's environment, no input, no shell. What it prints is the secret, and
//! is said nowhere: a failure names the key, the program and its status, and what it wrote to stderr stays unread.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use futures_util::future::try_join_all;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use trunkline_config::{Secret, SecretCommand, Server};
use trunkline_telemetry::logs;
use trunkline_wire::ServerName;

use crate::error::{DialError, DialErrorKind};
use crate::limits::{SECRET_BYTES_MAX, SECRET_PATIENCE};
use crate::transport::stdio::helper;

/// The server as it is to be dialed now; `None` if nothing of it is looked up.
pub(super) async fn looked_up(
    name: &ServerName,
    server: &Server,
    inherited: &[(String, String)],
) -> Result<Option<Server>, DialError> {
    let Some(late) = &server.late else { return Ok(None) };
    let missing = |text: String| DialError::new(DialErrorKind::Config, text);
    let commands = late.commands();
    let printed = try_join_all(commands.iter().map(|command| run(command, inherited))).await.map_err(missing)?;
    let printed: BTreeMap<String, Secret> = commands.into_iter().map(|command| command.text).zip(printed).collect();
    let server = server.clone();
    // A file may be on a disk that sleeps.
    let found = tokio::task::spawn_blocking(move || server.looked_up(&printed)).await;
    let found = found.unwrap_or_else(|_| Err("the look-up failed; the log says more".to_owned())).map_err(missing)?;
    logs::hide_of(name, found.secrets.iter().map(|secret| secret.expose().to_owned()));
    Ok(Some(found))
}

/// Runs a program for what it prints.
async fn run(command: &SecretCommand, inherited: &[(String, String)]) -> Result<Secret, String> {
    let (name, args) = command.argv.split_first().expect("a program was named when the file was read");
    let helps = command.advice.as_ref().map_or_else(String::new, |advice| format!("; {advice}"));
    let failed = |what: String| format!("{}: `{name}`, which is run for its value, {what}{helps}", command.key);
    let (program, env) = helper(name, inherited).map_err(|why| format!("{}: {why}{helps}", command.key))?;
    let mut process = Command::new(program);
    process.args(args).env_clear().envs(env);
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
    let child = process.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut group = Group(child);
    let mut text = Vec::new();
    let done = timeout(SECRET_PATIENCE, async {
        if let Some(stdout) = group.0.stdout.take() {
            stdout.take(SECRET_BYTES_MAX + 1).read_to_end(&mut text).await?;
        }
        group.0.wait().await
    });
    let Ok(status) = done.await else {
        let seconds = SECRET_PATIENCE.as_secs();
        return Err(failed(format!("did not end within {seconds} s; run it in a shell to see what it waits for")));
    };
    // First: a program that prints more than is read ends by that, or not.
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(failed(format!("printed more than {} KiB", SECRET_BYTES_MAX / 1024)));
    }
    let status = status.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("failed with status {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        return Err(failed(format!("{how}; run it in a shell to see why")));
    }
    let text = String::from_utf8(text).map_err(|_| failed("printed what is no UTF-8 text".to_owned()))?;
    match text.trim() {
        "" => Err(failed("printed nothing".to_owned())),
        text => Ok(Secret::new(text)),
    }
}

/// A program and whatever it started, which end with the wait for them.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn printed(argv: &[&str]) -> Result<Secret, String> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let command = SecretCommand { key: "env.KEY".to_owned(), text: argv.join(" "), argv, advice: None };
        let inherited = [
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("MINE".to_owned(), "mine".to_owned()),
            ("NOTIFY_SOCKET".to_owned(), "unit".to_owned()),
        ];
        run(&command, &inherited).await
    }

    #[tokio::test]
    async fn what_a_program_prints_is_the_secret_without_the_blanks_around_it() {
        let secret = printed(&["printf", "\n a b \r\n"]).await.expect("printed");
        assert_eq!(secret.expose(), "a b");
        let told = printed(&["sh", "-c", "echo $MINE-$NOTIFY_SOCKET"]).await.expect("printed");
        assert_eq!(told.expose(), "mine-", "the daemon's variables, but for those of its unit");
    }

    #[tokio::test]
    async fn s31_a_failure_names_the_key_and_the_program_and_not_what_was_printed() {
        for (argv, expected) in [
            (&["sh", "-c", "echo canary; echo canary >&2; exit 7"][..], "failed with status 7"),
            (&["sh", "-c", "echo canary; kill -9 $$"], "was ended by signal 9"),
            (&["true"], "printed nothing"),
            (&["head", "-c", "100000", "/dev/zero"], "printed more than 64 KiB"),
            (&["no-such-program"], "was not found"),
        ] {
            let text = printed(argv).await.expect_err("failed");
            assert!(text.starts_with("env.KEY: ") && text.contains(argv[0]), "{text}");
            assert!(text.contains(expected) && !text.contains("canary"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_entry_of_the_keychain_that_is_not_to_be_had_is_told_with_what_stores_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let ask = async |argv: &[&str]| {
            let (argv, advice) =
                (argv.iter().map(|word| (*word).to_owned()).collect(), Some("`store x` stores it".into()));
            let command =
                SecretCommand { key: "bearer_token".to_owned(), text: "${keyring:x}".to_owned(), argv, advice };
            run(&command, &[("PATH".to_owned(), format!("{}:/usr/bin:/bin", dir.path().display()))]).await
        };
        let told = ask(&["secret-tool-of-the-test", "lookup"]).await.expect_err("it is not there");
        assert!(told.contains("was not found") && told.ends_with("; `store x` stores it"), "{told}");
        let path = dir.path().join("secret-tool-of-the-test");
        std::fs::write(&path, "#!/bin/sh\n[ \"$2\" = known ] && printf entry\n").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let told = ask(&["secret-tool-of-the-test", "lookup", "other"]).await.expect_err("it has no such entry");
        assert!(told.contains("failed with status 1") && told.ends_with("; `store x` stores it"), "{told}");
        assert_eq!(ask(&["secret-tool-of-the-test", "lookup", "known"]).await.expect("found").expose(), "entry");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_does_not_end_is_ended_with_all_that_it_started() {
        let mark = format!("86400.{}", std::process::id());
        let text = printed(&["sh", "-c", &format!("sleep {mark} & sleep {mark}")]).await.expect_err("too late");
        assert!(text.contains("within 10 s"), "{text}");
        let runs = || {
            let lines = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let lines = lines.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
            lines.filter(|line| line.contains(&mark)).count()
        };
        for _ in 0..500 {
            if runs() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} are left", runs());
    }
}
