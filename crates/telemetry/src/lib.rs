//! What can be seen of the gateway: metrics, logs, what happened lately, and what must never be shown.
//!
//! Everyone above calls methods here; nothing here calls back. [`Metrics`] has one method per fact and is
//! passed in, never global. [`Journal`] keeps the recent past of each server for people, [`Trends`] the last hour of what is
//! counted, [`RecentCalls`] the last calls without what was said, which [`Audit`] writes into a file. [`Tracer`] makes spans for a
//! collector of OpenTelemetry. [`redact`] is the
//! layer that every text from outside passes before a person sees it. [`spawn`] starts every task of the
//! program, so that each has a name and its panic does not go unseen; [`Saver`] is the one that writes state to disk.
//!
//! Absences that hold: no label from a peer's text (S-37), no payload in any record, no growth with time.

mod metrics;

mod audit;
mod date;
mod journal;
mod labels;
mod ledger;
pub mod logs;
mod process;
mod recent;
pub mod redact;
mod rounds;
mod saver;
pub mod table;
mod tasks;
mod traces;
mod trends;

pub use audit::Audit;
pub use date::date;
pub use journal::{Journal, Transition};
pub use ledger::{TreeAccount, Usage};
pub use metrics::{Figures, Metrics, ServerMetrics};
pub use process::resident_bytes;
pub use recent::{Ended, RecentCall, RecentCalls};
pub use rounds::Rounds;
pub use saver::Saver;
pub use tasks::{running, spawn};
pub use traces::{Carrier, NotTaken, PARENT, STATE, Span, Trace, Traced, Tracer, error_type};
pub use trends::{History, Lately, STEP, Step, Trends};
