//! What every result toward a modern client says besides what its maker said (mcp-protocol 2.10, 3.6, 5.1).
//!
//! A result gets `resultType`, the gateway's identity in `_meta`, and, where the method's results may be cached, for
//! how long and for whom. All of it goes in front of the text, which else crosses byte for byte: only the values of
//! members that the hop owns are replaced, in their place. A large text is not copied for that.

use std::ops::Range;

use bytes::Bytes;
use trunkline_wire::{Id, Json, Object, Text, key};

/// The gateway, as modern results name it.
const IDENTITY: &str =
    concat!(r#"{"name":"trunkline","title":"Trunkline","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// A `_meta` that says nothing else.
const IDENTITY_ALONE: &str = concat!(
    r#"{"io.modelcontextprotocol/serverInfo":{"name":"trunkline","title":"Trunkline","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}"#
);

const COMPLETE: &str = "\"complete\"";
const PRIVATE: &str = "\"private\"";

/// What a result says of caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Nothing: results of this method are not cacheable.
    Never,
    /// What the server said, but for one person alone; not at all, if it said nothing (mcp-protocol 5.5).
    AsSaid,
}

/// Dresses what a server said. `None`: that is no object with keys of its own, so no modern client could read it.
pub(crate) fn stamp(id: &Id, result: &Json, caching: Caching) -> Option<Text> {
    let mut members = Object::parse(result).ok()?;
    let kind = members.get_str("resultType");
    let cached = caching == Caching::AsSaid && kind.as_deref().is_none_or(|kind| kind == "complete");
    if !cached && caching == Caching::AsSaid && (members.get("ttlMs").is_some() || members.get("cacheScope").is_some())
    {
        // A question is nothing to keep (G-25).
        members.retain(|key| !matches!(key, "ttlMs" | "cacheScope"));
        return stamp(id, &members.to_json(), Caching::Never);
    }
    let mut splice = Splice { text: result.bytes(), front: Vec::with_capacity(256), edits: Vec::new() };
    splice.front.push(b'{');
    splice.own("resultType", members.get("resultType"), |_| kind.is_none().then(|| text(COMPLETE)));
    if cached {
        splice.own("ttlMs", members.get("ttlMs"), |said| {
            said.is_none_or(|said| said.decode::<u64>().is_err()).then(|| text("0"))
        });
        splice.own("cacheScope", members.get("cacheScope"), |said| {
            said.is_none_or(|said| said.as_bytes() != PRIVATE.as_bytes()).then(|| text(PRIVATE))
        });
    }
    splice.own("_meta", members.get("_meta"), |said| Some(meta(said)));
    Some(splice.text(id, members.is_empty()))
}

/// Dresses a result of the gateway's own, in which none of the stamped members stands, that stays good for `ttl_ms`.
pub(crate) fn stamp_own(id: &Id, result: &Json, ttl_ms: u64) -> Text {
    let front =
        format!(r#"{{"resultType":{COMPLETE},"ttlMs":{ttl_ms},"cacheScope":{PRIVATE},"_meta":{IDENTITY_ALONE},"#);
    Text::of_result(id, front.as_bytes(), &result.bytes().slice(1..), b"")
}

/// The server's `_meta` with the gateway's identity in place of its own, and without what belongs to its hop alone.
fn meta(said: Option<&Json>) -> Bytes {
    let Some(mut meta) = said.and_then(|said| Object::parse(said).ok()) else { return text(IDENTITY_ALONE) };
    meta.remove(key::RELATED_TASK);
    meta.set(key::SERVER_INFO, Json::literal(IDENTITY));
    meta.to_json().into_bytes()
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A text whose members change in some places.
struct Splice<'a> {
    text: &'a Bytes,
    /// New members, each with its comma, after the opening brace.
    front: Vec<u8>,
    /// What replaces which bytes.
    edits: Vec<(Range<usize>, Bytes)>,
}

impl Splice<'_> {
    /// Sets the member `key`, whose value was `said`, if `value` wants it.
    fn own(&mut self, key: &str, said: Option<&Json>, value: impl FnOnce(Option<&Json>) -> Option<Bytes>) {
        let Some(value) = value(said) else { return };
        match said {
            Some(said) => {
                let start = said.as_bytes().as_ptr().addr() - self.text.as_ptr().addr();
                self.edits.push((start..start + said.as_bytes().len(), value));
            }
            None => {
                for piece in [b"\"", key.as_bytes(), b"\":", &value, b","] {
                    self.front.extend_from_slice(piece);
                }
            }
        }
    }

    /// Puts it together as an answer, around the longest stretch that did not change.
    fn text(mut self, id: &Id, is_empty: bool) -> Text {
        if is_empty {
            let front = self.front.strip_suffix(b",").unwrap_or(&self.front);
            return Text::of_result(id, front, &Bytes::new(), b"}");
        }
        self.edits.sort_unstable_by_key(|(range, _)| range.start);
        let starts = std::iter::once(1).chain(self.edits.iter().map(|(range, _)| range.end));
        let ends = self.edits.iter().map(|(range, _)| range.start).chain([self.text.len()]);
        let gaps: Vec<Range<usize>> = starts.zip(ends).map(|(start, end)| start..end).collect();
        let longest = (0..gaps.len()).max_by_key(|at| gaps[*at].len()).unwrap_or_default();
        let (mut front, mut back) = (self.front, Vec::new());
        for (at, gap) in gaps.iter().enumerate() {
            let side = if at <= longest { &mut front } else { &mut back };
            if at != longest {
                side.extend_from_slice(&self.text[gap.clone()]);
            }
            if let Some((_, value)) = self.edits.get(at) {
                let side = if at < longest { &mut front } else { &mut back };
                side.extend_from_slice(value);
            }
        }
        Text::of_result(id, &front, &self.text.slice(gaps[longest].clone()), &back)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const META: &str = concat!(
        r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"trunkline","title":"Trunkline","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""}}"#
    );

    fn stamped(result: &str, caching: Caching) -> String {
        let text = stamp(&Id::from(7), &Json::parse(result.to_owned()).expect("JSON"), caching).expect("an object");
        let text = String::from_utf8(text.into_bytes().to_vec()).expect("text");
        let result = text.strip_prefix(r#"{"jsonrpc":"2.0","id":7,"result":"#).and_then(|rest| rest.strip_suffix('}'));
        result.expect("an answer").to_owned()
    }

    #[test]
    fn g26_what_a_server_left_out_goes_in_front_and_the_rest_stays_byte_for_byte() {
        let result = r#"{ "content":[{"_meta":{},"n":1.50e1}], "x":{"resultType":1} }"#;
        let expected = format!(r#"{{"resultType":"complete",{META},{}"#, &result[1..]);
        assert_eq!(stamped(result, Caching::Never), expected);
        assert_eq!(stamped("{ }", Caching::Never), format!(r#"{{"resultType":"complete",{META}}}"#));
    }

    #[test]
    fn what_a_server_said_keeps_its_place_and_its_identity_is_replaced() {
        let said = r#"{"a":1,"_meta":{"x/y":1e2,"io.modelcontextprotocol/serverInfo":{"name":"s"},"io.modelcontextprotocol/related-task":{}},"resultType":"input_required","b":2}"#;
        let expected = format!(
            r#"{{"a":1,"_meta":{{"x/y":1e2,{}}},"resultType":"input_required","b":2}}"#,
            &META[r#""_meta":{"#.len()..META.len() - 1]
        );
        assert_eq!(stamped(said, Caching::Never), expected);
        let odd = r#"{"resultType":7,"_meta":[],"a":1}"#;
        assert_eq!(stamped(odd, Caching::Never), format!(r#"{{"resultType":"complete",{META},"a":1}}"#));
    }

    #[test]
    fn g25_a_read_says_what_its_server_said_of_caching_but_for_one_person() {
        let silent = stamped(r#"{"contents":[]}"#, Caching::AsSaid);
        assert_eq!(
            silent,
            format!(r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private",{META},"contents":[]}}"#)
        );
        let said = stamped(r#"{"cacheScope":"public","ttlMs":5000,"resultType":"complete"}"#, Caching::AsSaid);
        assert_eq!(said, format!(r#"{{{META},"cacheScope":"private","ttlMs":5000,"resultType":"complete"}}"#));
        let negative = stamped(r#"{"ttlMs":-1}"#, Caching::AsSaid);
        assert!(negative.contains(r#""ttlMs":0}"#), "{negative}");
        let asks = r#"{"resultType":"input_required","requestState":"s","ttlMs":1,"cacheScope":"public"}"#;
        let asked = stamped(asks, Caching::AsSaid);
        assert!(!asked.contains("ttlMs") && !asked.contains("cacheScope"), "{asked}");
    }

    #[test]
    fn what_is_no_object_cannot_be_dressed() {
        for result in ["7", "[]", r#"{"a":1,"a":2}"#] {
            assert_eq!(stamp(&Id::from(7), &Json::literal(result), Caching::Never), None, "{result}");
        }
    }

    #[test]
    fn a_page_of_our_own_is_dressed_without_being_read() {
        let text = stamp_own(&Id::from(7), &Json::literal(r#"{"tools":[]}"#), 60_000);
        let text = String::from_utf8(text.into_bytes().to_vec()).expect("text");
        let expected =
            format!(r#""result":{{"resultType":"complete","ttlMs":60000,"cacheScope":"private",{META},"tools":[]}}}}"#);
        assert!(text.ends_with(&expected), "{text}");
    }

    proptest! {
        #[test]
        fn every_result_stays_json_and_keeps_its_members(
            before in 0_usize..40_000, after in 0_usize..40_000, meta in any::<bool>(), kind in any::<bool>()
        ) {
            let meta = if meta { r#""_meta":{"k":1},"# } else { "" };
            let kind = if kind { r#""resultType":"complete","# } else { "" };
            let (a, b) = ("a".repeat(before), "b".repeat(after));
            let result = format!(r#"{{"a":"{a}",{meta}{kind}"b":"{b}"}}"#);
            let value: serde_json::Value = serde_json::from_str(&stamped(&result, Caching::AsSaid)).expect("JSON");
            prop_assert_eq!(&value["a"], &a);
            prop_assert_eq!(&value["b"], &b);
            prop_assert_eq!(&value["resultType"], "complete");
            prop_assert_eq!(&value["cacheScope"], "private");
            prop_assert_eq!(&value["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "trunkline");
        }
    }
}
