//! What the tests of this crate share: servers on in-memory pipes behind the whole stack, from the supervisor to
//! the lines of the stdio transport, so that the clock can be paused.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use trunkline_config::{Connect, Declared, Limits, Server, Stdio};
use trunkline_telemetry::{Journal, Metrics};
use trunkline_testkit::Script;
use trunkline_testkit::pipes;
use trunkline_testkit::{Handle, serve};
use trunkline_wire::{Budget, Id, Json, Message, Method, Object, Response, Revision, ServerName};

use crate::call::Ask;
use crate::dial::Order;
use crate::discover::{self, Observed};
use crate::environment::{Environment, GuardProgram, ServerNotice};
use crate::error::DialError;
use crate::fleet::Fleet;
use crate::handle::Upstream;
use crate::handshake::{self, Handshake};
use crate::lanes::LaneKey;
use crate::link::Link;
use crate::supervisor::Dialer;
use crate::transport::{Dialed, Facts, FaultPoint, Outgoing, SendError, Sent, Transport, stdio};

/// Largest message that these servers may send.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How the next dial goes.
pub(crate) enum Plan {
    Serve(Script),
    Fail(DialError),
    Panic,
    Tell(Arc<Told>),
}

/// Opens pipes to scripted servers: as planned, then always to the same script.
pub(crate) struct Pipes {
    plan: Mutex<VecDeque<Plan>>,
    script: Script,
    servers: Mutex<Vec<Handle>>,
    dials: tokio::sync::watch::Sender<usize>,
}

/// One server under a supervisor.
pub(crate) struct World {
    pub(crate) fleet: Arc<Fleet>,
    upstream: Upstream,
    pub(crate) pipes: Arc<Pipes>,
    pub(crate) environment: Environment,
    pub(crate) notices: mpsc::Receiver<ServerNotice>,
}

pub(crate) fn name() -> ServerName {
    ServerName::new("git").expect("a name")
}

pub(crate) fn environment() -> (Environment, mpsc::Receiver<ServerNotice>) {
    let (notices, received) = mpsc::channel(16);
    let environment = Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::default()),
        budget: Budget::new(1 << 28),
        limits: Limits { upstream_message_bytes: MESSAGE_BYTES_MAX, ..Limits::default() },
        notices,
        guard: GuardProgram::new("/nonexistent", []),
        shelf: crate::Shelf::none(),
        signin: None,
        inherited: Vec::new(),
    };
    (environment, received)
}

/// A configuration as of a child that is never spawned.
pub(crate) fn config() -> Server {
    Server::new(Connect::Stdio(Stdio::new("server", [])))
}

/// Connects to a scripted server of either era and opens it.
pub(crate) async fn connect(script: Script, environment: &Environment) -> (Dialed, Handle) {
    connect_as(script, &Declared::default(), environment).await
}

/// The same, and tells it that it may ask this.
async fn connect_as(script: Script, declared: &Declared, environment: &Environment) -> (Dialed, Handle) {
    let (here, there) = pipes(65_536);
    let modern = script.modern;
    let server = serve(script, there);
    let (transport, mut shared) = stdio::over(&name(), here.reader, here.writer, environment);
    let handshake = if modern {
        transport.send(discover::request(1, Revision::V2026_07_28)).await.expect("sent");
        let answer = handshake::answer(&*transport, &mut shared, 1, &mut None).await.expect("an answer");
        Observed::answer(&answer).handshake(Revision::V2026_07_28)
    } else {
        let initialize = handshake::initialize(1, Revision::NEWEST_LEGACY, declared);
        let sent = transport.send(initialize).await.expect("sent");
        handshake::finish(&*transport, &mut shared, sent, 1).await.expect("a handshake")
    };
    (Dialed { transport, shared, handshake, next_id: 2 }, server)
}

/// A link without supervisor.
pub(crate) async fn link(script: Script) -> (Arc<Link>, Handle, mpsc::Receiver<ServerNotice>) {
    let (environment, notices) = environment();
    let (dialed, server) = connect(script, &environment).await;
    (Link::open(&name(), LaneKey::Common, Declared::default(), dialed, &environment), server, notices)
}

/// A transport that answers as told, one entry a request, and knows how it was closed.
#[derive(Default)]
pub(crate) struct Canned {
    answers: Mutex<VecDeque<Result<&'static str, FaultPoint>>>,
    pub(crate) grace: Mutex<Option<Duration>>,
}

impl Transport for Canned {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        let Some(id) = out.request else { return Box::pin(std::future::ready(Ok(Sent::OnSharedStream))) };
        let next = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("an answer");
        Box::pin(std::future::ready(match next {
            Ok(result) => Ok(Sent::Reply(Message::Response(Response::result(Id::from(id), Json::literal(result))))),
            Err(fault) => Err(SendError { fault, text: "as told".to_owned(), retry_after: None }),
        }))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        *self.grace.lock().unwrap_or_else(PoisonError::into_inner) = Some(grace);
        Box::pin(std::future::ready(()))
    }

    fn facts(&self) -> Facts {
        Facts { kind: "http", pid: None, get_stream: None }
    }
}

/// A link with these capabilities over a transport that answers as told.
pub(crate) fn canned(
    capabilities: &'static str,
    answers: impl IntoIterator<Item = Result<&'static str, FaultPoint>>,
) -> (Arc<Link>, Arc<Canned>) {
    canned_by(Revision::NEWEST_LEGACY, capabilities, answers)
}

/// The same by this revision.
pub(crate) fn canned_by(
    revision: Revision,
    capabilities: &'static str,
    answers: impl IntoIterator<Item = Result<&'static str, FaultPoint>>,
) -> (Arc<Link>, Arc<Canned>) {
    let transport = Arc::new(Canned { answers: Mutex::new(answers.into_iter().collect()), ..Canned::default() });
    let handshake = Handshake {
        revision,
        identity: None,
        capabilities: Object::parse(&Json::literal(capabilities)).expect("an object"),
        instructions: None,
    };
    let shared = Box::pin(futures_util::stream::pending());
    let dialed = Dialed { transport: transport.clone(), shared, handshake, next_id: 2 };
    (Link::open(&name(), LaneKey::Common, Declared::default(), dialed, &environment().0), transport)
}

impl World {
    pub(crate) fn new(script: Script) -> Self {
        Self::planned(config(), [], script)
    }

    pub(crate) fn planned(config: Server, plan: impl IntoIterator<Item = Plan>, script: Script) -> Self {
        Self::kept(crate::Shelf::none(), config, plan, script)
    }

    /// One whose server may have been known to an earlier process.
    pub(crate) fn kept(
        shelf: crate::Shelf,
        config: Server,
        plan: impl IntoIterator<Item = Plan>,
        script: Script,
    ) -> Self {
        let (environment, notices) = environment();
        let environment = Environment { shelf, ..environment };
        let pipes = Arc::new(Pipes {
            plan: Mutex::new(plan.into_iter().collect()),
            script,
            servers: Mutex::default(),
            dials: tokio::sync::watch::Sender::new(0),
        });
        let dialer: Arc<dyn Dialer> = pipes.clone();
        let fleet = Fleet::start_with(&[(name(), config)], environment.clone(), dialer);
        let upstream = fleet.all()[0].clone();
        Self { fleet, upstream, pipes, environment, notices }
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Waits for a state.
    pub(crate) async fn is(&self, state: &str) {
        let mut states = self.upstream().states();
        let waited = tokio::time::timeout(Duration::from_secs(4000), states.wait_for(|view| view.state == state)).await;
        let now = self.upstream().status();
        assert!(waited.is_ok(), "never {state}, but {} ({:?})", now.state, now.reason);
    }

    /// Waits until the server is ready; returns the test's hold on it.
    pub(crate) async fn ready(&self) -> Handle {
        self.is("ready").await;
        self.server()
    }

    /// The server of the newest connection.
    pub(crate) fn server(&self) -> Handle {
        self.pipes.servers().last().expect("a connection").clone()
    }

    /// States passed through, oldest first.
    pub(crate) fn passed(&self) -> Vec<&'static str> {
        self.environment.journal.history(&name()).into_iter().map(|transition| transition.to).collect()
    }
}

impl Pipes {
    pub(crate) fn dials(&self) -> usize {
        *self.dials.borrow()
    }

    /// The dial after those that are planned already goes like this.
    pub(crate) fn plan(&self, plan: Plan) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).push_back(plan);
    }

    /// Waits for the dial of this number to begin.
    pub(crate) async fn dialed(&self, count: usize) {
        let mut dials = self.dials.subscribe();
        dials.wait_for(|dials| *dials >= count).await.expect("the pipes outlive it");
    }

    pub(crate) fn servers(&self) -> std::sync::MutexGuard<'_, Vec<Handle>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer for Pipes {
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            self.dials.send_modify(|dials| *dials += 1);
            let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let script = match plan {
                Some(Plan::Fail(error)) => return Err(error),
                Some(Plan::Tell(told)) => return Ok(told.dialed()),
                Some(Plan::Panic) => panic!("as the test wants"),
                Some(Plan::Serve(script)) => script,
                None => self.script.clone(),
            };
            let (dialed, server) = connect_as(script, &order.server.declared, order.environment).await;
            self.servers().push(server);
            Ok(dialed)
        })
    }
}

/// A request with these parameters.
pub(crate) fn ask(method: Method, params: &str) -> Ask {
    let params = Object::parse(&Json::parse(params.to_owned()).expect("JSON")).expect("an object");
    Ask::new(method, params)
}

/// A call of the tool `echo`.
pub(crate) fn echo() -> Ask {
    ask(Method::ToolsCall, r#"{"name":"echo","arguments":{"a":1}}"#)
}

/// What a server behind a URL does with a request, as its transport sees it.
pub(crate) type Deed = Box<dyn Fn(&Outgoing) -> Result<&'static str, FaultPoint> + Send + Sync>;

/// A transport as of a server behind a URL: each request has an answer, or a failure, of its own. Lists and pings are
/// answered, the rest is told.
pub(crate) struct Told {
    deed: Deed,
    seen: Mutex<Vec<Method>>,
    pub(crate) renewed: AtomicUsize,
    /// How long a call of a tool takes.
    late: Duration,
    /// How long it takes to be closed, as a child does that ends in its own time.
    pub(crate) closes_in_ms: AtomicU64,
}

impl Told {
    pub(crate) fn new(
        deed: impl Fn(&Outgoing) -> Result<&'static str, FaultPoint> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::late(Duration::ZERO, deed)
    }

    /// One that takes its time with each call of a tool.
    pub(crate) fn late(
        late: Duration,
        deed: impl Fn(&Outgoing) -> Result<&'static str, FaultPoint> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            deed: Box::new(deed),
            late,
            seen: Mutex::default(),
            renewed: AtomicUsize::default(),
            closes_in_ms: AtomicU64::default(),
        })
    }

    /// How often a method was sent.
    pub(crate) fn count(&self, method: &Method) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|seen| *seen == method).count()
    }

    fn dialed(self: &Arc<Self>) -> Dialed {
        let handshake = Handshake {
            revision: Revision::NEWEST_LEGACY,
            identity: None,
            capabilities: Object::parse(&Json::literal(r#"{"tools":{},"resources":{}}"#)).expect("an object"),
            instructions: None,
        };
        Dialed { transport: self.clone(), shared: Box::pin(futures_util::stream::pending()), handshake, next_id: 2 }
    }
}

impl Transport for Told {
    fn send(&self, out: Outgoing) -> BoxFuture<'_, Result<Sent, SendError>> {
        let Some(id) = out.request else { return Box::pin(std::future::ready(Ok(Sent::OnSharedStream))) };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(out.method.clone());
        let late = if out.method == Method::ToolsCall { self.late } else { Duration::ZERO };
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is told")]
        let done = match out.method {
            Method::ToolsList => {
                Ok(r#"{"tools":[{"name":"look","inputSchema":{},"annotations":{"readOnlyHint":true}}]}"#)
            }
            Method::ResourcesList => Ok(r#"{"resources":[]}"#),
            Method::ResourcesTemplatesList => Ok(r#"{"resourceTemplates":[]}"#),
            _ => (self.deed)(&out),
        };
        Box::pin(async move {
            if !late.is_zero() {
                tokio::time::sleep(late).await;
            }
            match done {
                Ok(result) => Ok(Sent::Reply(Message::Response(Response::result(Id::from(id), Json::literal(result))))),
                Err(fault) => Err(SendError { fault, text: "as told".to_owned(), retry_after: None }),
            }
        })
    }

    fn renew(&self) {
        self.renewed.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(self.closes_in_ms.load(Ordering::Relaxed))))
    }

    fn facts(&self) -> Facts {
        Facts { kind: "http", pid: None, get_stream: None }
    }
}
