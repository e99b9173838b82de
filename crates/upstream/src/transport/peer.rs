//! [`Peer`]: a server behind a URL, as both HTTP transports see it: where it is, what is sent with each request, and
//! what may be buffered of its answers.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use trunkline_config::Http;
use trunkline_telemetry::redact::Scrubber;
use trunkline_wire::{Message, Object, Response, code};
use url::Url;

use super::FaultPoint;
use super::body::{self, Body, Bounds, Kind};
use super::client::{Address, Answer, Client};
use super::failure::{Failure, Seen, verdict};
use super::proxies::Proxies;

/// Names the revision that was agreed on, from the second request on (mcp-protocol 4.3).
pub(crate) const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// An error body is read this far in search of a JSON-RPC error.
const ERROR_BODY_BYTES: usize = 256 * 1024;

/// A body is searched this far for the token of a sign-in: far beyond what is shown, and longer than any token.
const HIDDEN_BYTES: usize = 64 * 1024;

/// A server behind a URL.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) address: Address,
    /// What is sent with each POST: the configured headers and credential, and what the transport needs.
    pub(crate) headers: HeaderMap,
    pub(crate) bounds: Bounds,
    pub(crate) scrubber: Scrubber,
}

impl Peer {
    /// Prepares what can be prepared; connects to nothing. The `way` is by which proxies, and how long a connection may
    /// take to stand.
    pub(crate) fn new(
        http: &Http,
        way: (&Proxies, Duration),
        scrubber: Scrubber,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        let unusable = |text: String| Failure::new(FaultPoint::NothingSent, Seen::Setting, text);
        let address =
            Address::new(http.url.clone()).ok_or_else(|| unusable("`url` is no http or https address".to_owned()))?;
        let client = Client::new(&address, http.ca_file.as_deref(), way.0, way.1)?;
        let headers = headers(http).map_err(unusable)?;
        Ok(Self { client, address, headers, bounds, scrubber })
    }

    /// Opens a stream of events at `from` with `headers`, which are those of a POST.
    pub(crate) async fn events(
        &self,
        from: &Address,
        mut headers: HeaderMap,
        last_event_id: Option<&str>,
    ) -> Result<Answer, Failure> {
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        // An id that no header can carry is no position to resume from.
        if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(HeaderName::from_static("last-event-id"), id);
        }
        let answer = self.client.send(Method::GET, from, &headers, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(answer, false).await);
        }
        if body::kind(&answer.headers) != Kind::Events {
            let text = format!(
                "answered {} with {}, where a stream of events was asked for",
                answer.status,
                said(&answer.headers)
            );
            let seen = Seen::Status(answer.status);
            answer.body.discard();
            return Err(Failure::new(FaultPoint::Unreadable, seen, text));
        }
        Ok(answer)
    }

    /// What a status other than 2xx means.
    pub(crate) async fn refusal(&self, answer: Answer, in_session: bool) -> Failure {
        self.look_at_refusal(answer, in_session).await.1
    }

    /// The same, with as much of the body as may hold a JSON-RPC error.
    pub(crate) async fn look_at_refusal(&self, answer: Answer, in_session: bool) -> (Bytes, Failure) {
        let seen = answer.body.peek(ERROR_BODY_BYTES).await;
        let verdict = verdict(answer.status, &answer.headers, &self.excerpt(&seen), in_session);
        (seen, verdict)
    }

    /// The same, for a request whose error may stand in the body: then that is the answer, whatever the status
    /// (reliability 5).
    pub(crate) async fn refusal_or_error(
        &self,
        answer: Answer,
        request: Option<u64>,
        in_session: bool,
    ) -> Result<Response, Failure> {
        let (seen, verdict) = self.look_at_refusal(answer, in_session).await;
        let answers = |response: &Response| response.id.as_ref().and_then(trunkline_wire::Id::minted) == request;
        match Message::parse(&seen) {
            // A lost session is lost even if the error about it bears our id.
            Ok(Message::Response(response))
                if request.is_some() && answers(&response) && !speaks_of_session(&response, &verdict) =>
            {
                Ok(response)
            }
            Ok(_) | Err(_) => Err(verdict),
        }
    }

    /// What may be shown of a body: servers like to repeat what they were sent (S-31).
    pub(super) fn excerpt(&self, body: &[u8]) -> String {
        let Some(key) = &self.client.key else { return body::excerpt(body, &self.scrubber) };
        // Before it is cut: half a token is one as well.
        let begin = &body[..body.len().min(HIDDEN_BYTES)];
        body::excerpt(key.hide(&String::from_utf8_lossy(begin)).as_bytes(), &self.scrubber)
    }

    /// An answer that is none, with a look at it.
    pub(crate) async fn unreadable(&self, what: &str, answer: Body) -> Failure {
        let seen = self.excerpt(&answer.peek(ERROR_BODY_BYTES.min(4096)).await);
        let text = if seen.is_empty() { what.to_owned() } else { format!("{what}: {seen}") };
        Failure::new(FaultPoint::Unreadable, Seen::Other, text)
    }
}

/// Whether an error with our id is about a lost session: by its text, or by the number that SDKs use for it.
fn speaks_of_session(response: &Response, verdict: &Failure) -> bool {
    let error = response.outcome.as_ref().err().and_then(|error| Object::parse(error).ok());
    let number = error.and_then(|error| error.get("code")?.decode::<i64>().ok());
    verdict.point == FaultPoint::SessionGone
        && (number == Some(code::SESSION_NOT_FOUND) || verdict.text.to_ascii_lowercase().contains("session"))
}

/// The content type, as a person may see it.
pub(crate) fn said(headers: &HeaderMap) -> String {
    match headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()) {
        Some(value) => trunkline_telemetry::redact::printable(&value, 80),
        None => "no content type".to_owned(),
    }
}

/// The headers of every POST. All configured ones are secrets on every hop (reliability 11).
fn headers(http: &Http) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(http.headers.len() + 8);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("trunkline/", env!("CARGO_PKG_VERSION"))));
    if let Some(basic) = userinfo(&http.url) {
        headers.insert(AUTHORIZATION, secret(&basic).map_err(|()| "`url` holds unusable credentials".to_owned())?);
    }
    if let Some(bearer) = &http.bearer {
        let value = secret(&format!("Bearer {}", bearer.expose().trim()));
        headers.insert(AUTHORIZATION, value.map_err(|()| "the bearer token holds a line end".to_owned())?);
    }
    for (name, value) in &http.headers {
        let bad = |()| format!("header `{name}` holds what no header can carry");
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(()))?;
        headers.insert(parsed, secret(value.expose()).map_err(bad)?);
    }
    // Last, so that no configuration can break the transport.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn secret(text: &str) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::from_str(text).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(value)
}

/// `user:password@` in a URL means basic authentication.
fn userinfo(url: &Url) -> Option<String> {
    let (user, password) = (url.username(), url.password());
    if user.is_empty() && password.is_none() {
        return None;
    }
    let decode = |text: &str| String::from_utf8_lossy(&decode_percent(text)).into_owned();
    let pair = format!("{}:{}", decode(user), decode(password.unwrap_or_default()));
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// Undoes `%XX`.
fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use trunkline_config::Secret;

    use super::*;

    fn sent_with(url: &str, bearer: Option<&str>, more: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let mut http = Http::new(url.parse().expect("a URL"));
        http.bearer = bearer.map(Secret::new);
        http.headers = more.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        headers(&http)
    }

    #[test]
    fn s31_credentials_go_where_they_belong_and_print_nowhere() {
        let sent = sent_with("http://x/mcp", Some("abc\n"), &[("X-Key", "k")]).expect("fine");
        assert_eq!(sent[AUTHORIZATION], "Bearer abc");
        assert!(sent[AUTHORIZATION].is_sensitive() && sent["x-key"].is_sensitive());
        let basic = sent_with("http://me:p%40ss@x/mcp", None, &[]).expect("fine");
        assert_eq!(basic[AUTHORIZATION], "Basic bWU6cEBzcw==");
    }

    #[test]
    fn a_configured_header_cannot_break_the_transport() {
        let sent = sent_with("http://x/mcp", None, &[("Accept", "text/html")]).expect("fine");
        assert_eq!(sent[ACCEPT], "application/json, text/event-stream");
        assert!(sent_with("http://x/mcp", None, &[("X-Key", "a\nb")]).expect_err("a line end").contains("X-Key"));
    }
}
