//! [`Collector`]: the way of traces to their collector, by the rules that servers behind a URL are reached by: the system's
//! trust, proxies for what is remote, and no redirect to another origin.

use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use trunkline_config::Secret;
use trunkline_telemetry::redact::Scrubber;
use trunkline_telemetry::{Carrier, NotTaken};
use trunkline_wire::Json;
use url::Url;

use super::FaultPoint;
use super::client::{Address, Client};
use super::failure::verdict;
use super::proxies::Proxies;

/// How long a connection to the collector may take to stand.
const CONNECT: Duration = Duration::from_secs(5);

/// What takes spans, at one address.
#[derive(Debug)]
pub struct Collector {
    client: Client,
    address: Address,
    headers: HeaderMap,
    /// A failure may quote what was sent along.
    scrubber: Scrubber,
}

impl Collector {
    /// The collector that spans are posted to at `endpoint`, with these headers. `variables` name proxies, if any.
    ///
    /// # Errors
    /// It cannot be reached this way; a fragment for people.
    pub fn new(endpoint: &Url, headers: &[(String, Secret)], variables: &[(String, String)]) -> Result<Self, String> {
        let address = Address::new(endpoint.clone()).ok_or("is no address of the web")?;
        let client = Client::new(&address, None, &Proxies::of(variables), CONNECT).map_err(|failure| failure.text)?;
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().map_err(|_| format!("{name} is no name of a header"))?;
            let mut value: HeaderValue =
                value.expose().parse().map_err(|_| format!("the header {name} cannot be sent"))?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        all.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))));
        let scrubber = Scrubber::new(headers.iter().map(|(_, value)| value.expose().to_owned()));
        Ok(Self { client, address, headers: all, scrubber })
    }

    fn not_taken(&self, again: bool, after: Option<Duration>, text: &str) -> NotTaken {
        NotTaken { again, after, text: format!("{}: {}", self.address.shown(), self.scrubber.scrub(text)) }
    }
}

impl Carrier for Collector {
    fn carry(&self, batch: Json) -> BoxFuture<'_, Result<(), NotTaken>> {
        Box::pin(async move {
            let sent = self.client.follow(Method::POST, &self.address, &self.headers, &[], batch.into_bytes());
            let answer = sent.await.map_err(|failure| {
                // That a batch may arrive twice costs nothing: its spans have their ids.
                let again = failure.point != FaultPoint::Unreadable;
                self.not_taken(again, failure.retry_after, &failure.text)
            })?;
            let (status, headers) = (answer.status, answer.headers);
            answer.body.discard();
            if status.is_success() {
                return Ok(());
            }
            let again = matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            let after = verdict(status, &headers, "", false).retry_after;
            Err(self.not_taken(again, after, &format!("it answered {status}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fakes::{Fake, nobody, reply};

    fn collector(url: &Url) -> Collector {
        let key = ("x-key".to_owned(), Secret::new("a secret"));
        Collector::new(url, &[key], &[]).expect("a collector")
    }

    async fn carried(status: u16) -> (Fake, Result<(), NotTaken>) {
        let fake = Fake::new(move |_| async move { reply(status, &[("retry-after", "7")], "a secret is wrong") }).await;
        let result = collector(&fake.url).carry(Json::literal(r#"{"resourceSpans":[]}"#)).await;
        (fake, result)
    }

    #[tokio::test]
    async fn a_batch_is_posted_with_the_headers_that_the_collector_wants() {
        let (fake, result) = carried(200).await;
        assert_eq!(result, Ok(()));
        let got = &fake.seen()[0];
        assert_eq!((got.header("x-key"), got.header("content-type")), (Some("a secret"), Some("application/json")));
        assert_eq!((&got.method, got.body.to_string().as_str()), (&Method::POST, r#"{"resourceSpans":[]}"#));
    }

    #[tokio::test]
    async fn a_collector_that_is_busy_or_away_may_be_asked_again_and_one_that_refuses_may_not() {
        let busy = carried(503).await.1.expect_err("busy");
        assert_eq!((busy.again, busy.after), (true, Some(Duration::from_secs(7))));
        let refused = carried(401).await.1.expect_err("refused");
        assert!(!refused.again && refused.text.contains("401"), "{}", refused.text);
        let away = collector(&nobody().await).carry(Json::literal("{}")).await.expect_err("away");
        assert!(away.again && !away.text.contains("a secret"), "{}", away.text);
    }
}
