//! What holds for whatever a client brings as a token. The fuzz target `seals` looks for bytes that break it; the bytes once
//! found are replayed here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::keep::KEY_BYTES;
use crate::seal::{Forged, Sealer, State};

/// Only what was made here opens, as it was made and for whose it is; and what stands under a seal is read without harm
/// whatever it is. The first byte says where a token is changed.
pub fn seals(input: &[u8]) {
    let [at, input @ ..] = input else { return };
    let sealer = Sealer::new(&[7; KEY_BYTES]);
    if let Ok(token) = std::str::from_utf8(input) {
        assert_eq!(sealer.open(token, None).map(|_| ()), Err(Forged), "nobody knows the key");
        let state = State::Pass { server: "git".into(), inner: token.into() };
        let genuine = sealer.seal(&state, Some(token));
        assert_eq!(sealer.open(&genuine, Some(token)).map(|opened| opened.state), Ok(state));
        let other = format!("{token}.");
        assert_eq!(sealer.open(&genuine, Some(&other)).map(|_| ()), Err(Forged), "it is another's");
        let mut changed = genuine.into_bytes();
        let at = usize::from(*at) * changed.len() / 256;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert_eq!(sealer.open(&changed, None).map(|_| ()), Err(Forged), "it was changed at {at}");
    }
    for kind in ["park", "pass", "task", "url", "sess", "list"] {
        let token = sealer.seal_payload(kind, &URL_SAFE_NO_PAD.encode(input));
        let Ok(opened) = sealer.open(&token, None) else { continue };
        let again = sealer.seal(&opened.state, opened.owner.as_deref());
        assert_eq!(sealer.open(&again, opened.owner.as_deref()), Ok(opened), "another state came back");
    }
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_was_sealed_here_opens() {
        super::replay::replay("seals", super::seals);
    }
}
