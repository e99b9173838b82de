//! `[otel]`: traces for a collector of OpenTelemetry, over OTLP.
//!
//! A collector that cannot be used is no reason not to serve: without a key that it wants, or with an address that is none, there
//! are no traces, and the operator is told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::findings::Findings;
use crate::late::{UNSENDABLE, is_sendable};
use crate::secret::{Resolver, Secret};

/// Longest name of the service that collectors are given.
const SERVICE_CHARS_MAX: usize = 128;

/// `[otel]` as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Otel")]
pub(crate) struct OtelFile {
    /// The collector of traces, for example `http://127.0.0.1:4318`: spans go to `/v1/traces` below it, as JSON over HTTP.
    /// Empty: there are no traces, and they cost nothing. Read at the start.
    endpoint: String,
    /// Headers for the collector, such as a key: `${env:NAME}` or `${file:PATH}`.
    headers: BTreeMap<String, String>,
    /// Of the requests that come without a trace of their own, the share that is recorded, 0 to 1. Others are recorded if
    /// whoever began the trace says so.
    sample: f64,
    /// What the gateway is called in traces.
    service_name: String,
    /// Whether servers are told the trace that a request belongs to, in its `_meta` (`traceparent`, `tracestate`).
    propagate: bool,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct Otel {
    /// Where spans are posted to; `None`: there are none.
    pub endpoint: Option<Url>,
    /// With these headers.
    pub headers: Vec<(String, Secret)>,
    /// Of the requests without a trace, the share that is recorded.
    pub sample: f64,
    /// What the gateway is called.
    pub service_name: String,
    /// Whether servers are told.
    pub propagate: bool,
}

impl Default for OtelFile {
    fn default() -> Self {
        let Otel { sample, service_name, propagate, .. } = Otel::default();
        Self { endpoint: String::new(), headers: BTreeMap::new(), sample, service_name, propagate }
    }
}

impl Default for Otel {
    fn default() -> Self {
        Self { endpoint: None, headers: Vec::new(), sample: 1.0, service_name: "trunkline".to_owned(), propagate: true }
    }
}

impl OtelFile {
    /// Looks up the headers and reports what is wrong.
    pub(crate) fn check(self, resolver: &Resolver<'_>, findings: &mut Findings<'_>) -> Otel {
        if !(0.0..=1.0).contains(&self.sample) {
            findings.error(&["otel", "sample"], "is a share, from 0 to 1");
        }
        let name = self.service_name;
        if name.is_empty() || name.chars().count() > SERVICE_CHARS_MAX || name.chars().any(char::is_control) {
            findings.error(&["otel", "service_name"], format!("wants 1 to {SERVICE_CHARS_MAX} characters that show"));
        }
        let endpoint = (!self.endpoint.is_empty()).then(|| endpoint(&self.endpoint, findings)).flatten();
        let mut headers = Vec::new();
        let mut whole = true;
        for (header, text) in &self.headers {
            match value(header, text, resolver, findings) {
                Some(value) => headers.push((header.clone(), value)),
                None => whole = false,
            }
        }
        let endpoint = endpoint.filter(|_| whole);
        Otel { endpoint, headers, sample: self.sample, service_name: name, propagate: self.propagate }
    }
}

/// Where spans are posted to.
fn endpoint(text: &str, findings: &mut Findings<'_>) -> Option<Url> {
    const KEY: [&str; 2] = ["otel", "endpoint"];
    let Ok(mut url) = Url::parse(text) else {
        findings.error(&KEY, "is no URL; a collector on this machine is `http://127.0.0.1:4318`");
        return None;
    };
    let problem = if !matches!(url.scheme(), "http" | "https") {
        "wants `http:` or `https:`; OTLP over gRPC is not spoken here, its port is 4317"
    } else if !url.username().is_empty() || url.password().is_some() {
        "holds a name or a password; put what the collector wants into `otel.headers`"
    } else if url.query().is_some() || url.fragment().is_some() {
        "may have a path and nothing behind it"
    } else {
        let path = url.path().trim_end_matches('/');
        let path = if path.ends_with("/v1/traces") { path.to_owned() } else { format!("{path}/v1/traces") };
        url.set_path(&path);
        return Some(url);
    };
    findings.error(&KEY, problem);
    None
}

/// What a header says. What is missing on this machine is told; what is written wrong is an error.
fn value(header: &str, text: &str, resolver: &Resolver<'_>, findings: &mut Findings<'_>) -> Option<Secret> {
    let key = ["otel", "headers", header];
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if header.is_empty() || !header.chars().all(token) {
        findings.error(&key, "is no name of a header");
        return None;
    }
    if ["host", "content-length", "content-type", "transfer-encoding", "connection"]
        .contains(&header.to_ascii_lowercase().as_str())
    {
        findings.error(&key, "is set by Trunkline itself");
        return None;
    }
    let value = resolver.expand(text);
    if let Some(problem) = value.malformed {
        findings.error(&key, problem);
        return None;
    }
    if value.unprinted {
        findings.error(&key, "${cmd:…} is not run for the collector; ${file:…} and ${env:…} go here");
        return None;
    }
    let mut missing = value.missing.join("; ");
    let secret = Secret::new(value.text);
    if missing.is_empty() && !is_sendable(&secret) {
        UNSENDABLE.clone_into(&mut missing);
    }
    if missing.is_empty() {
        return Some(secret);
    }
    findings.warnings.push(format!("otel.headers.{header}: {missing}; there are no traces without it"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flags, Loaded, Sources, load};

    fn loaded(text: &str) -> Result<Loaded, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        let env = vec![("HOME".to_owned(), "/nowhere".to_owned()), ("KEY".to_owned(), "a secret".to_owned())];
        load(&Sources { file: Some(path), env, flags: Flags::default() }).map_err(|errors| errors.to_string())
    }

    #[test]
    fn there_are_no_traces_unless_a_collector_is_named() {
        let Loaded { config, .. } = loaded("").expect("sound");
        assert_eq!(config.otel, Otel::default());
        assert_eq!(config.otel.endpoint, None);
    }

    #[test]
    fn spans_go_below_the_collectors_address_and_its_keys_are_secrets() {
        for (written, path) in [
            ("http://127.0.0.1:4318", "/v1/traces"),
            ("http://127.0.0.1:4318/", "/v1/traces"),
            ("http://127.0.0.1:4318/otlp", "/otlp/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "/v1/traces"),
        ] {
            let text = format!("[otel]\nendpoint = \"{written}\"\nheaders = {{ x-key = \"${{env:KEY}}\" }}\n");
            let Loaded { config, .. } = loaded(&text).expect("sound");
            assert_eq!(config.otel.endpoint.as_ref().map(Url::path), Some(path), "{written}");
            assert!(config.secrets().any(|secret| secret.expose() == "a secret"));
            assert!(!format!("{config:?}").contains("a secret"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_and_a_key_that_is_missing_costs_the_traces_alone() {
        for (text, says) in [
            ("endpoint = \"127.0.0.1:4317\"", "otel.endpoint"),
            ("endpoint = \"grpc://127.0.0.1:4317\"", "gRPC"),
            ("endpoint = \"http://me:secret@h/\"", "otel.headers"),
            ("sample = 1.5", "otel.sample"),
            ("service_name = \"\"", "otel.service_name"),
            ("headers = { \"a b\" = \"x\" }", "no name of a header"),
            ("headers = { content-type = \"x\" }", "set by Trunkline itself"),
            ("protocol = \"grpc\"", "protocol"),
        ] {
            let error = loaded(&format!("[otel]\n{text}\n")).expect_err("refused");
            assert!(error.contains(says) && !error.contains("secret@"), "{text}: {error}");
        }
        let text = "[otel]\nendpoint = \"http://127.0.0.1:4318\"\nheaders = { x-key = \"${env:GONE}\" }\n";
        let Loaded { config, warnings, .. } = loaded(text).expect("it serves all the same");
        assert_eq!(config.otel.endpoint, None);
        assert!(warnings.iter().any(|it| it.contains("otel.headers.x-key") && it.contains("GONE")), "{warnings:?}");
    }
}
