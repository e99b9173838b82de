//! The soak: the real daemon before ten servers over every transport, a mix of clients, and faults at random (F-48,
//! R-46), while somebody changes the file and kills the daemon. What must hold however bad the weather: every request has exactly one answer,
//! no effect happens twice and none is told of falsely, the servers that nobody touches are served as ever by the
//! processes that they had, each file is taken or refused as it deserves, and nothing grows.
//!
//! `make soak MIN=30` runs it long, by the optimised build; as a test of the suite it takes half a minute. The seed is
//! printed and decides who asks what and what goes wrong; when exactly, the machine decides.
//!
//! | variable | meaning | by default |
//! |---|---|---|
//! | `SOAK_SECS` | how long the weather is bad | 20 |
//! | `SOAK_RATE` | requests a second | 50 |
//! | `SOAK_SEED` | the seed | 48 |

#![expect(clippy::disallowed_methods, reason = "stands outside: none of the crates' helpers, and no lint of theirs")]

#[path = "../harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the black-box suite uses the rest")]
mod harness;

mod account;
mod callers;
mod operator;
mod report;
mod stage;
mod storm;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use stage::Stage;

/// What the variables say.
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) rate: u64,
    pub(crate) seed: u64,
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_r46_nothing_breaks_and_nothing_grows_while_servers_fail_at_random() {
    let plan = Plan {
        time: Duration::from_secs(number("SOAK_SECS", 20)),
        rate: number("SOAK_RATE", 50).max(1),
        seed: number("SOAK_SEED", 48),
    };
    // Of a request that is lost with its daemon a line is enough.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    println!("soak: {:?} at {} requests a second, seed {}", plan.time, plan.rate, plan.seed);
    let stage = Arc::new(Stage::start().await);
    let before = watch::Sample::take(&stage).await;
    let watching = watch::Watch::start(&stage);
    let storm = storm::Storm::start(&stage, plan.seed);
    let operator = operator::Operator::start(&stage, &plan);
    let mut account = callers::drive(&stage, &plan).await;
    let reloads = operator.end().await;
    let mut faults = storm.end().await;
    faults.extend(reloads.count);
    account.complaints.extend(reloads.complaints);
    stage.calm().await;
    let samples = watching.end().await;
    let after = watch::settled(&stage, &before).await;
    account.check_effects(&stage);
    let mut complaints = account.complaints.clone();
    complaints.extend(watch::complaints(&plan, &before, &samples, &after));
    let stage = Arc::into_inner(stage).expect("nobody else holds the stage");
    complaints.extend(stage.stop().await);
    report::print(&account, &faults, &before, &samples, &after);
    assert!(complaints.is_empty(), "seed {}:\n{}", plan.seed, complaints.join("\n"));
}
