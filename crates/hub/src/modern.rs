//! Requests of modern clients (mcp-protocol 3.4 from step 7, 3.6, 3.7).
//!
//! There is no session: each request says all that must be known of its client, and is worked on by itself. What
//! the gateway can say at once is one message. What a server must be asked is an [`Exchange`]: one message if the
//! answer comes first and soon, else a stream of notices that ends with the answer. Nothing of it is kept, and
//! whoever drops it gives the request up, which the server is told (R-44, G-29).
//!
//! Results are the servers' own, dressed by `stamp.rs`. An error that says something of the gateway itself has its code
//! told apart from the message, for a transport that has statuses; a server's error never does: a 404 for its -32601
//! would say that the gateway lacks the method.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, timeout};
use trunkline_wire::{Id, Json, Method, Object, Request, Response, Revision, Text, code, key};

use crate::call::{self, Errand, Listener};
use crate::client::{Caller, ModernClient};
use crate::envelope::Envelope;
use crate::limits::{COMMIT_AFTER, LIST_FRESH};
use crate::meta::Params;
use crate::replay::{Event, First, Outbox, Reader};
use crate::stamp::{self, Caching};
use crate::{Guest, Hub, Reply, View, Wants, dispatch, listen, logging, refusal, tasks};

/// Answers a request of a modern client.
pub(crate) async fn request(hub: &Arc<Hub>, envelope: Envelope, request: Request, wants: Wants) -> Reply {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not named here no modern client may ask")]
    let answered = match request.method {
        Method::Discover => {
            hub.met(&envelope);
            Ok(own(hub, &envelope.view, &request.id, &discover(hub, &envelope.view)))
        }
        Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourcesTemplatesList => {
            hub.met(&envelope);
            list(hub, &envelope, &request).await
        }
        Method::SubscriptionsListen => listen::open(hub, &envelope, &request),
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel if !envelope.abilities.tasks() => {
            return tasks::undeclared(&request, request.method.as_str());
        }
        Method::ToolsCall
        | Method::PromptsGet
        | Method::ResourcesRead
        | Method::CompletionComplete
        | Method::TasksGet
        | Method::TasksUpdate
        | Method::TasksCancel => relayed(hub, envelope, &request, wants).await,
        _ => {
            return Reply::Error { code: code::METHOD_NOT_FOUND, message: dispatch::unknown_method(&request).into() };
        }
    };
    answered.unwrap_or_else(|error| Reply::One(Response::error(Some(request.id), error).text()))
}

/// What the gateway can do, whichever servers are up.
const CAPABILITIES: &str = concat!(
    r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"#,
    r#""resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}}"#
);

/// The result of `server/discover` (mcp-protocol 3.7), but for what every result has.
fn discover(hub: &Hub, view: &View) -> Json {
    let catalog = hub.view(view);
    let mut capabilities = Object::parse(&Json::literal(CAPABILITIES)).expect("an object");
    if !catalog.extensions.is_empty() {
        capabilities.set("extensions", catalog.extensions.to_json());
    }
    let members = [
        ("supportedVersions", Json::encode(&Revision::MODERN)),
        ("capabilities", capabilities.to_json()),
        ("instructions", catalog.instructions.clone()),
    ];
    members.into_iter().collect::<Object>().to_json()
}

/// A list, from the catalogue; waits only for servers that were never seen before (R-3).
async fn list(hub: &Hub, envelope: &Envelope, request: &Request) -> Result<Reply, Json> {
    let until = || Instant::now() + hub.rules().limits.first_list_wait;
    let page = dispatch::list(hub, request, Revision::V2026_07_28, envelope.guest(), until).await?;
    Ok(own(hub, &envelope.view, &request.id, &page))
}

/// What the gateway says of itself, or lists.
fn own(hub: &Hub, view: &View, id: &Id, result: &Json) -> Reply {
    Reply::One(stamp::stamp_own(id, result, fresh_ms(hub, view)))
}

/// For how long it stays good (mcp-protocol 6.8): not at all while a server is coming up, for then there may be more
/// in a moment.
fn fresh_ms(hub: &Hub, view: &View) -> u64 {
    let coming = |state: &'static str| matches!(state, "starting" | "handshake" | "backoff" | "open" | "suspect");
    let catalog = hub.view(view);
    let any_coming = catalog
        .servers
        .iter()
        .filter(|upstream| upstream.config().enabled)
        .any(|upstream| coming(upstream.states().borrow().state));
    if any_coming { 0 } else { u64::try_from(LIST_FRESH.as_millis()).unwrap_or(u64::MAX) }
}

/// Asks the server that the request is for. Fails with what is wrong with the request.
async fn relayed(hub: &Arc<Hub>, envelope: Envelope, request: &Request, wants: Wants) -> Result<Reply, Json> {
    let Request { id, method, .. } = request;
    if hub.is_draining() {
        return Ok(dressed(hub, method, id, hub.dress(method, &refusal::shutting_down())).reply());
    }
    let level = envelope.level()?;
    check_token(envelope.params())?;
    let (name, abilities) = (envelope.name.clone(), Arc::new(envelope.abilities.clone()));
    let owner = envelope.owner.clone();
    let (view, params) = (envelope.view.clone(), envelope.into_params());
    let guest = Guest { owner: owner.as_deref(), view: &view };
    if let Some(catalog) = call::to_be_read(hub, request, &view) {
        Box::pin(catalog.indexed()).await;
    }
    let errand = match call::aim_at(hub, method, params, Revision::V2026_07_28, guest) {
        Ok(errand) => errand,
        Err(outcome) => return Ok(dressed(hub, method, id, outcome).reply()),
    };
    let number = hub.next_caller();
    let label = format!("{name}#{}", number.0).into();
    let client = ModernClient { id: number, label, owner, abilities, level };
    let outbox = Arc::new(Outbox::unnumbered(id.clone(), hub.purse(), wants.sse));
    // It is asked by a result, for which any form of answer will do.
    let listener = Listener { caller: Caller::Modern(Arc::new(client)), outbox: Arc::clone(&outbox), streams: true };
    let raised = level.map(|level| logging::Raised::by(hub, errand.upstream().name(), level));
    let work = work(Arc::clone(hub), errand, listener, method.clone(), raised);
    let mut exchange = Exchange { work: Some(work.boxed()), outbox, code: None };
    let first = if wants.sse {
        timeout(COMMIT_AFTER, exchange.first()).await.unwrap_or(First::Notice)
    } else {
        exchange.first().await
    };
    Ok(match first {
        First::Answer(text) => Answer { text, code: exchange.code }.reply(),
        First::Notice => Reply::Events(exchange.into_events().boxed()),
    })
}

/// Carries the errand out, up to the answer; a panic is one too (R-6).
/// `_raised` lasts as long.
async fn work(
    hub: Arc<Hub>,
    errand: Errand,
    listener: Listener,
    method: Method,
    _raised: Option<logging::Raised>,
) -> Answer {
    let id = listener.outbox.request().clone();
    let run = AssertUnwindSafe(call::run(&hub, errand, Some(listener))).catch_unwind();
    let outcome = run.await.unwrap_or_else(|_| Err(dispatch::failed()));
    dressed(&hub, &method, &id, outcome)
}

/// A progress token of a type that no answer could carry back is refused (mcp-protocol 3.4 step 8).
fn check_token(params: &Params) -> Result<(), Json> {
    let fine = |token: &Json| Id::new(token.clone()).is_ok();
    if params.meta.get(key::PROGRESS_TOKEN).is_none_or(fine) {
        return Ok(());
    }
    Err(refusal::invalid_params("`_meta.progressToken` is neither a string nor an integer"))
}

/// An answer, and its code if it is an error that concerns the gateway.
struct Answer {
    text: Text,
    code: Option<i64>,
}

impl Answer {
    fn reply(self) -> Reply {
        match self.code {
            None => Reply::One(self.text),
            Some(code) => Reply::Error { code, message: self.text },
        }
    }
}

/// Dresses an outcome, whosever it is, as a modern client may read it.
fn dressed(hub: &Hub, method: &Method, id: &Id, outcome: Result<Json, Json>) -> Answer {
    let caching = if *method == Method::ResourcesRead { Caching::AsSaid } else { Caching::Never };
    let stamped = |result: &Json| stamp::stamp(id, result, caching);
    let failed = |error: Json| {
        // What a server lacks of its client is lacking here too (mcp-protocol 2.4).
        let code = code_of(&error).filter(|code| *code == code::MISSING_CLIENT_CAPABILITY);
        Answer { text: Response::error(Some(id.clone()), error).text(), code }
    };
    match outcome {
        Ok(result) => match stamped(&result) {
            Some(text) => Answer { text, code: None },
            None => match hub.dress(method, &refusal::unreadable(method)) {
                Ok(fault) => Answer { text: stamped(&fault).unwrap_or_default(), code: None },
                Err(error) => failed(error),
            },
        },
        Err(error) => failed(error),
    }
}

fn code_of(error: &Json) -> Option<i64> {
    Object::parse(error).ok()?.get("code")?.decode().ok()
}

/// A request that a server is asked. Whoever holds it drives it; dropping it gives the request up.
struct Exchange {
    work: Option<BoxFuture<'static, Answer>>,
    outbox: Arc<Outbox>,
    /// Of the answer, once it is there.
    code: Option<i64>,
}

impl Exchange {
    /// Waits for what the request comes to first.
    async fn first(&mut self) -> First {
        std::future::poll_fn(|context| {
            // Nobody else reads yet, and what the work brings is looked for right behind it.
            self.outbox.hush();
            self.go_on(context);
            self.outbox.poll_first(context)
        })
        .await
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let Some(work) = &mut self.work else { return };
        if let Poll::Ready(Answer { text, code }) = work.as_mut().poll(context) {
            self.work = None;
            self.code = code;
            self.outbox.answer(text);
        }
    }

    fn into_events(self) -> ExchangeEvents {
        ExchangeEvents { reader: self.outbox.reader(), exchange: self }
    }
}

/// The stream of an exchange: notices, then the answer.
struct ExchangeEvents {
    exchange: Exchange,
    reader: Reader,
}

impl Stream for ExchangeEvents {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        this.exchange.go_on(context);
        this.exchange.outbox.poll_event(&mut this.reader, context)
    }
}
