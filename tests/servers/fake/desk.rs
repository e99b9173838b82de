//! The directory that a test and the server share: what happened, and what shall go wrong from now on.
//!
//! Files work alike for a child on pipes, a server on a port, and a server that died; nothing is cached.
//! * `starts`: one pid a line, appended at each start.
//! * `received`: one JSON object a line for every message or HTTP request that came in.
//! * `calls`: one JSON object a line for every tool call, prompt and read: what was meant, and whether it is a retry.
//! * `declared`: the client's capabilities of every `initialize`.
//! * `answers`: one JSON object a line for every answer to a question of the server's.
//! * `listens`: one JSON object a line for every subscription that opens or closes.
//! * `tasks`: one JSON object a line for every `tasks/...` request.
//! * `violations`: one line for everything that a modern client must not do.
//! * `effects`: one nonce a line for every run of the tool `effect`.
//! * `cancelled`: one JSON object a line for every `notifications/cancelled`, and for every request whose HTTP
//!   client went away before its end, where that is a cancellation: `{"disconnected": ID, "method": ...}`.
//! * `ends`: `stdin closed`, and with `--stubborn` every `TERM` (stdio).
//! * `fault`: written by the test; the name of the fault in force while the file exists.
//! * `forget`: written by the test; the HTTP server forgets all sessions before the next POST.
//! * `moved`: written by the test; while it exists, an argument of the tool `region` has another header.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::options::Fault;

pub(crate) struct Desk {
    directory: Option<PathBuf>,
}

impl Desk {
    pub(crate) fn new(directory: Option<&Path>) -> Desk {
        let desk = Desk { directory: directory.map(Path::to_owned) };
        if let Some(directory) = &desk.directory {
            std::fs::create_dir_all(directory).expect("the desk can be created");
        }
        desk.note("starts", &std::process::id().to_string());
        desk
    }

    /// Appends one line in one write, so that lines of several tasks do not mix.
    pub(crate) fn note(&self, file: &str, line: &str) {
        if let Some(mut file) = self.open(file) {
            file.write_all(format!("{line}\n").as_bytes()).expect("the desk takes a line");
        }
    }

    /// True when somebody reads what is noted: the bench has no desk and shall not pay for one.
    pub(crate) fn exists(&self) -> bool {
        self.directory.is_some()
    }

    /// The fault that the test asked for while the server runs.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let name = std::fs::read_to_string(self.directory.as_ref()?.join("fault")).ok()?;
        Some(Fault::named(name.trim()).expect("the test names a known fault").0)
    }

    /// True while the test keeps a file of this name here.
    pub(crate) fn holds(&self, file: &str) -> bool {
        self.directory.as_ref().is_some_and(|directory| directory.join(file).exists())
    }

    /// How many lines were noted.
    pub(crate) fn count(&self, file: &str) -> usize {
        let text = self.directory.as_ref().and_then(|directory| std::fs::read_to_string(directory.join(file)).ok());
        text.map_or(0, |text| text.lines().count())
    }

    /// True once for each time the test wrote the file: it is removed.
    pub(crate) fn take(&self, file: &str) -> bool {
        self.directory.as_ref().is_some_and(|directory| std::fs::remove_file(directory.join(file)).is_ok())
    }

    fn open(&self, file: &str) -> Option<File> {
        let path = self.directory.as_ref()?.join(file);
        Some(OpenOptions::new().create(true).append(true).open(path).expect("the desk can be written"))
    }
}
