//! What the daemon costs while it lasts, and whether that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::Plan;
use crate::harness::census;
use crate::stage::Stage;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// By how much the memory may grow after the warm-up.
const GROWTH_MAX_MIB: f64 = 5.0;

/// Below, a run is too short for a slope to mean anything: caches and arenas still fill.
const SLOPE_FROM: Duration = Duration::from_mins(4);

/// What may be there after the storm that was not there before it: a resting connection, an arena's descriptor.
const LEFT_MAX: f64 = 8.0;

/// How long resting connections and the like may take to go.
const SETTLING: Duration = Duration::from_secs(30);

/// The figures at one moment.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) rss_mib: f64,
    pub(crate) descriptors: f64,
    pub(crate) tasks: f64,
    pub(crate) tasks_by_name: BTreeMap<String, f64>,
    /// As the daemon counts them, and as the system does (guards included).
    pub(crate) children: f64,
    pub(crate) processes: usize,
    pub(crate) zombies: BTreeSet<u32>,
    pub(crate) sessions: f64,
    pub(crate) listens: f64,
    pub(crate) in_flight: f64,
    pub(crate) panics: f64,
}

pub(crate) struct Watch {
    task: JoinHandle<Vec<Sample>>,
    over: watch::Sender<bool>,
}

impl Sample {
    pub(crate) async fn take(stage: &Stage) -> Sample {
        // One that is being killed has no figures.
        let _all = stage.all_there.read().await;
        let text = stage.daemon.metrics().await;
        let (marker, pid) = (stage.daemon.home.marker.clone(), stage.daemon.pid());
        // It reads of every process of the machine; the clients shall not wait meanwhile.
        let counted = tokio::task::spawn_blocking(move || (census::marked(&marker).len(), zombies(pid)));
        let (processes, zombies) = counted.await.expect("no panic");
        let sum = |name: &str| series(&text, name).map(|(_, value)| value).sum();
        Sample {
            at: Instant::now(),
            rss_mib: sum("process_resident_memory_bytes") / f64::from(1 << 20),
            descriptors: sum("process_open_fds"),
            tasks: sum("trunkline_tasks"),
            tasks_by_name: series(&text, "trunkline_tasks").map(|(line, value)| (line.to_owned(), value)).collect(),
            children: sum("trunkline_children"),
            processes,
            zombies,
            sessions: sum("trunkline_mcp_sessions"),
            listens: sum("trunkline_mcp_listens"),
            in_flight: sum("trunkline_inflight"),
            panics: sum("trunkline_task_panics_total"),
        }
    }

    /// Whether nothing is left that was not there before.
    fn is_like(&self, before: &Sample) -> bool {
        self.in_flight < 0.5
            && self.descriptors <= before.descriptors + LEFT_MAX
            && self.tasks <= before.tasks + LEFT_MAX
            && (self.children - before.children).abs() < 0.5
            && self.processes == before.processes
            && self.zombies.is_empty()
    }
}

impl Watch {
    pub(crate) fn start(stage: &Arc<Stage>) -> Watch {
        let stage = Arc::clone(stage);
        let over = watch::Sender::new(false);
        let mut ended = over.subscribe();
        let task = tokio::spawn(async move {
            let mut samples = Vec::new();
            let mut tick = interval(EVERY);
            loop {
                let over = tokio::select! {
                    biased;
                    over = ended.changed() => over.is_err() || *ended.borrow(),
                    _ = tick.tick() => false,
                };
                if over {
                    return samples;
                }
                samples.push(Sample::take(&stage).await);
            }
        });
        Watch { task, over }
    }

    pub(crate) async fn end(self) -> Vec<Sample> {
        self.over.send_replace(true);
        self.task.await.expect("the daemon answers")
    }
}

/// The figures once all is calm, or those of the moment when patience ended.
pub(crate) async fn settled(stage: &Stage, before: &Sample) -> Sample {
    let started = Instant::now();
    loop {
        let sample = Sample::take(stage).await;
        if sample.is_like(before) || started.elapsed() > SETTLING {
            return sample;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// What the figures say against the daemon.
pub(crate) fn complaints(plan: &Plan, before: &Sample, samples: &[Sample], after: &Sample) -> Vec<String> {
    let mut complaints = Vec::new();
    if !after.is_like(before) {
        let new: Vec<String> = after
            .tasks_by_name
            .iter()
            .filter(|(name, count)| **count > before.tasks_by_name.get(*name).copied().unwrap_or_default())
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        complaints.push(format!(
            "after the storm there are {} descriptors ({} before), {} tasks ({}; more of {new:?}), {} children ({}), \
             {} processes ({}), {} requests in flight, zombies {:?}",
            after.descriptors,
            before.descriptors,
            after.tasks,
            before.tasks,
            after.children,
            before.children,
            after.processes,
            before.processes,
            after.in_flight,
            after.zombies,
        ));
    }
    for pair in samples.windows(2) {
        // Whoever is a zombie at both looks was one for the time between them.
        let lasting: Vec<_> = pair[0].zombies.intersection(&pair[1].zombies).collect();
        if !lasting.is_empty() {
            complaints.push(format!("zombies that nobody reaped (R-31): {lasting:?}"));
        }
    }
    if after.panics > 0.0 {
        complaints.push(format!("{} tasks panicked", after.panics));
    }
    if plan.time >= SLOPE_FROM {
        let growth = growth(warm(samples), |sample| sample.rss_mib);
        if growth > GROWTH_MAX_MIB {
            complaints.push(format!("the memory grew by {growth:.1} MiB after the warm-up (R-46)"));
        }
    }
    complaints
}

/// The samples of the second half: a daemon that followed a killed one has a third of the time to warm up.
pub(crate) fn warm(samples: &[Sample]) -> &[Sample] {
    &samples[samples.len() / 2..]
}

/// By how much a figure grew over these samples, by the line that fits them best.
pub(crate) fn growth(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0.0 };
    let time = |sample: &Sample| sample.at.duration_since(first.at).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "thousands at most")]
    let count = samples.len() as f64;
    let mean_time = samples.iter().map(time).sum::<f64>() / count;
    let mean = samples.iter().map(&figure).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        above += (time(sample) - mean_time) * (figure(sample) - mean);
        below += (time(sample) - mean_time).powi(2);
    }
    if below > 0.0 { above / below * time(last) } else { 0.0 }
}

/// The lines of a series with their values.
fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then_some((labels, value.parse().ok()?))
    })
}

/// Dead processes below this one that nobody reaped. Linux only; elsewhere none are seen.
fn zombies(root: u32) -> BTreeSet<u32> {
    let mut parents = BTreeMap::new();
    let mut dead = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, after_name)) = stat.rsplit_once(')') else { continue };
        let mut fields = after_name.split_ascii_whitespace();
        if fields.next() == Some("Z") {
            dead.insert(pid);
        }
        if let Some(parent) = fields.next().and_then(|parent| parent.parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    dead.retain(|pid| {
        let chain = std::iter::successors(Some(*pid), |pid| parents.get(pid).copied()).take(64);
        chain.into_iter().any(|ancestor| ancestor == root)
    });
    dead
}
