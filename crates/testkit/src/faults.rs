//! [`Fault`]: one constructor per way in which servers in the field go wrong.
//!
//! Each names the faults of the catalogue (reliability 14) that it plays. Those that are of no use on a pair of pipes
//! are played elsewhere:
//!
//! * a dialer decides who is away and for how long (F-1, F-9, F-10, F-14, F-19, F-36): `upstream/src/scenarios.rs`;
//! * HTTP and its streams (F-5, F-6, F-11 to F-13, F-18, F-20, F-60, F-61, F-74): the router of
//!   `upstream/src/transport/fakes.rs`, and `tests/servers/fake`, whose faults a test switches while it runs;
//! * the network (F-15, F-17, F-19, F-21): `tests/harness/proxy.rs`;
//! * processes and what they leave (F-3, F-4, F-8, F-22, F-32 to F-35, F-38, F-39, F-42, F-44, F-45, F-68, F-69):
//!   real ones, in `tests/` and beside the transport for child processes;
//! * clients (F-28, F-29, F-47, F-53, F-62, F-63, F-72): the tests of `edge`, `hub` and `tests/`;
//! * files and the clock (F-40, F-41, F-43, F-46, F-75): beside what reads them.
//!
//! The other numbers are not faults of servers: F-49 to F-52, F-55, F-56, F-58, F-59, F-64 to F-67, F-70 and F-71 are
//! about who may come in and about credentials. `docs/reliability.md` lists which test plays which.

use std::time::Duration;

use bytes::Bytes;

/// What a fake server does wrong, or slowly, or besides, when a method is asked.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) method: &'static str,
    pub(crate) tool: Option<&'static str>,
    pub(crate) times: usize,
    pub(crate) deed: Deed,
}

#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Silent,
    Slow(Duration),
    Error(&'static str),
    Result(&'static str),
    LinesBefore(Bytes),
    HalfLineThenExit,
    ExitUnanswered,
    IdAsString,
    WrongId,
    Twice,
    AfterCancel,
    Progress { steps: u64, every: Duration },
    Log,
    Ask { method: &'static str, params: &'static str, then: Option<&'static str> },
    AskInVain { method: &'static str },
    Large(usize),
    PageGone,
    ListChangedAfter { notice: &'static str, times: usize },
    Shuffled,
}

impl Fault {
    fn on(method: &'static str, deed: Deed) -> Self {
        Self { method, tool: None, times: usize::MAX, deed }
    }

    /// Only the first `times` times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Only for calls of `tool`.
    #[must_use]
    pub fn for_tool(self, tool: &'static str) -> Self {
        Self { tool: Some(tool), ..self }
    }

    /// Never answers (F-2, F-7, F-23).
    pub fn silent(method: &'static str) -> Self {
        Self::on(method, Deed::Silent)
    }

    /// Answers after `delay`; not at all if it was cancelled by then (F-2, F-26).
    pub fn slow(method: &'static str, delay: Duration) -> Self {
        Self::on(method, Deed::Slow(delay))
    }

    /// Answers with this JSON-RPC error object (F-23).
    pub fn error(method: &'static str, error: &'static str) -> Self {
        Self::on(method, Deed::Error(error))
    }

    /// Answers with this result (F-6).
    pub fn result(method: &'static str, result: &'static str) -> Self {
        Self::on(method, Deed::Result(result))
    }

    /// Prints what is no message, before the answer (F-31). Add the line ends.
    pub fn garbage(method: &'static str, lines: &'static [u8]) -> Self {
        Self::on(method, Deed::LinesBefore(Bytes::from_static(lines)))
    }

    /// Writes half of the answer, then dies (F-17).
    pub fn half_line_then_exit(method: &'static str) -> Self {
        Self::on(method, Deed::HalfLineThenExit)
    }

    /// Dies instead of answering (F-8, F-17).
    pub fn exit(method: &'static str) -> Self {
        Self::on(method, Deed::ExitUnanswered)
    }

    /// Answers `7` as `"7"` (F-53).
    pub fn id_as_string(method: &'static str) -> Self {
        Self::on(method, Deed::IdAsString)
    }

    /// Answers with an id that nobody used, and not with the right one (F-53).
    pub fn wrong_id(method: &'static str) -> Self {
        Self::on(method, Deed::WrongId)
    }

    /// Answers two times.
    pub fn reply_twice(method: &'static str) -> Self {
        Self::on(method, Deed::Twice)
    }

    /// Answers only when it is told that the request is cancelled (F-7).
    pub fn reply_after_cancel(method: &'static str) -> Self {
        Self::on(method, Deed::AfterCancel)
    }

    /// Sends `steps` progress notices, one each `every`, if the request has a token; then answers (F-7).
    pub fn progress(method: &'static str, steps: u64, every: Duration) -> Self {
        Self::on(method, Deed::Progress { steps, every })
    }

    /// Sends a log message before the answer.
    pub fn log(method: &'static str) -> Self {
        Self::on(method, Deed::Log)
    }

    /// Asks the client something during the call, and answers when it got the answer, showing it (F-54).
    pub fn ask(method: &'static str, asks: &'static str, params: &'static str) -> Self {
        Self::on(method, Deed::Ask { method: asks, params, then: None })
    }

    /// After [`Fault::ask`]: asks this too, once it has the first answer, and shows the second.
    #[must_use]
    pub fn then(mut self, asks: &'static str) -> Self {
        if let Deed::Ask { then, .. } = &mut self.deed {
            *then = Some(asks);
        }
        self
    }

    /// Asks the client something during the call, takes the question back at once, and never answers the call.
    pub fn ask_in_vain(method: &'static str, asks: &'static str) -> Self {
        Self::on(method, Deed::AskInVain { method: asks })
    }

    /// Answers with a text of `bytes` bytes (F-30).
    pub fn large(method: &'static str, bytes: usize) -> Self {
        Self::on(method, Deed::Large(bytes))
    }

    /// The list changes while it is read: the first request for a further page fails with an invalid cursor,
    /// and a change notice follows.
    pub fn list_changes_mid_page(list: &'static str) -> Self {
        Self::on(list, Deed::PageGone).times(1)
    }

    /// Sends this change notice after the answer (F-25).
    pub fn list_changed_after(method: &'static str, notice: &'static str) -> Self {
        Self::list_changed_burst(method, notice, 1)
    }

    /// Sends this change notice so many times after the answer (F-25).
    pub fn list_changed_burst(method: &'static str, notice: &'static str, times: usize) -> Self {
        Self::on(method, Deed::ListChangedAfter { notice, times })
    }

    /// Lists the same entries in another order each time (F-24).
    pub fn shuffled(list: &'static str) -> Self {
        Self::on(list, Deed::Shuffled)
    }
}
