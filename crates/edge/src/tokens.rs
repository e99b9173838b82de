//! [`Tokens`]: what clients must show where `auth.tokens` are set (S-5, S-6).
//!
//! A token is taken from `Authorization` alone, never from the query or the path, and goes no further: no server sees it,
//! no log has it. Each that is known is compared, by hashes and without a shortcut, so that the time says nothing. The
//! refusal names no place to sign in at, since a client that finds one begins a login that leads nowhere.
//!
//! Whoever shows wrong ones hears 429 beyond ten a minute from one address. A right token always passes, so nobody can lock
//! anybody out. One that is taken back ends the streams that were opened with it, too.
//!
//! A token may be limited (`auth.tokens.NAME`). What its holder sees of the servers is the hub's to say (`View`); here he is
//! kept from what tells of all of them: the dashboard, its actions, the metrics, the whole of `/health` (S-5).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::time::Instant;
use trunkline_config::Auth;

use crate::body::Body;
use crate::reply;

/// Wrong tokens from one address that are answered with 401 in a minute.
const WRONG_MAX: u32 = 10;

const MINUTE: Duration = Duration::from_mins(1);

/// Addresses whose failures are counted. Beyond it nobody new is told more than 429.
const ADDRESSES_MAX: usize = 256;

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"trunkline\"");

const TEXT: &str = "this gateway wants one of the tokens of `auth.tokens`: `Authorization: Bearer …`; Codex takes it from \
                    `bearer_token_env_var`, other clients from `headers`";

/// The tokens in force.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Vec<Arc<Holder>>,
}

/// Failures by address. It outlives changes of the tokens.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

/// Whose request it is: who showed a token, where one was asked for. Shared, since each connection has room for several.
pub(crate) type Principal = Option<Arc<Holder>>;

/// Who showed a token, and which of his it was.
pub(crate) struct Holder {
    name: Arc<str>,
    token: [u8; 32],
    /// Whether it reaches a part of the servers only.
    limited: bool,
}

/// What a stream goes on for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A token that is good.
    Token,
    /// One that reaches everything.
    Whole,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// There is no token, or it is none of those.
    Unknown,
    /// There were too many such lately.
    TooMany {
        /// When the next is looked at again.
        retry_after: Duration,
    },
}

impl Tokens {
    /// The tokens of a configuration.
    pub(crate) fn new(auth: &Auth) -> Self {
        let holder = |(name, token): &(String, trunkline_config::Secret)| {
            let limited = auth.reach(name).is_some();
            Arc::new(Holder { name: name.as_str().into(), token: hash(token.expose()), limited })
        };
        Self { known: auth.tokens.iter().map(holder).collect() }
    }

    /// Whether none is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Says whose request this is that came from `address`.
    pub(crate) fn judge(&self, headers: &HeaderMap, address: IpAddr, failures: &Failures) -> Result<Principal, Denied> {
        if self.is_empty() {
            return Ok(None);
        }
        let shown = shown(headers);
        match shown.and_then(|token| self.holder(token)) {
            Some(holder) => Ok(Some(holder)),
            // Nobody guesses by showing none: a client that was not told of the token is told so each time.
            None if shown.is_none() => Err(Denied::Unknown),
            None => Err(failures.note(address, Instant::now())),
        }
    }

    /// Whether any of them is limited.
    pub(crate) fn any_limited(&self) -> bool {
        self.known.iter().any(|holder| holder.limited)
    }

    /// Whether what was shown would still be let in to what has these needs.
    pub(crate) fn admit(&self, principal: &Principal, needs: Needs) -> bool {
        let Some(holder) = principal else { return self.is_empty() };
        let same = |known: &&Arc<Holder>| known.name == holder.name && known.token == holder.token;
        let now = self.known.iter().find(same);
        self.is_empty() || now.is_some_and(|now| needs == Needs::Token || !now.limited)
    }

    fn holder(&self, token: &str) -> Option<Arc<Holder>> {
        let shown = hash(token);
        let mut holder = None;
        for known in &self.known {
            let same: Choice = known.token.ct_eq(&shown);
            if bool::from(same) {
                holder = Some(Arc::clone(known));
            }
        }
        holder
    }
}

impl Holder {
    /// The name of the token, which the configuration gave it.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it reaches a part of the servers only.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited
    }
}

/// Why the holder of a limited token is refused where all servers are told of.
pub(crate) fn limits_text(holder: &Holder) -> String {
    format!(
        "the token `{}` is limited by `auth.tokens.{}`, and this address tells of all servers: it wants a token without \
         limits; MCP is at /mcp",
        holder.name, holder.name
    )
}

impl Failures {
    fn note(&self, address: IpAddr, now: Instant) -> Denied {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            counts.retain(|_, (since, _)| now.saturating_duration_since(*since) < MINUTE);
        }
        if counts.len() >= ADDRESSES_MAX && !counts.contains_key(&address) {
            return Denied::TooMany { retry_after: MINUTE };
        }
        let (since, count) = counts.entry(address).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= WRONG_MAX {
            return Denied::Unknown;
        }
        Denied::TooMany { retry_after: MINUTE.saturating_sub(now.saturating_duration_since(*since)) }
    }
}

impl Denied {
    /// The reason in metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "token",
            Self::TooMany { .. } => "token_rate",
        }
    }

    pub(crate) fn response(self) -> Response<Body> {
        match self {
            Self::Unknown => {
                let mut response = reply::plain(StatusCode::UNAUTHORIZED, TEXT);
                response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
                response
            }
            Self::TooMany { retry_after } => {
                let response = reply::plain(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens from this address");
                reply::with_retry_after(response, retry_after)
            }
        }
    }
}

/// The one bearer token of a request.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use trunkline_config::Secret;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn tokens() -> Tokens {
        let known = [("laptop", "one"), ("ci", "old"), ("ci", "new")];
        let tokens = known.map(|(name, token)| (name.to_owned(), Secret::new(token))).to_vec();
        Tokens::new(&Auth { tokens, ..Auth::default() })
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn judged(values: &[&str]) -> Result<Option<String>, Denied> {
        let principal = tokens().judge(&headers(values), HERE, &Failures::default())?;
        Ok(principal.map(|holder| holder.name().to_string()))
    }

    #[tokio::test(start_paused = true)]
    async fn s6_one_bearer_token_says_whose_a_request_is_and_nothing_else_does() {
        for (shown, name) in [("Bearer one", "laptop"), ("bearer old", "ci"), ("BEARER  new ", "ci")] {
            assert_eq!(judged(&[shown]), Ok(Some(name.to_owned())), "{shown}");
        }
        for wrong in [
            &[][..],
            &["Bearer"],
            &["Bearer on"],
            &["Bearer onee"],
            &["Basic one"],
            &["one"],
            &["Bearer one", "Bearer one"],
        ] {
            assert_eq!(judged(wrong), Err(Denied::Unknown), "{wrong:?}");
        }
        assert!(matches!(Tokens::default().judge(&headers(&["Bearer x"]), HERE, &Failures::default()), Ok(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn s6_guessing_is_answered_429_and_locks_nobody_out() {
        let (tokens, failures) = (tokens(), Failures::default());
        let judge = |shown: &str, from: IpAddr| tokens.judge(&headers(&[shown]), from, &failures);
        for _ in 0..WRONG_MAX {
            assert_eq!(judge("Bearer x", HERE).err(), Some(Denied::Unknown));
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(judge("Bearer x", HERE).err(), Some(Denied::TooMany { retry_after: Duration::from_secs(40) }));
        assert_eq!(
            tokens.judge(&HeaderMap::new(), HERE, &failures).err(),
            Some(Denied::Unknown),
            "who shows none does not guess"
        );
        assert!(judge("Bearer one", HERE).is_ok());
        assert_eq!(judge("Bearer x", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))).err(), Some(Denied::Unknown));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(judge("Bearer x", HERE).err(), Some(Denied::Unknown));
        for last in 0..=255 {
            for third in 0..2 {
                let _ = judge("Bearer x", IpAddr::V4(Ipv4Addr::new(10, 1, third, last)));
            }
        }
        assert!(failures.0.lock().expect("not poisoned").len() <= ADDRESSES_MAX);
    }

    #[test]
    fn g10_the_refusal_leads_to_no_login() {
        let response = Denied::Unknown.response();
        assert_eq!(
            (response.status(), response.headers()[WWW_AUTHENTICATE].as_bytes()),
            (StatusCode::UNAUTHORIZED, CHALLENGE.as_bytes())
        );
        assert_eq!(Denied::TooMany { retry_after: MINUTE }.response().status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
