//! [`Fault`]: one constructor per way in which servers in the field go wrong.

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
    ListChangedAfter(&'static str),
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

    /// Never answers.
    pub fn silent(method: &'static str) -> Self {
        Self::on(method, Deed::Silent)
    }

    /// Answers after `delay`; not at all if it was cancelled by then.
    pub fn slow(method: &'static str, delay: Duration) -> Self {
        Self::on(method, Deed::Slow(delay))
    }

    /// Answers with this JSON-RPC error object.
    pub fn error(method: &'static str, error: &'static str) -> Self {
        Self::on(method, Deed::Error(error))
    }

    /// Answers with this result.
    pub fn result(method: &'static str, result: &'static str) -> Self {
        Self::on(method, Deed::Result(result))
    }

    /// Prints what is no message, before the answer. Add the line ends.
    pub fn garbage(method: &'static str, lines: &'static [u8]) -> Self {
        Self::on(method, Deed::LinesBefore(Bytes::from_static(lines)))
    }

    /// Writes half of the answer, then dies.
    pub fn half_line_then_exit(method: &'static str) -> Self {
        Self::on(method, Deed::HalfLineThenExit)
    }

    /// Dies instead of answering.
    pub fn exit(method: &'static str) -> Self {
        Self::on(method, Deed::ExitUnanswered)
    }

    /// Answers `7` as `"7"`.
    pub fn id_as_string(method: &'static str) -> Self {
        Self::on(method, Deed::IdAsString)
    }

    /// Answers with an id that nobody used, and not with the right one.
    pub fn wrong_id(method: &'static str) -> Self {
        Self::on(method, Deed::WrongId)
    }

    /// Answers two times.
    pub fn reply_twice(method: &'static str) -> Self {
        Self::on(method, Deed::Twice)
    }

    /// Answers only when it is told that the request is cancelled.
    pub fn reply_after_cancel(method: &'static str) -> Self {
        Self::on(method, Deed::AfterCancel)
    }

    /// Sends `steps` progress notices, one each `every`, if the request has a token; then answers.
    pub fn progress(method: &'static str, steps: u64, every: Duration) -> Self {
        Self::on(method, Deed::Progress { steps, every })
    }

    /// Sends a log message before the answer.
    pub fn log(method: &'static str) -> Self {
        Self::on(method, Deed::Log)
    }

    /// Asks the client something during the call, and answers when it got the answer, showing it.
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

    /// Answers with a text of `bytes` bytes.
    pub fn large(method: &'static str, bytes: usize) -> Self {
        Self::on(method, Deed::Large(bytes))
    }

    /// The list changes while it is read: the first request for a further page fails with an invalid cursor,
    /// and a change notice follows.
    pub fn list_changes_mid_page(list: &'static str) -> Self {
        Self::on(list, Deed::PageGone).times(1)
    }

    /// Sends this change notice after the answer.
    pub fn list_changed_after(method: &'static str, notice: &'static str) -> Self {
        Self::on(method, Deed::ListChangedAfter(notice))
    }
}
