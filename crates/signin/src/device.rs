//! Signing in on a machine without a browser (RFC 8628): a person opens an address on any other device and enters a code
//! there, while the gateway asks the authorization server again and again whether that was done.
//!
//! Nobody comes back to this machine, so there is no redirect and nothing that a forged answer could ride on; what a person
//! must look at is that the code is the one that was shown here. `resource` goes with each request.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use trunkline_config::Secret;
use trunkline_telemetry::redact::{Scrubber, printable};
use url::Url;

use crate::client::{Issued, Unsigned, refused};
use crate::fetch::Fetcher;
use crate::limits::{DEVICE_PATIENCE, DEVICE_PAUSE, DEVICE_PAUSE_MAX, DEVICE_SLOWER, WORDS_BYTES_MAX};
use crate::record::{Client, Record};

/// Of the requests that ask whether somebody entered the code.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a person is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Where to go, on any device.
    pub url: String,
    /// The same with the code in it, if the authorization server has such an address.
    pub whole: Option<String>,
    /// What to enter there.
    pub code: String,
    /// For how long it is good.
    pub seconds: u64,
}

/// A sign-in whose code was not entered yet.
pub(crate) struct Waiting {
    fetcher: Fetcher,
    token_endpoint: Url,
    device_code: Secret,
    pause: Duration,
    until: Instant,
    /// All of the record but for the tokens.
    record: Record,
}

/// What an answer of the token endpoint has us do.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Done,
    Again(Duration),
    Over(String),
}

/// Registers the gateway as a client that may sign in by a code.
pub(crate) async fn register(
    fetcher: &Fetcher,
    endpoint: &str,
    name: &str,
    redirect: &str,
) -> Result<(String, Option<String>), Unsigned> {
    let endpoint = endpoint.parse::<Url>().map_err(|_| refused("`registration_endpoint` of its metadata is no URL"))?;
    let wish = json!({
        "client_name": name,
        "redirect_uris": [redirect],
        "grant_types": ["authorization_code", "refresh_token", GRANT],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    });
    let (status, answer) = fetcher.ask_json(&endpoint, &wish).await.map_err(|error| refused(error.to_string()))?;
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    match text("client_id").filter(|_| status.is_success()) {
        Some(id) => Ok((id, text("client_secret"))),
        None => {
            Err(refused(format!("the authorization server did not register the gateway: {}", words(status, &answer))))
        }
    }
}

/// Asks for a code. `record` says as whom, for what and by whose word.
pub(crate) async fn begin(fetcher: Fetcher, record: Record) -> Result<(DeviceCode, Waiting), Unsigned> {
    let metadata: Value = serde_json::from_str(&record.metadata).unwrap_or_default();
    let address = |key: &str| {
        let url: Option<Url> = metadata[key].as_str().and_then(|text| text.parse().ok());
        let url =
            url.ok_or_else(|| refused(format!("the authorization server has no `{key}`: sign in with a browser")))?;
        fetcher.check(&url).map_err(|error| refused(format!("`{key}`: {error}")))?;
        Ok::<Url, Unsigned>(url)
    };
    let (endpoint, token_endpoint) = (address("device_authorization_endpoint")?, address("token_endpoint")?);
    let scope = record.scopes.join(" ");
    let mut fields = vec![("resource", record.resource.as_str())];
    fields.extend(Some(("scope", scope.as_str())).filter(|_| !scope.is_empty()));
    let (status, answer) = ask(&fetcher, &endpoint, &record.client, &metadata, fields).await?;
    let text = |key: &str| answer[key].as_str().filter(|text| !text.is_empty());
    let (Some(device_code), Some(code), Some(url), true) =
        (text("device_code"), text("user_code"), text("verification_uri"), status.is_success())
    else {
        return Err(refused(format!("the authorization server gave no code: {}", words(status, &answer))));
    };
    let shown = |text: &str| -> Result<String, Unsigned> {
        let url: Url = text.parse().map_err(|_| refused("the address to enter the code at is no URL"))?;
        fetcher.check(&url).map_err(|error| refused(format!("the address to enter the code at: {error}")))?;
        Ok(url.to_string())
    };
    let seconds = answer["expires_in"].as_u64().unwrap_or(DEVICE_PATIENCE.as_secs()).min(DEVICE_PATIENCE.as_secs());
    let told = DeviceCode {
        url: shown(url)?,
        whole: text("verification_uri_complete").map(shown).transpose()?,
        code: printable(code, WORDS_BYTES_MAX),
        seconds,
    };
    let pause = answer["interval"].as_u64().map_or(DEVICE_PAUSE, Duration::from_secs);
    let waiting = Waiting {
        token_endpoint,
        device_code: Secret::new(device_code),
        pause: pause.clamp(Duration::from_secs(1), DEVICE_PAUSE_MAX),
        until: Instant::now() + Duration::from_secs(seconds),
        record,
        fetcher,
    };
    Ok((told, waiting))
}

impl Waiting {
    /// Waits until a person has entered the code.
    pub(crate) async fn finish(mut self) -> Result<Record, Unsigned> {
        let metadata: Value = serde_json::from_str(&self.record.metadata).unwrap_or_default();
        let device_code = self.device_code.clone();
        loop {
            sleep(self.pause).await;
            if Instant::now() >= self.until {
                return Err(refused("nobody entered the code in time; start the sign-in again for another one"));
            }
            let fields = vec![
                ("grant_type", GRANT),
                ("device_code", device_code.expose()),
                ("resource", self.record.resource.as_str()),
            ];
            let asked = ask(&self.fetcher, &self.token_endpoint, &self.record.client, &metadata, fields).await;
            let next = match &asked {
                Ok((status, answer)) => after(*status, answer, self.pause),
                // No answer says nothing: the code is good until it ends.
                Err(_) => Next::Again((self.pause * 2).min(DEVICE_PAUSE_MAX)),
            };
            match next {
                Next::Again(pause) => self.pause = pause,
                Next::Over(why) => return Err(refused(why)),
                Next::Done => {
                    let answer = asked.map(|(_, answer)| answer).unwrap_or_default();
                    let issued = Issued::of(answer)?;
                    let mut record = self.record.next(Some(issued.tokens()));
                    if let Some(granted) = issued.scopes() {
                        record.scopes = granted;
                    }
                    return Ok(record);
                }
            }
        }
    }
}

/// What an answer of the token endpoint means (RFC 8628, 3.5).
fn after(status: StatusCode, answer: &Value, pause: Duration) -> Next {
    if status.is_success() {
        return Next::Done;
    }
    match answer["error"].as_str() {
        Some("authorization_pending") => Next::Again(pause),
        Some("slow_down") => Next::Again((pause + DEVICE_SLOWER).min(DEVICE_PAUSE_MAX)),
        Some("access_denied") => Next::Over("the sign-in was declined there (access_denied)".to_owned()),
        Some("expired_token") => {
            Next::Over("the code ended before it was entered (expired_token); start the sign-in again".to_owned())
        }
        None if status.is_server_error() => Next::Again((pause * 2).min(DEVICE_PAUSE_MAX)),
        _ => Next::Over(format!("the authorization server refused: {}", words(status, answer))),
    }
}

/// Sends a form as the client that we are.
async fn ask(
    fetcher: &Fetcher,
    to: &Url,
    client: &Client,
    metadata: &Value,
    mut fields: Vec<(&str, &str)>,
) -> Result<(StatusCode, Value), Unsigned> {
    let methods = metadata["token_endpoint_auth_methods_supported"].as_array();
    let by_form = methods.is_some_and(|methods| methods.contains(&json!("client_secret_post")));
    fields.push(("client_id", client.id.as_str()));
    let secret = client.secret.as_ref().map(Secret::expose);
    let basic = secret.filter(|_| !by_form).map(|secret| (client.id.as_str(), secret));
    fields.extend(secret.filter(|_| by_form).map(|secret| ("client_secret", secret)));
    fetcher.ask_form(to, &fields, basic).await.map_err(|error| refused(error.to_string()))
}

/// What an authorization server said of a refusal, fit to be shown.
fn words(status: StatusCode, answer: &Value) -> String {
    let said = [&answer["error"], &answer["error_description"]].into_iter().filter_map(Value::as_str);
    let said = said.collect::<Vec<_>>().join(": ");
    let said = printable(&Scrubber::default().scrub(&said), WORDS_BYTES_MAX);
    if said.is_empty() { format!("it answered {status}") } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s27_each_answer_to_a_device_has_its_meaning_and_the_pause_only_grows() {
        let pause = Duration::from_secs(5);
        let of = |error: &str| after(StatusCode::BAD_REQUEST, &json!({ "error": error }), pause);
        assert_eq!(of("authorization_pending"), Next::Again(pause));
        assert_eq!(of("slow_down"), Next::Again(Duration::from_secs(10)));
        assert!(matches!(of("access_denied"), Next::Over(why) if why.contains("declined")));
        assert!(matches!(of("expired_token"), Next::Over(why) if why.contains("again")));
        assert!(matches!(of("invalid_client"), Next::Over(why) if why.contains("invalid_client")));
        assert_eq!(after(StatusCode::BAD_GATEWAY, &Value::Null, pause), Next::Again(Duration::from_secs(10)));
        assert_eq!(after(StatusCode::OK, &json!({ "access_token": "a" }), pause), Next::Done);
        let long = Duration::from_secs(59);
        assert_eq!(
            after(StatusCode::BAD_REQUEST, &json!({ "error": "slow_down" }), long),
            Next::Again(DEVICE_PAUSE_MAX)
        );
    }
}
