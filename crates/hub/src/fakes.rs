//! What the tests of this crate share: servers that are only names, and offers made by hand.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::mpsc;
use trunkline_config::{Config, Connect, Server, Stdio};
use trunkline_telemetry::{Journal, Metrics};
use trunkline_testkit::{Handle, Script, pipes, serve};
use trunkline_upstream::streams::Streams;
use trunkline_upstream::{Entry, Environment, Fleet, GuardProgram, LaneKey, Offer, Shelf, Upstream};
use trunkline_wire::{Budget, Id, Json, Message, Method, Request, ServerName};

use crate::lanes::Source;
use crate::{Guest, Hub, Keep, Session};

/// A configured server that is never started.
pub(crate) fn server() -> Server {
    Server { enabled: false, ..Server::new(Connect::Stdio(Stdio::new("true", []))) }
}

/// The one connection of `git`.
pub(crate) fn git() -> Source {
    Source { server: ServerName::new("git").expect("a name"), lane: LaneKey::Common }
}

/// A fleet of these servers; the sender takes the place of their unasked notices.
pub(crate) fn fleet(servers: &[(&str, Server)]) -> (Arc<Fleet>, mpsc::Receiver<trunkline_upstream::ServerNotice>) {
    // What is only looked at needs no tasks that move, but a place for them.
    static STILL: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let (notices, received) = mpsc::channel(16);
    let environment = environment(notices);
    let named: Vec<_> =
        servers.iter().map(|(name, server)| (ServerName::new(name).expect("a name"), server.clone())).collect();
    let still = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = tokio::runtime::Handle::try_current().is_err().then(|| STILL.get_or_init(still).enter());
    (Fleet::start(&named, environment), received)
}

fn environment(notices: mpsc::Sender<trunkline_upstream::ServerNotice>) -> Environment {
    Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::default()),
        budget: Budget::new(1 << 20),
        limits: trunkline_config::Limits::default(),
        notices,
        guard: GuardProgram::new("/nonexistent", []),
        shelf: Shelf::none(),
        signin: None,
        inherited: Vec::new(),
    }
}

/// A server and what it offers.
pub(crate) fn source(name: &str, server: Server, offer: Offer) -> (Upstream, Arc<Offer>) {
    let (fleet, _) = fleet(&[(name, server)]);
    (fleet.all()[0].clone(), Arc::new(offer))
}

/// Entries of an offer, each keyed by its member `key`.
pub(crate) fn entries(key: &str, bodies: &[&str]) -> Vec<Entry> {
    let entry = |body: &&str| {
        let body = Json::parse(body.to_string()).expect("JSON");
        let object = trunkline_wire::Object::parse(&body).expect("an object");
        Entry { name: object.get_str(key).expect("the key"), body }
    };
    bodies.iter().map(entry).collect()
}

/// A hub before servers that are never started.
pub(crate) fn hub(servers: &[(&str, Server)], config: &Config) -> Arc<Hub> {
    let (fleet, notices) = fleet(servers);
    Hub::new(fleet, config, Metrics::new(), Budget::new(config.limits.buffer_bytes), notices)
}

/// A hub before one server, `git`, that is scripted and ready.
pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    servers: Arc<Mutex<Vec<Handle>>>,
}

impl World {
    pub(crate) async fn new(script: Script) -> Self {
        Self::configured(script, Server::new(Connect::Stdio(Stdio::new("true", [])))).await
    }

    /// One whose server may ask the model.
    pub(crate) async fn sampling(script: Script) -> Self {
        let mut server = Server::new(Connect::Stdio(Stdio::new("true", [])));
        server.declared.sampling = true;
        Self::configured(script, server).await
    }

    /// One whose server is configured like this.
    pub(crate) async fn configured(script: Script, server: Server) -> Self {
        Self::kept(script, server, &Keep::nowhere()).await
    }

    /// One whose hub goes by this.
    pub(crate) async fn ruled(script: Script, config: &Config) -> Self {
        Self::begun(script, Server::new(Connect::Stdio(Stdio::new("true", []))), &Keep::nowhere(), config).await
    }

    /// One that is the next process on this state.
    pub(crate) async fn kept(script: Script, server: Server, keep: &Keep) -> Self {
        Self::begun(script, server, keep, &Config::default()).await
    }

    async fn begun(script: Script, server: Server, keep: &Keep, config: &Config) -> Self {
        let (notices, received) = mpsc::channel(16);
        let environment = environment(notices);
        let servers: Arc<Mutex<Vec<Handle>>> = Arc::default();
        let opened = Arc::clone(&servers);
        let open = move |_: &ServerName| {
            let (here, there) = pipes(65_536);
            opened.lock().expect("not poisoned").push(serve(script.clone(), there));
            let streams: Streams = (Box::pin(here.reader), Box::pin(here.writer));
            streams
        };
        let named = [(ServerName::new("git").expect("a name"), server)];
        let fleet = trunkline_upstream::streams::start(&named, &environment, Arc::new(open));
        let hub = Hub::keeping(keep, fleet, config, environment.metrics, environment.budget, received);
        let mut catalogs = hub.catalogs();
        let listed = catalogs.wait_for(|views| !views.whole().tools().is_empty());
        tokio::time::timeout(std::time::Duration::from_mins(1), listed).await.expect("in time").expect("the hub lives");
        Self { hub, servers }
    }

    /// The servers of all connections, the oldest first.
    pub(crate) fn servers(&self) -> Vec<Handle> {
        self.servers.lock().expect("not poisoned").clone()
    }

    /// The server of the newest connection.
    pub(crate) fn server(&self) -> Handle {
        self.servers.lock().expect("not poisoned").last().expect("a connection").clone()
    }
}

/// A request of a client.
pub(crate) fn request(id: u64, method: Method, params: &str) -> Request {
    Request { id: Id::from(id), method, params: Some(Json::parse(params.to_owned()).expect("JSON")) }
}

/// A message of a client.
pub(crate) fn message(text: &str) -> Message {
    Message::parse(&bytes::Bytes::copy_from_slice(text.as_bytes())).expect("a message")
}

/// A session of this revision that has said `initialized`.
pub(crate) fn session(hub: &Arc<Hub>, revision: &str) -> Arc<Session> {
    able_session(hub, revision, "{}")
}

/// The same, of a client with these capabilities.
pub(crate) fn able_session(hub: &Arc<Hub>, revision: &str, abilities: &str) -> Arc<Session> {
    let params = format!(
        r#"{{"protocolVersion":"{revision}","capabilities":{abilities},"clientInfo":{{"name":"test","version":"1"}}}}"#
    );
    let (session, _) = hub.open(&request(0, Method::Initialize, &params), Guest::ANYBODY).expect("a session");
    session.initialized();
    session
}
