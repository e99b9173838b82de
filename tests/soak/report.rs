//! The table at the end.

use std::collections::BTreeMap;

use crate::account::Account;
use crate::watch::{Sample, growth, warm};

/// What it is called, and how it is had.
type Figure = (&'static str, fn(&Sample) -> f64);

pub(crate) fn print(
    account: &Account,
    faults: &BTreeMap<String, u64>,
    before: &Sample,
    samples: &[Sample],
    after: &Sample,
) {
    counts("requests", &account.asked);
    counts("answers", &account.answered);
    counts("effects, as they were told", &account.told());
    counts("faults", faults);
    println!("\n{:<24} {:>10} {:>10} {:>10} {:>12}", "figure", "before", "highest", "after", "growth");
    let figures: [Figure; 6] = [
        ("resident memory, MiB", |sample| sample.rss_mib),
        ("descriptors", |sample| sample.descriptors),
        ("tasks", |sample| sample.tasks),
        ("children", |sample| sample.children),
        ("sessions", |sample| sample.sessions),
        ("listens", |sample| sample.listens),
    ];
    for (name, figure) in figures {
        let highest = samples.iter().map(figure).fold(figure(before), f64::max);
        let grown = growth(warm(samples), figure);
        println!("{name:<24} {:>10.1} {highest:>10.1} {:>10.1} {grown:>+12.1}", figure(before), figure(after));
    }
    let mut calm = account.calm_ms.clone();
    calm.sort_by(f64::total_cmp);
    if let (Some(middle), Some(late)) = (calm.get(calm.len() / 2), calm.get(calm.len() * 99 / 100)) {
        println!("\nservers left alone: {} answers, p50 {middle:.1} ms, p99 {late:.1} ms", calm.len());
    }
    println!("complaints: {}", account.complaints.len());
}

fn counts(title: &str, counts: &BTreeMap<String, u64>) {
    println!("\n{title}: {}", counts.values().sum::<u64>());
    for (name, count) in counts {
        println!("  {count:>8} {name}");
    }
}
