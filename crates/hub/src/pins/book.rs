//! [`Book`]: the pins of one server, in memory and as a file.
//!
//! It is bounded: tools beyond [`PINS_MAX`] of one server, vanished ones included, are not pinned, and count as changed.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use trunkline_wire::ServerName;

use super::definition::Definition;
use super::{Place, Why};
use crate::limits::{PINS_BYTES_MAX, PINS_FILE_BYTES_MAX, PINS_MAX};

/// The form of the file.
const FORM: u32 = 1;

/// The pins of one server.
pub(super) struct Book {
    pins: BTreeMap<Box<str>, Definition>,
    bytes: usize,
    /// Whether they can be gone by.
    pub(super) trust: Trust,
    /// Something of it is not on disk.
    pub(super) unsaved: bool,
}

/// Whether pins can be gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// They are what was written, or there were none yet.
    Good,
    /// They were spoilt, and nobody has accepted anything since.
    Lost,
    /// The system does not let them be read now.
    Unread,
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    server: String,
    lost: bool,
    tools: BTreeMap<String, Box<RawValue>>,
}

impl Book {
    fn new(trust: Trust) -> Self {
        Self { pins: BTreeMap::new(), bytes: 0, trust, unsaved: trust == Trust::Lost }
    }

    /// Reads the pins of a server.
    pub(super) fn load(place: &Place, server: &ServerName) -> Self {
        let dir = match place {
            Place::Nowhere => return Self::new(Trust::Good),
            Place::Closed => return Self::new(Trust::Unread),
            Place::In(dir) => dir,
        };
        match dir.load(&file_of(server), PINS_FILE_BYTES_MAX, |text| Self::decode(text, server)) {
            Ok(book) => book.unwrap_or_else(|| Self::new(Trust::Good)),
            Err(error) => {
                let trust = if error.may_pass() { Trust::Unread } else { Trust::Lost };
                tracing::error!(%server, "{error}; `trunkline pins accept` pins its tools anew");
                Self::new(trust)
            }
        }
    }

    fn decode(text: &[u8], server: &ServerName) -> Option<Self> {
        let file: File = serde_json::from_slice(text).ok()?;
        if file.form != FORM || file.server != server.as_str() {
            return None;
        }
        let mut book = Self::new(if file.lost { Trust::Lost } else { Trust::Good });
        for (tool, definition) in file.tools {
            book.put(tool.into(), Definition::read(definition.get())?);
        }
        book.unsaved = false;
        Some(book)
    }

    /// The file of it.
    pub(super) fn encode(&self, server: &ServerName) -> io::Result<Vec<u8>> {
        let raw = |definition: &Definition| {
            RawValue::from_string(String::from_utf8_lossy(definition.text().as_bytes()).into_owned())
        };
        let tools = self.pins.iter().map(|(tool, pin)| Ok((tool.to_string(), raw(pin)?)));
        let tools = tools.collect::<serde_json::Result<_>>()?;
        let lost = self.trust == Trust::Lost;
        Ok(serde_json::to_vec(&File { form: FORM, server: server.as_str().to_owned(), lost, tools })?)
    }

    /// Compares a tool with its pin, and pins it if it is new.
    pub(super) fn look(&mut self, tool: &str, now: &Definition) -> Option<Why> {
        match self.pins.get(tool) {
            Some(pin) => (!pin.says(now)).then_some(Why::Changed),
            None if self.trust != Trust::Good => Some(Why::Lost),
            None if self.pins.len() >= PINS_MAX || self.bytes + now.bytes() > PINS_BYTES_MAX => Some(Why::Full),
            None => {
                self.put(tool.into(), now.clone());
                None
            }
        }
    }

    /// Pins these definitions, whatever was pinned before; if they are `all` that their server has, pins of others give way
    /// where there is no room, and what was lost is made good. Returns the names of those that were not pinned so.
    pub(super) fn accept(&mut self, tools: Vec<(&str, Definition)>, all: bool) -> Vec<String> {
        if all {
            self.trust = Trust::Good;
            let size: usize = tools.iter().map(|(_, now)| now.bytes()).sum();
            if self.pins.len() + tools.len() > PINS_MAX || self.bytes + size > PINS_BYTES_MAX {
                self.pins.retain(|name, _| tools.iter().any(|(tool, _)| **name == **tool));
                self.bytes = self.pins.values().map(Definition::bytes).sum();
            }
        }
        self.unsaved = true;
        let mut taken = Vec::new();
        for (tool, now) in tools {
            if self.pins.get(tool).is_none_or(|pin| !pin.says(&now)) {
                taken.push(tool.to_owned());
                self.put(tool.into(), now);
            }
        }
        taken
    }

    fn put(&mut self, tool: Box<str>, definition: Definition) {
        self.bytes += definition.bytes();
        if let Some(before) = self.pins.insert(tool, definition) {
            self.bytes -= before.bytes();
        }
        self.unsaved = true;
    }

    pub(super) fn pin(&self, tool: &str) -> Option<&Definition> {
        self.pins.get(tool)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.pins.keys().map(ToString::to_string)
    }

    pub(super) fn len(&self) -> usize {
        self.pins.len()
    }
}

/// A name that every file system takes, and that no two servers share.
pub(super) fn file_of(server: &ServerName) -> String {
    let hash = Sha256::digest(server.as_str());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{}-{number:016x}.json", server.namespace())
}
