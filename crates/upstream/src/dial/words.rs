//! Why there is no connection, in sentences for people, with the next step in each.

use trunkline_telemetry::redact;
use trunkline_wire::{Revision, ServerName};

use super::ladder::Ladder;
use crate::error::{DialError, DialErrorKind};
use crate::handshake::Missed;
use crate::transport::SendError;
use crate::transport::client::Address;
use crate::transport::failure::{Failure, Seen};

impl Ladder<'_> {
    /// Puts into words why there is no connection, and what may help.
    pub(super) fn sentence(&self, missed: Missed) -> DialError {
        let address = redact::url(self.http().url.as_str());
        let failure = match missed {
            Missed::Failed(failure) => failure,
            Missed::Unsent(error) => {
                return DialError::new(DialErrorKind::Connect, format!("during the handshake at {address}: {error}"));
            }
            answered @ (Missed::Ended(_)
            | Missed::Garbled(_)
            | Missed::OtherRevision(_)
            | Missed::Refused(..)
            | Missed::UnknownRevision(_)
            | Missed::ModernOnly(_)
            | Missed::NotModern(_)
            | Missed::Unreadable(_)) => {
                return answer_sentence(answered, &format!("the server at {address}"), self.name());
            }
        };
        let error = match failure.seen {
            Seen::Unreachable => DialError::new(DialErrorKind::Connect, failure.text),
            Seen::Tls => DialError::new(DialErrorKind::Tls, format!("no connection to {address}: {}", failure.text)),
            Seen::Setting => DialError::new(DialErrorKind::Config, failure.text),
            Seen::Status(status) => self.status_sentence(status, &failure.text, &address),
            Seen::Other => {
                let check = format!("check that `url` in [mcp_servers.{}] is its MCP address", self.name());
                DialError::new(DialErrorKind::Handshake, format!("the server at {address} {}; {check}", failure.text))
            }
        };
        error.retry_after(failure.retry_after)
    }

    fn status_sentence(&self, status: http::StatusCode, seen: &str, address: &str) -> DialError {
        let name = self.name();
        // What the body said, behind the status that the text begins with.
        let said = seen.strip_prefix(&format!("answered {status}")).unwrap_or_default();
        let text = match status.as_u16() {
            401 | 403 => return DialError::new(DialErrorKind::Auth, self.auth_sentence(status, address)),
            503 if Address::new(self.http().url.clone()).is_some_and(|address| address.is_loopback()) => {
                format!("{status} from its address ({address}){said}; is the desktop app's MCP server switched on?")
            }
            429 | 500..=599 => format!("{status} from its address ({address}){said}"),
            300..=399 => format!("its address ({address}) {seen}"),
            _ => format!(
                "{status} from its address ({address}){said}; check `url` and `transport` in [mcp_servers.{name}]"
            ),
        };
        DialError::new(DialErrorKind::Http(status.as_u16()), text)
    }

    /// Says whether a credential was sent, and which key sets one.
    fn auth_sentence(&self, status: http::StatusCode, address: &str) -> String {
        let name = self.name();
        let has_header = self.http().headers.iter().any(|(header, _)| header.eq_ignore_ascii_case("authorization"));
        match (&self.http().bearer, &self.http().bearer_source) {
            (Some(_), Some(source)) => format!(
                "{status} from its address ({address}): the token of `{source}` was sent and refused; put a valid one \
                 there, or another variable's name in `bearer_token_env_var` of [mcp_servers.{name}]"
            ),
            (Some(_), None) => format!(
                "{status} from its address ({address}): a token was sent and refused; set a valid one with \
                 `bearer_token_env_var` in [mcp_servers.{name}]"
            ),
            (None, _) if has_header => format!(
                "{status} from its address ({address}): the `Authorization` header of `http_headers` was sent and \
                 refused; correct it in [mcp_servers.{name}]"
            ),
            (None, _) if status == http::StatusCode::UNAUTHORIZED && self.signs_in() => format!(
                "{status} from its address ({address}): it wants a sign-in; run `trunkline login {name}`, or set \
                 `bearer_token_env_var` in [mcp_servers.{name}] if it takes a key"
            ),
            (None, _) => format!(
                "{status} from its address ({address}): no token was sent; set `bearer_token_env_var`, or \
                 `http_headers` if it wants another header, in [mcp_servers.{name}]"
            ),
        }
    }
}

/// Puts into words what kind of answer `initialize` got from `who`.
pub(super) fn answer_sentence(missed: Missed, who: &str, name: &ServerName) -> DialError {
    match missed {
        Missed::Ended(text) | Missed::Garbled(text) => {
            DialError::new(DialErrorKind::Handshake, format!("no answer to `initialize` from {who}: {text}"))
        }
        Missed::Refused(code, message) => {
            DialError::new(DialErrorKind::Handshake, format!("{who} refused `initialize` with error {code}: {message}"))
        }
        Missed::OtherRevision(revision) => {
            DialError::new(DialErrorKind::Revision, format!("{who} offered revision {revision} and then refused it"))
        }
        Missed::UnknownRevision(revision) | Missed::ModernOnly(revision) => DialError::new(
            DialErrorKind::Revision,
            format!(
                "{who} speaks revision {revision} of the protocol; this gateway speaks {} to {} with servers",
                Revision::ALL[0],
                Revision::ALL[Revision::ALL.len() - 1],
            ),
        ),
        Missed::NotModern(seen) => DialError::new(
            DialErrorKind::Revision,
            format!("{who} {seen}, and `era` in [mcp_servers.{name}] says that it is modern"),
        ),
        Missed::Unreadable(text) => DialError::new(DialErrorKind::Handshake, format!("{who} {text}")),
        Missed::Unsent(SendError { text, .. }) | Missed::Failed(Failure { text, .. }) => {
            DialError::new(DialErrorKind::Connect, format!("{who}: {text}"))
        }
    }
}
