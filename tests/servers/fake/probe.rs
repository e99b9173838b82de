//! How a server meets `server/discover` that does not know it, or that wants to be asked otherwise
//! (mcp-protocol 4.5 and 4.6).

use crate::message::Failure;
use crate::protocol::Answer;

/// Given by `--probe NAME` or `--probe NAME:N`, which limits it to the first N probes of the process. Without it a
/// legacy server answers -32601, or 400 where it wants a session first; a modern one discloses itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    /// Exits, as servers on older Rust SDKs do (stdio).
    Exit,
    /// Never answers, and works on.
    Silence,
    /// -32022, naming the revision that was claimed all the same.
    Renegotiate,
    /// -32022, naming a modern revision of which nobody has heard.
    Foreign,
    /// -32022, naming legacy revisions only.
    Legacy,
    /// A `DiscoverResult` that names legacy revisions only.
    Old,
    /// A result that is no `DiscoverResult`.
    Malformed,
    /// An error with this code.
    Error(i64),
    /// This HTTP status, without a JSON-RPC body.
    Status(u16),
}

impl Probe {
    pub(crate) fn named(name: &str) -> Result<(Probe, Option<u64>), String> {
        let (name, limit) = match name.split_once(':') {
            Some((name, limit)) => (name, Some(limit.parse().map_err(|_| format!("not a number: {limit}"))?)),
            None => (name, None),
        };
        let probe = match name {
            "exit" => Probe::Exit,
            "silence" => Probe::Silence,
            "renegotiate" => Probe::Renegotiate,
            "foreign" => Probe::Foreign,
            "legacy" => Probe::Legacy,
            "old" => Probe::Old,
            "malformed" => Probe::Malformed,
            other => match other.parse::<i64>() {
                Ok(code) if code < 0 => Probe::Error(code),
                Ok(status) => Probe::Status(u16::try_from(status).map_err(|_| format!("no status: {status}"))?),
                Err(_) => return Err(format!("no answer to a probe is named {other}")),
            },
        };
        Ok((probe, limit))
    }

    /// The HTTP status that goes with it.
    pub(crate) fn status(self) -> u16 {
        match self {
            Probe::Status(status) => status,
            Probe::Renegotiate | Probe::Foreign | Probe::Legacy => 400,
            Probe::Exit | Probe::Silence | Probe::Old | Probe::Malformed | Probe::Error(_) => 200,
        }
    }
}

/// The answer in JSON-RPC.
pub(crate) fn answer(probe: Probe, id: &str) -> Answer {
    let unsupported = |supported: &str| Failure {
        code: -32022,
        message: "Unsupported protocol version".into(),
        data: Some(format!(r#"{{"supported":[{supported}],"requested":"2026-07-28"}}"#)),
    };
    let failure = match probe {
        Probe::Exit => {
            eprintln!("fake-upstream: expected initialize, giving up");
            std::process::exit(4);
        }
        Probe::Silence => return Answer::Later(Box::pin(std::future::pending())),
        Probe::Renegotiate => unsupported(r#""2026-07-28""#),
        Probe::Foreign => unsupported(r#""2099-01-01""#),
        Probe::Legacy => unsupported(r#""2025-11-25","2025-06-18""#),
        Probe::Old => {
            let result = concat!(
                r#"{"resultType":"complete","supportedVersions":["2025-11-25"],"capabilities":{},"#,
                r#""ttlMs":0,"cacheScope":"private"}"#
            );
            return Answer::Now(crate::message::success(id, result));
        }
        Probe::Malformed => return Answer::Now(crate::message::success(id, r#"{"tools":"yes"}"#)),
        Probe::Error(code) => Failure::from((code, "what is server/discover?".to_owned())),
        Probe::Status(status) => Failure::from((-32000, format!("status {status}"))),
    };
    Answer::Now(failure.reply(id))
}
