//! The tools of a catalogue, found by words (`search`).
//!
//! The index is read when somebody searches a catalogue for the first time: with 2,000 tools that takes a tenth of a second, in which
//! a thread that serves calls would serve nobody. So whoever is about to search has it read on another one ([`Catalog::indexed`]),
//! once for all who wait for it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;
use trunkline_wire::Object;

use super::{Catalog, Entry};
use crate::search::{Document, Index};
use crate::surface::Own;

/// The index, and whose turn it is to read the tools.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    index: OnceLock<Index>,
    turn: Mutex<()>,
}

impl Catalog {
    /// Of the tools that count, those that fit what is asked, the best first. The first search of a catalogue reads all of it, if
    /// nobody did before.
    pub fn find(&self, query: &str, limit: usize, counts: impl Fn(&Entry) -> bool) -> Vec<&Entry> {
        let tools = self.tools();
        self.index().find(query, limit, |at| counts(&tools[at])).into_iter().map(|at| &tools[at]).collect()
    }

    /// Whether a call with these params searches the tools: for some words, or for a name that is like one that is not there.
    pub(crate) fn is_searched_by(&self, params: &Object) -> bool {
        match self.own_tool(params) {
            None => false,
            Some(Own::Find) => true,
            Some(Own::Describe | Own::Call) => {
                let name = params.get_object("arguments").and_then(|said| said.get_str("name"));
                name.is_some_and(|name| self.tools.get(&name).is_none())
            }
        }
    }

    /// Whether somebody has searched these tools before.
    pub(crate) fn is_read(&self) -> bool {
        self.searched.index.get().is_some()
    }

    /// Reads the tools on a thread that may take its time.
    pub(crate) async fn indexed(self: Arc<Self>) {
        let catalog = Arc::clone(&self);
        let _turn = self.searched.turn.lock().await;
        if !self.is_read() {
            // Whoever searches reads them himself where this fails.
            let _ = tokio::task::spawn_blocking(move || _ = catalog.index()).await;
        }
    }

    fn index(&self) -> &Index {
        self.searched.index.get_or_init(|| Index::new(self.tools().iter().map(document)))
    }
}

fn document(tool: &Entry) -> Document<'_> {
    Document { name: &tool.original, server: tool.server().as_str(), body: &tool.body }
}
