//! Progress of one call on its way to the client (mcp-protocol 2.7).
//!
//! The client's own token comes back with it. A second's worth leaves at once (`limits.progress_per_sec`: a few quick
//! steps are told one by one), then no more than that in a second; the newest waits for its turn and goes out before the
//! answer, values that do not grow never do. Of a task, which tells nothing itself, there is a beat now and then
//! (mcp-protocol 5.14).

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trunkline_wire::{Json, Method, Notification, Object, key};

/// Holds back what would come too often.
#[derive(Debug)]
pub(crate) struct Progress {
    token: Json,
    last: f64,
    per_sec: u32,
    /// What was sent is paid for until then, each with its part of a second; a second's worth may be owed.
    paid: Option<Instant>,
    held: Option<Object>,
}

impl Progress {
    /// Progress for the client's token, so many a second.
    pub(crate) fn new(token: Json, per_sec: usize) -> Self {
        let per_sec = u32::try_from(per_sec).unwrap_or(u32::MAX).max(1);
        Self { token, last: f64::NEG_INFINITY, per_sec, paid: None, held: None }
    }

    /// Takes a notice of the server. Returns what is to be sent now.
    pub(crate) fn take(&mut self, notice: &Notification, now: Instant) -> Option<Bytes> {
        let params = notice.params().ok()?;
        let value: f64 = params.get("progress")?.decode().ok()?;
        if value <= self.last {
            return None;
        }
        self.last = value;
        if self.next().is_some_and(|next| now < next) {
            self.held = Some(params);
            return None;
        }
        self.held = None;
        Some(self.send(params, now))
    }

    /// A sign of life of the gateway's own, for a server that works and tells nothing: it goes on from what was told.
    pub(crate) fn beat(&mut self, now: Instant) -> Option<Bytes> {
        let value = if self.last.is_finite() { self.last.floor() + 1.0 } else { 1.0 };
        let params = [("progress", Json::trusted(format!("{value}")))].into_iter().collect();
        self.take(&Notification { method: Method::Progress, params: Some(Object::to_json(&params)) }, now)
    }

    /// When something held back may go.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|_| self.next())
    }

    /// Takes out what is held back: its time has come, or the answer has.
    pub(crate) fn flush(&mut self, now: Instant) -> Option<Bytes> {
        let params = self.held.take()?;
        Some(self.send(params, now))
    }

    /// When the next may go.
    fn next(&self) -> Option<Instant> {
        self.paid.and_then(|paid| paid.checked_sub(self.every() * (self.per_sec - 1)))
    }

    fn every(&self) -> Duration {
        Duration::from_secs(1) / self.per_sec
    }

    fn send(&mut self, mut params: Object, now: Instant) -> Bytes {
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + self.every());
        params.set(key::PROGRESS_TOKEN, self.token.clone());
        Notification { method: Method::Progress, params: Some(params.to_json()) }.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(value: &str) -> Notification {
        let params = format!(r#"{{"progressToken":99,"progress":{value},"total":10,"x":1}}"#);
        Notification { method: Method::Progress, params: Some(Json::trusted(params)) }
    }

    fn text(bytes: Option<Bytes>) -> String {
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text")).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_then_the_newest_waits_and_what_does_not_grow_never_goes() {
        let mut progress = Progress::new(Json::from("mine"), 10);
        let start = Instant::now();
        assert_eq!(
            text(progress.take(&notice("1"), start)),
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1,"total":10,"x":1}}"#
        );
        for value in 2..=10 {
            assert!(progress.take(&notice(&value.to_string()), start).is_some());
        }
        assert_eq!(progress.due(), None);
        for value in ["12", "13.5", "13.0", "13.5"] {
            assert_eq!(progress.take(&notice(value), start), None);
        }
        let due = progress.due().expect("one is held");
        assert_eq!(due, start + Duration::from_millis(100));
        assert!(text(progress.flush(due)).contains(r#""progress":13.5"#));
        assert_eq!(progress.flush(due), None);
        assert_eq!(progress.take(&notice("14"), due), None, "the burst is spent");
        assert!(progress.take(&notice("15"), due + Duration::from_millis(100)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_is_more_than_whatever_was_told_before() {
        let start = Instant::now();
        let mut progress = Progress::new(Json::from("mine"), 10);
        let beat = |progress: &mut Progress| text(progress.beat(start));
        let told = |value: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{value},"progressToken":"mine"}}}}"#
            )
        };
        assert_eq!(beat(&mut progress), told("1"));
        assert_eq!(beat(&mut progress), told("2"));
        assert!(progress.take(&notice("41.5"), start).is_some());
        assert_eq!(beat(&mut progress), told("42"));
        assert!(progress.take(&notice("1e308"), start).is_some());
        assert_eq!(progress.beat(start), None, "no number tells this one and the next apart");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_second_earns_the_burst_anew() {
        let mut progress = Progress::new(Json::from(1), 10);
        let start = Instant::now();
        let sent = |progress: &mut Progress, from: u32, now| {
            (from..from + 20).filter(|value| progress.take(&notice(&value.to_string()), now).is_some()).count()
        };
        assert_eq!(sent(&mut progress, 0, start), 10);
        assert_eq!(sent(&mut progress, 20, start + Duration::from_secs(5)), 10);
    }
}
