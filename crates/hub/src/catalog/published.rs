//! The digest of each list, and [`ToolList`]: by which people see that a list of tools stays the same.
//!
//! What models cache of a prompt begins with the list of tools, so one that changes without need costs every client. It is the
//! same bytes as long as the entries are (mcp-protocol 6.8); the digest in `/health` and `/metrics` is how an operator can tell
//! over restarts, and which of two moments changed it.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::output::Class;
use super::views::{View, Views, address};
use super::{Catalog, List};

/// SHA-256 over a list.
pub(crate) type Digest = [u8; 32];

/// Bytes of a digest that people see: two lists of one machine that meet in them by chance are not to be expected.
const SHOWN_BYTES: usize = 6;

/// The list of tools that is published at one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolList {
    /// The path, such as `/mcp`.
    pub address: String,
    /// For whose token, where one has a list of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How many are listed.
    pub tools: usize,
    /// Tells this list from any other, in any process.
    pub digest: String,
}

impl Catalog {
    /// Tells the entries of a list from any others, in this build and the next.
    pub(crate) fn digest(&self, list: List) -> &Digest {
        self.digests[list as usize].get_or_init(|| {
            let mut hash = Sha256::new();
            for body in self.bodies(list, Class::Any) {
                hash.update(u64::try_from(body.as_bytes().len()).unwrap_or(u64::MAX).to_le_bytes());
                hash.update(body.as_bytes());
            }
            hash.finalize().into()
        })
    }
}

impl Views {
    /// The list of tools of each view.
    pub(crate) fn tool_lists(&self) -> Vec<ToolList> {
        let list = |(view, catalog): (View, &std::sync::Arc<Catalog>)| ToolList {
            address: address(view.profile()),
            token: view.holder().map(str::to_owned),
            tools: catalog.bodies(List::Tools, Class::Any).count(),
            digest: catalog.digest(List::Tools)[..SHOWN_BYTES].iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
        };
        self.each().map(list).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::build::{Shape, of_offers};
    use crate::fakes::{entries, server, source};
    use trunkline_upstream::Offer;

    fn lists(tools: &[&str]) -> Vec<ToolList> {
        let offer = Offer { tools: entries("name", tools), ..Offer::default() };
        let shape = Shape { name_chars: 48, page_size: None, bare_names: false, own_tools: false };
        Views::holding(of_offers(1, &[source("git", server(), offer)], shape)).tool_lists()
    }

    #[test]
    fn the_digest_of_a_list_is_of_its_bytes_and_their_order() {
        let (a, b) = (r#"{"name":"a","inputSchema":{}}"#, r#"{"name":"b","inputSchema":{}}"#);
        let one = lists(&[a, b]);
        assert_eq!(one, lists(&[a, b]));
        assert_eq!((one[0].address.as_str(), one[0].tools, one[0].digest.len()), ("/mcp", 2, 12));
        assert_ne!(one[0].digest, lists(&[b, a])[0].digest);
        assert_ne!(one[0].digest, lists(&[a, &b.replace("{}", r#"{"x":1}"#)])[0].digest);
    }
}
