//! Results of the list methods, rendered once per catalogue (mcp-protocol 6.8).
//!
//! What clients of a class may see is rendered when the first of them asks for it, and kept with the catalogue: most
//! daemons meet one class of clients, and one that meets none holds no text twice.
//!
//! All entries stand on one page unless a page size is configured, because not every client asks for a second
//! one. A cursor names the list, its content and where to go on; it survives whatever leaves the content as it
//! is, a restart included, and is refused otherwise, so that a client never joins halves of two lists.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};
use trunkline_wire::{Json, Object};

use crate::catalog::List;
use crate::catalog::output::Class;
use crate::refusal;

/// The pages of all lists, for every class of clients.
#[derive(Debug)]
pub(crate) struct Book {
    /// Entries to a page; all if none.
    size: Option<usize>,
    rendered: [[OnceLock<Pages>; Class::COUNT]; List::ALL.len()],
}

impl Book {
    /// A book with nothing rendered.
    pub(crate) fn new(size: Option<usize>) -> Self {
        Self { size, rendered: Default::default() }
    }

    /// The pages of one list for one class, rendered from `entries` if nobody has asked before.
    pub(crate) fn pages<E: Iterator<Item = Json>>(
        &self,
        list: List,
        class: Class,
        entries: impl FnOnce() -> E,
    ) -> &Pages {
        self.rendered[list as usize][class as usize].get_or_init(|| Pages::render(list, entries(), self.size))
    }

    #[cfg(test)]
    pub(crate) fn rendered(&self) -> usize {
        self.rendered.iter().flatten().filter(|pages| pages.get().is_some()).count()
    }
}

/// The pages of one list, each a whole `result`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    list: List,
    /// What the list holds; empty where there is but one page and no cursor.
    digest: String,
    texts: Vec<Json>,
}

impl Pages {
    /// Renders `entries`, `size` to a page.
    fn render(list: List, entries: impl Iterator<Item = Json>, size: Option<usize>) -> Self {
        let entries: Vec<Json> = entries.collect();
        let size = size.unwrap_or(usize::MAX).max(1);
        if entries.len() <= size {
            return Self { list, digest: String::new(), texts: vec![page(list, &entries, None)] };
        }
        let mut hash = Sha256::new();
        for entry in &entries {
            hash.update(entry.as_bytes());
            hash.update(b"\n");
        }
        let digest = URL_SAFE_NO_PAD.encode(&hash.finalize()[..9]);
        let chunks = entries.chunks(size).enumerate();
        let final_one = entries.len().div_ceil(size) - 1;
        let texts = chunks
            .map(|(at, chunk)| page(list, chunk, (at < final_one).then(|| cursor(list, &digest, at + 1)).as_deref()))
            .collect();
        Self { list, digest, texts }
    }

    /// The page that `params` of a list request ask for; an error for a cursor that is not of this list.
    pub(crate) fn asked(&self, params: &Object) -> Result<&Json, Json> {
        let Some(wanted) = params.get("cursor").filter(|cursor| cursor.as_bytes() != b"null") else {
            return Ok(&self.texts[0]);
        };
        let wanted = wanted.decode_str();
        let at = (1..self.texts.len()).find(|at| wanted.as_deref() == Some(&cursor(self.list, &self.digest, *at)));
        at.map(|at| &self.texts[at])
            .ok_or_else(|| refusal::invalid_params("the cursor is unknown or its list has changed: start over"))
    }
}

fn cursor(list: List, digest: &str, page: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{digest}.{page}", list.key()))
}

fn page(list: List, entries: &[Json], next: Option<&str>) -> Json {
    let room: usize = entries.iter().map(|entry| entry.as_bytes().len() + 1).sum();
    let mut out = BytesMut::with_capacity(room + 160);
    out.put_slice(b"{\"");
    out.put_slice(list.key().as_bytes());
    out.put_slice(b"\":[");
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(entry.as_bytes());
    }
    out.put_u8(b']');
    if let Some(next) = next {
        out.put_slice(b",\"nextCursor\":\"");
        out.put_slice(next.as_bytes());
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
    Json::trusted(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u64) -> Vec<Json> {
        (0..count).map(Json::from).collect()
    }

    fn with_cursor(cursor: &str) -> Object {
        [("cursor", Json::from(cursor))].into_iter().collect()
    }

    #[test]
    fn everything_stands_on_one_page_by_default() {
        let pages = Pages::render(List::Tools, entries(3).into_iter(), None);
        assert_eq!(pages.asked(&Object::new()), Ok(&Json::literal(r#"{"tools":[0,1,2]}"#)));
        for foreign in ["", "x"] {
            assert!(pages.asked(&with_cursor(foreign)).is_err(), "{foreign:?}");
        }
        let none: Object = [("cursor", Json::literal("null"))].into_iter().collect();
        assert!(pages.asked(&none).is_ok());
    }

    #[test]
    fn cursors_lead_through_all_pages_and_end() {
        let pages = Pages::render(List::Prompts, entries(5).into_iter(), Some(2));
        let mut seen = Vec::new();
        let mut params = Object::new();
        loop {
            let page: serde_json::Value = pages.asked(&params).expect("a page").decode().expect("JSON");
            seen.extend(page["prompts"].as_array().expect("entries").iter().filter_map(serde_json::Value::as_u64));
            let Some(next) = page["nextCursor"].as_str() else { break };
            params = with_cursor(next);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_cursor_of_another_list_or_of_older_content_is_refused() {
        let mint = |list, count| {
            let pages = Pages::render(list, entries(count).into_iter(), Some(2));
            let page: serde_json::Value = pages.asked(&Object::new()).expect("a page").decode().expect("JSON");
            with_cursor(page["nextCursor"].as_str().expect("a cursor"))
        };
        let pages = Pages::render(List::Tools, entries(5).into_iter(), Some(2));
        assert!(pages.asked(&mint(List::Tools, 5)).is_ok());
        assert!(pages.asked(&mint(List::Tools, 4)).is_err());
        assert!(pages.asked(&mint(List::Prompts, 5)).is_err());
    }
}
