//! [`Failure`]: why an HTTP exchange brought no answer, and [`verdict`]: what a status means (mcp-protocol 4.7).

use std::time::Duration;

use http::StatusCode;
use http::header::{DATE, HeaderMap, RETRY_AFTER};

use super::{FaultPoint, SendError};

/// A server may ask us to wait this long, and no longer.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// An HTTP exchange that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// How far the request got.
    pub(crate) point: FaultPoint,
    /// What was seen: tells a dial apart from another.
    pub(crate) seen: Seen,
    /// As a fragment: no secret, no server name, no final stop.
    pub(crate) text: String,
    /// When the server asked to be tried again.
    pub(crate) retry_after: Option<Duration>,
}

/// What was seen of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: no connection, or it died.
    Unreachable,
    /// A certificate that is not trusted, or another fault of TLS.
    Tls,
    /// Nothing, because of a setting that a person must change: `ca_file`, or a proxy's variable.
    Setting,
    /// This status.
    Status(StatusCode),
    /// Something else than MCP.
    Other,
}

impl Failure {
    /// A failure without a word on when to try again.
    pub(crate) fn new(point: FaultPoint, seen: Seen, text: impl Into<String>) -> Self {
        Self { point, seen, text: text.into(), retry_after: None }
    }
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self { fault: failure.point, text: failure.text, retry_after: failure.retry_after }
    }
}

/// What `status` means for a request that carried a session id or none. `excerpt` is the body, fit to be shown.
pub(crate) fn verdict(status: StatusCode, headers: &HeaderMap, excerpt: &str, in_session: bool) -> Failure {
    let retry_after = retry_after(headers);
    let names_session = excerpt.to_ascii_lowercase().contains("session");
    let point = match status.as_u16() {
        404 if in_session => FaultPoint::SessionGone,
        // Some servers say so with 400; a second 400 in the new session ends the call, which is re-sent once only.
        400 if in_session && names_session => FaultPoint::SessionGone,
        401 | 403 => FaultPoint::NeedsAuth,
        425 | 429 => FaultPoint::RefusedBeforeRun,
        503 if retry_after.is_some() => FaultPoint::RefusedBeforeRun,
        // A timeout at the server says nothing about how far it got.
        408 | 500..=599 => FaultPoint::ServerFailed,
        _ => FaultPoint::Unreadable,
    };
    let text = if excerpt.is_empty() { format!("answered {status}") } else { format!("answered {status}: {excerpt}") };
    Failure { point, seen: Seen::Status(status), text, retry_after }
}

/// Reads `Retry-After`: seconds, or a date, which counts from the response's own `Date`. So a clock that is wrong
/// here does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).map(str::trim);
    let value = text(RETRY_AFTER)?;
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => http_date(value)?.saturating_sub(http_date(text(DATE)?)?),
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Reads `Wed, 21 Oct 2015 07:28:00 GMT` as seconds since 1970; the two obsolete forms are not worth a reader.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970-01-01, with years that begin in March so that the leap day comes last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    fn point(status: u16, excerpt: &str, in_session: bool) -> FaultPoint {
        verdict(StatusCode::from_u16(status).expect("valid"), &HeaderMap::new(), excerpt, in_session).point
    }

    #[test]
    fn a_status_says_how_far_the_request_got() {
        for (status, expected) in [
            (401, FaultPoint::NeedsAuth),
            (403, FaultPoint::NeedsAuth),
            (404, FaultPoint::Unreadable),
            (413, FaultPoint::Unreadable),
            (425, FaultPoint::RefusedBeforeRun),
            (429, FaultPoint::RefusedBeforeRun),
            (500, FaultPoint::ServerFailed),
            (502, FaultPoint::ServerFailed),
            (503, FaultPoint::ServerFailed),
        ] {
            assert_eq!(point(status, "", false), expected, "{status}");
        }
    }

    #[test]
    fn a_lost_session_is_told_from_a_wrong_address() {
        assert_eq!(point(404, "", true), FaultPoint::SessionGone);
        assert_eq!(point(400, "Bad Request: No valid Session ID provided", true), FaultPoint::SessionGone);
        assert_eq!(point(400, "no such argument", true), FaultPoint::Unreadable);
        assert_eq!(point(400, "Missing session ID", false), FaultPoint::Unreadable);
    }

    #[test]
    fn a_503_that_names_a_time_refused_before_it_ran() {
        let busy = verdict(StatusCode::SERVICE_UNAVAILABLE, &headers(&[("retry-after", "7")]), "", false);
        assert_eq!((busy.point, busy.retry_after), (FaultPoint::RefusedBeforeRun, Some(Duration::from_secs(7))));
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        assert_eq!(retry_after(&headers(&[("retry-after", "100000")])), Some(RETRY_AFTER_MAX));
        let date =
            headers(&[("date", "Tue, 29 Feb 2028 23:59:50 GMT"), ("retry-after", "Wed, 01 Mar 2028 00:00:20 GMT")]);
        assert_eq!(retry_after(&date), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }

    #[test]
    fn dates_count_from_the_epoch() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_date("Wed, 99 Oct 2015 07:28:00 GMT"), None);
    }
}
