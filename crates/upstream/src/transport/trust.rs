//! [`Trust`]: which certificates a server may show, and what is said of one that it may not.
//!
//! Trusted is what the operating system trusts, and for one server what its `ca_file` holds besides. There is no way to
//! trust everything. The verdict is the platform's own; what is added is the name of who issued the certificate, which
//! the library's errors leave out, and without which nobody can tell a company's own authority from an attack.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;
use trunkline_telemetry::redact;

/// Longest name of an authority that is shown. Their owners choose them.
const NAME_BYTES_MAX: usize = 128;

/// Deeper than any name in a certificate.
const DEPTH_MAX: usize = 6;

/// The platform's verifier, with names in what it refuses.
#[derive(Debug)]
struct Trust(Verifier);

/// Why a certificate was refused, and whose it is.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{fault}")]
pub(super) struct Refused {
    pub(super) fault: CertificateError,
    issuer: String,
    own: bool,
}

/// How TLS is spoken to servers that the system trusts, or that one of `authorities` vouches for.
pub(super) fn config(authorities: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Trust(Verifier::new_with_extra_roots(authorities, provider.clone())?);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map_err(|error| {
            let Error::InvalidCertificate(fault) = error else { return error };
            let refused = Refused::new(fault, end_entity, intermediates);
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl Refused {
    fn new(fault: CertificateError, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Self {
        // Who is missing is the issuer of the last certificate that was sent along; the others are vouched for.
        let names = |der| webpki::EndEntityCert::try_from(der).map(|cert| (name(cert.issuer()), name(cert.subject())));
        let unknown = matches!(fault, CertificateError::UnknownIssuer);
        let last = intermediates.last().filter(|_| unknown).unwrap_or(end_entity);
        let own = webpki::EndEntityCert::try_from(end_entity).is_ok_and(|cert| cert.issuer() == cert.subject());
        let issuer = names(last).map(|(issuer, _)| issuer).unwrap_or_default();
        Self { fault, issuer, own }
    }

    /// What is wrong with the certificate, and what would mend it.
    pub(super) fn sentence(&self) -> String {
        let by = if self.issuer.is_empty() { "an authority without a name" } else { &self.issuer };
        #[expect(clippy::wildcard_enum_match_arm, reason = "rustls names dozens; these are those that people meet")]
        match &self.fault {
            CertificateError::UnknownIssuer if self.own => format!(
                "its certificate is signed by itself ({by}) and this system does not trust it; if it is the right one, \
                 name its PEM file in `ca_file`"
            ),
            CertificateError::UnknownIssuer => format!(
                "its certificate is issued by {by}, which this system does not trust; if that is your organisation's own \
                 authority, name its PEM file in `ca_file`"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
                "its certificate, issued by {by}, has expired; whoever runs the server must renew it, unless this \
                 machine's clock is wrong"
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("its certificate, issued by {by}, is not valid yet; is this machine's clock right?")
            }
            CertificateError::NotValidForName => other_name(by, ""),
            CertificateError::NotValidForNameContext { presented, .. } => {
                let shown: Vec<String> = presented.iter().take(5).map(|name| redact::printable(name, 64)).collect();
                other_name(by, &format!(", {}", shown.join(" and ")))
            }
            // This one comes from below, in a type of its own.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => format!(
                "its certificate is that of an authority ({by}), which no server may show; whoever runs it must have one \
                 issued by it"
            ),
            fault => {
                let fault = redact::printable(&fault.to_string(), 300);
                format!("its certificate, issued by {by}, cannot be used: {fault}")
            }
        }
    }
}

fn other_name(by: &str, names: &str) -> String {
    format!("its certificate, issued by {by}, is for another name than that in `url`{names}; correct `url`")
}

/// The common name in a distinguished name, and the organisation if that says more.
fn name(der: &[u8]) -> String {
    let mut parts = [None, None];
    collect(der, &mut parts, 0);
    let [common, organisation] = parts;
    match (common, organisation) {
        (Some(common), Some(organisation)) if common != organisation => format!("`{common}` of `{organisation}`"),
        (Some(one), _) | (None, Some(one)) => format!("`{one}`"),
        (None, None) => String::new(),
    }
}

/// Walks nested DER values: an attribute is a sequence of its type, an object identifier, and its text.
fn collect(mut der: &[u8], parts: &mut [Option<String>; 2], depth: usize) {
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const CONSTRUCTED: u8 = 0x20;
    let mut at = None;
    while let Some((tag, value, rest)) = next_value(der) {
        if tag == OBJECT_IDENTIFIER {
            at = match value {
                [0x55, 0x04, 0x03] => Some(0),
                [0x55, 0x04, 0x0a] => Some(1),
                _ => None,
            };
        } else if tag & CONSTRUCTED != 0 && depth < DEPTH_MAX {
            collect(value, parts, depth + 1);
        } else if let Some(at) = at.take() {
            parts[at] = Some(redact::printable(&String::from_utf8_lossy(value), NAME_BYTES_MAX));
        }
        der = rest;
    }
}

/// The first value of a DER text: tag, content, and what follows.
fn next_value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ ..=0x7f => (usize::from(short), rest),
        // Names are shorter than 64 KiB.
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        0x80 | 0x83.. => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u8, text: &str) -> Vec<u8> {
        let length = u8::try_from(text.len()).expect("short");
        let inner = [&[0x06, 3, 0x55, 0x04, kind, 0x0c, length], text.as_bytes()].concat();
        let length = u8::try_from(inner.len()).expect("short");
        [&[0x31, length + 2, 0x30, length], &inner[..]].concat()
    }

    #[test]
    fn a_name_is_read_from_a_certificate() {
        let both = [attribute(0x06, "DE"), attribute(0x0a, "Example Corp"), attribute(0x03, "Proxy CA")].concat();
        assert_eq!(name(&both), "`Proxy CA` of `Example Corp`");
        assert_eq!(name(&attribute(0x0a, "Example Corp")), "`Example Corp`");
        assert_eq!(name(&attribute(0x03, "a\u{1b}[2J\nb")), "`a\\u{1b}[2J\\nb`");
        assert_eq!(name(&[]), "");
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = name(&bytes);
        }
    }
}
