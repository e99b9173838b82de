//! What a server says with its refusal: the challenge of `WWW-Authenticate` that concerns a token (mcp-protocol 7.2, 7.6).
//!
//! Several challenges may come, in one header or in many, and what is quoted in one may look like another. Here is only said
//! which header counts and what it means; the library reads its parameters (`client.rs`).

use http::header::{HeaderMap, WWW_AUTHENTICATE};

/// The first header with a Bearer challenge.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    all.find(|text| names_bearer(text)).map(str::to_owned)
}

/// Whether one of the challenges of a header is of the scheme `Bearer`. A scheme begins the header or follows a comma that is not
/// quoted.
fn names_bearer(text: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|letter| {
        let ends = letter == ',' && !quoted;
        if letter == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && letter == '\\' && !escaped;
        ends
    });
    let mut schemes = parts.filter_map(|part| part.split_ascii_whitespace().next());
    schemes.any(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

/// Properties for the fuzz target `challenges`.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    use http::HeaderValue;
    use url::Url;

    use super::*;
    use crate::client;

    /// Each line is a header. Reading them does no harm, other schemes beside them change nothing, and what counts is one of them.
    pub fn challenges(input: &[u8]) {
        let lines = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
        let mut headers = HeaderMap::new();
        headers
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="a, Bearer \", bearer", Digest qop="#));
        for line in lines.take(100) {
            headers.append(WWW_AUTHENTICATE, line);
        }
        let found = bearer(&headers);
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        assert_eq!(bearer(&headers), found.clone().or_else(|| Some("Bearer".to_owned())));
        let Some(found) = found else { return };
        assert!(headers.get_all(WWW_AUTHENTICATE).iter().any(|header| header == found.as_str()), "nobody said that");
        let server = Url::parse("https://mcp.example/mcp").expect("a URL");
        if client::lacks_scope(&found, &server) {
            assert!(found.contains("scope"), "a word that is not there: {found}");
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_is_known_by_its_scheme_and_not_by_a_word() {
        for text in ["Bearer", "bearer realm=\"x\"", "Basic realm=\"x\", BEARER scope=a", "Negotiate,Bearer"] {
            assert!(names_bearer(text), "{text}");
        }
        for text in ["", "Basic realm=\"bearer\"", "Basic realm=\"a, Bearer \\\", bearer\"", "Bearers", "X Bearer"] {
            assert!(!names_bearer(text), "{text}");
        }
    }

    #[test]
    fn refusals_are_read_whatever_they_say() {
        replay::replay("challenges", fuzzing::challenges);
    }
}
