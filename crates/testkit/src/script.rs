//! [`Scripted`]: the mind of a fake legacy server, without any transport.
//!
//! It is given messages and says what is to be done: send a line, wait, die. Payloads go back as they came:
//! the result of `tools/call`, `prompts/get` and `resources/read` has a member `echo` with the request's
//! `params`, so that a test can see every byte that reached the server.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use trunkline_wire::{Id, Json, Message, Method, Notification, Object, Request, Response, RpcError, code};

use crate::faults::{Deed, Fault};
use crate::modern::{self, Listens};

/// What a fake server has and how it behaves.
#[derive(Debug, Clone)]
pub struct Script {
    /// `serverInfo.name`.
    pub name: String,
    /// Whether it is of 2026-07-28: no handshake, an envelope in each request, `resultType` in each result.
    pub modern: bool,
    /// The revision it answers `initialize` with; `None` agrees to what is wanted.
    pub revision: Option<String>,
    /// Its instructions.
    pub instructions: Option<String>,
    /// Entries, as JSON texts: see [`tool`].
    pub tools: Vec<String>,
    /// Entries, as JSON texts: see [`prompt`].
    pub prompts: Vec<String>,
    /// Entries, as JSON texts: see [`resource`].
    pub resources: Vec<String>,
    /// Entries, as JSON texts: see [`template`].
    pub templates: Vec<String>,
    /// Entries per page of a list; `None` puts all on one.
    pub page_size: Option<usize>,
    /// The whole capability object; `None` declares everything it has entries for, with change notices,
    /// subscriptions, completions and logging.
    pub capabilities: Option<String>,
    /// What it does wrong. The first that fits a request is shown.
    pub faults: Vec<Fault>,
}

impl Default for Script {
    /// A server `fake` with the one tool `echo`.
    fn default() -> Self {
        Self {
            name: "fake".into(),
            modern: false,
            revision: None,
            instructions: None,
            tools: vec![tool("echo")],
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            page_size: None,
            capabilities: None,
            faults: Vec::new(),
        }
    }
}

impl Script {
    /// Its capabilities, as JSON text.
    pub(crate) fn declared(&self) -> String {
        if let Some(capabilities) = &self.capabilities {
            return capabilities.clone();
        }
        let mut parts = vec![r#""logging":{},"completions":{}"#];
        if !self.tools.is_empty() {
            parts.push(r#""tools":{"listChanged":true}"#);
        }
        if !self.prompts.is_empty() {
            parts.push(r#""prompts":{"listChanged":true}"#);
        }
        if !self.resources.is_empty() || !self.templates.is_empty() {
            parts.push(r#""resources":{"listChanged":true,"subscribe":true}"#);
        }
        format!("{{{}}}", parts.join(","))
    }
}

/// A tool as a server lists it.
pub fn tool(name: &str) -> String {
    entry(&[("name", name), ("description", "Returns what it is given.")], r#","inputSchema":{"type":"object"}"#)
}

/// A prompt as a server lists it.
pub fn prompt(name: &str) -> String {
    entry(&[("name", name), ("description", "A prompt.")], "")
}

/// A resource as a server lists it.
pub fn resource(uri: &str) -> String {
    entry(&[("uri", uri), ("name", uri)], "")
}

/// A resource template as a server lists it.
pub fn template(uri: &str) -> String {
    entry(&[("uriTemplate", uri), ("name", uri)], "")
}

fn entry(strings: &[(&str, &str)], more: &str) -> String {
    let members: Vec<String> =
        strings.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    format!("{{{}{more}}}", members.join(","))
}

/// What a fake server does next. Acts of one reaction happen in order; reactions overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Send this message (add the line end, or make it an event).
    Send(Bytes),
    /// Write these bytes as they are. Meaningful on pipes only.
    Raw(Bytes),
    /// Do the rest later, unless the request is cancelled first.
    Wait(Duration),
    /// Die: close everything.
    Exit,
}

/// A fake server's mind.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    initialized: bool,
    /// Questions it asked, by id: the call that waits for the answer, and what it asks next.
    asked: HashMap<Bytes, (Request, Option<&'static str>)>,
    /// Calls that are answered when cancelled.
    held: Vec<Request>,
    cancelled: HashSet<Bytes>,
    next_ask: u64,
    listens: Listens,
}

impl Scripted {
    /// A server that nobody talked to yet.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            initialized: false,
            asked: HashMap::new(),
            held: Vec::new(),
            cancelled: HashSet::new(),
            next_ask: 0,
            listens: Listens::default(),
        }
    }

    /// What it has; changes show in the next list.
    pub fn script(&mut self) -> &mut Script {
        &mut self.script
    }

    /// Whether the request was cancelled by the client.
    pub fn is_cancelled(&self, id: &Id) -> bool {
        self.cancelled.contains(&id.key())
    }

    /// Takes one message and returns what to do about it.
    pub fn react(&mut self, message: &Message) -> Vec<Act> {
        match message {
            Message::Request(request) if self.listens_to(request) => self.listens.accept(request),
            Message::Request(request) => self.answer(request),
            Message::Notification(notice) if notice.method == Method::Cancelled => {
                self.listens.cancel(notice);
                self.cancel(notice)
            }
            Message::Notification(_) => Vec::new(),
            Message::Response(response) => self.told(response),
        }
    }

    /// Whether a request opens a listen, and no fault comes in between.
    fn listens_to(&self, request: &Request) -> bool {
        let faulty = |fault: &Fault| fault.method == request.method.as_str() && fault.times > 0;
        self.script.modern && request.method == Method::SubscriptionsListen && !self.script.faults.iter().any(faulty)
    }

    fn answer(&mut self, request: &Request) -> Vec<Act> {
        let outcome = self.outcome(request);
        let id = request.id.clone();
        let reply = Act::Send(Response { id: Some(id.clone()), outcome }.encode());
        let Some(deed) = self.fault(request) else {
            return vec![reply];
        };
        match deed {
            Deed::Silent => Vec::new(),
            Deed::Slow(delay) => vec![Act::Wait(delay), reply],
            Deed::Error(error) => vec![Act::Send(Response::error(Some(id), Json::literal(error)).encode())],
            Deed::Result(result) => vec![Act::Send(Response::result(id, Json::literal(result)).encode())],
            Deed::LinesBefore(lines) => vec![Act::Raw(lines), reply],
            Deed::HalfLineThenExit => vec![Act::Raw(half(&reply)), Act::Exit],
            Deed::ExitUnanswered => vec![Act::Exit],
            Deed::IdAsString => {
                let text = String::from_utf8_lossy(id.json().as_bytes()).into_owned();
                vec![renamed(Json::from(text.as_str()), self.outcome(request))]
            }
            Deed::WrongId => vec![renamed(Json::from(999_999_999), self.outcome(request))],
            Deed::Twice => vec![reply.clone(), reply],
            Deed::AfterCancel => {
                self.held.push(request.clone());
                Vec::new()
            }
            Deed::Progress { steps, every } => progress(request, steps, every).chain([reply]).collect(),
            Deed::Log => vec![notice("notifications/message", r#"{"level":"info","data":"at work"}"#), reply],
            Deed::Ask { method, params, then } => vec![self.ask(request, method, params, then)],
            Deed::AskInVain { method } => {
                let question = self.ask(request, method, "{}", None);
                let id = format!(r#"{{"requestId":"ask-{}"}}"#, self.next_ask);
                vec![question, notice("notifications/cancelled", &id)]
            }
            Deed::Large(bytes) => {
                let result = content(&"x".repeat(bytes), None);
                vec![Act::Send(Response::result(id, result).encode())]
            }
            Deed::PageGone => {
                let error = invalid("the cursor is no longer valid");
                let changed = format!("notifications/{}_changed", request.method);
                vec![Act::Send(Response::error(Some(id), error).encode()), notice(&changed, "{}")]
            }
            Deed::ListChangedAfter { notice: method, times } => {
                std::iter::once(reply).chain((0..times).map(|_| notice(method, "{}"))).collect()
            }
            Deed::Shuffled => {
                for list in [&mut self.script.tools, &mut self.script.prompts, &mut self.script.resources] {
                    let by = usize::from(!list.is_empty());
                    list.rotate_left(by);
                }
                vec![Act::Send(Response { id: Some(id), outcome: self.outcome(request) }.encode())]
            }
        }
    }

    /// Takes the first fault that fits the request and has not worn off.
    fn fault(&mut self, request: &Request) -> Option<Deed> {
        let params = request.params().ok()?;
        let tool = params.get_str("name");
        let further_page = params.get("cursor").is_some();
        let fits = |fault: &&mut Fault| {
            fault.method == request.method.as_str()
                && fault.times > 0
                && fault.tool.is_none_or(|wanted| tool.as_deref() == Some(wanted))
                && (further_page || !matches!(fault.deed, Deed::PageGone))
        };
        let fault = self.script.faults.iter_mut().find(fits)?;
        fault.times -= 1;
        Some(fault.deed.clone())
    }

    fn outcome(&mut self, request: &Request) -> Result<Json, Json> {
        let params = request.params().map_err(|_| invalid("params are no object"))?;
        if self.script.modern {
            if let Some(outcome) = modern::opening(&self.script, &request.method, &params) {
                return outcome;
            }
            self.initialized = true;
            return self.known(request, &params).map(|result| modern::stamped(&request.method, &result));
        }
        if !self.initialized && !matches!(request.method, Method::Initialize | Method::Ping) {
            // What the Python SDK says, the strictest of them.
            return Err(invalid("Received request before initialization was complete"));
        }
        self.known(request, &params)
    }

    fn known(&mut self, request: &Request, params: &Object) -> Result<Json, Json> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a legacy server knows these and no others")]
        match &request.method {
            Method::Initialize => Ok(self.initialize(params)),
            Method::Ping | Method::LoggingSetLevel | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                Ok(Json::literal("{}"))
            }
            Method::ToolsList => self.page("tools", &self.script.tools, params),
            Method::PromptsList => self.page("prompts", &self.script.prompts, params),
            Method::ResourcesList => self.page("resources", &self.script.resources, params),
            Method::ResourcesTemplatesList => self.page("resourceTemplates", &self.script.templates, params),
            Method::ToolsCall => {
                known(&self.script.tools, "name", params, "Unknown tool")?;
                let arguments = params.get("arguments").map_or(Json::literal("{}"), Json::clone);
                let text = String::from_utf8_lossy(arguments.as_bytes()).into_owned();
                Ok(content(&text, Some(params)))
            }
            Method::PromptsGet => {
                known(&self.script.prompts, "name", params, "Unknown prompt")?;
                let messages = r#"[{"role":"user","content":{"type":"text","text":"a prompt"}}]"#;
                Ok(object(&[("messages", Json::literal(messages)), ("echo", params.to_json())]))
            }
            Method::ResourcesRead => {
                let uri = params.get("uri").cloned().ok_or_else(|| invalid("no uri"))?;
                let read = object(&[("uri", uri), ("text", Json::from("text of the resource"))]);
                let contents = array(&[&read]);
                Ok(object(&[("contents", contents), ("echo", params.to_json())]))
            }
            Method::CompletionComplete => {
                let completion = r#"{"values":["one","two"],"total":2,"hasMore":false}"#;
                Ok(object(&[("completion", Json::literal(completion)), ("echo", params.to_json())]))
            }
            _ => Err(RpcError::new(code::METHOD_NOT_FOUND, "Method not found").to_json()),
        }
    }

    fn initialize(&mut self, params: &Object) -> Json {
        // Real servers wait for `notifications/initialized`; most do not insist, and neither does this.
        self.initialized = true;
        let wanted = params.get_str("protocolVersion").unwrap_or_default();
        let revision = self.script.revision.clone().unwrap_or(wanted);
        let info = format!(r#"{{"name":{},"version":"1.0"}}"#, quoted(&self.script.name));
        let mut result: Object = [
            ("protocolVersion", Json::from(revision.as_str())),
            ("capabilities", Json::trusted(self.script.declared())),
            ("serverInfo", Json::trusted(info)),
        ]
        .into_iter()
        .collect();
        if let Some(instructions) = &self.script.instructions {
            result.set("instructions", Json::from(instructions.as_str()));
        }
        result.to_json()
    }

    fn page(&self, key: &str, entries: &[String], params: &Object) -> Result<Json, Json> {
        let from = match params.get_str("cursor") {
            None => 0,
            Some(cursor) => cursor
                .strip_prefix("from:")
                .and_then(|from| from.parse::<usize>().ok())
                .filter(|from| *from <= entries.len())
                .ok_or_else(|| invalid("Invalid cursor"))?,
        };
        let to = self.script.page_size.map_or(entries.len(), |size| (from + size).min(entries.len()));
        let mut page = Object::new();
        page.set(key, Json::trusted(format!("[{}]", entries[from..to].join(","))));
        if to < entries.len() {
            page.set("nextCursor", Json::from(format!("from:{to}").as_str()));
        }
        Ok(page.to_json())
    }

    fn ask(&mut self, call: &Request, method: &str, params: &'static str, then: Option<&'static str>) -> Act {
        self.next_ask += 1;
        let id = Id::new(Json::from(format!("ask-{}", self.next_ask).as_str())).expect("a string is an id");
        self.asked.insert(id.key(), (call.clone(), then));
        Act::Send(Request { id, method: Method::from(method), params: Some(Json::literal(params)) }.encode())
    }

    /// An answer to a question of ours: the call that asked is answered with it, or leads to the next question.
    fn told(&mut self, response: &Response) -> Vec<Act> {
        let Some((call, then)) = response.id.as_ref().and_then(|id| self.asked.remove(&id.key())) else {
            return Vec::new();
        };
        if let Some(method) = then {
            return vec![self.ask(&call, method, "{}", None)];
        }
        let (Ok(told) | Err(told)) = &response.outcome;
        let result = content(&String::from_utf8_lossy(told.as_bytes()), call.params().ok().as_ref());
        vec![Act::Send(Response::result(call.id, result).encode())]
    }

    fn cancel(&mut self, notice: &Notification) -> Vec<Act> {
        let id = notice.params().ok().and_then(|params| Id::new(params.get("requestId")?.clone()).ok());
        let Some(id) = id else {
            return Vec::new();
        };
        self.cancelled.insert(id.key());
        let Some(at) = self.held.iter().position(|held| held.id.key() == id.key()) else {
            return Vec::new();
        };
        let late = self.held.remove(at);
        vec![Act::Send(Response { outcome: self.outcome(&late), id: Some(late.id) }.encode())]
    }
}

fn progress(request: &Request, steps: u64, every: Duration) -> impl Iterator<Item = Act> {
    let token = request.params().ok().as_ref().and_then(trunkline_wire::progress_token);
    let step = move |number: u64| {
        let token = token.as_ref()?;
        let params =
            object(&[("progressToken", token.clone()), ("progress", Json::from(number)), ("total", Json::from(steps))]);
        let notice = Notification { method: Method::Progress, params: Some(params) };
        Some([Act::Wait(every), Act::Send(notice.encode())])
    };
    (1..=steps).filter_map(step).flatten()
}

fn notice(method: &str, params: &str) -> Act {
    let params = Some(Json::trusted(params.to_owned()));
    Act::Send(Notification { method: Method::from(method), params }.encode())
}

fn renamed(id: Json, outcome: Result<Json, Json>) -> Act {
    let id = Id::new(id).expect("a string or a number");
    Act::Send(Response { id: Some(id), outcome }.encode())
}

fn half(reply: &Act) -> Bytes {
    match reply {
        Act::Send(text) => text.slice(..text.len() / 2),
        Act::Raw(_) | Act::Wait(_) | Act::Exit => Bytes::new(),
    }
}

fn known(entries: &[String], key: &str, params: &Object, complaint: &str) -> Result<(), Json> {
    let wanted = params.get_str(key).unwrap_or_default();
    let named = |entry: &String| {
        let entry = Object::parse(&Json::trusted(entry.clone())).ok();
        entry.and_then(|entry| entry.get_str(key)) == Some(wanted.clone())
    };
    entries.iter().any(named).then_some(()).ok_or_else(|| invalid(&format!("{complaint}: {wanted}")))
}

fn content(text: &str, params: Option<&Object>) -> Json {
    let block = object(&[("type", Json::from("text")), ("text", Json::from(text))]);
    let mut result = Object::new();
    result.set("content", array(&[&block]));
    if let Some(params) = params {
        result.set("echo", params.to_json());
    }
    result.to_json()
}

fn invalid(message: &str) -> Json {
    RpcError::new(code::INVALID_PARAMS, message).to_json()
}

fn object(members: &[(&str, Json)]) -> Json {
    members.iter().cloned().collect::<Object>().to_json()
}

fn array(items: &[&Json]) -> Json {
    let mut out = BytesMut::from("[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(item.as_bytes());
    }
    out.extend_from_slice(b"]");
    Json::trusted(out)
}

fn quoted(text: &str) -> String {
    String::from_utf8_lossy(Json::from(text).as_bytes()).into_owned()
}
