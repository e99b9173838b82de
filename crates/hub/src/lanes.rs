//! Whose lane a caller uses, where a server has several (mcp-protocol 6.2). How many there are, and what becomes of them,
//! is `upstream`'s.
//!
//! * `session`: a legacy session has one of its own, which ends with it. A modern client has no sessions: what it calls
//!   itself, what it can be asked and whose token it shows tell it from others.
//! * `project`: a profile that names directories says which project its clients work on, whatever they say themselves. Else
//!   a legacy client is asked for its roots, once, on the stream of its first call, and again when it says that they have
//!   changed. Else the profile's name tells, and clients of no profile share one lane.
//!
//! Clients with different tokens never share a lane (mcp-protocol 6.11), and one whose token is limited is not asked for
//! roots: it reaches what the configuration says. Nor does any client name directories beyond those of a server that has
//! `roots` of its own (S-34). What is not known when it cannot be asked, since
//! nothing but a call has a stream to ask on, is [`known`] to be nothing.

use std::sync::Arc;

use tokio::time::timeout;
use trunkline_config::Sharing;
use trunkline_telemetry::redact;
use trunkline_upstream::{CallerFacts, LaneKey, Upstream};
use trunkline_wire::{Json, Method, Object, ServerName};

use crate::asking::Leg;
use crate::client::Caller;
use crate::limits::{ROOT_BYTES_MAX, ROOTS_MAX, ROOTS_WAIT};
use crate::replay::Outbox;
use crate::session::Session;
use crate::{Hub, View};

/// A server, and on which of its lanes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) server: ServerName,
    pub(crate) lane: LaneKey,
}

/// What a caller brings to a lane.
type Seat = (LaneKey, Arc<[String]>);

/// Says whose lane the caller uses. `ask_on`: the stream of his call, if he can be asked there. To be called where the
/// server has lanes; for others it is [`LaneKey::Common`] in any case.
pub(crate) async fn seat(
    hub: &Hub,
    upstream: &Upstream,
    view: &View,
    caller: &Caller,
    ask_on: Option<&Arc<Outbox>>,
    facts: &mut CallerFacts,
) {
    if let (Caller::Legacy(session), Some(outbox)) = (caller, ask_on)
        && is_to_be_asked(hub, upstream.sharing(), view, session)
        && !hub.views().limits(view)
    {
        let roots = session.roots();
        roots.get_or_init(|| ask(session, outbox)).await;
    }
    sit(hub, upstream, view, caller, facts);
}

/// The same by what is known of him now.
pub(crate) fn sit(hub: &Hub, upstream: &Upstream, view: &View, caller: &Caller, facts: &mut CallerFacts) {
    (facts.lane, facts.roots) = known(hub, upstream, view, caller);
    if hub.views().limits(view) {
        // Nor does a server on a lane of his ask him for directories.
        facts.declared = Arc::new(facts.declared.without_roots());
    }
}

/// The lane of a caller by what is known of him now.
pub(crate) fn known(hub: &Hub, upstream: &Upstream, view: &View, caller: &Caller) -> Seat {
    let sharing = upstream.sharing();
    let none = || Arc::from([]);
    // A token that is limited does not choose directories of this machine for the programs it reaches.
    let is_limited = sharing != Sharing::Shared && hub.views().limits(view);
    let own = |session: &Session| {
        let roots = if is_limited { none() } else { session.known_roots() };
        let config = upstream.config();
        if roots.iter().all(|root| config.declared.bounds(root)) {
            return roots;
        }
        roots.iter().filter(|root| config.declared.bounds(root)).cloned().collect()
    };
    match (sharing, caller) {
        (Sharing::Shared, _) => (LaneKey::Common, none()),
        (Sharing::Session, Caller::Legacy(session)) => (LaneKey::Session(session.number()), own(session)),
        (Sharing::Session, Caller::Modern(client)) => {
            let name = client.name();
            let abilities = String::from_utf8_lossy(client.abilities.declaration().as_bytes());
            let whole = format!("{name}\0{}\0{abilities}", client.owner.as_deref().unwrap_or_default());
            (LaneKey::Client(whole.into()), none())
        }
        (Sharing::Project, caller) => {
            let owner = caller.token();
            if let Some(roots) = hub.rules().roots_of(view) {
                return (LaneKey::Roots(owner, roots), none());
            }
            let roots = if let Caller::Legacy(session) = caller { own(session) } else { none() };
            let lane = match view.profile() {
                _ if !roots.is_empty() => LaneKey::Roots(owner, roots),
                Some(profile) => LaneKey::Profile(owner, profile.into()),
                None if owner.is_some() => LaneKey::Profile(owner, "".into()),
                None => LaneKey::Common,
            };
            (lane, none())
        }
    }
}

/// Whether the lane of this key is that of a session.
pub(crate) fn is_of(hub: &Hub, upstream: &Upstream, session: &Arc<Session>, lane: &LaneKey) -> bool {
    known(hub, upstream, session.view(), &Caller::Legacy(Arc::clone(session))).0 == *lane
}

/// Whether it matters what the client's roots are, and it has some.
fn is_to_be_asked(hub: &Hub, sharing: Sharing, view: &View, session: &Session) -> bool {
    let matters = match sharing {
        Sharing::Shared => false,
        Sharing::Session => true,
        Sharing::Project => hub.rules().roots_of(view).is_none(),
    };
    matters && session.abilities().roots()
}

/// Asks a client for its roots. One that does not answer has none.
async fn ask(session: &Arc<Session>, outbox: &Arc<Outbox>) -> Arc<[String]> {
    let leg = Leg::put(session, outbox, &Method::RootsList, &Object::new());
    match timeout(ROOTS_WAIT, leg).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(_)) => Arc::from([]),
        Err(_elapsed) => {
            tracing::info!(client = %session.label(), "does not say what directories it works in; it counts as having none");
            Arc::from([])
        }
    }
}

/// The directories in an answer, each once. What is no `file://` URI means nothing to a server on this machine.
fn read(answer: &Json) -> Arc<[String]> {
    let list = Object::parse(answer).ok().and_then(|answer| answer.get("roots").cloned());
    let list: Vec<serde_json::Value> = list.and_then(|list| list.decode().ok()).unwrap_or_default();
    let mut roots: Vec<String> = Vec::new();
    for uri in list.iter().filter_map(|root| root.get("uri")?.as_str()).take(ROOTS_MAX) {
        let fine = uri.starts_with("file://") && uri.len() <= ROOT_BYTES_MAX && !roots.iter().any(|root| root == uri);
        if fine && redact::printable(uri, ROOT_BYTES_MAX) == uri {
            roots.push(uri.to_owned());
        }
    }
    roots.into()
}

#[cfg(test)]
mod tests;
