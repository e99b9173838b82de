//! Progress of one call on its way to the client (mcp-protocol 2.7).
//!
//! The client's own token comes back with it. At most ten events a second leave; the newest waits for its turn
//! and goes out before the answer, values that do not grow never do.

use bytes::Bytes;
use tokio::time::Instant;
use trunkline_wire::{Json, Method, Notification, Object, key};

use crate::limits::PROGRESS_EVERY;

/// Holds back what would come too often.
#[derive(Debug)]
pub(crate) struct Progress {
    token: Json,
    last: f64,
    next: Option<Instant>,
    held: Option<Object>,
}

impl Progress {
    /// Progress for the client's token.
    pub(crate) fn new(token: Json) -> Self {
        Self { token, last: f64::NEG_INFINITY, next: None, held: None }
    }

    /// Takes a notice of the server. Returns what is to be sent now.
    pub(crate) fn take(&mut self, notice: &Notification, now: Instant) -> Option<Bytes> {
        let params = notice.params().ok()?;
        let value: f64 = params.get("progress")?.decode().ok()?;
        if value <= self.last {
            return None;
        }
        self.last = value;
        if self.next.is_some_and(|next| now < next) {
            self.held = Some(params);
            return None;
        }
        self.next = Some(now + PROGRESS_EVERY);
        self.held = None;
        Some(self.message(params))
    }

    /// When something held back may go.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.held.as_ref().and(self.next)
    }

    /// Takes out what is held back: its time has come, or the answer has.
    pub(crate) fn flush(&mut self, now: Instant) -> Option<Bytes> {
        let params = self.held.take()?;
        self.next = Some(now + PROGRESS_EVERY);
        Some(self.message(params))
    }

    fn message(&self, mut params: Object) -> Bytes {
        params.set(key::PROGRESS_TOKEN, self.token.clone());
        Notification { method: Method::Progress, params: Some(params.to_json()) }.encode()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn notice(value: &str) -> Notification {
        let params = format!(r#"{{"progressToken":99,"progress":{value},"total":10,"x":1}}"#);
        Notification { method: Method::Progress, params: Some(Json::trusted(params)) }
    }

    fn text(bytes: Option<Bytes>) -> String {
        bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text")).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_value_goes_out_and_what_does_not_grow_never_does() {
        let mut progress = Progress::new(Json::from("mine"));
        let start = Instant::now();
        assert_eq!(
            text(progress.take(&notice("1"), start)),
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1,"total":10,"x":1}}"#
        );
        assert_eq!(progress.due(), None);
        for value in ["2", "3.5", "3.0", "3.5"] {
            assert_eq!(progress.take(&notice(value), start), None);
        }
        assert_eq!(progress.due(), Some(start + PROGRESS_EVERY));
        assert!(text(progress.flush(start + PROGRESS_EVERY)).contains(r#""progress":3.5"#));
        assert_eq!(progress.flush(start), None);
        let later = start + Duration::from_secs(1);
        assert!(text(progress.take(&notice("4"), later)).contains(r#""progress":4"#));
    }
}
