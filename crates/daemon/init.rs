//! `trunkline init`: a first configuration, with a comment for each thing that people write into it.
//!
//! It has no server in force, so it can be used as it is. A file that is there already is never touched.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use trunkline_config::Sources;

use crate::edit::shown;
use crate::exit::Failure;

/// What is written.
const FIRST: &str = include_str!("../../config/examples/first.toml");

/// Writes the file, and says what comes next.
pub(crate) fn run(sources: &Sources) -> Result<String, Failure> {
    let path = sources.file.clone().unwrap_or_else(|| trunkline_config::default_config_path(&sources.env));
    match written(&path) {
        Ok(()) => Ok(format!(
            "wrote {}\n\nNext:\n  trunkline add NAME --url ADDRESS      tries a server and writes it into the file\n  trunkline \
             add NAME -- COMMAND ARGS…\n  trunkline check                       says what is wrong with what you wrote \
             yourself\n  trunkline serve                       runs the daemon; `trunkline service install` has it start \
             at login\n",
            shown(&path)
        )),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::failed(format!(
            "{} is there already, so nothing was written; `trunkline check` reads it, `trunkline add` writes servers into it",
            shown(&path)
        ))),
        Err(error) => Err(Failure::failed(format!("{} cannot be written: {error}", shown(&path)))),
    }
}

/// Writes it whole, for nobody else to read: keys may be put into it later. A file that comes meanwhile wins.
fn written(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let staged = directory.join(format!(".first.{}.new", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(FIRST.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&staged, path)
    };
    let outcome = write();
    let _ = fs::remove_file(&staged);
    outcome
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sources(path: &Path) -> Sources {
        Sources { file: Some(path.to_owned()), ..Sources::default() }
    }

    #[test]
    fn the_first_file_can_be_used_as_it_is_and_is_never_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below/config.toml");
        let told = run(&sources(&path)).expect("written");
        assert!(told.contains("trunkline add"), "{told}");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(trunkline_config::load(&sources(&path)).expect("sound").config.servers.is_empty());
        fs::write(&path, "# mine\n").expect("written");
        let told = run(&sources(&path)).expect_err("it is there").to_string();
        assert!(told.contains("nothing was written"), "{told}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "# mine\n");
        assert_eq!(
            fs::read_dir(path.parent().expect("a directory")).expect("there").count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn what_it_shows_in_comments_is_right_as_well() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        // Code is behind `#` alone, words are behind a blank.
        let code = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
        fs::write(&path, FIRST.lines().map(code).collect::<Vec<_>>().join("\n")).expect("written");
        let loaded = trunkline_config::load(&sources(&path)).expect("sound");
        let names: Vec<&str> = loaded.config.servers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["linear", "github", "files", "phpstorm", "figma"]);
    }
}
