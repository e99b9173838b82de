//! [`Revision`] and [`Era`]: the five dated revisions of the protocol, and how one is agreed on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A revision of the protocol that the gateway speaks (mcp-protocol 1.1). Ordered by date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Revision {
    /// The first: stdio and HTTP+SSE.
    #[serde(rename = "2024-11-05")]
    V2024_11_05,
    /// Streamable HTTP, batches, audio.
    #[serde(rename = "2025-03-26")]
    V2025_03_26,
    /// Structured output, resource links, form elicitation; batches gone.
    #[serde(rename = "2025-06-18")]
    V2025_06_18,
    /// The newest with a handshake.
    #[serde(rename = "2025-11-25")]
    V2025_11_25,
    /// Stateless.
    #[serde(rename = "2026-07-28")]
    V2026_07_28,
}

/// Whether a peer opens with a handshake or speaks statelessly (mcp-protocol 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// Revisions up to 2025-11-25.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

impl Revision {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The newest revision that is opened by `initialize`.
    pub const NEWEST_LEGACY: Self = Self::V2025_11_25;

    /// Those of the modern era, newest first: what such a client may claim (mcp-protocol 3.4).
    pub const MODERN: [Self; 1] = [Self::V2026_07_28];

    /// The date string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Reads a date string that names a revision known here.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    /// The era it belongs to.
    pub fn era(self) -> Era {
        if self <= Self::NEWEST_LEGACY { Era::Legacy } else { Era::Modern }
    }

    /// Whether `text` names a revision of the modern era, be it one that is not known here: dates compare as text.
    pub fn is_modern(text: &str) -> bool {
        let is_date = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        is_date && text >= Self::V2026_07_28.as_str()
    }

    /// What `initialize` is answered with: the wanted revision if it is a legacy one that we know, else the
    /// newest legacy one (mcp-protocol 3.9, G-41).
    pub fn negotiate(wanted: &str) -> Self {
        Self::parse(wanted).filter(|revision| revision.era() == Era::Legacy).unwrap_or(Self::NEWEST_LEGACY)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_revisions_are_answered_in_kind_and_all_else_with_the_newest() {
        for revision in &Revision::ALL[..4] {
            assert_eq!(Revision::negotiate(revision.as_str()), *revision);
        }
        for other in ["1999-01-01", "2026-07-28", "2027-01-01", ""] {
            assert_eq!(Revision::negotiate(other), Revision::V2025_11_25);
        }
    }

    #[test]
    fn later_dates_are_modern_and_nonsense_is_not() {
        for modern in ["2026-07-28", "2026-10-01", "2099-01-01"] {
            assert!(Revision::is_modern(modern), "{modern}");
        }
        for other in ["2025-11-25", "2026-07-27", "", "newest", "2026-07-28x", "9"] {
            assert!(!Revision::is_modern(other), "{other}");
        }
    }
}
