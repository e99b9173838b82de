//! What to do when a request failed: table 5 of the reliability contract as data, all its rows and columns. Pure.
//!
//! The rule behind the table: whatever may have had an effect is never sent twice. `call/errand.rs` walks it for
//! the requests of clients, within one deadline; `repeat.rs` for the gateway's own; the transports for the streams and
//! the farewell that are theirs. Where what is done is not what the table says, [`OTHERWISE`] says what and why, and a
//! test holds both against the document's own text.

use trunkline_wire::Method;

use crate::transport::FaultPoint;

/// Resends of one request of the gateway's own at most. Of a client's, the configuration says it.
pub(crate) const RESENDS_MAX: u32 = 2;

/// The rows: what is sent to a server, as far as it matters for sending it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    Initialize,
    Initialized,
    /// `server/discover` and `ping`.
    Probe,
    List,
    /// Read, get, complete.
    Read,
    /// The same with what a person answered.
    ReadAnswered,
    SetLevel,
    Subscribe,
    Listen,
    /// The GET stream of a legacy server.
    GetStream,
    /// A GET that names the last event, to go on with an answer.
    Resume,
    /// `tools/call`, and whatever we do not know.
    Call,
    /// `tools/call` of a tool that only reads, or whose repetition changes nothing, by the word of the operator.
    CallTrusted,
    /// `tools/call` with what a person answered.
    CallAnswered,
    /// `tools/call` that became a task.
    CallTask,
    /// A look at a task, or at its result.
    TaskLook,
    TaskCancel,
    TaskUpdate,
    /// A notification of ours.
    Notice,
    /// A client's answer to a server's question.
    Reply,
    /// A server's question to a client.
    Question,
    /// DELETE of a session.
    Farewell,
    OauthMetadata,
    OauthCode,
    OauthRefresh,
}

/// The columns: where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Nothing was written.
    A,
    /// Refused before it ran.
    B,
    /// Written, and no byte of an answer.
    C,
    /// 500, 502, 504, or 503 without a time.
    D,
    /// The answer began and broke.
    E,
    /// The deadline.
    F,
    /// An answer that is none.
    G,
    /// An error in the answer.
    H,
}

/// What the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Send it again, as often as requests are.
    Retry,
    /// Send it again, once.
    Once,
    /// Once, if nothing of the answer went to the caller yet.
    OnceIfQuiet,
    /// Once, within a second.
    OnceSoon,
    /// Once, on the same connection.
    OnceHere,
    /// Once, within two seconds.
    OnceBriefly,
    /// Once, after two seconds and another look into the store.
    OnceLater,
    /// Restore what it set on the new connection, rather than send it again.
    Restore,
    /// It was sent, and its fate is not known.
    Unknown,
    /// The deadline passed.
    Timeout,
    /// The answer is no answer.
    Protocol,
    /// Pass the error through.
    Pass,
    /// Look at the task.
    Poll,
    /// There is no such stream.
    NoStream,
    /// A new handshake.
    Renew,
    /// Nobody waits for it.
    Drop,
    /// It failed.
    Fail,
    /// Not sent again under any circumstances.
    Never,
    /// Cannot happen.
    Nothing,
}

use Mark::{
    Drop, Fail, Never, NoStream, Nothing, Once, OnceBriefly, OnceHere, OnceIfQuiet, OnceLater, OnceSoon, Pass, Poll,
    Protocol, Renew, Restore, Retry, Timeout, Unknown,
};

/// The document's table.
#[rustfmt::skip]
const TABLE: [(Row, [Mark; 8]); 25] = [
    //                    A            B        C          D        E            F        G         H
    (Row::Initialize,    [Retry,       Retry,   Retry,     Retry,   Retry,       Retry,   Retry,    Pass]),
    (Row::Initialized,   [Restore,     Restore, Restore,   Restore, Nothing,     Restore, Nothing,  Nothing]),
    (Row::Probe,         [Retry,       Retry,   Retry,     Retry,   Retry,       Once,    Once,     Pass]),
    (Row::List,          [Retry,       Retry,   Retry,     Retry,   Retry,       Timeout, Protocol, Pass]),
    (Row::Read,          [Retry,       Retry,   Retry,     Retry,   OnceIfQuiet, Timeout, Protocol, Pass]),
    (Row::ReadAnswered,  [Retry,       Once,    Unknown,   Unknown, Unknown,     Timeout, Protocol, Pass]),
    (Row::SetLevel,      [Retry,       Retry,   Retry,     Retry,   Retry,       Restore, Restore,  Pass]),
    (Row::Subscribe,     [Retry,       Retry,   Restore,   Restore, Restore,     Restore, Restore,  Pass]),
    (Row::Listen,        [Restore,     Restore, Restore,   Restore, Restore,     Restore, Restore,  Pass]),
    (Row::GetStream,     [Restore,     Restore, Restore,   Restore, Restore,     Restore, Restore,  NoStream]),
    (Row::Resume,        [Retry,       Once,    Retry,     Once,    Retry,       Timeout, Protocol, Renew]),
    (Row::Call,          [Retry,       Once,    Unknown,   Unknown, Unknown,     Timeout, Protocol, Pass]),
    (Row::CallTrusted,   [Retry,       Retry,   Once,      Once,    OnceIfQuiet, Timeout, Protocol, Pass]),
    (Row::CallAnswered,  [Retry,       Once,    Unknown,   Unknown, Unknown,     Timeout, Protocol, Pass]),
    (Row::CallTask,      [Nothing,     Nothing, Nothing,   Nothing, Poll,        Poll,    Protocol, Pass]),
    (Row::TaskLook,      [Retry,       Retry,   Retry,     Retry,   Retry,       Once,    Once,     Pass]),
    (Row::TaskCancel,    [Retry,       Retry,   Once,      Once,    Once,        Timeout, Protocol, Pass]),
    (Row::TaskUpdate,    [Retry,       Once,    Unknown,   Unknown, Unknown,     Timeout, Protocol, Pass]),
    (Row::Notice,        [OnceSoon,    Drop,    Drop,      Drop,    Nothing,     Drop,    Nothing,  Nothing]),
    (Row::Reply,         [OnceHere,    Drop,    Drop,      Drop,    Nothing,     Drop,    Nothing,  Nothing]),
    (Row::Question,      [Never,       Never,   Never,     Never,   Never,       Never,   Never,    Never]),
    (Row::Farewell,      [OnceBriefly, Drop,    Drop,      Drop,    Nothing,     Drop,    Nothing,  Nothing]),
    (Row::OauthMetadata, [Retry,       Retry,   Retry,     Retry,   Once,        Once,    Pass,     Nothing]),
    (Row::OauthCode,     [Retry,       Once,    Fail,      Fail,    Fail,        Fail,    Fail,     Pass]),
    (Row::OauthRefresh,  [Retry,       Once,    OnceLater, Once,    Once,        Once,    Pass,     Pass]),
];

/// Where something else is done than the table says, and why.
#[rustfmt::skip]
const OTHERWISE: &[(Row, &[Column], Mark, &str)] = &[
    (Row::Initialize, &[Column::A, Column::B, Column::C, Column::D, Column::E, Column::F, Column::G], Restore,
        "it opens a connection, so it is the dial that is made again: by the supervisor, on its ladder (R-11), without end"),
    (Row::Probe, &[Column::F], Retry,
        "three probes in a row decide, however each was missed (section 7)"),
    (Row::Probe, &[Column::G], Pass,
        "an answer that is none is a sign of life all the same"),
    (Row::Probe, &[Column::H], Renew,
        "a modern server that does not know `server/discover` is none any more; elsewhere every error is a sign of life"),
    (Row::Subscribe, &[Column::C, Column::D, Column::E], Retry,
        "to subscribe twice is to subscribe once; where the connection outlives the fault nothing else would restore it; \
         and the client learns the server's own word"),
    (Row::Subscribe, &[Column::F], Timeout,
        "the client was told that it failed, and one that failed must not come back with the next connection"),
    (Row::Subscribe, &[Column::G], Protocol,
        "the client was told that it failed, and one that failed must not come back with the next connection"),
    (Row::Resume, &[Column::B, Column::D], Retry,
        "three attempts in all, whatever each met: to read an answer again is not to run the tool again"),
    (Row::Resume, &[Column::H], Drop,
        "it may have forgotten the stream and not the session; a POST in it will show"),
    (Row::Farewell, &[Column::A], Drop,
        "a server that is not there has no session to end, and a stop must not wait for it"),
    (Row::TaskLook, &[Column::F, Column::G], Poll,
        "a look that brought nothing is followed by the next one at the task's own pace, five in a row at most"),
    (Row::TaskCancel, &[Column::F, Column::G], Drop,
        "the gateway's own: the task ends by its time to live if it did not hear"),
];

impl Row {
    /// The row of a request. `answered`: it carries what a person said. `trusted`: the operator believes the hints of
    /// the tool, and they say that it may be repeated.
    pub(crate) fn of(method: &Method, answered: bool, trusted: bool) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not known may have effects")]
        match method {
            Method::Initialize => Self::Initialize,
            Method::Initialized => Self::Initialized,
            Method::Discover | Method::Ping => Self::Probe,
            Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourcesTemplatesList => {
                Self::List
            }
            Method::ResourcesRead | Method::PromptsGet | Method::CompletionComplete if answered => Self::ReadAnswered,
            Method::ResourcesRead | Method::PromptsGet | Method::CompletionComplete => Self::Read,
            Method::LoggingSetLevel => Self::SetLevel,
            Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => Self::Subscribe,
            Method::SubscriptionsListen => Self::Listen,
            Method::ToolsCall if answered => Self::CallAnswered,
            Method::ToolsCall if trusted => Self::CallTrusted,
            Method::TasksGet | Method::TasksList | Method::TasksResult => Self::TaskLook,
            Method::TasksCancel => Self::TaskCancel,
            Method::TasksUpdate => Self::TaskUpdate,
            Method::Cancelled | Method::Progress | Method::RootsListChanged => Self::Notice,
            _ => Self::Call,
        }
    }

    /// Whether a caller must be warned that what it asked for may have been done.
    pub(crate) fn has_effects(self) -> bool {
        deed(self, Column::C).0 == Unknown
    }
}

/// What the table says, and what is done: with the reason, if that is something else.
pub(crate) fn deed(row: Row, column: Column) -> (Mark, Option<&'static str>) {
    let other = OTHERWISE.iter().find(|(other, columns, ..)| *other == row && columns.contains(&column));
    match other {
        Some((.., mark, why)) => (*mark, Some(why)),
        None => (said(row, column), None),
    }
}

fn said(row: Row, column: Column) -> Mark {
    let line = TABLE.iter().find(|(known, _)| *known == row);
    line.expect("every row is in the table").1[column as usize]
}

/// The column of a fault. The deadline, F, ends a request whatever stands there; H is an answer.
pub(crate) fn column(fault: FaultPoint) -> Column {
    match fault {
        FaultPoint::NothingSent => Column::A,
        FaultPoint::RefusedBeforeRun | FaultPoint::SessionGone | FaultPoint::NeedsAuth => Column::B,
        FaultPoint::LostUnanswered => Column::C,
        FaultPoint::ServerFailed => Column::D,
        FaultPoint::BrokenMidway => Column::E,
        FaultPoint::Unreadable => Column::G,
    }
}

/// Whether to send again a request of the gateway's own that was sent again `resends` times; `quiet`: nothing of it was
/// passed on yet.
pub(crate) fn resend(row: Row, fault: FaultPoint, resends: u32, quiet: bool) -> bool {
    resend_within(RESENDS_MAX, row, fault, resends, quiet)
}

/// The same for any request, which is sent again `most` times at most. None at all still lets one go on that found its
/// session forgotten: that is the first time that the server takes it.
pub(crate) fn resend_within(most: u32, row: Row, fault: FaultPoint, resends: u32, quiet: bool) -> bool {
    match fault {
        // No waiting brings a credential.
        FaultPoint::NeedsAuth => return false,
        // After a new handshake the request is as good as never sent, but one renewal must do.
        FaultPoint::SessionGone if !matches!(row, Row::Notice | Row::Reply | Row::Farewell | Row::Question) => {
            return resends == 0;
        }
        FaultPoint::NothingSent
        | FaultPoint::RefusedBeforeRun
        | FaultPoint::LostUnanswered
        | FaultPoint::ServerFailed
        | FaultPoint::BrokenMidway
        | FaultPoint::Unreadable
        | FaultPoint::SessionGone => {}
    }
    match deed(row, column(fault)).0 {
        Retry => resends < most,
        Once | OnceSoon | OnceHere | OnceBriefly | OnceLater => resends < most.min(1),
        OnceIfQuiet => resends < most.min(1) && quiet,
        Restore | Unknown | Timeout | Protocol | Pass | Poll | NoStream | Renew | Drop | Fail | Never | Nothing => {
            false
        }
    }
}

/// The name of a fault in metrics and logs.
pub(crate) fn label(fault: FaultPoint) -> &'static str {
    match fault {
        FaultPoint::NothingSent => "not_sent",
        FaultPoint::RefusedBeforeRun => "refused",
        FaultPoint::LostUnanswered => "lost",
        FaultPoint::ServerFailed => "server_failed",
        FaultPoint::BrokenMidway => "broke_midway",
        FaultPoint::Unreadable => "unreadable",
        FaultPoint::SessionGone => "session_gone",
        FaultPoint::NeedsAuth => "needs_auth",
    }
}

#[cfg(test)]
mod tests;
