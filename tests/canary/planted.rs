//! The secrets that are planted, and the search for them.
//!
//! Each is random and looks like nothing: no prefix, no name beside it that a pattern could go by, so that only a gateway
//! that knows what it must not say keeps it to itself.

use std::fmt::Write as _;

/// What is planted where.
#[derive(Default)]
pub(crate) struct Canaries {
    planted: Vec<Canary>,
    found: Vec<String>,
    looked: usize,
}

struct Canary {
    place: String,
    forms: Vec<String>,
}

impl Canaries {
    /// A new secret for a place.
    pub(crate) fn plant(&mut self, place: &str) -> String {
        let secret = format!("q{:032x}", fastrand::u128(..));
        self.know(place, &secret);
        secret
    }

    /// One that somebody else made.
    pub(crate) fn know(&mut self, place: &str, secret: &str) {
        if !self.planted.iter().any(|canary| canary.forms[0] == secret) {
            self.planted.push(Canary { place: place.to_owned(), forms: forms(secret) });
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.planted.len()
    }

    /// Looks for all of them in a text, but for those of places that begin with one of `lawful`.
    pub(crate) fn search(&mut self, surface: &str, text: &str, lawful: &[&str]) {
        self.looked += 1;
        for canary in &self.planted {
            let place = canary.place.as_str();
            if lawful.iter().any(|prefix| place.starts_with(prefix)) {
                continue;
            }
            if let Some(at) = canary.forms.iter().find_map(|form| text.find(form.as_str())) {
                let begin = text[..at].rfind('\n').map_or(0, |line| line + 1).max(at.saturating_sub(200));
                let begin = (begin..=at).find(|at| text.is_char_boundary(*at)).unwrap_or(at);
                self.found.push(format!("the secret `{place}` is in {surface}: {}", &text[begin..at]));
            }
        }
    }

    /// The verdict.
    pub(crate) fn none_outside(&self, least: usize) {
        assert!(self.count() >= least, "only {} are planted", self.count());
        assert!(self.looked > 0, "nobody looked");
        let told = self.found.iter().fold(String::new(), |mut told, line| {
            let _ = writeln!(told, "{line}");
            told
        });
        assert!(told.is_empty(), "{} of {} planted:\n{told}", self.found.len(), self.count());
    }
}

/// The forms in which programs print a secret: as it is, and inside any Base64 text, where what stands before it decides
/// which of three it takes.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine as _;
    let mut forms = vec![secret.to_owned()];
    for shift in 0..3 {
        let text =
            base64::engine::general_purpose::STANDARD_NO_PAD.encode([&b"xx"[..shift], secret.as_bytes()].concat());
        forms.push(text[(shift * 8).div_ceil(6)..(shift + secret.len()) * 8 / 6].to_owned());
    }
    forms
}
