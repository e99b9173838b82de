//! Every client revision with every server revision over every transport that there is: what works between them.
//!
//! One daemon, one scriptable server for each revision and transport behind it, one client for each in front. Each
//! pair goes through `features`. What must work, and where and why something cannot, is the rule in `rule.rs`; it
//! is held against what happened, and printed into docs/matrix.md. `MATRIX_WRITE=1` writes that file anew.

mod features;
mod rule;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::Barrier;

use crate::harness::anyone::Anyone;
use crate::harness::daemon::{Daemon, Home, sources};
use crate::harness::fake::{self, Desk, Fake};

use features::{Feature, Outcome};

/// Revision and transport of one side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Side {
    revision: &'static str,
    transport: &'static str,
}

const fn side(revision: &'static str, transport: &'static str) -> Side {
    Side { revision, transport }
}

/// What clients there are. 2024-11-05 had no streamable HTTP, 2026-07-28 has no HTTP+SSE; a client that comes over
/// pipes is none of the daemon's.
const CLIENTS: [Side; 8] = [
    side("2024-11-05", "sse"),
    side("2025-03-26", "http"),
    side("2025-03-26", "sse"),
    side("2025-06-18", "http"),
    side("2025-06-18", "sse"),
    side("2025-11-25", "http"),
    side("2025-11-25", "sse"),
    side("2026-07-28", "http"),
];

const SERVERS: [Side; 13] = [
    side("2024-11-05", "stdio"),
    side("2024-11-05", "sse"),
    side("2025-03-26", "stdio"),
    side("2025-03-26", "http"),
    side("2025-03-26", "sse"),
    side("2025-06-18", "stdio"),
    side("2025-06-18", "http"),
    side("2025-06-18", "sse"),
    side("2025-11-25", "stdio"),
    side("2025-11-25", "http"),
    side("2025-11-25", "sse"),
    side("2026-07-28", "stdio"),
    side("2026-07-28", "http"),
];

/// How long one feature may take: what hangs is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// One server behind the daemon.
struct Server {
    side: Side,
    name: String,
    desk: Desk,
    /// Keeps it alive; one on pipes is the daemon's.
    _fake: Option<Fake>,
}

/// The table: what came of each feature between each client and server.
type Cells = BTreeMap<(Side, Side, Feature), Outcome>;

async fn servers(home: &Home) -> (String, Vec<Server>) {
    let (mut config, mut servers) = (String::new(), Vec::new());
    for side in SERVERS {
        let name = format!("{}{}", side.transport, side.revision.replace('-', ""));
        let args = ["--revision", side.revision];
        let (block, desk, fake) = if side.transport == "stdio" {
            let (block, desk) = fake::stdio(home, &name, &args);
            (block, desk, None)
        } else {
            let fake = Fake::start(side.transport, &name, &args).await;
            (fake.block(), fake.desk(), Some(fake))
        };
        config += &block;
        // What a server may not ask unless the owner lets it.
        config += "sampling = true\nroots = [\"/desk\"]\n";
        servers.push(Server { side, name, desk, _fake: fake });
    }
    (config, servers)
}

/// Runs everything. Each client goes round the servers from a place of its own, and all step at once: no two are at
/// one server at the same time, so that nothing is ambiguous about whose call a server's question belongs to.
async fn run(daemon: &Daemon, servers: &[Server]) -> Cells {
    let barrier = Arc::new(Barrier::new(CLIENTS.len()));
    let tours = CLIENTS.into_iter().enumerate().map(|(place, client)| {
        let barrier = barrier.clone();
        async move {
            let mut cells = Vec::new();
            for step in 0..servers.len() {
                barrier.wait().await;
                let server = &servers[(place + step) % servers.len()];
                let mut anyone = Anyone::connect(&daemon.url, client.revision, client.transport).await;
                for feature in Feature::ALL {
                    if feature.since() > server.side.revision {
                        continue;
                    }
                    let tag = format!("{}{}", client.transport, client.revision.replace('-', ""));
                    let work = features::check(feature, &mut anyone, &server.name, &server.desk, &tag);
                    let work = AssertUnwindSafe(tokio::time::timeout(PATIENCE, work)).catch_unwind();
                    let outcome = match work.await {
                        Ok(Ok(outcome)) => outcome,
                        Ok(Err(_)) => Outcome::Broken("it hangs".into()),
                        Err(panic) => Outcome::Broken(features::text_of_panic(&*panic)),
                    };
                    if matches!(outcome, Outcome::Broken(_)) {
                        // Whatever is left over on the old one shall not spoil the next feature.
                        anyone = Anyone::connect(&daemon.url, client.revision, client.transport).await;
                    }
                    cells.push(((client, server.side, feature), outcome));
                }
            }
            cells
        }
    });
    join_all(tours).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_revisions_works_as_far_as_the_rule_says() {
    let home = Home::new();
    let (config, servers) = servers(&home).await;
    home.configure(&config);
    let daemon = home.serve().await;
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    daemon.until_ready(&names).await;
    let cells = run(&daemon, &servers).await;

    let page = rule::page();
    println!("{page}");
    let wrong: Vec<String> = cells
        .iter()
        .filter(|((client, server, feature), outcome)| !rule::expected(*client, *server, *feature).fits(outcome))
        .map(|((client, server, feature), outcome)| {
            format!(
                "{} over {} with {} over {}: {}: {outcome:?}",
                client.revision,
                client.transport,
                server.revision,
                server.transport,
                feature.name()
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cells are not as the rule says:\n{}",
        wrong.len(),
        cells.len(),
        wrong.join("\n")
    );
    for server in &servers {
        assert_eq!(server.desk.lines("violations"), Vec::<String>::new(), "{}", server.name);
    }

    let file = sources().join("docs/matrix.md");
    if std::env::var_os("MATRIX_WRITE").is_some() {
        std::fs::write(&file, &page).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == page, "docs/matrix.md is not what the rule says; run this test with MATRIX_WRITE=1");
}
