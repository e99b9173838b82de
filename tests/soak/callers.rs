//! The clients: of both eras and of the two old transports, open loop.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Plan;
use crate::account::Account;
use crate::harness::client::{Client, request};
use crate::harness::modern::Modern;
use crate::harness::sse::SseClient;
use crate::stage::Stage;

/// Requests that may be open at once. Beyond, something does not answer.
const OPEN_MAX: usize = 1000;

/// A legacy session in so many requests is ended, and a new one begun.
const SESSION_ENDS_EVERY: u64 = 200;

/// One request and what is to be made of its answer.
pub(crate) struct Deed {
    pub(crate) server: String,
    pub(crate) calm: bool,
    pub(crate) method: &'static str,
    pub(crate) params: String,
    pub(crate) nonce: Option<String>,
    /// Whether the time of its answer says something.
    pub(crate) prompt: bool,
}

enum Caller {
    Session(Arc<Client>),
    Stateless(Arc<Modern>),
    Pair(Arc<Mutex<Pair>>),
}

/// A client whose stream ends with the daemon, so that it begins anew with the next one.
struct Pair {
    client: SseClient,
    /// Daemons that were killed before.
    kills: usize,
}

/// What came back, and how long that took.
pub(crate) struct Answered {
    pub(crate) who: &'static str,
    pub(crate) deed: Deed,
    pub(crate) id: Option<u64>,
    pub(crate) messages: Vec<String>,
    /// It was asked of a daemon that was killed.
    pub(crate) lost: bool,
    pub(crate) took: Duration,
}

/// Asks for the time of the plan, waits for all answers, and returns the account.
pub(crate) async fn drive(stage: &Arc<Stage>, plan: &Plan) -> Account {
    let url = stage.daemon.url.clone();
    let mut dice = fastrand::Rng::with_seed(plan.seed);
    let mut account = Account::default();
    let mut sessions = Vec::new();
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26", "2025-11-25"] {
        sessions.push(Arc::new(Client::connect(&url, revision).await));
    }
    let stateless = Arc::new(Modern::new(&url));
    let pair = Arc::new(Mutex::new(Pair::begin(stage).await));
    let mut standing = Vec::new();

    let mut open: JoinSet<Answered> = JoinSet::new();
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(plan.rate).expect("a rate"));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let until = Instant::now() + plan.time;
    let mut number = 0_u64;
    while Instant::now() < until {
        tick.tick().await;
        while let Some(ended) = open.try_join_next() {
            account.take(ended);
        }
        if open.len() > OPEN_MAX {
            account.complaints.push(format!("{OPEN_MAX} requests are open at once"));
            break;
        }
        // The operator kills no daemon any more.
        if standing.is_empty() && stage.kills() > 0 && until - Instant::now() < plan.time / 2 {
            standing = stand(stage).await;
        }
        number += 1;
        if number.is_multiple_of(SESSION_ENDS_EVERY) {
            let place = dice.usize(..sessions.len());
            let fresh = loop {
                let url = url.clone();
                let begun = stage.survive(async move { Client::connect(&url, "2025-11-25").await });
                if let Some(fresh) = begun.await {
                    break Arc::new(fresh);
                }
            };
            let old = std::mem::replace(&mut sessions[place], fresh);
            // Its running calls end with it; so it leaves once they are over.
            open.spawn(leave(Arc::clone(stage), old));
        }
        let mut deed = Deed::draw(&mut dice, stage, number);
        let caller = match dice.u8(..10) {
            0..5 => Caller::Session(Arc::clone(&sessions[dice.usize(..sessions.len())])),
            5..9 => Caller::Stateless(Arc::clone(&stateless)),
            _ => Caller::Pair(Arc::clone(&pair)),
        };
        let gives_up = (dice.u8(..12) == 0).then(|| Duration::from_millis(dice.u64(1..300)));
        // Whoever means to cancel stays until it has.
        deed.prompt &= gives_up.is_none();
        *account.asked.entry(format!("{} {}", caller.who(), deed.method)).or_default() += 1;
        open.spawn(ask(Arc::clone(stage), caller, deed, number, gives_up));
    }
    while let Some(ended) = open.join_next().await {
        account.take(ended);
    }
    for (what, task) in standing {
        if task.is_finished() {
            let why = task.await.map_or_else(|panic| panic.to_string(), |()| "it ended".to_owned());
            account.complaints.push(format!("{what} did not stand: {why}"));
        } else {
            task.abort();
        }
    }
    for session in sessions {
        session.delete().await;
    }
    account
}

/// Streams that are open all the time, and must stay so.
async fn stand(stage: &Stage) -> Vec<(&'static str, tokio::task::JoinHandle<()>)> {
    let url = stage.daemon.url.clone();
    let session = Client::connect(&url, "2025-11-25").await;
    for server in &stage.servers {
        if !server.name.ends_with("new") {
            session.ask("resources/subscribe", &format!(r#"{{"uri":"fake://{}/text"}}"#, server.name)).await;
        }
    }
    let mut events = session.listen(None).await.events();
    let legacy = tokio::spawn(async move {
        let _session = session;
        while events.next_whenever().await.is_some() {}
    });
    let uris: Vec<String> = stage.servers.iter().map(|server| format!("fake://{}/text", server.name)).collect();
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": uris });
    let mut listen = Modern::new(&url).listen(&filter).await;
    let modern = tokio::spawn(async move { while listen.events.next_whenever().await.is_some() {} });
    vec![("the stream of a session", legacy), ("a listen", modern)]
}

async fn leave(stage: Arc<Stage>, session: Arc<Client>) -> Answered {
    let started = Instant::now();
    while Arc::strong_count(&session) > 1 && started.elapsed() < crate::harness::PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = stage.survive(async move { session.delete().await.status });
    if let Some(status) = ended.await {
        assert_eq!(status, 200, "the end of a session");
    }
    let (deed, messages) = (Deed::of("DELETE"), Vec::new());
    Answered { who: "session", deed, id: None, messages, lost: false, took: started.elapsed() }
}

impl Pair {
    async fn begin(stage: &Stage) -> Pair {
        let kills = stage.kills();
        Pair { client: SseClient::connect(&stage.daemon.url.replace("/mcp", "/sse"), "2024-11-05").await, kills }
    }
}

impl Caller {
    fn who(&self) -> &'static str {
        match self {
            Caller::Session(_) => "session",
            Caller::Stateless(_) => "modern",
            Caller::Pair(_) => "pair",
        }
    }
}

/// Does a request. Who gives up takes whatever answer there is then, and may find none; so may who asked a daemon that was
/// killed.
async fn ask(stage: Arc<Stage>, caller: Caller, deed: Deed, number: u64, gives_up: Option<Duration>) -> Answered {
    let (begun, who) = (Instant::now(), caller.who());
    let deed = Arc::new(deed);
    let asked = stage.survive(answers(Arc::clone(&stage), caller, Arc::clone(&deed), number, gives_up)).await;
    let deed = Arc::into_inner(deed).expect("it is over");
    // A stream that its daemon did not end brings what it brought, and no answer.
    let answered = |messages: &[String]| messages.iter().any(|text| text.contains(&format!(r#""id":{number}"#)));
    let asked =
        asked.filter(|(messages, expected, _)| !expected || answered(messages) || !stage.was_killed_since(begun));
    let lost = asked.is_none();
    let (messages, expected, started) = asked.unwrap_or((Vec::new(), false, begun));
    Answered { who, deed, id: expected.then_some(number), messages, lost, took: started.elapsed() }
}

/// What came back, whether an answer has to be among it, and when it was asked.
async fn answers(
    stage: Arc<Stage>,
    caller: Caller,
    deed: Arc<Deed>,
    number: u64,
    gives_up: Option<Duration>,
) -> (Vec<String>, bool, Instant) {
    let mut started = Instant::now();
    let id = number.to_string();
    let (messages, expected) = match caller {
        Caller::Session(client) => {
            if deed.method == "resources/subscribe" {
                client.exchange("resources/unsubscribe", &deed.params).await;
            }
            let asking = client.exchange_as(&id, deed.method, &deed.params);
            let cancelling = async {
                if let Some(after) = gives_up {
                    tokio::time::sleep(after).await;
                    client.notify("notifications/cancelled", &format!(r#"{{"requestId":{id}}}"#)).await;
                }
            };
            // Whoever cancels over this transport still gets an answer: that it was cancelled, if not the result.
            (tokio::join!(asking, cancelling).0, true)
        }
        Caller::Stateless(client) => {
            let asking = client.start(&id, deed.method, &deed.params);
            let whole = async {
                let reply = asking.await;
                if reply.is_stream() {
                    reply.events().rest().await.0.into_iter().map(|event| event.data).collect()
                } else {
                    vec![reply.text().await]
                }
            };
            match gives_up {
                None => (whole.await, true),
                // Leaving is cancelling.
                Some(after) => match tokio::time::timeout(after, whole).await {
                    Ok(messages) => (messages, true),
                    Err(_) => (Vec::new(), false),
                },
            }
        }
        Caller::Pair(client) => {
            let mut pair = client.lock().await;
            if pair.kills != stage.kills() {
                *pair = Pair::begin(&stage).await;
            }
            let client = &mut pair.client;
            started = Instant::now();
            client.send(&request(&id, deed.method, &deed.params)).await;
            let answer = client.answer(&id).await;
            client.others.clear();
            (vec![answer], true)
        }
    };
    (messages, expected, started)
}

impl Deed {
    fn of(method: &'static str) -> Deed {
        let (server, params) = (String::new(), "{}".to_owned());
        Deed { server, calm: false, method, params, nonce: None, prompt: false }
    }

    fn draw(dice: &mut fastrand::Rng, stage: &Stage, number: u64) -> Deed {
        let target = &stage.servers[dice.usize(..stage.servers.len())];
        let mut deed = Deed { server: target.name.to_owned(), calm: target.calm, ..Deed::of("tools/call") };
        let call = |tool: &str, arguments: &str| {
            let token = format!(r#""_meta":{{"progressToken":{number}}}"#);
            format!(r#"{{"name":"{}__{tool}","arguments":{arguments},{token}}}"#, target.name)
        };
        match dice.u8(..20) {
            0..6 => {
                deed.params = call("echo", &format!(r#"{{"message":"m{number}"}}"#));
                deed.prompt = true;
            }
            6..9 => deed.params = call("effect", &format!(r#"{{"nonce":"n{number}","ms":{}}}"#, dice.u64(..50))),
            9 => deed.params = call("size", &format!(r#"{{"bytes":{}}}"#, dice.u64(..200_000))),
            10 => deed.params = call("sleep", &format!(r#"{{"ms":{}}}"#, dice.u64(..1500))),
            11 => deed.params = call("progress", r#"{"steps":5,"ms":40}"#),
            12 => deed.params = call("log", r#"{"level":"warning","data":"soak"}"#),
            13 => deed.params = call("touch", &format!(r#"{{"uri":"fake://{}/text"}}"#, target.name)),
            14 => deed = Deed { method: "tools/list", params: "{}".to_owned(), ..deed },
            15 => deed = Deed { method: "resources/list", params: "{}".to_owned(), ..deed },
            16..18 => {
                let uri = format!(r#"{{"uri":"fake://{}/text"}}"#, target.name);
                deed = Deed { method: "resources/read", params: uri, ..deed };
                deed.prompt = true;
            }
            18 => deed = Deed { method: "prompts/list", params: "{}".to_owned(), ..deed },
            _ => deed = Deed { method: "resources/templates/list", params: "{}".to_owned(), ..deed },
        }
        if deed.params.contains("__effect") {
            deed.nonce = Some(format!("n{number}"));
        }
        deed
    }
}
