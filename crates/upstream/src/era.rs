//! Which era a server speaks, by what it does when it is asked `server/discover`: the tables of mcp-protocol 4.5 and
//! 4.6 as data, and [`Memory`], what an earlier connection showed (4.8). Pure.
//!
//! The probe is harmless: it has no effect at any server, and what proves nothing decides nothing. Whoever
//! dials asks here what an observation means; nobody else judges a code or a status.

use std::time::Duration;

use tokio::time::Instant;
use trunkline_wire::{Era, Revision, code};

/// How long the conclusion "legacy" holds: a server that was upgraded still answers `initialize`, so nothing else
/// would ever show it (mcp-protocol 4.8).
const LEGACY_HOLDS: Duration = Duration::from_hours(24);

/// What a server did when it was asked `server/discover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answered; the revisions that it named.
    Discovered(Vec<String>),
    /// It answered with an error of this code; the revisions that its data named.
    Refused(i64, Vec<String>),
    /// It answered with a result that is none.
    Malformed,
    /// It did not answer in time, over stdio.
    Silent,
    /// It closed its stdout.
    Exited,
    /// It answered with this HTTP status, and with no message that says more.
    Status(u16),
    /// It was not reached, or gave no answer over HTTP in time.
    Unreached,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It speaks this modern revision.
    Modern(Revision),
    /// It is modern; to be asked once more, by this revision.
    AskBy(Revision),
    /// It is modern and fails; to be asked once more, and by `initialize` as a last resort.
    AskAgain,
    /// It is modern and speaks no revision that we do: no way down.
    Foreign,
    /// To be opened by `initialize`.
    Legacy,
    /// To be started again and opened by `initialize`.
    LegacyAnew,
    /// Nothing is known; the attempt ends with what was seen.
    Nothing,
}

/// Says what `evidence` means.
pub(crate) fn verdict(evidence: &Evidence) -> Verdict {
    match evidence {
        Evidence::Discovered(named) => match Named::read(named) {
            Named::Common(revision) => Verdict::Modern(revision),
            Named::Foreign => Verdict::Foreign,
            Named::Legacy | Named::Nothing => Verdict::Legacy,
        },
        Evidence::Refused(code::UNSUPPORTED_PROTOCOL_VERSION, named) => match Named::read(named) {
            Named::Common(revision) => Verdict::AskBy(revision),
            Named::Foreign => Verdict::Foreign,
            Named::Legacy | Named::Nothing => Verdict::Legacy,
        },
        Evidence::Refused(code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY, _) => Verdict::AskAgain,
        // No code of a legacy server may be relied on: the SDKs differ in what they say before the handshake.
        Evidence::Refused(..) | Evidence::Malformed | Evidence::Silent => Verdict::Legacy,
        Evidence::Exited => Verdict::LegacyAnew,
        Evidence::Status(status) if says_something(*status) => Verdict::Legacy,
        Evidence::Status(_) | Evidence::Unreached => Verdict::Nothing,
    }
}

/// Whether a status to the probe lets conclude anything, whatever stands in the body. Want of a credential, load,
/// failure and a redirect do not.
pub(crate) fn says_something(status: u16) -> bool {
    match status {
        401 | 403 | 408 | 425 | 429 => false,
        200..=299 | 400..=499 | 501 => true,
        _ => false,
    }
}

/// What a list of revisions has for us.
enum Named {
    /// The newest modern one that we speak too.
    Common(Revision),
    /// Modern ones, and none that we speak.
    Foreign,
    /// Legacy ones alone.
    Legacy,
    /// No revision at all.
    Nothing,
}

impl Named {
    fn read(named: &[String]) -> Self {
        let known = |revision: Revision| named.iter().any(|text| text == revision.as_str());
        let common = Revision::ALL.into_iter().rev().find(|it| it.era() == Era::Modern && known(*it));
        if let Some(revision) = common {
            return Self::Common(revision);
        }
        if Revision::ALL.into_iter().any(known) {
            return Self::Legacy;
        }
        // Dates compare as text.
        let later = |text: &String| text.as_str() > Revision::NEWEST_LEGACY.as_str() && text.starts_with('2');
        if named.iter().any(later) { Self::Foreign } else { Self::Nothing }
    }
}

/// Which of the legacy ways a server was reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `initialize`, over stdio or by POST.
    Initialize,
    /// The pair of HTTP+SSE.
    Pair,
}

/// What earlier attempts showed of one server, so that it is troubled once: the way, and until when that is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory(Option<(Way, Instant)>, Doubt);

/// Whether a child's end on the probe was followed by a handshake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    Unproven,
}

impl Memory {
    /// What an earlier process found out, and how long that still holds: never longer than what was found out now.
    pub(crate) fn of(way: Way, left: Duration, now: Instant) -> Self {
        let left = left.min(LEGACY_HOLDS);
        if left.is_zero() { Self::default() } else { Self(Some((way, now + left)), Doubt::None) }
    }

    /// The way that was proved by a handshake, and how long that still holds.
    pub(crate) fn proven(&self, now: Instant) -> Option<(Way, Duration)> {
        let (way, until) = self.0.filter(|(_, until)| now < *until && self.1 == Doubt::None)?;
        Some((way, until - now))
    }

    /// The way that needs no probe. `None` before the first connection, after a modern one, and after a day.
    pub(crate) fn shortcut(&self, now: Instant) -> Option<Way> {
        let (way, until) = self.0?;
        (now < until).then_some(way)
    }

    /// A handshake succeeded by this way. What was concluded keeps its age.
    pub(crate) fn legacy(&mut self, way: Way, now: Instant) {
        let until = match self.0 {
            Some((known, until)) if known == way && now < until => until,
            Some(_) | None => now + LEGACY_HOLDS,
        };
        *self = Self(Some((way, until)), Doubt::None);
    }

    /// A child ended on the probe and on `initialize` as well: it may be broken or old. The next start tells, and one
    /// start is enough for that.
    pub(crate) fn perhaps_legacy(&mut self, now: Instant) {
        *self = match self.0 {
            None => Self(Some((Way::Initialize, now + LEGACY_HOLDS)), Doubt::Unproven),
            // Nothing was proved the second time either.
            Some(_) if self.1 == Doubt::Unproven => Self::default(),
            Some(known) => Self(Some(known), Doubt::None),
        };
    }

    /// What was known does not hold, or is not worth keeping: the next attempt begins with the probe.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "2026-07-28";

    /// Rows of mcp-protocol 4.5 (stdio, and answers over HTTP).
    #[rustfmt::skip]
    fn answers() -> Vec<(&'static str, Evidence, Verdict)> {
        let named = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let modern = Revision::V2026_07_28;
        vec![
            ("modern overlap",         Evidence::Discovered(named(&[OURS])),                     Verdict::Modern(modern)),
            ("and others beside",      Evidence::Discovered(named(&["2027-01-01", OURS, "2025-11-25"])), Verdict::Modern(modern)),
            ("legacy overlap alone",   Evidence::Discovered(named(&["2025-11-25", "x"])),        Verdict::Legacy),
            ("foreign modern alone",   Evidence::Discovered(named(&["2027-01-01"])),             Verdict::Foreign),
            ("no list",                Evidence::Discovered(named(&[])),                         Verdict::Legacy),
            ("-32022, common",         Evidence::Refused(-32022, named(&["2027-01-01", OURS])),  Verdict::AskBy(modern)),
            ("-32022, foreign",        Evidence::Refused(-32022, named(&["2027-01-01"])),        Verdict::Foreign),
            ("-32022, legacy alone",   Evidence::Refused(-32022, named(&["2025-06-18"])),        Verdict::Legacy),
            ("-32022, no valid list",  Evidence::Refused(-32022, named(&[])),                    Verdict::Legacy),
            ("-32020",                 Evidence::Refused(-32020, named(&[])),                    Verdict::AskAgain),
            ("-32021",                 Evidence::Refused(-32021, named(&[])),                    Verdict::AskAgain),
            ("-32601",                 Evidence::Refused(-32601, named(&[])),                    Verdict::Legacy),
            ("-32602",                 Evidence::Refused(-32602, named(&[])),                    Verdict::Legacy),
            ("-32600",                 Evidence::Refused(-32600, named(&[])),                    Verdict::Legacy),
            ("-32000",                 Evidence::Refused(-32000, named(&[])),                    Verdict::Legacy),
            ("draft number of -32022", Evidence::Refused(-32004, named(&[OURS])),                Verdict::Legacy),
            ("0",                      Evidence::Refused(0, named(&[])),                         Verdict::Legacy),
            ("silence",                Evidence::Silent,                                         Verdict::Legacy),
            ("exit",                   Evidence::Exited,                                         Verdict::LegacyAnew),
            ("malformed",              Evidence::Malformed,                                      Verdict::Legacy),
            ("network, TLS, timeout",  Evidence::Unreached,                                      Verdict::Nothing),
        ]
    }

    /// Rows of mcp-protocol 4.6, step A, where the body is no message.
    #[rustfmt::skip]
    const STATUSES: &[(u16, Verdict)] = &[
        (200, Verdict::Legacy), (202, Verdict::Legacy), (204, Verdict::Legacy),
        (301, Verdict::Nothing), (302, Verdict::Nothing), (303, Verdict::Nothing), (307, Verdict::Nothing), (308, Verdict::Nothing),
        (400, Verdict::Legacy), (401, Verdict::Nothing), (403, Verdict::Nothing), (404, Verdict::Legacy), (405, Verdict::Legacy),
        (406, Verdict::Legacy), (408, Verdict::Nothing), (410, Verdict::Legacy), (413, Verdict::Legacy), (415, Verdict::Legacy),
        (422, Verdict::Legacy), (425, Verdict::Nothing), (429, Verdict::Nothing), (431, Verdict::Legacy), (501, Verdict::Legacy),
        (500, Verdict::Nothing), (502, Verdict::Nothing), (503, Verdict::Nothing), (504, Verdict::Nothing),
    ];

    #[test]
    fn every_answer_means_what_the_table_says() {
        for (row, evidence, expected) in answers() {
            assert_eq!(verdict(&evidence), expected, "{row}");
        }
    }

    #[test]
    fn g59_no_status_that_speaks_of_credentials_load_or_failure_is_evidence() {
        for (status, expected) in STATUSES {
            assert_eq!(verdict(&Evidence::Status(*status)), *expected, "{status}");
            assert_eq!(says_something(*status), *expected == Verdict::Legacy, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_legacy_verdict_is_remembered_for_a_day_however_often_it_is_confirmed() {
        let start = Instant::now();
        let after = |hours| start + Duration::from_hours(hours);
        let mut memory = Memory::default();
        assert_eq!(memory.shortcut(start), None);
        memory.legacy(Way::Pair, start);
        memory.legacy(Way::Pair, after(23));
        assert_eq!((memory.shortcut(after(23)), memory.shortcut(after(24))), (Some(Way::Pair), None));
        memory.legacy(Way::Pair, after(25));
        assert_eq!(memory.shortcut(after(48)), Some(Way::Pair));
        memory.forget();
        assert_eq!(memory.shortcut(after(48)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn r47_what_an_earlier_process_proved_is_believed_for_the_rest_of_its_day() {
        let now = Instant::now();
        let mut memory = Memory::default();
        memory.legacy(Way::Pair, now);
        let later = now + Duration::from_hours(20);
        let (way, left) = memory.proven(later).expect("proved");
        assert_eq!((way, left), (Way::Pair, Duration::from_hours(4)));
        assert_eq!(Memory::of(way, left, later).shortcut(later + Duration::from_hours(3)), Some(Way::Pair));
        assert_eq!(Memory::of(way, left, later).shortcut(later + Duration::from_hours(5)), None);
        let jumped = Memory::of(way, Duration::from_hours(1000), now);
        assert_eq!(jumped.shortcut(now + Duration::from_hours(25)), None, "a clock that was set back proves nothing");
        let mut doubtful = Memory::default();
        doubtful.perhaps_legacy(now);
        assert_eq!(doubtful.proven(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_ends_whatever_it_is_sent_is_probed_every_other_time() {
        let now = Instant::now();
        let mut memory = Memory::default();
        memory.perhaps_legacy(now);
        assert_eq!(memory.shortcut(now), Some(Way::Initialize));
        memory.perhaps_legacy(now);
        assert_eq!(memory.shortcut(now), None);
        memory.legacy(Way::Initialize, now);
        memory.perhaps_legacy(now);
        assert_eq!(memory.shortcut(now), Some(Way::Initialize), "it was proved once");
    }
}
