//! Results of the list methods, rendered once per catalogue (mcp-protocol 6.8).
//!
//! What clients of a class may see is rendered when the first of them asks for it, and kept with the catalogue: most
//! daemons meet one class of clients, and one that meets none holds no text twice.
//!
//! All entries stand on one page unless a page size is configured, because not every client asks for a second
//! one. A cursor names the list, its content and where to go on, under the seal of whoever asked (S-12); it survives
//! whatever leaves the content as it is, a restart included, and is refused otherwise, so that a client never joins halves
//! of two lists.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};
use trunkline_wire::{Json, Object};

use crate::catalog::List;
use crate::catalog::output::Class;
use crate::refusal;
use crate::seal::{Sealer, State};

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

/// The pages of one list, each a `result` that lacks but its cursor.
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
            return Self { list, digest: String::new(), texts: vec![page(list, &entries)] };
        }
        let mut hash = Sha256::new();
        for entry in &entries {
            hash.update(entry.as_bytes());
            hash.update(b"\n");
        }
        let digest = URL_SAFE_NO_PAD.encode(&hash.finalize()[..9]);
        let texts = entries.chunks(size).map(|chunk| page(list, chunk)).collect();
        Self { list, digest, texts }
    }

    /// The page that `owner`'s request for the list asks for by its `params`; an error for a cursor that is not of this list,
    /// or not his.
    pub(crate) fn asked(&self, params: &Object, sealer: &Sealer, owner: Option<&str>) -> Result<Json, Json> {
        let wanted = params.get("cursor").filter(|cursor| cursor.as_bytes() != b"null");
        let at = match wanted {
            None => 0,
            Some(cursor) => cursor
                .decode_str()
                .and_then(|cursor| self.place(sealer.open(&cursor, owner).ok()?.state))
                .ok_or_else(|| refusal::invalid_params("the cursor is unknown or its list has changed: start over"))?,
        };
        let page = &self.texts[at];
        if at + 1 == self.texts.len() {
            return Ok(page.clone());
        }
        let next = State::Cursor { list: self.list.key().into(), digest: self.digest.as_str().into(), page: at + 1 };
        Ok(with_cursor(page, &sealer.seal(&next, owner)))
    }

    /// The page that a cursor leads to.
    fn place(&self, state: State) -> Option<usize> {
        let State::Cursor { list, digest, page } = state else { return None };
        let fits = *list == *self.list.key() && *digest == *self.digest && (1..self.texts.len()).contains(&page);
        fits.then_some(page)
    }
}

/// A page that is not the last one.
fn with_cursor(page: &Json, next: &str) -> Json {
    let text = page.as_bytes();
    let mut out = BytesMut::with_capacity(text.len() + next.len() + 20);
    out.put_slice(text.strip_suffix(b"}").expect("a page is an object"));
    out.put_slice(b",\"nextCursor\":\"");
    out.put_slice(next.as_bytes());
    out.put_slice(b"\"}");
    Json::trusted(out.freeze())
}

fn page(list: List, entries: &[Json]) -> Json {
    let room: usize = entries.iter().map(|entry| entry.as_bytes().len() + 1).sum();
    let mut out = BytesMut::with_capacity(room + 32);
    out.put_slice(b"{\"");
    out.put_slice(list.key().as_bytes());
    out.put_slice(b"\":[");
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(entry.as_bytes());
    }
    out.put_slice(b"]}");
    Json::trusted(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u64) -> Vec<Json> {
        (0..count).map(Json::from).collect()
    }

    fn going_on(cursor: &str) -> Object {
        [("cursor", Json::from(cursor))].into_iter().collect()
    }

    fn sealer() -> Sealer {
        Sealer::new(&crate::Keep::nowhere().key)
    }

    /// The cursor on the first page.
    fn mint(list: List, count: u64, sealer: &Sealer, owner: Option<&str>) -> Object {
        let pages = Pages::render(list, entries(count).into_iter(), Some(2));
        let page = pages.asked(&Object::new(), sealer, owner).expect("a page");
        let page: serde_json::Value = page.decode().expect("JSON");
        going_on(page["nextCursor"].as_str().expect("a cursor"))
    }

    #[test]
    fn everything_stands_on_one_page_by_default() {
        let pages = Pages::render(List::Tools, entries(3).into_iter(), None);
        let asked = |params: &Object| pages.asked(params, &sealer(), None);
        assert_eq!(asked(&Object::new()), Ok(Json::literal(r#"{"tools":[0,1,2]}"#)));
        for foreign in ["", "x"] {
            assert!(asked(&going_on(foreign)).is_err(), "{foreign:?}");
        }
        let none: Object = [("cursor", Json::literal("null"))].into_iter().collect();
        assert!(asked(&none).is_ok());
    }

    #[test]
    fn cursors_lead_through_all_pages_and_end() {
        let pages = Pages::render(List::Prompts, entries(5).into_iter(), Some(2));
        let (mut seen, mut params, sealer) = (Vec::new(), Object::new(), sealer());
        loop {
            let page: serde_json::Value = pages.asked(&params, &sealer, None).expect("a page").decode().expect("JSON");
            seen.extend(page["prompts"].as_array().expect("entries").iter().filter_map(serde_json::Value::as_u64));
            let Some(next) = page["nextCursor"].as_str() else { break };
            params = going_on(next);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn s12_a_cursor_of_another_list_or_of_older_content_is_refused() {
        let pages = Pages::render(List::Tools, entries(5).into_iter(), Some(2));
        let sealer = sealer();
        let asked = |list, count| pages.asked(&mint(list, count, &sealer, None), &sealer, None);
        assert!(asked(List::Tools, 5).is_ok());
        assert!(asked(List::Tools, 4).is_err());
        assert!(asked(List::Prompts, 5).is_err());
    }

    #[test]
    fn s12_a_cursor_is_good_for_whom_it_was_given_to_and_is_unknown_to_others() {
        let pages = Pages::render(List::Tools, entries(5).into_iter(), Some(2));
        let sealer = sealer();
        let laptops = mint(List::Tools, 5, &sealer, Some("laptop"));
        assert!(pages.asked(&laptops, &sealer, Some("laptop")).is_ok());
        let refused = pages.asked(&laptops, &sealer, Some("ci"));
        assert!(refused.is_err());
        assert_eq!(refused, pages.asked(&going_on("made up"), &sealer, Some("ci")), "nothing tells the two apart");
        let made_elsewhere = mint(List::Tools, 5, &self::sealer(), Some("laptop"));
        assert!(pages.asked(&made_elsewhere, &sealer, Some("laptop")).is_err(), "it is sealed");
    }
}
