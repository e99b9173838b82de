//! The operator: changes the file while the weather is bad, and has it read by its watcher, by SIGHUP or by command; and
//! kills the daemon, whose sockets a service manager holds, in the first sixth of the time.
//!
//! A change reaches the server that it names and no other; one is taken out and put back; a file that is wrong changes
//! nothing, and is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::Plan;
use crate::harness::PATIENCE;
use crate::stage::Stage;

/// Files that are wrong, each in its own way: no TOML, a wrong type, a key that is none, a server that is none.
const BAD: [&str; 4] = [
    "[mcp_servers.pipe\n",
    "[mcp_servers.pipe]\nurl = 5\n",
    "[mcp_servers.pipe]\ncommandd = \"x\"\n",
    "[mcp_servers.pipe]\nenabled = true\n",
];

/// In less, one killed daemon is all that there is time for.
const KILLING_FROM: Duration = Duration::from_mins(1);

/// How long a server is away that was taken out.
const AWAY_MS: std::ops::Range<u64> = 100..2500;

/// How the daemon comes to read the file.
#[derive(Clone, Copy, Debug)]
enum Way {
    Watch,
    Hangup,
    Command,
}

pub(crate) struct Operator {
    task: JoinHandle<Done>,
    over: watch::Sender<bool>,
}

/// What was done how often, and what went wrong with it.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) count: BTreeMap<String, u64>,
    pub(crate) complaints: Vec<String>,
}

struct Shift {
    stage: Arc<Stage>,
    dice: fastrand::Rng,
    /// What is added to the block of each server: the count of its changes, and whether it has its other limit.
    variants: Vec<(u32, bool)>,
    begun: Instant,
    /// How long daemons may be killed: what is measured must be one of them.
    killing: Duration,
    done: Done,
}

impl Operator {
    pub(crate) fn start(stage: &Arc<Stage>, plan: &Plan) -> Operator {
        let over = watch::Sender::new(false);
        let shift = Shift {
            stage: Arc::clone(stage),
            dice: fastrand::Rng::with_seed(plan.seed.wrapping_mul(36)),
            variants: vec![(0, false); stage.servers.len()],
            begun: Instant::now(),
            killing: if plan.time < KILLING_FROM { Duration::ZERO } else { plan.time / 6 },
            done: Done::default(),
        };
        let task = tokio::spawn(shift.work(over.subscribe()));
        Operator { task, over }
    }

    /// Has it finish what it is at, so that a file is in force that is good and names every server.
    pub(crate) async fn end(self) -> Done {
        self.over.send_replace(true);
        self.task.await.expect("no panic")
    }
}

impl Shift {
    async fn work(mut self, mut over: watch::Receiver<bool>) -> Done {
        loop {
            let pause = Duration::from_millis(self.dice.u64(500..4000));
            tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => return self.done,
                () = sleep(pause) => {}
            }
            let may_kill = self.begun.elapsed() < self.killing;
            match self.dice.u8(..6) {
                // One at least, however short the time.
                5 if may_kill => self.kill().await,
                _ if self.stage.kills() == 0 => self.kill().await,
                0 => self.mistake().await,
                1..3 => self.take_out_and_put_back().await,
                _ => self.change().await,
            }
        }
    }

    /// Another command, address or limit for one server. One that shall be left alone gets another limit only, which
    /// costs it neither its process nor a call.
    async fn change(&mut self) {
        let place = self.dice.usize(..self.stage.servers.len());
        let (name, calm) = (self.stage.servers[place].name, self.stage.servers[place].calm);
        let variant = &mut self.variants[place];
        let what = if calm || self.dice.bool() {
            variant.1 = !variant.1;
            "another limit"
        } else {
            variant.0 += 1;
            "reached otherwise"
        };
        self.put(&self.text(None), true, &format!("{what}: {name}"), what).await;
    }

    /// What no daemon can do anything about: the next one takes up its work behind the same sockets.
    async fn kill(&mut self) {
        let stage = Arc::clone(&self.stage);
        // Who asks the daemon about a server, or measures it, waits.
        let _alone = stage.all_there.write().await;
        let at = self.begun.elapsed().as_secs_f64();
        println!("{at:8.2} s (daemon)   killed");
        *self.done.count.entry("the daemon killed".to_owned()).or_default() += 1;
        stage.kill().await;
    }

    async fn take_out_and_put_back(&mut self) {
        let places: Vec<usize> = (0..self.stage.servers.len()).filter(|at| !self.stage.servers[*at].calm).collect();
        let place = places[self.dice.usize(..places.len())];
        let name = self.stage.servers[place].name;
        let stage = Arc::clone(&self.stage);
        // Nobody else may be at a server that is not there.
        let _alone = stage.all_there.write().await;
        self.put(&self.text(Some(place)), true, &format!("taken out: {name}"), "taken out").await;
        sleep(Duration::from_millis(self.dice.u64(AWAY_MS))).await;
        self.put(&self.text(None), true, &format!("put back: {name}"), "put back").await;
    }

    async fn mistake(&mut self) {
        // Everything but one server would go if any of it were taken.
        let text = BAD[self.dice.usize(..BAD.len())];
        self.put(text, false, "a mistake", "a mistake").await;
        self.put(&self.text(None), true, "the mistake mended", "the mistake mended").await;
    }

    /// The file, without one of the servers perhaps.
    fn text(&self, without: Option<usize>) -> String {
        self.stage.file(&self.variants, without)
    }

    /// Puts a file in place of the one that is there, as editors do, and sees whether it is taken.
    async fn put(&mut self, text: &str, good: bool, line: &str, word: &str) {
        let way = [Way::Watch, Way::Hangup, Way::Command][self.dice.usize(..3)];
        let at = self.begun.elapsed().as_secs_f64();
        println!("{at:8.2} s {:<10} {line}, by {way:?}", "(file)");
        *self.done.count.entry(format!("file: {word}, by {way:?}")).or_default() += 1;
        let daemon = &self.stage.daemon;
        let before = daemon.health().await;
        let path = daemon.home.path("config/trunkline/config.toml");
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).expect("a disk");
        std::fs::rename(&beside, &path).expect("the same disk");
        match way {
            Way::Watch => {}
            Way::Hangup => daemon.signal(Signal::HUP),
            Way::Command => {
                let mut command = daemon.home.command(["reload"]);
                let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
                let output = output.expect("the binary runs");
                // The watcher may have been first: then nothing changed any more, and that is no failure.
                let wanted = if good { 0 } else { 78 };
                if output.status.code() != Some(wanted) {
                    let words = [output.stdout, output.stderr].concat();
                    self.complain(&format!(
                        "`reload` ended with {}: {}",
                        output.status,
                        String::from_utf8_lossy(&words)
                    ));
                }
            }
        }
        let expected: Vec<Value> = if good { names_in(text) } else { names(&before) };
        let started = Instant::now();
        loop {
            let health = self.stage.daemon.health().await;
            let config = &health["config"];
            let told = if good {
                config["error"].is_null() && config["loaded_at_unix_ms"] != before["config"]["loaded_at_unix_ms"]
            } else {
                config["error"].as_str().is_some_and(|error| error.contains("config.toml"))
            };
            if told && names(&health) == expected {
                return;
            }
            if started.elapsed() > PATIENCE {
                self.complain(&format!("{line}: not taken by {way:?} (R-36): {config}, servers {:?}", names(&health)));
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn complain(&mut self, text: &str) {
        println!("         s (file)     {text}");
        self.done.complaints.push(text.to_owned());
    }
}

/// The servers as `/health` lists them.
fn names(health: &Value) -> Vec<Value> {
    health["servers"].as_array().expect("/health lists servers").iter().map(|it| it["name"].clone()).collect()
}

/// The servers of a file, in its order.
fn names_in(text: &str) -> Vec<Value> {
    let names = text.lines().filter_map(|line| line.strip_prefix("[mcp_servers.")?.strip_suffix(']'));
    names.map(Value::from).collect()
}
