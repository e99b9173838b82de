//! What a server said, in the shapes that the client's revision knows (mcp-protocol 5.1, 5.16, 5.17).
//!
//! Clients pass over members that they do not know; blocks of content and codes that they do not know they may
//! refuse. So older clients get new kinds of content as text, and no structure where they expect none; a client of
//! the handshake era gets none of the stamps of the next (G-49), and each era its own code for a missing resource
//! (G-32). Nothing is added for modern clients here, but for what they need not see.
//!
//! A result is read only if the two revisions differ in something it could hold and a byte search finds that; one in
//! which nothing is to change stays the text it was. So between a server and a client of the handshake era, from
//! 2025-06-18 on, nothing is searched for but the keys that a hop owns.

use memchr::memmem;
use serde_json::value::RawValue;
use trunkline_wire::{Era, Json, Method, Needle, Object, Revision, code, key};

use crate::catalog::output::{Class, Output};

/// Members of a result that only the modern era has.
const STAMPS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// What is looked for before a result is read.
static STAMP_WORDS: [Needle; 3] = [Needle::new(STAMPS[0]), Needle::new(STAMPS[1]), Needle::new(STAMPS[2])];
static OWNED: Needle = Needle::new("\"io.modelcontextprotocol/");
static RELATED: Needle = Needle::new("\"io.modelcontextprotocol/related-task\"");
static STRUCTURED: Needle = Needle::new("\"structuredContent\"");
static RESOURCE_LINK: Needle = Needle::new("\"resource_link\"");
static AUDIO: Needle = Needle::new("\"audio\"");

/// What the shape of an outcome depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossing {
    /// The server's revision.
    pub from: Revision,
    /// The client's.
    pub to: Revision,
}

/// Rewrites a result for the client. `output` says what became of the `outputSchema` of the tool that was called.
pub(crate) fn result(
    Crossing { from, to }: Crossing,
    method: &Method,
    result: Json,
    output: impl FnOnce() -> Output,
) -> Json {
    let has = |word: &Needle| word.is_in(result.as_bytes());
    let crosses = from.era() == Era::Modern && to.era() == Era::Legacy;
    let is_call = *method == Method::ToolsCall;
    let output = if is_call && to.era() == Era::Legacy { output() } else { Output::Absent };
    let may_be_odd = crosses || matches!(output, Output::Wrapped | Output::Dropped);

    // Only 2025-11-25 has tasks, and only the next one identities in results, which stay on the way to a modern client.
    let words = if to.era() == Era::Legacy { &OWNED } else { &RELATED };
    let owned = from >= Revision::V2025_11_25 && has(words);
    let stamped = crosses && STAMP_WORDS.iter().any(has);
    // To a modern client a kind of result means what its revision says; a legacy server knows no kinds.
    let posing = from.era() == Era::Legacy && to.era() == Era::Modern && has(&STAMP_WORDS[0]);
    let structured = is_call && (Class::of(to) == Class::Bare || may_be_odd) && has(&STRUCTURED);
    let blocks = Class::of(to) == Class::Bare && (has(&RESOURCE_LINK) || has(&AUDIO));
    if !(owned || stamped || posing || structured || blocks) {
        return result;
    }
    // A result that repeats a key is the client's to judge.
    let Ok(mut read) = Object::parse(&result) else { return result };
    let mut changed = false;
    if stamped {
        changed |= STAMPS.map(|stamp| read.remove(stamp).is_some()).contains(&true);
    }
    if posing {
        changed |= read.remove(STAMPS[0]).is_some();
    }
    if owned {
        changed |= disowned(&mut read, to.era());
    }
    if structured {
        changed |= restructured(&mut read, Class::of(to), output);
    }
    if blocks {
        changed |= reworded(&mut read, method, to);
    }
    if changed { read.to_json() } else { result }
}

/// Rewrites the error of a server for the client: the number that says that there is no such resource
/// (mcp-protocol 5.5, 5.17).
pub(crate) fn error(Crossing { from, to }: Crossing, method: &Method, error: Json) -> Json {
    if *method != Method::ResourcesRead || from.era() == to.era() {
        return error;
    }
    let Ok(mut read) = Object::parse(&error) else { return error };
    let Some(Ok(number)) = read.get("code").map(Json::decode::<i64>) else { return error };
    let other = match to.era() {
        Era::Modern if number == code::RESOURCE_NOT_FOUND => code::INVALID_PARAMS,
        // The modern number says many things; this one only with the URI, or in so many words.
        Era::Legacy if number == code::INVALID_PARAMS && is_about_absence(&read) => code::RESOURCE_NOT_FOUND,
        Era::Legacy | Era::Modern => return error,
    };
    read.set("code", Json::encode(&other));
    read.to_json()
}

fn is_about_absence(error: &Object) -> bool {
    let names_uri = error.get_object("data").is_some_and(|data| data.get("uri").is_some());
    let says_so = || {
        let message = error.get_str("message").unwrap_or_default().to_ascii_lowercase();
        ["not found", "unknown resource", "no such resource"].iter().any(|words| message.contains(words))
    };
    names_uri || says_so()
}

/// Takes out the keys of the hop to the server (mcp-protocol 2.6). A modern client gets another identity in the
/// place of the server's.
fn disowned(read: &mut Object, to: Era) -> bool {
    let Some(mut meta) = read.get_object("_meta") else { return false };
    let task = meta.remove(key::RELATED_TASK).is_some();
    let identity = to == Era::Legacy && meta.remove(key::SERVER_INFO).is_some();
    if !(task || identity) {
        return false;
    }
    if meta.is_empty() {
        read.remove("_meta");
    } else {
        read.set("_meta", meta.to_json());
    }
    true
}

/// Makes `structuredContent` what the client's revision, and the schema that it was shown, say it is.
fn restructured(read: &mut Object, to: Class, output: Output) -> bool {
    let Some(value) = read.get("structuredContent").cloned() else { return false };
    match (to, output) {
        (Class::Objects, Output::Wrapped) => {
            let wrapped: Object = [("result", value.clone())].into_iter().collect();
            read.set("structuredContent", wrapped.to_json());
        }
        (Class::Objects, Output::Absent | Output::Object) if value.is_object() => return false,
        (Class::Any, _) => return false,
        (Class::Bare | Class::Objects, _) => {
            read.remove("structuredContent");
        }
    }
    ensure_text(read, &value);
    true
}

/// Adds the value as a block of text if no block is text: the client would see nothing of it.
fn ensure_text(read: &mut Object, value: &Json) {
    let content = read.get("content").cloned().unwrap_or_else(|| Json::literal("[]"));
    let Some(mut blocks) = members(&content) else { return };
    if blocks.iter().any(|block| is_of_kind(block, "text")) {
        return;
    }
    blocks.push(text_block(Object::new(), &String::from_utf8_lossy(value.as_bytes())));
    read.set("content", list(&blocks));
}

/// Turns blocks of content that the client does not know into text.
fn reworded(read: &mut Object, method: &Method, to: Revision) -> bool {
    if *method == Method::ToolsCall {
        return each(read, "content", |block| in_words(block, to));
    }
    let message = |message: &Json| {
        let mut message = Object::parse(message).ok()?;
        let block = in_words(message.get("content")?, to)?;
        message.set("content", block);
        Some(message.to_json())
    };
    *method == Method::PromptsGet && each(read, "messages", message)
}

/// Puts others in the place of those members of the list `key` for which `rewrite` has one.
fn each(read: &mut Object, key: &str, rewrite: impl Fn(&Json) -> Option<Json>) -> bool {
    let Some(mut entries) = read.get(key).and_then(members) else { return false };
    let mut changed = false;
    for entry in &mut entries {
        if let Some(other) = rewrite(entry) {
            *entry = other;
            changed = true;
        }
    }
    if changed {
        read.set(key, list(&entries));
    }
    changed
}

/// The block as text; `None` if the client knows its kind.
fn in_words(block: &Json, to: Revision) -> Option<Json> {
    if is_of_kind(block, "audio") && to < Revision::V2025_03_26 {
        let mut block = Object::parse(block).ok()?;
        let kind = block.remove("mimeType").and_then(|kind| kind.decode_str());
        let bytes = block.remove("data").map_or(0, |data| decoded_len(data.as_bytes()));
        let text = format!("[audio {}, {bytes} bytes omitted]", kind.as_deref().unwrap_or("of unknown type"));
        return Some(text_block(block, &text));
    }
    if is_of_kind(block, "resource_link") && to < Revision::V2025_06_18 {
        let mut block = Object::parse(block).ok()?;
        let mut take = |key: &str| block.remove(key).and_then(|text| text.decode_str()).unwrap_or_default();
        let (name, title, uri, description) = (take("name"), take("title"), take("uri"), take("description"));
        let name = if name.is_empty() { title } else { name };
        let parts = [name, uri, description];
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        for key in ["mimeType", "size", "icons"] {
            block.remove(key);
        }
        return Some(text_block(block, &format!("[resource {}]", parts.join(", "))));
    }
    None
}

fn is_of_kind(block: &Json, kind: &str) -> bool {
    block.is_object()
        && memmem::find(block.as_bytes(), kind.as_bytes()).is_some()
        && Object::parse(block).is_ok_and(|block| block.get_str("type").as_deref() == Some(kind))
}

/// A block of text that keeps what else stood in the block it replaces: annotations, `_meta`.
fn text_block(mut block: Object, text: &str) -> Json {
    block.set("type", Json::literal("\"text\""));
    block.set("text", Json::from(text));
    block.to_json()
}

/// How many bytes a JSON string of Base64 stands for.
fn decoded_len(string: &[u8]) -> usize {
    let digits = string.iter().filter(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)).count();
    digits * 3 / 4
}

fn members(array: &Json) -> Option<Vec<Json>> {
    let members: Vec<&RawValue> = serde_json::from_slice(array.as_bytes()).ok()?;
    Some(members.into_iter().map(|member| Json::trusted(member.get().to_owned())).collect())
}

fn list(members: &[Json]) -> Json {
    let texts: Vec<&[u8]> = members.iter().map(Json::as_bytes).collect();
    Json::trusted([&b"["[..], &texts.join(&b","[..]), b"]"].concat())
}

#[cfg(test)]
mod tests;
