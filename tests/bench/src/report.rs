//! The table: medians, and their ratios to the bare proxy.

use std::fmt;

use crate::load::as_f64;

/// One contender of a section.
pub(crate) struct Row {
    pub(crate) label: &'static str,
    pub(crate) per_second: f64,
    pub(crate) median_us: f64,
    /// CPU of the process between client and upstream; none for a direct connection.
    pub(crate) cpu_us: Option<f64>,
    pub(crate) peak_mib: Option<f64>,
    /// How it compares to what it was measured beside: the older daemon, if there is one, or another row.
    pub(crate) beside: Option<Beside>,
}

/// One over the other, in many short pairs of turns.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) throughput: Ratio,
    /// Of the processor time that a call takes.
    pub(crate) cpu: f64,
}

/// The ratios of many pairs: their median, and how far it may be off.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    median: f64,
    /// Two standard errors of the median, by the quartiles.
    off: f64,
}

impl Ratio {
    pub(crate) fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios.get(ratios.len() * part / 4).copied().unwrap_or_default();
        // For a bell curve, the quartiles are 1.35 deviations apart, and a median's error is a quarter above a mean's.
        let deviation = (at(3) - at(1)) / 1.35;
        let off = 2.0 * 1.25 * deviation / as_f64(ratios.len().max(1)).sqrt();
        Self { median: median(ratios.into_iter()), off }
    }
}

/// Rows that were measured in turns.
struct Section {
    title: String,
    rows: Vec<Row>,
    /// What pairs were made with.
    beside: &'static str,
}

/// What pairs are made with if nothing else is said.
const OLDER: &str = "older";

/// All sections and facts of a run.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
    facts: Vec<(&'static str, String)>,
}

impl Report {
    pub(crate) fn section(&mut self, title: String, rows: Vec<Row>) {
        self.section_beside(OLDER, title, rows);
    }

    /// One whose pairs were made with another of its rows.
    pub(crate) fn section_beside(&mut self, beside: &'static str, title: String, rows: Vec<Row>) {
        eprintln!("measured: {title}");
        self.sections.push(Section { title, rows, beside });
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
        let has_pairs = |section: &Section| section.rows.iter().any(|row| row.beside.is_some());
        if self.sections.iter().any(|section| section.beside == OLDER && has_pairs(section)) {
            writeln!(
                out,
                "\"of older\" is throughput over that of the older build named with `--against`: the median of many short \
                 pairs of turns, and twice its standard error; beside it, the same of the processor time that a call takes.\n"
            )?;
        }
        for section @ Section { title, rows, beside } in &self.sections {
            writeln!(out, "## {title}\n")?;
            let paired = has_pairs(section);
            if paired && *beside != OLDER {
                writeln!(
                    out,
                    "\"of {beside}\" is throughput over that of {beside} calls to the same daemon: the median of many short \
                     pairs of turns, and twice its standard error; beside it, the same of the processor time that a call takes.\n"
                )?;
            }
            let (title, rule) =
                if paired { (format!(" of {beside} | CPU of {beside} |"), "--:|--:|") } else { (String::new(), "") };
            writeln!(out, "| | calls/s | of bare | p50 µs | p50 ÷ bare | CPU µs | peak MiB |{title}")?;
            writeln!(out, "|---|--:|--:|--:|--:|--:|--:|{rule}")?;
            let bare = rows.iter().find(|row| row.label.starts_with("bare"));
            for row in rows {
                let of = bare.map_or(0.0, |bare| row.per_second / bare.per_second);
                let slower = bare.map_or(0.0, |bare| row.median_us / bare.median_us);
                let figure = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
                let beside = match row.beside {
                    Some(Beside { throughput: Ratio { median, off }, cpu }) => {
                        format!(" {median:.3} ± {off:.3} | {cpu:.3} |")
                    }
                    None if paired => "  |  |".to_owned(),
                    None => String::new(),
                };
                writeln!(
                    out,
                    "| {} | {:.0} | {of:.2} | {:.0} | {slower:.2} | {} | {} |{beside}",
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
