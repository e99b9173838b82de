//! The text of a file on the shelf: an offer, and what was found out about its server's era.
//!
//! Lists stand in it as the server wrote them. What follows from their text, such as which arguments of a tool go into
//! headers, is found again on reading, by the code that read the server's own answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;
use tokio::time::Instant;
use trunkline_config::{Secret, wall_clock};
use trunkline_wire::{Json, Object, Revision, ServerName};

use crate::era::{Memory, Way};
use crate::lists::Lists;
use crate::offer::{Capabilities, Entry, Offer};
use crate::shelf::Volume;

/// The form of these files. Another number is another server's, so to speak.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    server: String,
    salt: String,
    /// A digest of how the server is reached, keyed by the salt.
    connect: String,
    revision: String,
    capabilities: Capabilities,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Box<RawValue>>,
    extensions: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<EraFound>,
    tools: Box<RawValue>,
    prompts: Box<RawValue>,
    resources: Box<RawValue>,
    templates: Box<RawValue>,
}

/// The legacy way that a server was reached by, and until when that may be believed (mcp-protocol 4.8).
#[derive(Serialize, Deserialize)]
struct EraFound {
    pair: bool,
    /// In seconds of the Unix age.
    until: u64,
}

/// The text for what is kept of `server`, at the date `wall`.
pub(crate) fn write(server: &ServerName, volume: &Volume, wall: u64) -> serde_json::Result<Vec<u8>> {
    let Volume { signature, offer, era } = volume;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).expect("the kernel gives random bytes");
    let salt = URL_SAFE_NO_PAD.encode(salt);
    let era = era
        .proven(Instant::now())
        .map(|(way, left)| EraFound { pair: way == Way::Pair, until: wall.saturating_add(left.as_secs()) });
    serde_json::to_vec(&File {
        form: FORM,
        server: server.as_str().to_owned(),
        connect: digest(&salt, signature),
        salt,
        revision: offer.revision.unwrap_or(Revision::NEWEST_LEGACY).as_str().to_owned(),
        capabilities: offer.capabilities,
        instructions: offer.instructions.clone(),
        identity: offer.identity.as_ref().map(raw).transpose()?,
        extensions: raw(&offer.extensions.to_json())?,
        era,
        tools: list(&offer.tools)?,
        prompts: list(&offer.prompts)?,
        resources: list(&offer.resources)?,
        templates: list(&offer.templates)?,
    })
}

/// Reads a text back. `None` if it is none; the inner `None` if it is of another server.
#[expect(clippy::option_option, reason = "no file, and a file of another server, are told apart by the caller")]
pub(crate) fn read(text: &[u8], server: &ServerName, signature: &Secret) -> Option<Option<Volume>> {
    let file: File = serde_json::from_slice(text).ok()?;
    if file.form != FORM || file.server != server.as_str() || file.connect != digest(&file.salt, signature) {
        return Some(None);
    }
    let lists =
        Lists::read_back([&file.tools, &file.prompts, &file.resources, &file.templates].map(|list| list.get()))?;
    let revision = Revision::parse(&file.revision)?;
    let identity = file.identity.map(|identity| Json::parse(identity.get().to_owned())).transpose().ok()?;
    let extensions = Object::parse(&Json::parse(file.extensions.get().to_owned()).ok()?).ok()?;
    let era = file.era.map_or_else(Memory::default, |found| {
        let left = Duration::from_secs(found.until.saturating_sub(wall_clock()));
        Memory::of(if found.pair { Way::Pair } else { Way::Initialize }, left, Instant::now())
    });
    let offer = Offer {
        instructions: file.instructions,
        identity,
        capabilities: file.capabilities,
        extensions,
        revision: Some(revision),
        ..lists.entries()
    };
    Some(Some(Volume { signature: signature.clone(), offer: offer.into(), era }))
}

fn digest(salt: &str, signature: &Secret) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt.as_bytes()).expect("a key may have any length");
    mac.update(signature.expose().as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

fn raw(json: &Json) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(String::from_utf8_lossy(json.as_bytes()).into_owned())
}

/// A list of entries, each as it is.
fn list(entries: &[Entry]) -> serde_json::Result<Box<RawValue>> {
    let texts: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(entry.body.as_bytes())).collect();
    RawValue::from_string(format!("[{}]", texts.join(",")))
}
