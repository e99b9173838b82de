//! The MCP server behind every transport: envelope in, answer out.
//!
//! This file speaks the legacy revisions and holds what both eras share; `modern.rs` takes over for 2026-07-28.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;

use crate::desk::Desk;
use crate::listen::Listen;
use crate::message::{Envelope, Failure, Outcome, Params, severity, success};
use crate::options::{Fault, Options};
use crate::probe::Probe;
use crate::rounds::Pending;
use crate::session::{Call, Lines, Log, Session};
use crate::tasks::Tasks;
use crate::{ask, core_tasks, modern, offers, probe, tools};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

pub(crate) enum Answer {
    Nothing,
    Now(String),
    /// Ends with the reply, or with none when the call was cancelled.
    Later(Pin<Box<dyn Future<Output = Option<String>> + Send>>),
}

pub(crate) struct Server {
    pub(crate) options: Options,
    pub(crate) desk: Desk,
    pub(crate) sessions: Mutex<Vec<Arc<Session>>>,
    /// Tools that the tool `change` added.
    pub(crate) added: Mutex<Vec<String>>,
    /// Subscriptions of 2026-07-28.
    pub(crate) listens: Mutex<Vec<Arc<Listen>>>,
    /// Rounds of questions that a retry may answer, by `requestState`.
    pub(crate) pending: Mutex<HashMap<String, Pending>>,
    pub(crate) tasks: Tasks,
    /// How often the tool `need_url` was called, by its tag.
    pub(crate) visits: Mutex<HashMap<String, u64>>,
    /// Counts whatever needs a number of its own.
    pub(crate) numbers: AtomicU64,
    faults_left: AtomicU64,
    probes_left: AtomicU64,
}

impl Server {
    pub(crate) fn new(options: Options) -> Server {
        let faults = options.fault.and_then(|(_, limit)| limit).unwrap_or(u64::MAX);
        let probes = options.probe.and_then(|(_, limit)| limit).unwrap_or(u64::MAX);
        Server {
            desk: Desk::new(options.desk.as_deref()),
            sessions: Mutex::default(),
            added: Mutex::default(),
            listens: Mutex::default(),
            pending: Mutex::default(),
            tasks: Tasks::default(),
            visits: Mutex::default(),
            numbers: AtomicU64::new(1),
            faults_left: AtomicU64::new(faults),
            probes_left: AtomicU64::new(probes),
            options,
        }
    }

    /// The fault in force for what comes in now. Asking counts against a limited fault.
    pub(crate) fn fault(&self) -> Option<Fault> {
        if let Some(fault) = self.desk.fault() {
            return Some(fault);
        }
        let (fault, _) = self.options.fault?;
        take_one(&self.faults_left).then_some(fault)
    }

    /// How `server/discover` is to be answered this time, if not as the revision has it.
    pub(crate) fn probe(&self, method: &str) -> Option<Probe> {
        let (probe, _) = self.options.probe.filter(|_| method == "server/discover")?;
        take_one(&self.probes_left).then_some(probe)
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes down a call, a prompt or a read: what came, and whether it continues an earlier one.
    pub(crate) fn note_call(&self, id: &str, method: &str, params: &Params<'_>) {
        if !self.desk.exists() || !matches!(method, "tools/call" | "prompts/get" | "resources/read") {
            return;
        }
        let text = |text: &str| serde_json::to_string(text).expect("a string is JSON");
        let retry = params.request_state.is_some() || params.input_responses.is_some();
        let line = format!(
            r#"{{"id":{id},"method":"{method}","subject":{},"arguments":{},"retry":{retry},"state":{},"responses":{},"task":{}}}"#,
            text(params.subject()),
            params.arguments(),
            params.request_state.as_deref().map_or("null".into(), text),
            params.input_responses.map_or("null", RawValue::get),
            params.task.map_or("null", RawValue::get),
        );
        self.desk.note("calls", &line);
    }

    pub(crate) fn adopt(&self, session: &Arc<Session>) {
        self.sessions.lock().expect("short").push(session.clone());
    }

    pub(crate) fn forget(&self, session: &Arc<Session>) {
        self.sessions.lock().expect("short").retain(|other| !Arc::ptr_eq(other, session));
    }

    /// Takes one message. `lines` is where messages go that belong to it.
    pub(crate) fn receive(self: &Arc<Self>, text: &str, session: &Arc<Session>, lines: &Lines) -> Answer {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            return Answer::Now(Failure::from((-32700, "not JSON".to_owned())).reply("null"));
        };
        let Some(method) = envelope.method.as_deref() else {
            if self.options.is_modern() && !self.options.dual {
                self.desk.note("violations", &format!("a response was sent to a modern server: {text}"));
            }
            if let Some(id) = envelope.id
                && let Some(asker) = session.asked.lock().expect("short").remove(id.get())
            {
                let _ = asker.send(text.to_owned());
            }
            return Answer::Nothing;
        };
        let params = Params::of(envelope.params);
        let Some(id) = envelope.id.map(RawValue::get) else {
            self.notified(method, &params, text, session);
            return Answer::Nothing;
        };
        if let Some(probe) = self.probe(method) {
            return probe::answer(probe, id);
        }
        if modern::speaks(self, &params) {
            return modern::receive(self, method, id, &params, session, lines).answer;
        }
        self.note_call(id, method, &params);
        if method == "tools/call" {
            return self.call(id, &params, session, lines);
        }
        if let Some(rounds) = ask::wanted(self, method, &params) {
            return session.cancellable(id, ask::play_for(self.call_of(&params, session, lines), rounds));
        }
        if method.starts_with("tasks/") && self.options.revision == "2025-11-25" {
            return core_tasks::request(self, method, id, &params, session, lines);
        }
        Answer::Now(match self.request(method, &params, session) {
            Ok(result) => success(id, &result),
            Err(failure) => failure.reply(id),
        })
    }

    fn notified(&self, method: &str, params: &Params<'_>, text: &str, session: &Session) {
        if method != "notifications/cancelled" {
            return;
        }
        self.desk.note("cancelled", text);
        if let Some(id) = params.request_id {
            // Dropping the sender is the signal.
            session.running.lock().expect("short").remove(id.get());
        }
    }

    fn request(&self, method: &str, params: &Params<'_>, session: &Session) -> Outcome {
        match method {
            "initialize" => Ok(self.initialize(params, session)),
            "ping" => Ok("{}".into()),
            "resources/subscribe" | "resources/unsubscribe" => {
                let uri = params.uri.clone().unwrap_or_default().into_owned();
                let mut subscribed = session.subscribed.lock().expect("short");
                if method.ends_with("/subscribe") {
                    subscribed.insert(uri)
                } else {
                    subscribed.remove(&uri)
                };
                Ok("{}".into())
            }
            "logging/setLevel" => {
                *session.level.lock().expect("short") = severity(params.level.as_deref().unwrap_or_default());
                Ok("{}".into())
            }
            _ => self.common(method, params),
        }
    }

    /// The methods that both eras have.
    pub(crate) fn common(&self, method: &str, params: &Params<'_>) -> Outcome {
        match method {
            "tools/list" if self.fault() == Some(Fault::NoTools) => {
                Err((-32603, "the tool index is broken".to_owned()).into())
            }
            "tools/list" => Ok(tools::list(self, params)),
            "prompts/list" => Ok(offers::prompts(self)),
            "prompts/get" => offers::prompt(params),
            "resources/list" => Ok(offers::resources(self)),
            "resources/templates/list" => Ok(offers::templates(self)),
            "resources/read" => offers::read(self, params),
            "completion/complete" => Ok(offers::complete(params)),
            _ => Err((-32601, format!("Method not found: {method}")).into()),
        }
    }

    fn initialize(&self, params: &Params<'_>, session: &Session) -> String {
        let asked = params.revision.as_deref().unwrap_or_default();
        let known = REVISIONS.contains(&asked) && asked <= self.options.revision.as_str();
        let revision = if known { asked } else { &self.options.revision };
        revision.clone_into(&mut session.revision.lock().expect("short"));
        self.desk.note("declared", params.capabilities.map_or("null", RawValue::get));
        let name = &self.options.name;
        let tasks = if self.options.revision == "2025-11-25" { core_tasks::CAPABILITY } else { "" };
        format!(
            concat!(
                r#"{{"protocolVersion":"{0}","capabilities":{{{1}{2}}},"serverInfo":{{"name":"{3}","version":"1.0.0"}},"#,
                r#""instructions":"{3} is a fake: it does what the test asks for."}}"#
            ),
            revision,
            self.capabilities(),
            tasks,
            name
        )
    }

    /// The members of `capabilities` that both eras have.
    pub(crate) fn capabilities(&self) -> &'static str {
        if self.options.no_changes {
            r#""tools":{},"prompts":{},"resources":{},"completions":{},"logging":{}"#
        } else {
            concat!(
                r#""tools":{"listChanged":true},"prompts":{"listChanged":true},"#,
                r#""resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}"#
            )
        }
    }

    fn call(self: &Arc<Self>, id: &str, params: &Params<'_>, session: &Arc<Session>, lines: &Lines) -> Answer {
        let at_once = tools::at_once(self, params).map(Ok).or_else(|| core_tasks::call(self, params));
        if self.options.delay.is_zero()
            && let Some(outcome) = at_once
        {
            return Answer::Now(outcome.map_or_else(|failure| failure.reply(id), |result| success(id, &result)));
        }
        let call = self.call_of(params, session, lines);
        session.cancellable(id, call.run(params, at_once))
    }

    fn call_of(self: &Arc<Self>, params: &Params<'_>, session: &Arc<Session>, lines: &Lines) -> Call {
        Call {
            server: self.clone(),
            session: session.clone(),
            lines: lines.clone(),
            progress_token: params.meta("progressToken"),
            log: Log::Session,
        }
    }
}

/// True while the count lasts; each time takes one.
fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
