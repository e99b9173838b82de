//! What the modules of this crate see of the [`Hub`]: its parts, one accessor each, and what is looked up in several of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use trunkline_telemetry::Metrics;
use trunkline_upstream::CallerId;
use trunkline_wire::{Budget, Fault, Json, Method, Revision, ServerName};

use crate::catalog::told::Told;
use crate::catalog::views::Views;
use crate::gates::Gates;
use crate::limits::{REPLAY_STREAM_BYTES_MAX, URI_BYTES_MAX};
use crate::listen::Listens;
use crate::parked::Parks;
use crate::records::Records;
use crate::renewal::Tenures;
use crate::replay::Purse;
use crate::resources::Place;
use crate::rules::Rules;
use crate::seal::{Sealer, Until};
use crate::subscriptions::Interest;
use crate::{Entry, Envelope, Hub, Session, View, logging, refusal, wall};

impl Hub {
    /// How many tool calls there may be.
    pub(crate) fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The calls that wait for a modern client's answers.
    pub(crate) fn parks(&self) -> &Parks {
        &self.parks
    }

    /// Seals what clients carry for the gateway.
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Tells this process from others in what clients carry.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// What has still so long to go.
    pub(crate) fn until(&self, wait: Duration) -> Until {
        let age = (self.began.elapsed() + wait).as_secs();
        Until { process: self.process.clone(), age, wall: wall::now() + wait.as_secs() }
    }

    /// Whether that is over. Of another process the wall clock tells.
    pub(crate) fn is_past(&self, until: &Until) -> bool {
        let own = until.process == self.process;
        if own { until.age < self.began.elapsed().as_secs() } else { until.wall < wall::now() }
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// Notes that a modern client was seen. Calls are too many to note, and whoever calls has listed before.
    pub(crate) fn met(&self, envelope: &Envelope) {
        self.acquaintances.met(&envelope.name, Revision::V2026_07_28, &Arc::new(envelope.abilities.clone()));
        self.acquaintances.met_at(&envelope.name, &envelope.view, envelope.port);
    }

    /// A number for a caller that no other has in this process.
    pub(crate) fn next_caller(&self) -> CallerId {
        CallerId(self.begun.fetch_add(1, Ordering::Relaxed))
    }

    /// What the hub goes by now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(crate) fn tenures(&self) -> &Tenures {
        &self.tenures
    }

    pub(crate) fn listens(&self) -> &Listens {
        &self.listens
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Cancelled when what still runs is to be given up.
    pub(crate) fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }

    /// What the notices of one modern request are charged to until they are read.
    pub(crate) fn purse(&self) -> Purse {
        let session = Budget::new(REPLAY_STREAM_BYTES_MAX);
        Purse { session, replay: self.replay.clone(), whole: self.budget.clone() }
    }

    pub(crate) fn levels(&self) -> MutexGuard<'_, logging::Running> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// The catalogue of each view, at one moment.
    pub(crate) fn views(&self) -> Arc<Views> {
        self.views.borrow().clone()
    }

    pub(crate) fn catalogs(&self) -> watch::Receiver<Arc<Views>> {
        self.views.subscribe()
    }

    /// Builds the catalogues anew and puts them in place of the old ones.
    pub(crate) fn publish(&self) {
        // A reload publishes, too: whoever comes last must have seen the newest servers.
        let _in_turn = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let servers = self.fleet.all();
        let rules = self.rules();
        let version = self.catalog().version + 1;
        let next = Views::build(version, &servers, &rules, &self.pins);
        self.views.send_replace(Arc::new(next));
        self.count_entries();
    }

    /// Shows what of each server is in the catalogue, and what the lists are.
    pub(crate) fn count_entries(&self) {
        let catalog = self.catalog();
        for upstream in self.fleet.all().iter() {
            let count = |entries: &[Entry]| entries.iter().filter(|entry| entry.server() == upstream.name()).count();
            self.metrics.catalog_entries(upstream.name(), "tools", count(catalog.tools()));
            self.metrics.catalog_entries(upstream.name(), "prompts", count(catalog.prompts()));
            self.metrics.catalog_complaints(upstream.name(), catalog.complaints(upstream.name().as_str()).len());
        }
        let lists = self.views().tool_lists();
        self.metrics.tool_lists(
            lists.iter().map(|list| [list.address.as_str(), list.token.as_deref().unwrap_or_default(), &list.digest]),
        );
    }

    pub(crate) fn each_session(&self, mut visit: impl FnMut(&Arc<Session>)) {
        for entry in &self.sessions {
            visit(entry.value());
        }
    }

    /// Where a URI leads, as a client with this view wrote it.
    pub(crate) fn resource(&self, view: &View, uri: &str) -> Option<Place> {
        let views = self.views.borrow();
        let catalog = views.of(view);
        let place = catalog.resources.owner(uri, &self.seen, &catalog.servers)?;
        catalog.may_ask(&place.uri).then_some(place)
    }

    /// Where the URI or template of a completion leads.
    pub(crate) fn reference(&self, view: &View, uri: &str) -> Option<Place> {
        let views = self.views.borrow();
        let catalog = views.of(view);
        let place = catalog.resources.reference(uri, &self.seen, &catalog.servers)?;
        catalog.may_ask(&place.uri).then_some(place)
    }

    /// Remembers whose a URI is that stood in a result.
    pub(crate) fn note_resource(&self, uri: &str, server: &ServerName) {
        if uri.len() <= URI_BYTES_MAX && !self.views.borrow().whole().resources.is_listed(uri) {
            self.seen.note(uri, server);
        }
    }

    /// The outcome of a request of `method` that failed this way.
    pub(crate) fn dress(&self, method: &Method, fault: &Fault) -> Result<Json, Json> {
        refusal::dress(method, fault, self.rules().errors)
    }
}
