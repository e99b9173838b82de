//! The table: medians, and their ratios to the bare proxy.

use std::fmt;

/// One contender of a section.
pub(crate) struct Row {
    pub(crate) label: &'static str,
    pub(crate) per_second: f64,
    pub(crate) median_us: f64,
    /// CPU of the process between client and upstream; none for a direct connection.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) peak_mib: Option<f64>,
}

/// All sections and facts of a run.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<(String, Vec<Row>)>,
    facts: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn section(&mut self, title: String, rows: Vec<Row>) {
        eprintln!("measured: {title}");
        self.sections.push((title, rows));
    }

    pub(crate) fn fact(&mut self, name: &'static str, value: String) {
        eprintln!("measured: {name}: {value}");
        self.facts.push((name, value));
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(out, "# Bench\n")?;
        writeln!(
            out,
            "Written by `make bench`: {cores} cores, loopback, load generator and upstream on the same machine. Each figure is \
             the median of rounds in which the contenders take turns. \"of bare\" is throughput as a share of the bare \
             hyper proxy's in front of the same HTTP upstream; \"p50 ÷ bare\" is median latency over the bare \
             proxy's. CPU is that of the process in the middle, per call.\n"
        )?;
        for (title, rows) in &self.sections {
            writeln!(out, "## {title}\n")?;
            writeln!(out, "| | calls/s | of bare | p50 µs | p50 ÷ bare | CPU µs | peak MiB |")?;
            writeln!(out, "|---|--:|--:|--:|--:|--:|--:|")?;
            let bare = rows.iter().find(|row| row.label.starts_with("bare"));
            for row in rows {
                let of = bare.map_or(0.0, |bare| row.per_second / bare.per_second);
                let slower = bare.map_or(0.0, |bare| row.median_us / bare.median_us);
                let figure = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
                writeln!(
                    out,
                    "| {} | {:.0} | {of:.2} | {:.0} | {slower:.2} | {} | {} |",
                    row.label,
                    row.per_second,
                    row.median_us,
                    figure(row.cpu_us),
                    figure(row.peak_mib),
                )?;
            }
            writeln!(out)?;
        }
        if !self.facts.is_empty() {
            writeln!(out, "## Start and memory\n\n| | |\n|---|--:|")?;
        }
        for (name, value) in &self.facts {
            writeln!(out, "| {name} | {value} |")?;
        }
        Ok(())
    }
}
