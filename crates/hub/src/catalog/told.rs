//! [`Told`]: what of the lists clients may not have heard of.
//!
//! A session that comes back, after a restart or after it gave way, was not there when changes were announced, and its
//! client shows what it listed long ago. So the hub remembers when each list was last announced, by this process or, perhaps
//! to nobody, by the one before; a list that differs from what that one announced last counts as changed now. A session that
//! is taken up again is told of what changed since it began (R-23). Told once too often, a client lists once more; a change
//! that it never hears of stays hidden until it is started anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use trunkline_config::StateDir;
use trunkline_telemetry::{Metrics, Saver};

use super::views::{View, Views};
use super::{Catalog, List};
use crate::wall;

const FILE: &str = "lists.json";

/// Four digests and their names take a quarter of a kibibyte for each view, of which there are some three hundred at most.
const FILE_BYTES_MAX: usize = 128 * 1024;

/// Servers that come up one after another change the lists as often.
const QUIET: Duration = Duration::from_secs(1);

/// Which lists changed while a client may have been away.
#[derive(Debug)]
pub(crate) struct Told {
    /// As the process before announced them, or found to differ at the start.
    earlier: BTreeMap<View, Times>,
    announced: Arc<Mutex<Announced>>,
    saver: Option<Saver>,
}

/// When each kind of list was announced last, in seconds of the Unix age, in the order of [`List::NOTICES`].
type Times = [Option<u64>; List::NOTICES.len()];

/// What the next process is to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Announced {
    #[serde(flatten)]
    whole: Record,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    profiles: BTreeMap<Box<str>, Record>,
    /// Of limited tokens, by name; the rest is by address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limited: BTreeMap<Box<str>, Open>,
}

/// What one holder sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Open {
    whole: Option<Record>,
    profiles: BTreeMap<Box<str>, Record>,
}

/// Of one view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// The lists as they were announced last.
    #[serde(flatten)]
    lists: Digests,
    /// When this process did; what it knows from the one before is not handed on.
    at: Times,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Digests {
    tools: String,
    prompts: String,
    resources: String,
    templates: String,
}

impl Told {
    /// As the process before this one left it in `dir`, whose clients know no more than that; `first` is what this one
    /// begins with.
    pub(crate) fn since(dir: Option<&StateDir>, first: &Views, metrics: Metrics) -> Self {
        let mut fresh = Announced::default();
        for (view, catalog) in first.each() {
            *fresh.of_mut(&view) = Record { lists: Digests::of(catalog), at: Times::default() };
        }
        let announced = Arc::new(Mutex::new(fresh));
        let Some(dir) = dir else { return Self { earlier: BTreeMap::new(), announced, saver: None } };
        let before = dir.load(FILE, FILE_BYTES_MAX, |bytes| serde_json::from_slice::<Announced>(bytes).ok());
        let before = before.unwrap_or_else(|unusable| {
            tracing::warn!("{unusable}; clients that come back are not told of lists that changed meanwhile");
            None
        });
        let earlier = before.as_ref().map_or_else(BTreeMap::new, |before| {
            let fresh = lock(&announced);
            let pairs = first.each().filter_map(|(view, _)| {
                let (before, fresh) = (before.of(&view)?, fresh.of(&view)?);
                let times = noted(before.at, before.lists.differing(&fresh.lists), wall::now());
                Some((view, times))
            });
            pairs.collect()
        });
        let (dir, shared) = (dir.clone(), Arc::clone(&announced));
        let write = move || {
            let text = serde_json::to_vec(&*lock(&shared)).map_err(std::io::Error::other)?;
            dir.write(FILE, &text)
        };
        let saver = Saver::new("lists", QUIET, metrics, write);
        if before.as_ref() != Some(&*lock(&announced)) {
            saver.changed();
        }
        Self { earlier, announced, saver: Some(saver) }
    }

    /// These lists of `now`, which is what the view shows, are announced to all who are here.
    pub(crate) fn announced(&self, view: &View, lists: &[List], now: &Catalog) {
        let bits = lists.iter().fold(0, |bits, list| bits | list.bit());
        let digests = Digests::of(now);
        {
            let mut announced = lock(&self.announced);
            let record = announced.of_mut(view);
            *record = Record { lists: digests, at: noted(record.at, bits, wall::now()) };
        }
        if let Some(saver) = &self.saver {
            saver.changed();
        }
    }

    /// What whoever comes back to this view is to be told who began at `born`, in seconds of the Unix age.
    pub(crate) fn since_birth(&self, view: &View, born: u64) -> Vec<List> {
        let own = lock(&self.announced).of(view).map(|record| record.at).unwrap_or_default();
        let earlier = self.earlier.get(view).or_else(|| self.earlier.get(&view.of_anybody()));
        let earlier = earlier.copied().unwrap_or_default();
        let times = own.into_iter().zip(earlier).map(|(own, earlier)| own.max(earlier));
        let newer = |(list, at): (List, Option<u64>)| at.is_some_and(|at| at >= born).then_some(list);
        List::NOTICES.into_iter().zip(times).filter_map(newer).collect()
    }
}

impl Announced {
    /// The record of a view: of a token that is not limited, or was not, it is everybody's.
    fn of(&self, view: &View) -> Option<&Record> {
        if let Some(open) = view.holder().and_then(|holder| self.limited.get(holder)) {
            return view.profile().map_or(open.whole.as_ref(), |profile| open.profiles.get(profile));
        }
        view.profile().map_or(Some(&self.whole), |profile| self.profiles.get(profile))
    }

    fn of_mut(&mut self, view: &View) -> &mut Record {
        let open = view.holder().map(|holder| self.limited.entry(holder.into()).or_default());
        match (open, view.profile()) {
            (Some(open), None) => open.whole.get_or_insert_default(),
            (Some(open), Some(profile)) => open.profiles.entry(profile.into()).or_default(),
            (None, None) => &mut self.whole,
            (None, Some(profile)) => self.profiles.entry(profile.into()).or_default(),
        }
    }
}

/// The times with those of the lists in `bits` set to `now`.
fn noted(mut times: Times, bits: u8, now: u64) -> Times {
    for (list, at) in List::NOTICES.into_iter().zip(&mut times) {
        if bits & list.bit() != 0 {
            *at = Some(now);
        }
    }
    times
}

impl Digests {
    fn of(catalog: &Catalog) -> Self {
        let [tools, prompts, resources, templates] = List::ALL.map(|list| URL_SAFE_NO_PAD.encode(catalog.digest(list)));
        Self { tools, prompts, resources, templates }
    }

    fn differing(&self, other: &Self) -> u8 {
        let differs = |ours: &str, others: &str, list: List| if ours == others { 0 } else { list.bit() };
        differs(&self.tools, &other.tools, List::Tools)
            | differs(&self.prompts, &other.prompts, List::Prompts)
            | differs(&self.resources, &other.resources, List::Resources)
            | differs(&self.templates, &other.templates, List::Templates)
    }
}

fn lock(announced: &Mutex<Announced>) -> MutexGuard<'_, Announced> {
    announced.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::build::{Shape, of_offers};
    use crate::fakes::{entries, server, source};
    use trunkline_upstream::Offer;

    fn views(tool: &str, prompt: &str) -> Views {
        let offer = Offer {
            tools: entries("name", &[&format!(r#"{{"name":"{tool}","inputSchema":{{"type":"object"}}}}"#)]),
            prompts: entries("name", &[&format!(r#"{{"name":"{prompt}"}}"#)]),
            ..Offer::default()
        };
        Views::holding(of_offers(
            1,
            &[source("git", server(), offer)],
            Shape { name_chars: 48, page_size: None, bare_names: false, own_tools: false },
        ))
    }

    async fn begin(dir: &StateDir, first: &Views) -> Told {
        let told = Told::since(Some(dir), first, Metrics::new());
        if let Some(saver) = &told.saver {
            assert!(saver.settled().await);
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn r23_what_changed_since_the_process_before_is_known_by_its_kind() {
        let made = tempfile::tempdir().expect("a temporary directory");
        let dir = StateDir::open(made.path().join("state")).expect("our own");
        let now = wall::now();
        let told = async |tool, prompt| begin(&dir, &views(tool, prompt)).await;
        assert!(told("a", "p").await.since_birth(&View::WHOLE, 0).is_empty(), "nobody was told of anything before");
        assert!(told("a", "p").await.since_birth(&View::WHOLE, 0).is_empty());
        let other = told("b", "p").await;
        assert_eq!(other.since_birth(&View::WHOLE, now), [List::Tools]);
        assert!(other.since_birth(&View::WHOLE, now + 60).is_empty(), "who began since has seen it");
        // What this process announces its clients may have missed: the next one knows of it, and the one after that not.
        other.announced(&View::WHOLE, &[List::Prompts], views("b", "q").whole());
        assert_eq!(other.since_birth(&View::WHOLE, now), [List::Tools, List::Prompts]);
        assert!(other.saver.expect("a file").settled().await);
        let next = told("b", "q").await;
        assert_eq!(next.since_birth(&View::WHOLE, now), [List::Prompts]);
        assert!(next.since_birth(&View::WHOLE, now + 60).is_empty());
        assert!(told("b", "q").await.since_birth(&View::WHOLE, 0).is_empty());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_tells_of_nothing() {
        let made = tempfile::tempdir().expect("a temporary directory");
        let dir = StateDir::open(made.path().join("state")).expect("our own");
        std::fs::write(made.path().join("state").join(FILE), "spoilt").expect("written");
        assert!(begin(&dir, &views("a", "p")).await.since_birth(&View::WHOLE, 0).is_empty());
        assert_eq!(begin(&dir, &views("b", "p")).await.since_birth(&View::WHOLE, 0), [List::Tools]);
    }
}
