use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn scrub(text: &str) -> String {
    Scrubber::default().scrub(text)
}

#[test]
fn masks_a_known_secret_in_every_form() {
    let secret = "p\"ss/wörd+42";
    let scrubber = Scrubber::new([secret.to_owned()]);
    for form in [
        secret.to_owned(),
        STANDARD.encode(secret),
        format!("x{}", STANDARD.encode(format!("me:{secret}"))),
        URL_SAFE_NO_PAD.encode(format!("u:{secret} and more")),
        "p%22ss%2Fw%C3%B6rd%2B42".to_owned(),
        serde_json::to_string(secret).expect("a string"),
    ] {
        let shown = scrubber.scrub(&format!("before {form} after"));
        assert!(shown.starts_with("before ") && shown.ends_with(" after"), "{shown}");
        assert!(shown.contains(MASK) && !shown.contains("ss"), "{form} shows as {shown}");
    }
}

#[test]
fn masks_single_lines_of_a_long_secret() {
    let scrubber = Scrubber::new(["first-line\nsecond-line\n".to_owned()]);
    assert_eq!(scrubber.scrub("got second-line here"), "got *** here");
}

#[test]
fn leaves_short_values_alone() {
    assert_eq!(Scrubber::new(["true".to_owned(), String::new()]).scrub("it is true"), "it is true");
}

#[test]
fn masks_what_looks_like_a_secret() {
    for (text, shown) in [
        ("Authorization: Bearer abc.def-123", "Authorization: ***"),
        ("sent bearer abcdefgh12 to it", "sent bearer *** to it"),
        ("GITHUB_TOKEN=abc path=/x", "GITHUB_TOKEN=*** path=/x"),
        (r#"{"client_secret":"a b","x":1}"#, r#"{"client_secret":"***","x":1}"#),
        (r#"{\"apiKey\": \"a b\"}"#, r#"{\"apiKey\": \"***\"}"#),
        ("run --api-key abc --port 1", "run --api-key *** --port 1"),
        ("password: 'a b' ok", "password: '***' ok"),
        ("Cookie: a=b; c=d\nnext", "Cookie: ***\nnext"),
        ("mcp-session-id: 123", "mcp-session-id: ***"),
        ("GET /cb?code=1&x=2&state=3", "GET /cb?code=***&x=2&state=***"),
        ("at https://me:pw@host/x", "at https://***@host/x"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9.abc_def!", "got ***!"),
        ("key ghp_0123456789abcdefghij ok", "key *** ok"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a ***\nb"),
        (r#"{"a":"-----BEGIN PRIVATE KEY-----\nMII"}"#, r#"{"a":"***"}"#),
    ] {
        assert_eq!(scrub(text), shown);
    }
}

#[test]
fn leaves_ordinary_text_alone() {
    for text in [
        "a bearer token is needed",
        "max_tokens=100 used",
        "server exited with code 1, state failed",
        "npm_config_registry_something_long is set",
        "listening on http://127.0.0.1:6270/mcp",
        "the token has expired",
        "sk-learn",
    ] {
        assert_eq!(scrub(text), text);
    }
}

/// Would take minutes if every name looked for its value to the end of the text.
#[test]
fn hostile_text_is_scrubbed_in_one_pass() {
    let text = "token=".repeat(1_000_000);
    assert_eq!(scrub(&text), "token=***");
}

#[test]
fn shows_no_more_of_a_url_than_it_may() {
    assert_eq!(url("https://u:p@host.example:8443/mcp/secret?key=1#x"), "https://host.example:8443/mcp/…");
    assert_eq!(url("http://[::1]:80/"), "http://[::1]:80/");
    assert_eq!(url("https://host?key=1"), "https://host");
    assert_eq!(url("https://host\\@evil/a"), "https://host/@evil/…");
    assert_eq!(url("secret"), "(no URL)");
}

#[test]
fn s17_escapes_what_could_forge_a_line() {
    assert_eq!(printable("a\u{e0041}b\u{61c}", 100), r"a\u{e0041}b\u{61c}", "what is hidden shows");
    assert_eq!(printable("a\r\n\u{1b}[31m\0é\u{2028}\u{202e}", 100), r"a\r\n\u{1b}[31m\u{0}é\u{2028}\u{202e}");
    assert_eq!(printable("éééé", 5), "éé…");
    assert_eq!(printable("éé", 4), "éé");
}

proptest! {
    #[test]
    fn a_known_secret_never_shows(before in ".{0,20}", secret in "[!-~é]{6,20}", after in ".{0,20}") {
        let shown = Scrubber::new([secret.clone()]).scrub(&format!("{before}{secret}{after}"));
        prop_assert!(!shown.contains(&secret) || MASK.contains(&secret));
    }

    #[test]
    fn any_text_can_be_scrubbed(text in "([-=:&?\"'\\\\@/ é\n]|://|token|Bearer |-----BEGIN |-----END |[a-z]){0,40}") {
        let scrubber = Scrubber::new(["secret".to_owned()]);
        let once = scrubber.scrub(&text);
        prop_assert!(!once.contains("secret"));
        printable(&once, 30);
        url(&text);
    }
}
