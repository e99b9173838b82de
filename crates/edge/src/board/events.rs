//! The dashboard's stream of events: everything once, then what changed.
//!
//! Each stream compares what it told last with what is now, twice a second; what happens in between is told as one. A
//! reader that is slow is told less often, and never of what is past. Nothing is queued. The look itself is shared by all
//! streams (`scene.rs`). A stop ends them with word of when to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use http::{Response, StatusCode};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::scene;
use crate::body::Body;
use crate::limits::{BOARD_STREAMS_MAX, BOARD_TICK, OVERLOAD_RETRY, STREAM_RETRY};
use crate::reply::{self, Named};
use crate::tokens::{Needs, Principal};
use crate::{Edge, mcp};

/// Opens a stream; refuses if there are as many as may be.
pub(super) fn open(edge: &Arc<Edge>, principal: Principal) -> Response<Body> {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let Ok(place) = Arc::clone(&edge.board.streams).try_acquire_owned() else {
        let text = format!("{BOARD_STREAMS_MAX} pages are watching already; close one of them");
        let refused = reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": text }));
        return reply::with_retry_after(refused, OVERLOAD_RETRY);
    };
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let end = mcp::idle_end(edge, &format!("board {number}"), principal, Needs::Whole);
    let edge = Arc::clone(edge);
    let events = async_stream::stream! {
        let _place = place;
        let mut told = scene::look(&edge).await;
        yield Named { name: "state", data: scene::encode(told.whole()) };
        let mut ticks = interval(BOARD_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = scene::look(&edge).await;
            if let Some(changes) = now.changes_since(&told) {
                yield Named { name: "change", data: scene::encode(changes) };
            }
            told = now;
        }
    };
    reply::events(reply::named_until_stopped(events.boxed(), end, STREAM_RETRY))
}
