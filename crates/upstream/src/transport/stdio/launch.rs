//! From the configuration to a command that can be run: which file, and with which environment.
//!
//! A child gets what programs need to find their way, what the configuration adds, and nothing else of the daemon's
//! (S-32). The file is found once per start, in the `PATH` the child will have, never in the current directory, and
//! never by a shell (S-33).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use trunkline_config::{Secret, Stdio};

use crate::error::{DialError, DialErrorKind};
use crate::transport::process::Command;

/// Passed on if set.
const PASSED: &[&str] = &[
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    // Proxies, in both spellings that programs read.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    // Certificates, as OpenSSL, Node, Python and curl look for them.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// Passed on if set, whatever follows.
const PASSED_PREFIXES: &[&str] = &["LC_", "XDG_"];

/// Never passed on, not even when `env_vars` asks: they would let a child speak for the daemon's unit, or change
/// what code the child runs.
const WITHHELD: &[&str] = &["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"];
const WITHHELD_PREFIXES: &[&str] = &["LISTEN_", "WATCHDOG_", "LD_", "DYLD_", "TRUNKLINE_"];

/// Where to look when there is no `PATH` at all.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Finds the file that a server's command means, as a start would, and the `PATH` that its process would have.
///
/// # Errors
/// There is none that can be run, or its directory is not there: a sentence that says where it was looked for.
pub fn find_program(config: &Stdio, inherited: &[(String, String)]) -> Result<(PathBuf, String), String> {
    let cwd = config.cwd.as_ref().map(|cwd| working_directory(cwd)).transpose()?;
    let env = environment(config, inherited);
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    Ok((find(&config.command, path, cwd.as_deref())?, path.to_owned()))
}

/// Makes the command that the configuration means. `inherited` are the daemon's own variables.
pub(super) fn command(config: &Stdio, inherited: &[(String, String)]) -> Result<Command, DialError> {
    let refused = |text| DialError::new(DialErrorKind::Config, text);
    let cwd = config.cwd.as_ref().map(|cwd| working_directory(cwd)).transpose().map_err(refused)?;
    let env = environment(config, inherited);
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let program = find(&config.command, path, cwd.as_deref()).map_err(refused)?;
    let args = config.args.iter().map(|arg| arg.expose().to_owned()).collect();
    Ok(Command { program, args, env: env.into_iter().collect(), cwd, caps: config.caps })
}

/// The values that must not be read in what the child writes to stderr: those that are known to be secrets, and all of
/// `env`, which is where its keys are. Paths are spared, because an error about a file is of little use without its name.
pub(super) fn secrets<'a>(config: &'a Stdio, known: &'a [Secret]) -> impl Iterator<Item = String> + 'a {
    let values = config.env.values().filter(|value| !value.expose().starts_with(['/', '~']));
    values.chain(known).map(|value| value.expose().to_owned())
}

/// Finds a program that is run for a secret, in the daemon's own `PATH`, and the variables it gets: all but those that would
/// have it speak for the daemon's unit.
pub(crate) fn helper(name: &str, inherited: &[(String, String)]) -> Result<(PathBuf, Vec<(String, String)>), String> {
    let path = inherited.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
    let units = |name: &str| ["NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_"].iter().any(|of_unit| name.starts_with(of_unit));
    let env = inherited.iter().filter(|(name, _)| !units(name)).cloned().collect();
    Ok((find(name, path, None)?, env))
}

fn working_directory(cwd: &Path) -> Result<PathBuf, String> {
    if cwd.is_dir() {
        return std::path::absolute(cwd).map_err(|error| format!("`cwd` {} cannot be used: {error}", cwd.display()));
    }
    Err(format!("`cwd` {} is no directory; create it or correct `cwd`", cwd.display()))
}

fn environment(config: &Stdio, inherited: &[(String, String)]) -> BTreeMap<String, String> {
    let starts = |name: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut env = BTreeMap::new();
    for (name, value) in inherited {
        let asked = config.env_vars.iter().any(|asked| asked == name);
        if WITHHELD.contains(&name.as_str()) || starts(name, WITHHELD_PREFIXES) {
            if asked {
                tracing::warn!(
                    variable = name,
                    "variable is never passed on to a server; give it in `env` if it is meant"
                );
            }
            continue;
        }
        if asked || PASSED.contains(&name.as_str()) || starts(name, PASSED_PREFIXES) {
            env.insert(name.clone(), value.clone());
        }
    }
    env.extend(config.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
    env
}

fn find(command: &str, path: &str, cwd: Option<&Path>) -> Result<PathBuf, String> {
    if command.contains('/') {
        let file = match cwd {
            _ if command.starts_with('/') => PathBuf::from(command),
            Some(cwd) => cwd.join(command),
            None => {
                return Err(format!(
                    "command refused: `{command}` is relative and `cwd` is not set; give the full path, or set `cwd`"
                ));
            }
        };
        return match usable(&file) {
            Ok(()) => Ok(file),
            Err(why) => Err(format!("command `{}` {why}; correct `command`", file.display())),
        };
    }
    // An empty or relative entry would mean the current directory.
    let directories: Vec<&str> = path.split(':').filter(|directory| directory.starts_with('/')).collect();
    let mut near_miss = None;
    for directory in &directories {
        let file = Path::new(directory).join(command);
        match usable(&file) {
            Ok(()) => return Ok(file),
            Err(why) if file.exists() => near_miss = near_miss.or(Some(format!("; {} {why}", file.display()))),
            Err(_) => {}
        }
    }
    Err(format!(
        "command `{command}` was not found in {}{}; install it, give its full path, or set PATH in `env`",
        directories.join(", "),
        near_miss.unwrap_or_default()
    ))
}

fn usable(file: &Path) -> Result<(), &'static str> {
    match file.metadata() {
        Err(_) => Err("does not exist"),
        Ok(data) if !data.is_file() => Err("is no file"),
        Ok(_) => access(file, Access::EXEC_OK).map_err(|_| "is not executable"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use trunkline_config::Secret;

    use super::*;

    fn inherited(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn s32_a_child_gets_the_allow_list_and_what_the_configuration_adds() {
        let mut config = Stdio::new("x", []);
        config.env_vars = vec!["WANTED".into(), "NOTIFY_SOCKET".into(), "LD_PRELOAD".into(), "UNSET".into()];
        config.env.insert("KEY".into(), Secret::new("value"));
        config.env.insert("LANG".into(), Secret::new("de"));
        let env = environment(
            &config,
            &inherited(&[
                ("HOME", "/h"),
                ("LANG", "en"),
                ("LC_ALL", "C"),
                ("XDG_DATA_HOME", "/d"),
                ("https_proxy", "p"),
                ("WANTED", "w"),
                ("UNWANTED", "u"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("NOTIFY_SOCKET", "n"),
                ("LISTEN_FDS", "1"),
                ("LD_PRELOAD", "l"),
                ("TRUNKLINE_CONFIG", "c"),
            ]),
        );
        let got: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            got,
            ["HOME=/h", "KEY=value", "LANG=de", "LC_ALL=C", "WANTED=w", "XDG_DATA_HOME=/d", "https_proxy=p"]
        );
    }

    #[test]
    fn s33_a_missing_command_is_named_with_the_places_searched() {
        let text = find("no-such-program", "/usr/bin:.::/bin", None).expect_err("is missing");
        assert_eq!(
            text,
            "command `no-such-program` was not found in /usr/bin, /bin; install it, give its full path, or set PATH in `env`"
        );
    }

    #[test]
    fn s33_a_relative_command_needs_a_working_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("server");
        fs::write(&file, "#!/bin/true\n").expect("written");
        let text = find("./server", "/bin", None).expect_err("is refused");
        assert!(text.contains("command refused"), "{text}");
        let text = find("./server", "/bin", Some(directory.path())).expect_err("may not run");
        assert!(text.contains("is not executable"), "{text}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("set");
        assert_eq!(find("./server", "/bin", Some(directory.path())), Ok(directory.path().join("./server")));
        let path = format!("/nowhere:{}", directory.path().display());
        assert_eq!(find("server", &path, None), Ok(file));
    }

    #[test]
    fn a_working_directory_must_be_there() {
        let mut config = Stdio::new("true", []);
        config.cwd = Some("/no/such/place".into());
        let error = command(&config, &[]).err().expect("is refused");
        assert_eq!(error.text, "`cwd` /no/such/place is no directory; create it or correct `cwd`");
    }
}
