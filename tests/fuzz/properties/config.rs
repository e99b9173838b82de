//! What holds for any text of a configuration file.
//!
//! Used by the fuzz target, which looks for bytes that break it, and by `crates/config/tests/corpus.rs`,
//! which replays the bytes once found.

use std::path::PathBuf;
use std::sync::OnceLock;

use trunkline_config::{Flags, Sources, load};

/// A file is taken or refused, twice alike; what is said of it is printable and of bounded length, and each complaint names a
/// place; and no secret that it names shows in what is printed of the configuration.
pub(crate) fn check(input: &[u8]) {
    let file = file();
    std::fs::write(&file, input).expect("a place to write");
    let env = vec![("HOME".to_owned(), "/nonexistent".to_owned()), ("KEY".to_owned(), SECRET.to_owned())];
    let sources = Sources { file: Some(file), env, flags: Flags::default() };
    let loaded = load(&sources);
    assert_eq!(loaded, load(&sources), "another verdict");
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                is_fit_to_print(warning);
            }
            let shown = format!("{loaded:?}");
            assert!(!shown.contains(SECRET), "a secret shows: {shown}");
            let names: std::collections::HashSet<_> = loaded.config.servers.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), loaded.config.servers.len(), "two servers of one name");
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            for error in &errors.0 {
                is_fit_to_print(&error.to_string());
            }
        }
    }
}

/// What `${env:KEY}` is. No host can hold it, which is the one part of an address that is shown whatever it comes from.
const SECRET: &str = "canary/3f9b1c77";

/// One file for each thread: two tests may run at once.
fn file() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    folder.path().join(format!("{:?}.toml", std::thread::current().id()))
}

fn is_fit_to_print(text: &str) {
    assert!(!text.is_empty() && text.len() < 20_000, "{} bytes", text.len());
    assert!(!text.contains(SECRET), "a secret shows: {text}");
    assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "not to be printed: {text:?}");
}
