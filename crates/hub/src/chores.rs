//! What the hub does unasked: it passes on what servers say that belongs to no call, and clears up what nobody came for.
//! Both tasks end with the hub.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::time::Instant;
use trunkline_upstream::{LaneKey, ServerNotice};
use trunkline_wire::{Object, Pressure};

use crate::lanes::{self, Source};
use crate::limits::{REPLAY_AGE_MAX, REPLAY_AGE_PRESSED, SWEEP_EVERY};
use crate::{Hub, logging, subscriptions, wall};

/// Passes on what servers say that belongs to no call.
pub(crate) async fn pass_on(hub: Weak<Hub>, mut notices: mpsc::Receiver<ServerNotice>) {
    while let Some(notice) = notices.recv().await {
        let Some(hub) = hub.upgrade() else { return };
        match notice {
            ServerNotice::ResourceUpdated { server, lane, uri, params } => {
                hub.note_resource(&uri, &server);
                subscriptions::updated(&hub, &Source { server, lane }, &uri, &params);
            }
            ServerNotice::ElicitationComplete { server: _, params } => {
                let id = Object::parse(&params).ok().and_then(|params| params.get_str("elicitationId"));
                if let Some(id) = id {
                    hub.each_session(|session| session.visited(&id, &params));
                }
            }
            // Whose call it is about nobody knows: where several may have called, none hears it (S-11).
            ServerNotice::LogMessage { lane: LaneKey::Common, .. } if hub.rules().several_owners => {}
            ServerNotice::LogMessage { server, lane, level, params } => {
                let (Some(level), Ok(params)) = (level, Object::parse(&params)) else { continue };
                let Some(upstream) = hub.fleet().get(server.as_str()) else { continue };
                let message = logging::named(params, &server);
                let views = hub.views();
                hub.each_session(|session| {
                    if views.of(session.view()).has(&server) && lanes::is_of(&hub, &upstream, session, &lane) {
                        session.log(level, &message);
                    }
                });
            }
        }
    }
}

/// Clears up what nobody asked for in time.
pub(crate) async fn sweep(hub: Weak<Hub>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(hub) = hub.upgrade() else { return };
        let (now, wall, every) = (Instant::now(), wall::now(), hub.uses_noted_every());
        // What is kept for a client that may come back is what can be spared first.
        let spare = hub.budget.pressure() >= Pressure::Shrink;
        let replay_age = if spare { REPLAY_AGE_PRESSED } else { REPLAY_AGE_MAX };
        let mut expired = Vec::new();
        for entry in &hub.sessions {
            let session = entry.value();
            session.sweep(now, replay_age);
            if session.is_forsaken(now, hub.rules().limits.session_idle) {
                expired.push(Arc::clone(session));
            } else if let Some(used) = session.use_to_note(every, now, wall)
                && let Some(nonce) = session.nonce()
            {
                hub.records().change(nonce, |record| record.used = used);
            }
        }
        for session in expired {
            hub.expire(&session);
        }
        hub.records().prune(wall, hub.id_lifetime());
        logging::settle(&hub, now);
        hub.metrics.replay_bytes(hub.replay.used());
    }
}
