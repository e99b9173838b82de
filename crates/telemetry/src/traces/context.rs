//! [`Context`]: the W3C trace context of a request, as `_meta` carries it (SEP-414, mcp-protocol 2.6).
//!
//! What cannot be read is as good as none: the trace begins here then. The vendors' part is passed on as it is, within bounds;
//! `baggage` is not read, since it holds whatever an application puts there.

use trunkline_wire::{Json, Object};

/// The key, and the header, of trace and parent.
pub const PARENT: &str = "traceparent";

/// Those of what vendors add.
pub const STATE: &str = "tracestate";

/// What a vendor's part may hold at most: more than the standard has everyone pass on.
const STATE_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
    pub(super) state: Option<Box<str>>,
}

impl Context {
    /// A trace that begins here.
    pub(super) fn begin(sampled: bool) -> Self {
        // All zeros mean none.
        let trace = fastrand::u128(1..).to_be_bytes();
        Self { trace, span: span(), sampled, state: None }
    }

    /// The same trace, in a span of its own.
    pub(super) fn below(&self) -> Self {
        Self { span: span(), ..self.clone() }
    }

    /// What a request says of it.
    pub(super) fn read(meta: &Object) -> Option<Self> {
        let parent = meta.get_str(PARENT)?;
        let mut parts = parent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may add parts behind these; 255 is none.
        let known = version == "00" && parts.next().is_none();
        let later = version != "00" && version != "ff" && bytes::<1>(version).is_some();
        if !(known || later) {
            return None;
        }
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes(flags)?);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let state = meta.get_str(STATE);
        let fits = |state: &String| {
            (1..=STATE_BYTES_MAX).contains(&state.len()) && state.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        Some(Self { trace, span, sampled: flags & 1 == 1, state: state.filter(fits).map(String::into_boxed_str) })
    }

    /// Says it in a request.
    pub(super) fn write(&self, meta: &mut Object) {
        let parent = format!("00-{}-{}-0{}", hex(&self.trace), hex(&self.span), u8::from(self.sampled));
        meta.set(PARENT, Json::from(parent.as_str()));
        if let Some(state) = &self.state {
            meta.set(STATE, Json::from(&**state));
        }
    }
}

fn span() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

/// Lower case alone, as the standard has it.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.as_bytes().iter().all(digits) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT_TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(parent: &str, state: Option<&str>) -> Option<Context> {
        let mut meta = Object::new();
        meta.set(PARENT, Json::from(parent));
        if let Some(state) = state {
            meta.set(STATE, Json::from(state));
        }
        Context::read(&meta)
    }

    #[test]
    fn a_context_is_read_and_said_again_below_itself() {
        let context = read(PARENT_TEXT, Some("rojo=00f067aa0ba902b7")).expect("a context");
        assert!(context.sampled);
        let mut meta = Object::new();
        context.write(&mut meta);
        assert_eq!(meta.get_str(PARENT).as_deref(), Some(PARENT_TEXT));
        assert_eq!(meta.get_str(STATE).as_deref(), Some("rojo=00f067aa0ba902b7"));
        let below = context.below();
        assert!(below.trace == context.trace && below.span != context.span && below.state == context.state);
    }

    #[test]
    fn what_is_no_context_is_none() {
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(wrong, None), None, "{wrong}");
        }
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(!read(later, None).expect("a later version").sampled);
        let long = "x".repeat(STATE_BYTES_MAX + 1);
        for bad in ["", "a\nb", long.as_str()] {
            assert_eq!(read(PARENT_TEXT, Some(bad)).expect("a context").state, None);
        }
    }
}
