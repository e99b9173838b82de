//! The loss report: what of a server a given client cannot have, and why (mcp-protocol 5.16, 5.18, 6.2).
//!
//! Between a server and a client that speak different revisions, or declare different things, some features have no way
//! across. Nothing of that is an error, so nobody would learn of it from a log. Here it is said for a server and the
//! clients that were seen since the daemon started: what is missing, whether that is due to the client's revision, to a
//! capability that one side does not declare, to the configuration or to the server itself, and what may help.
//!
//! Clients are told apart by what they call themselves, their revision and their capabilities. The list is bounded; those
//! seen last stay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::time::Instant;
use trunkline_config::{Connect, Server, Sharing};
use trunkline_telemetry::redact;
use trunkline_upstream::{Offer, Upstream};
use trunkline_wire::{Abilities, Era, Json, Method, Object, Revision, extensions};

use crate::View;
use crate::catalog::build::is_shown;
use crate::catalog::output::Output;
use crate::limits::ACQUAINTANCES_MAX;

/// The clients that were seen.
#[derive(Debug, Default)]
pub(crate) struct Acquaintances(Mutex<VecDeque<Acquaintance>>);

/// A client, as it showed itself, and when it did first and last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Acquaintance {
    pub name: Box<str>,
    pub revision: Revision,
    pub abilities: Arc<Abilities>,
    pub first: Instant,
    pub last: Instant,
    /// What it saw at that address, and from which port of this machine it came, as far as was noted.
    pub view: View,
    pub port: u16,
}

/// What one client cannot have of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// What the client calls itself.
    pub client: String,
    /// The revision it speaks.
    pub revision: &'static str,
    /// What it cannot have. Empty: everything gets through.
    pub losses: Vec<Loss>,
}

/// One thing that does not get through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What is missing, such as `elicitation.url`.
    pub feature: &'static str,
    /// What it is due to.
    pub due_to: Cause,
    /// One sentence: what happens in its place, and what may help.
    pub text: String,
}

/// What a loss is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The client's revision does not know it.
    Revision,
    /// One side does not declare it.
    Capability,
    /// The configuration keeps it back.
    Filter,
    /// The server does not have it.
    Server,
}

impl Acquaintances {
    /// Notes that a client was seen.
    pub(crate) fn met(&self, name: &str, revision: Revision, abilities: &Arc<Abilities>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |it: &Acquaintance| *it.name == *name && it.revision == revision && it.abilities == *abilities;
        let last = Instant::now();
        let old = seen.iter().position(known).and_then(|at| seen.remove(at)).unwrap_or_else(|| {
            let (view, abilities) = (View::WHOLE, Arc::clone(abilities));
            Acquaintance { name: name.into(), revision, abilities, first: last, last, view, port: 0 }
        });
        let acquaintance = Acquaintance { last, ..old };
        if seen.len() >= ACQUAINTANCES_MAX {
            seen.pop_front();
        }
        seen.push_back(acquaintance);
    }

    /// Notes where the one was that was met last, if it is still this one.
    pub(crate) fn met_at(&self, name: &str, view: &View, port: u16) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = seen.back_mut().filter(|it| *it.name == *name) {
            (it.view, it.port) = (view.clone(), port);
        }
    }

    /// The clients called `name`, or all of them; those seen last come first.
    pub(crate) fn named(&self, name: Option<&str>) -> Vec<Acquaintance> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |it: &&Acquaintance| name.is_none_or(|name| it.name.eq_ignore_ascii_case(name));
        seen.iter().rev().filter(wanted).cloned().collect()
    }
}

/// Says what `client` cannot have of `upstream`.
pub(crate) fn explain(upstream: &Upstream, client: &Acquaintance) -> Explained {
    let losses = losses(&upstream.config(), &upstream.offer(), client);
    let name = if client.name.is_empty() { "(unnamed)".to_owned() } else { redact::printable(&client.name, 128) };
    Explained { client: name, revision: client.revision.as_str(), losses }
}

fn losses(config: &Server, offer: &Offer, client: &Acquaintance) -> Vec<Loss> {
    let mut report = Report { losses: Vec::new() };
    report.filtered(config, offer);
    report.of_the_server(offer);
    // What a server that was never connected has, nobody knows.
    if let Some(spoken) = offer.revision {
        report.shapes(offer, client.revision);
        report.questions(config, spoken, client);
        report.tasks(offer, client);
        report.eras(spoken, client.revision);
    }
    report.losses
}

struct Report {
    losses: Vec<Loss>,
}

impl Report {
    fn lost(&mut self, feature: &'static str, due_to: Cause, text: impl Into<String>) {
        self.losses.push(Loss { feature, due_to, text: text.into() });
    }

    fn filtered(&mut self, config: &Server, offer: &Offer) {
        let hidden: Vec<&str> =
            offer.tools.iter().filter(|tool| !is_shown(&config.expose, tool)).map(|tool| tool.name.as_str()).collect();
        if !hidden.is_empty() {
            let names = listed(&hidden);
            let text =
                format!("{} hidden by `enabled_tools` or `disabled_tools`: {names}", counted(hidden.len(), "tool"));
            self.lost("tools", Cause::Filter, text);
        }
        if !offer.complaints.is_empty() {
            let count = counted(offer.complaints.len(), "complaint");
            self.lost(
                "entries",
                Cause::Server,
                format!("{count} about entries that cannot be offered; see `trunkline status`"),
            );
        }
    }

    fn of_the_server(&mut self, offer: &Offer) {
        let has = offer.capabilities;
        if offer.revision.is_none() {
            return self.lost("everything", Cause::Server, "it was not connected yet; see `trunkline status`");
        }
        if has.resources && !has.subscribe {
            self.lost("resources/subscribe", Cause::Server, "the server announces no updates of resources");
        }
        if !has.completions && (!offer.prompts.is_empty() || !offer.templates.is_empty()) {
            self.lost("completion", Cause::Server, "the server completes no arguments; completions are empty");
        }
        if !has.logging {
            self.lost("logging", Cause::Server, "the server sends no log messages");
        }
    }

    fn shapes(&mut self, offer: &Offer, revision: Revision) {
        let outputs = offer.tools.iter().filter_map(|tool| Some(Output::of(&Object::parse(&tool.body).ok()?)));
        let outputs: Vec<Output> = outputs.filter(|output| *output != Output::Absent).collect();
        let with_output = outputs.len();
        if with_output > 0 && revision < Revision::V2025_06_18 {
            let tools = counted(with_output, "tool");
            self.lost(
                "structuredContent",
                Cause::Revision,
                format!("{tools} with structured output: the client gets it as text"),
            );
        } else if revision.era() == Era::Legacy {
            let wrapped = outputs.iter().filter(|output| **output != Output::Object).count();
            if wrapped > 0 {
                let tools = counted(wrapped, "tool");
                let text =
                    format!("{tools} whose output is no object: the client gets it as the member `result` of one");
                self.lost("outputSchema", Cause::Revision, text);
            }
        }
        if revision < Revision::V2025_03_26 {
            self.lost("audio", Cause::Revision, "audio content is shown as a line of text");
        }
        if revision < Revision::V2025_06_18 {
            self.lost("resource_link", Cause::Revision, "links to resources are shown as a line of text");
        }
    }

    fn questions(&mut self, config: &Server, spoken: Revision, client: &Acquaintance) {
        let legacy = spoken.era() == Era::Legacy;
        let can = |method: &Method, params: &'static str| {
            let params = Object::parse(&Json::literal(params)).unwrap_or_default();
            client.abilities.permits(method, &params).is_ok()
        };
        let why = |since: Revision| if client.revision < since { Cause::Revision } else { Cause::Capability };
        if spoken >= Revision::V2025_06_18 && !can(&Method::ElicitationCreate, "{}") {
            let text = "the client cannot show a form; a server that asks is told that the person closed it";
            self.lost("elicitation", why(Revision::V2025_06_18), text);
        }
        if spoken >= Revision::V2025_11_25 && !can(&Method::ElicitationCreate, r#"{"mode":"url"}"#) {
            let text = "the client cannot lead a person to a page; a server that needs it says so in its answer";
            self.lost("elicitation.url", why(Revision::V2025_11_25), text);
        }
        if !can(&Method::SamplingCreateMessage, "{}") {
            self.lost("sampling", Cause::Capability, "the client lends no model to servers");
        } else if legacy && !config.declared.sampling && config.sharing != Sharing::Session {
            let text = "the server is not told that it may ask the model; `sampling = true` tells it";
            self.lost("sampling", Cause::Filter, text);
        }
        let own_lane = config.sharing != Sharing::Shared && client.abilities.roots();
        if legacy && config.declared.roots.is_empty() && !own_lane {
            self.lost(
                "roots",
                Cause::Filter,
                "a shared server sees no client's directories; `roots = [\"…\"]` names some",
            );
        } else if !legacy && !client.abilities.roots() {
            self.lost("roots", Cause::Capability, "the client lists no directories");
        }
        let shared_pipe = matches!(config.connect, Connect::Stdio(_));
        if legacy && shared_pipe && config.sharing != Sharing::Session && config.tuning.in_flight_max > 1 {
            let text = "a question that comes while several clients' calls run is put to nobody; `serialize = true` runs one call \
                        at a time";
            self.lost("questions at the same time", Cause::Filter, text);
        }
    }

    fn tasks(&mut self, offer: &Offer, client: &Acquaintance) {
        if offer.extensions.get(extensions::TASKS).is_some() {
            if !client.abilities.tasks() {
                let legacy = client.revision.era() == Era::Legacy;
                let text = "the server may go on with a task after it answered a call: the client sees a plain call, and waits";
                self.lost("tasks", if legacy { Cause::Revision } else { Cause::Capability }, text);
            }
            return;
        }
        let tasks = |tool: &&trunkline_upstream::Entry| {
            memchr::memmem::find(tool.body.as_bytes(), b"\"taskSupport\"").is_some()
        };
        let tasks = offer.tools.iter().filter(tasks).count();
        if tasks > 0 {
            let tools = counted(tasks, "tool");
            self.lost("tasks", Cause::Revision, format!("{tools} that can run as tasks: the client sees a plain call"));
        }
    }

    fn eras(&mut self, spoken: Revision, revision: Revision) {
        if spoken.era() == Era::Legacy && revision.era() == Era::Modern {
            let text = "what the server keeps for a session is shared by all clients: this revision has no sessions";
            self.lost("session state", Cause::Revision, text);
        }
        if revision.era() == Era::Modern {
            self.lost(
                "resumption",
                Cause::Revision,
                "a call whose connection breaks is cancelled: this revision resumes nothing",
            );
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The first few names.
fn listed(names: &[&str]) -> String {
    let mut shown: Vec<String> = names.iter().take(5).map(|name| redact::printable(name, 64)).collect();
    if names.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use trunkline_config::Stdio;
    use trunkline_upstream::Capabilities;

    use super::*;
    use crate::fakes::entries;

    fn config() -> Server {
        Server::new(Connect::Stdio(Stdio::new("server", [])))
    }

    fn offer(revision: Revision) -> Offer {
        Offer {
            tools: entries(
                "name",
                &[
                    r#"{"name":"a","inputSchema":{},"outputSchema":{"type":"object"}}"#,
                    r#"{"name":"b","inputSchema":{},"outputSchema":{"type":"array"},"execution":{"taskSupport":"required"}}"#,
                ],
            ),
            capabilities: Capabilities { tools: true, logging: true, ..Capabilities::default() },
            revision: Some(revision),
            ..Offer::default()
        }
    }

    fn client(revision: Revision, abilities: &'static str) -> Acquaintance {
        let declared = Object::parse(&Json::literal(abilities)).expect("an object");
        let (abilities, now) = (Arc::new(Abilities::read(&declared, revision)), Instant::now());
        Acquaintance { name: "x".into(), revision, abilities, first: now, last: now, view: View::WHOLE, port: 0 }
    }

    fn features(config: &Server, offer: &Offer, client: &Acquaintance) -> Vec<(&'static str, Cause)> {
        losses(config, offer, client).into_iter().map(|loss| (loss.feature, loss.due_to)).collect()
    }

    const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#;

    #[test]
    fn two_modern_peers_that_declare_all_lose_little() {
        let lost = features(&config(), &offer(Revision::V2026_07_28), &client(Revision::V2026_07_28, ALL));
        assert_eq!(lost, [("tasks", Cause::Revision), ("resumption", Cause::Revision)]);
    }

    #[test]
    fn tasks_are_no_loss_between_modern_peers_that_both_have_them() {
        // mcp-protocol 5.14.
        let declared = Object::parse(&Json::literal(r#"{"io.modelcontextprotocol/tasks":{}}"#)).expect("an object");
        let offer = Offer { extensions: declared, ..offer(Revision::V2026_07_28) };
        let follows = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        for (revision, abilities, loss) in [
            (Revision::V2026_07_28, follows, None),
            (Revision::V2026_07_28, "{}", Some(Cause::Capability)),
            (Revision::V2025_11_25, follows, Some(Cause::Revision)),
        ] {
            let lost = features(&config(), &offer, &client(revision, abilities));
            let tasks = lost.into_iter().find(|(feature, _)| *feature == "tasks").map(|(_, cause)| cause);
            assert_eq!(tasks, loss, "{revision:?} {abilities}");
        }
    }

    #[test]
    fn an_old_client_is_told_what_its_revision_does_not_know() {
        let lost = features(&config(), &offer(Revision::V2025_11_25), &client(Revision::V2024_11_05, ALL));
        for feature in ["structuredContent", "audio", "resource_link", "elicitation", "elicitation.url"] {
            assert!(lost.contains(&(feature, Cause::Revision)), "{feature}: {lost:?}");
        }
        assert!(lost.contains(&("sampling", Cause::Filter)));
        assert!(lost.contains(&("roots", Cause::Filter)));
        let wrapped = features(&config(), &offer(Revision::V2025_11_25), &client(Revision::V2025_11_25, ALL));
        assert!(wrapped.contains(&("outputSchema", Cause::Revision)), "{wrapped:?}");
        assert!(!wrapped.iter().any(|(feature, _)| feature.starts_with("elicitation")), "{wrapped:?}");
    }

    #[test]
    fn what_the_configuration_keeps_back_names_its_key() {
        let mut config = config();
        config.expose.tools.not = vec!["a".to_owned()].into();
        config.declared.sampling = true;
        config.tuning.in_flight_max = 1;
        let said = losses(&config, &offer(Revision::V2025_11_25), &client(Revision::V2025_11_25, "{}"));
        let tools = said.iter().find(|loss| loss.feature == "tools").expect("a tool is hidden");
        assert!(tools.text.contains("1 tool hidden") && tools.text.ends_with(": a"), "{}", tools.text);
        assert!(!said.iter().any(|loss| loss.feature == "questions at the same time"));
        assert!(said.iter().any(|loss| loss.feature == "sampling" && loss.due_to == Cause::Capability));
    }

    #[test]
    fn the_clients_seen_last_are_kept_and_found_by_name() {
        let seen = Acquaintances::default();
        let abilities = Arc::new(Abilities::default());
        for number in 0..ACQUAINTANCES_MAX + 5 {
            seen.met(&format!("c{number}"), Revision::V2025_06_18, &abilities);
        }
        seen.met("c10", Revision::V2025_06_18, &abilities);
        assert_eq!(seen.named(None).len(), ACQUAINTANCES_MAX);
        assert_eq!(&*seen.named(None)[0].name, "c10");
        assert_eq!(seen.named(Some("C10")).len(), 1);
        assert!(seen.named(Some("c0")).is_empty());
    }
}
