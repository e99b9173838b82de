//! Whether a request of the dashboard comes from our own page (S-34).
//!
//! A page of another origin can make a browser send requests here: it cannot read the answers, but what is asked would be
//! done. Browsers say where a request comes from, in `Sec-Fetch-Site` and in `Origin`, and no page can forge either. Programs
//! of the owner that send neither say that they mean it: by our own origin, and a type that no form can send.
//!
//! What is read only needs that no other page is behind it. A person who follows a link to the dashboard comes from
//! anywhere, which is why the page itself asks nothing.

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

use super::Spot;
use crate::guard::Guard;
use crate::incoming::is_json;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const FOREIGN: &str = "a page of another origin may not use the dashboard, whatever `listen.origins` lists";
const UNPROVEN: &str = "this changes something, and nothing shows that the dashboard itself asks for it: send its own \
                        `Origin` and `Content-Type: application/json`, or use the command line";

/// Says why the request is refused. Its `Host` is one of our own and its `Origin`, if there is one, not foreign.
pub(super) fn check(spot: Spot, guard: &Guard, headers: &HeaderMap) -> Result<(), &'static str> {
    let acts = spot == Spot::Act;
    match headers.get(FETCH_SITE).map(http::HeaderValue::as_bytes) {
        _ if matches!(spot, Spot::Asset(_)) => Ok(()),
        // Whatever names it goes by: behind a proxy its origin is one that `listen.origins` has to list.
        Some(b"same-origin") => Ok(()),
        // A person typed the address.
        Some(b"none") if !acts => Ok(()),
        Some(_) => Err(FOREIGN),
        None if guard.listed_origin(headers).is_some() => Err(FOREIGN),
        None if !acts || (is_own(headers) && is_json(headers)) => Ok(()),
        None => Err(UNPROVEN),
    }
}

/// Whether the origin is the very one that the request is for.
fn is_own(headers: &HeaderMap) -> bool {
    let (Some(origin), Some(host)) = (headers.get(ORIGIN), headers.get(HOST)) else { return false };
    let authority = origin.as_bytes().strip_prefix(b"http://");
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}
