//! The page and its parts, as they lie in the binary.
//!
//! Browsers ask each time and are told at once that nothing changed: the tag holds content and version, so the page never
//! mixes parts of two daemons. The policy lets nothing run or load but these files.
//!
//! The style and the icon are put into the page when the first browser asks: it is drawn with the page's own bytes and waits
//! for no second request. The policy names that style by its hash, so no other one holds, inline or not.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::arm;
use crate::body::Body;

/// What the page may do: run and load what is here, ask the daemon, and no more.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'sha256-{style}'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("ASCII")
});

const SCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE: &str = include_str!("../../assets/app.css");
const ICON: &str = include_str!("../../assets/icon.svg");

static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("../../assets/index.html")
        .replacen("<!-- app.css -->", &format!("<style>{STYLE}</style>"), 1)
        .replacen("<!-- icon.svg -->", ICON, 1)
});

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($path:literal $kind:expr, $text:expr;)*) => {
        [$(Asset { path: $path, kind: $kind, bytes: $text.as_bytes() }),*]
    };
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("../../assets/", $name))
    };
}

static ASSETS: LazyLock<[Asset; 12]> = LazyLock::new(|| {
    assets! {
        "/" "text/html; charset=utf-8", PAGE;
        "/assets/icon.svg" "image/svg+xml", ICON;
        "/assets/boot.js" SCRIPT, file!("boot.js");
        "/assets/app.js" SCRIPT, file!("app.js");
        "/assets/store.js" SCRIPT, file!("store.js");
        "/assets/dom.js" SCRIPT, file!("dom.js");
        "/assets/chart.js" SCRIPT, file!("chart.js");
        "/assets/servers.js" SCRIPT, file!("servers.js");
        "/assets/detail.js" SCRIPT, file!("detail.js");
        "/assets/tools.js" SCRIPT, file!("tools.js");
        "/assets/form.js" SCRIPT, file!("form.js");
        "/assets/lists.js" SCRIPT, file!("lists.js");
    }
});

/// The part of the page at this path.
pub(super) fn at(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

impl Asset {
    /// The file, or word that the browser has it.
    pub(super) fn response(&self, version: &str, asked: &HeaderMap) -> Response<Body> {
        let tag = self.tag(version);
        let known = asked.get_all(IF_NONE_MATCH).iter().any(|have| {
            have.as_bytes().split(|byte| *byte == b',').any(|one| {
                let one = one.trim_ascii();
                one.strip_prefix(b"W/").unwrap_or(one) == tag.as_bytes()
            })
        });
        let body = if known { Body::empty() } else { Body::whole(Bytes::from_static(self.bytes)) };
        let mut response = Response::new(body);
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        arm(headers, POLICY.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes"));
        response
    }

    fn tag(&self, version: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (version, self.bytes).hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_weighs_less_than_100_kilobytes_in_all() {
        let weight: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(weight <= 100_000, "{weight} bytes");
    }

    #[test]
    fn every_script_that_one_imports_is_there() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT) {
            let text = std::str::from_utf8(asset.bytes).expect("text");
            let imports = text.split(" from './").skip(1).chain(text.split("import('./").skip(1));
            for imported in imports.filter_map(|rest| rest.split('\'').next()) {
                assert!(at(&format!("/assets/{imported}")).is_some(), "{imported}, of {}", asset.path);
            }
        }
    }

    #[test]
    fn s36_the_page_holds_no_inline_code_and_names_no_other_place() {
        for asset in ASSETS.iter() {
            let text = std::str::from_utf8(asset.bytes).expect("text");
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "javascript:"]
            {
                assert!(!text.contains(forbidden), "{forbidden} in {}", asset.path);
            }
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            for scheme in ["http://", "https://"] {
                let named = elsewhere.match_indices(scheme).find(|(at, _)| {
                    let after = elsewhere[at + scheme.len()..].chars().next();
                    after.is_some_and(char::is_alphanumeric)
                });
                assert_eq!(named, None, "{}", asset.path);
            }
        }
        let page = std::str::from_utf8(ASSETS[0].bytes).expect("text");
        let listens =
            page.split(" on").skip(1).any(|rest| rest.trim_start_matches(char::is_alphabetic).starts_with('='));
        assert!(!page.contains(" style=") && !listens, "no inline code");
        let style = page.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
        assert_eq!(style.map(|(style, _)| style), Some(STYLE), "the one style is the one that the policy names");
        assert_eq!(page.matches("<style").count(), 1);
        assert!(page.contains(ICON) && !page.contains("<!--"), "nothing is left to be put in");
        assert!(page.matches("<script").all(|_| page.contains("<script type=\"module\" src=\"/assets/boot.js\">")));
        assert_eq!(page.matches("<script").count(), 1);
    }
}
