//! Why a request brought no answer, read from the library's chain of causes: how far it got, and what a person can do.

use std::io;
use std::time::Duration;

use hyper_util::client::legacy;
use rustls::CertificateError;
use trunkline_telemetry::redact;

use super::{Address, Failure, FaultPoint, Seen, Via};
use crate::transport::trust;

/// Reads from the chain of causes how far the request got.
pub(super) fn failure(
    error: &(dyn std::error::Error + 'static),
    to: &Address,
    by: (Option<&Via>, Duration),
) -> Failure {
    if find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect) {
        unreachable(error, to, by)
    } else {
        broke(error, to)
    }
}

/// No connection could be made. `connect`: the time that one has.
pub(super) fn unreachable(
    error: &(dyn std::error::Error + 'static),
    to: &Address,
    (via, connect): (Option<&Via>, Duration),
) -> Failure {
    if let Some(tls) = find::<rustls::Error>(error) {
        return Failure::new(FaultPoint::NothingSent, Seen::Tls, tls_text(tls));
    }
    if let Some(via) = via {
        return behind(error, to, via);
    }
    let cause = root(error);
    let kind = find::<io::Error>(error).map(io::Error::kind);
    let too_slow = || {
        let (to, time) = (to.tried(), connect.as_secs_f64());
        format!("no connection to {to} within {time} s; `connect_timeout_sec` among its limits says how long")
    };
    let text = match kind {
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("nothing listens at {}; is the server running?", to.tried())
        }
        // IPv6 is off, and nothing listens on the other loopback: hyper reports the second that it tried.
        Some(io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable) if to.is_loopback() => {
            format!("nothing listens at {} (one of them is off on this machine); is the server running?", to.tried())
        }
        Some(io::ErrorKind::TimedOut) => too_slow(),
        // The resolver's error has no type of its own.
        _ if cause.to_string().starts_with("failed to lookup") => {
            format!("the name in {} cannot be resolved", to.shown())
        }
        _ if cause.to_string().contains("timed out") => too_slow(),
        _ => format!("no connection to {}: {}", to.tried(), redact::printable(&cause.to_string(), 200)),
    };
    Failure::new(FaultPoint::NothingSent, Seen::Unreachable, text)
}

/// The connection failed the request.
pub(super) fn broke(error: &(dyn std::error::Error + 'static), to: &Address) -> Failure {
    let broken = find::<hyper::Error>(error);
    if broken.is_some_and(hyper::Error::is_parse) {
        return Failure::new(FaultPoint::Unreadable, Seen::Other, format!("what answers at {} is no HTTP", to.tried()));
    }
    let text = format!("the connection to {} closed before an answer came", to.tried());
    Failure::new(FaultPoint::LostUnanswered, Seen::Unreachable, text)
}

/// What the proxy did, or that it is not there.
fn behind(error: &(dyn std::error::Error + 'static), to: &Address, via: &Via) -> Failure {
    // The library's error of a tunnel has no type that others could name.
    let mut next = Some(error);
    while let Some(error) = next {
        match error.to_string().strip_prefix("tunnel error: ") {
            Some("proxy authorization required") => return via.wants_credential(),
            Some("failed to create underlying connection") => break,
            Some(_) => return via.refuses(&to.tried()),
            None => next = error.source(),
        }
    }
    let refused = find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    via.unreachable(&if refused { "nothing listens there".to_owned() } else { root(error).to_string() })
}

/// What is wrong with TLS, and what would mend it.
fn tls_text(error: &rustls::Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls names dozens; these are those that people meet")]
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<trust::Refused>() {
                Some(refused) => refused.sentence(),
                None => format!("its certificate cannot be used: {}", redact::printable(&error.to_string(), 300)),
            }
        }
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; should `url` begin with `http:`?".to_owned()
        }
        _ => format!("TLS failed: {}", redact::printable(&error.to_string(), 300)),
    }
}

/// The first cause of type `T`. An I/O error hides what it wraps from `source`, and rustls comes wrapped so.
fn find<'e, T: std::error::Error + 'static>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find::<T>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The last cause: the outer ones say no more than that a request failed.
pub(super) fn root<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}
