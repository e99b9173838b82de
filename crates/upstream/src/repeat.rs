//! The gateway's own requests and messages, sent again where the table says so (reliability 5).
//!
//! Requests whose answer it waits for itself ([`ask`]), and letters that nobody waits for ([`deliver`]): cancellations,
//! answers to a server's questions. Neither is sent again on another connection: a new one begins with all of it anew.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};
use trunkline_wire::{Json, Message, Method, Object};

use crate::backoff::{self, Luck};
use crate::link::Link;
use crate::retry::{self, Row};
use crate::transport::{Broken, Outgoing, SendError, Sent, Transport};

/// Asks, and again where the table says so, within `limit` for each. One that took its whole time is not asked again.
pub(crate) async fn ask(
    link: &Arc<Link>,
    method: Method,
    params: &Object,
    limit: Duration,
) -> Result<Result<Json, Json>, Broken> {
    let begun = Instant::now();
    let row = Row::of(&method, false, false);
    let mut resends = 0;
    loop {
        let broken = match link.request(method.clone(), params, limit).await {
            Ok(answer) => return Ok(answer),
            Err(broken) => broken,
        };
        if link.is_down() || !retry::resend(row, broken.fault, resends, true) || begun.elapsed() >= limit {
            return Err(broken);
        }
        resends += 1;
        link.sent_again(broken.fault);
        sleep(backoff::resend(resends, Luck(fastrand::f64()))).await;
    }
}

/// Sends a letter, and again where the table says so. The answer to a request is awaited, and dropped.
pub(crate) async fn deliver(transport: &dyn Transport, letter: Outgoing) -> Result<(), SendError> {
    let is_request = letter.request.is_some();
    // What is no request of ours and bears the method of one is our answer to the server's.
    let asked = [Method::ElicitationCreate, Method::SamplingCreateMessage, Method::RootsList, Method::Ping];
    let is_answer = !is_request && asked.contains(&letter.method);
    let row = if is_answer { Row::Reply } else { Row::of(&letter.method, false, false) };
    let mut resends = 0;
    loop {
        match transport.send(letter.clone()).await {
            Ok(Sent::OnOwnStream(mut answer)) if is_request => {
                // To drop the answer's stream would cancel the request.
                while let Some(Ok(message)) = answer.next().await {
                    if matches!(message, Message::Response(_)) {
                        break;
                    }
                }
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) if retry::resend(row, error.fault, resends, true) => {
                resends += 1;
                sleep(backoff::resend(resends, Luck(fastrand::f64()))).await;
            }
            Err(error) => return Err(error),
        }
    }
}
