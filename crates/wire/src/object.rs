//! [`Object`]: a shallow, order-keeping view of one JSON object.
//!
//! Members are found, set and removed by key; values stay text. An object that nobody changed writes back
//! the same members in the same text. A repeated key is refused here, at every level that the gateway
//! reads, so that routing and execution cannot see two different names.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::json::{Json, Malformed, malformed};
use crate::scan::{Flaw, Scanner};

/// The members of one JSON object, in the writer's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    members: Vec<(Key, Json)>,
}

/// The key of a member.
#[derive(Clone)]
enum Key {
    /// Shared with the text it stands in, in its quotes. Nearly all keys are: they have no escapes.
    Quoted(Bytes),
    /// Without quotes and escapes.
    Plain(Box<str>),
}

impl Object {
    /// Reads the members of `text`. Fails if it is no object or repeats a key.
    pub fn parse(text: &Json) -> Result<Self, Malformed> {
        if !text.is_object() {
            return Err(Malformed::NotRpc("an object is expected"));
        }
        // That it is text was checked when it became a `Json`.
        let whole = text.bytes();
        let mut members = Vec::with_capacity(8);
        let read = Scanner::new(whole).object(|name, value| {
            members.push((Key::read(name, whole)?, Json::unchecked(whole.slice_ref(value))));
            Ok(())
        });
        read.map_err(|flaw| malformed(flaw, whole))?;
        if let Some(key) = repeated(&members) {
            return Err(Malformed::RepeatedKey(key.into()));
        }
        Ok(Self { members })
    }

    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.members.iter().find(|(name, _)| name.is(key)).map(|(_, value)| value)
    }

    /// Returns the value of `key` if it is a string.
    pub fn get_str(&self, key: &str) -> Option<String> {
        self.get(key)?.decode_str()
    }

    /// Returns the value of `key` as an object, if it is one.
    pub fn get_object(&self, key: &str) -> Option<Self> {
        Self::parse(self.get(key)?).ok()
    }

    /// Puts `value` in the place of the member `key`, or appends it.
    pub fn set(&mut self, key: &str, value: Json) {
        match self.members.iter_mut().find(|(name, _)| name.is(key)) {
            Some((_, old)) => *old = value,
            None => self.members.push((Key::Plain(key.into()), value)),
        }
    }

    /// Takes the member `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.members.iter().position(|(name, _)| name.is(key))?;
        Some(self.members.remove(at).1)
    }

    /// Keeps the members for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.members.retain(|(name, _)| keep(name.as_str()));
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.members.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Appends the object's text to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'{');
        for (at, member) in self.members.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write_member(member, out);
        }
        out.put_u8(b'}');
    }

    /// Returns the object's text with `more` behind, and without own members of those keys, which are plain text.
    ///
    /// What [`Object::set`] and [`Object::to_json`] would come to, without a copy of the object.
    pub fn to_json_with(&self, more: &[(&'static str, &Json)]) -> Json {
        let own = || self.members.iter().filter(|(name, _)| !more.iter().any(|(key, _)| name.is(key)));
        let room: usize = own().map(|(name, value)| name.as_bytes().len() + value.as_bytes().len() + 4).sum();
        let added: usize = more.iter().map(|(key, value)| key.len() + value.as_bytes().len() + 4).sum();
        let mut out = BytesMut::with_capacity(room + added + 2);
        out.put_u8(b'{');
        for member in own() {
            put_separator(&mut out);
            write_member(member, &mut out);
        }
        for (key, value) in more {
            debug_assert!(!key.contains(['"', '\\']), "a key that needs escapes");
            put_separator(&mut out);
            for piece in [b"\"", key.as_bytes(), b"\":", value.as_bytes()] {
                out.put_slice(piece);
            }
        }
        out.put_u8(b'}');
        Json::unchecked(out.freeze())
    }

    /// Returns the object's text.
    pub fn to_json(&self) -> Json {
        let room: usize = self.members.iter().map(|(n, v)| n.as_bytes().len() + v.as_bytes().len() + 4).sum();
        let mut out = BytesMut::with_capacity(room + 2);
        self.write(&mut out);
        Json::unchecked(out.freeze())
    }
}

impl<'a> FromIterator<(&'a str, Json)> for Object {
    fn from_iter<I: IntoIterator<Item = (&'a str, Json)>>(members: I) -> Self {
        let mut object = Self::new();
        for (key, value) in members {
            object.set(key, value);
        }
        object
    }
}

fn write_member((name, value): &(Key, Json), out: &mut BytesMut) {
    match name {
        Key::Quoted(text) => out.put_slice(text),
        Key::Plain(name) => write_str(name, out),
    }
    out.put_u8(b':');
    out.put_slice(value.as_bytes());
}

/// Puts a comma in front of every member but the first.
fn put_separator(out: &mut BytesMut) {
    if out.len() > 1 {
        out.put_u8(b',');
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_str(text: &str, out: &mut BytesMut) {
    serde_json::to_writer(out.writer(), text).expect("writing to memory cannot fail");
}

/// Returns the first key that stands twice.
///
/// A handful of members is compared pairwise; beyond that sorting keeps a hostile object from costing the
/// square of its size.
fn repeated(members: &[(Key, Json)]) -> Option<&str> {
    if members.len() <= 16 {
        return members
            .iter()
            .enumerate()
            .find(|(at, (name, _))| members[..*at].iter().any(|(earlier, _)| earlier == name))
            .map(|(_, (name, _))| name.as_str());
    }
    let mut names: Vec<&Key> = members.iter().map(|(name, _)| name).collect();
    names.sort_unstable_by_key(|name| name.as_bytes());
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].as_str())
}

impl Key {
    /// Reads a key, given with its quotes, of the object `whole`, which is text.
    fn read(text: &[u8], whole: &Bytes) -> Result<Self, Flaw> {
        if memchr::memchr(b'\\', text).is_some() {
            return serde_json::from_slice(text).map(Self::Plain).map_err(|_| Flaw::Syntax);
        }
        Ok(Self::Quoted(whole.slice_ref(text)))
    }

    fn is(&self, key: &str) -> bool {
        self.as_bytes() == key.as_bytes()
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Quoted(text) => text.get(1..text.len() - 1).unwrap_or_default(),
            Self::Plain(name) => name.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a key is cut out of text at its quotes")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &'static str) -> Object {
        Object::parse(&Json::literal(text)).expect("an object")
    }

    #[test]
    fn set_keeps_the_place_of_a_member() {
        let mut object = object(r#"{"name":"a","x":1e2,"z":null}"#);
        object.set("name", Json::from("b\"c"));
        object.set("new", Json::from(7));
        assert_eq!(object.remove("z"), Some(Json::literal("null")));
        assert_eq!(object.to_json(), Json::literal(r#"{"name":"b\"c","x":1e2,"new":7}"#));
    }

    #[test]
    fn what_is_added_takes_the_place_of_what_has_its_key() {
        let (seven, text) = (Json::from(7), Json::from("x"));
        let before = object(r#"{"k\u0065y":1, "a" : 1.50 }"#);
        assert_eq!(
            before.to_json_with(&[("key", &seven), ("b", &text)]),
            Json::literal(r#"{"a":1.50,"key":7,"b":"x"}"#)
        );
        assert_eq!(before.to_json_with(&[]), before.to_json());
        assert_eq!(Object::new().to_json_with(&[("b", &text)]), Json::literal(r#"{"b":"x"}"#));
        assert_eq!(Object::new().to_json_with(&[]), Json::literal("{}"));
    }

    #[test]
    fn refuses_a_repeated_key_also_when_one_is_escaped() {
        let twice = Json::literal(r#"{"name":1,"n\u0061me":2}"#);
        assert_eq!(Object::parse(&twice), Err(Malformed::RepeatedKey("name".into())));
    }

    #[test]
    fn refuses_what_is_no_object() {
        assert!(Object::parse(&Json::literal("[1]")).is_err());
    }

    proptest! {
        #[test]
        fn an_untouched_object_reads_back_the_same(
            members in proptest::collection::btree_map(".{0,12}", "[a-z0-9\\\\\"\u{e9}]{0,20}", 0..40)
        ) {
            let object: Object =
                members.iter().map(|(key, text)| (key.as_str(), Json::from(text.as_str()))).collect();
            let text = object.to_json();
            prop_assert!(Json::parse(text.bytes().clone()).is_ok());
            prop_assert_eq!(Object::parse(&text), Ok(object));
        }
    }
}
