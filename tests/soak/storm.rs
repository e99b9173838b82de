//! What goes wrong: each server that is not spared has a storm of its own, one fault after the other, by its seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::census;
use crate::harness::client::Client;
use crate::harness::proxy::{Door, End, Weather};
use crate::stage::{Port, Server, Stage};

/// Tools that misbehave, with their arguments; the last is for servers whose stderr somebody reads.
const MISDEEDS: [(&str, &str); 6] = [
    ("noise", "{}"),
    ("half", r#"{"ms":1}"#),
    ("change", r#"{"add":"","times":100}"#),
    ("size", r#"{"bytes":4000000}"#),
    ("hang", "{}"),
    ("stderr", r#"{"bytes":500000}"#),
];

pub(crate) struct Storm {
    tasks: JoinSet<BTreeMap<String, u64>>,
    over: watch::Sender<bool>,
}

/// The bad luck of one server.
struct Luck {
    stage: Arc<Stage>,
    place: usize,
    dice: fastrand::Rng,
    client: Arc<Client>,
    begun: Instant,
    count: BTreeMap<String, u64>,
}

impl Storm {
    pub(crate) fn start(stage: &Arc<Stage>, seed: u64) -> Storm {
        let mut tasks = JoinSet::new();
        let over = watch::Sender::new(false);
        for (place, server) in stage.servers.iter().enumerate() {
            if !server.calm {
                let dice = fastrand::Rng::with_seed(seed.wrapping_mul(1000).wrapping_add(place as u64));
                tasks.spawn(rage(Arc::clone(stage), place, dice, over.subscribe()));
            }
        }
        Storm { tasks, over }
    }

    /// Ends it; returns how often what was done.
    pub(crate) async fn end(self) -> BTreeMap<String, u64> {
        self.over.send_replace(true);
        let mut all = BTreeMap::new();
        for count in self.tasks.join_all().await {
            for (fault, times) in count {
                *all.entry(fault).or_default() += times;
            }
        }
        all
    }
}

async fn rage(
    stage: Arc<Stage>,
    place: usize,
    dice: fastrand::Rng,
    mut over: watch::Receiver<bool>,
) -> BTreeMap<String, u64> {
    let client = Arc::new(Client::connect(&stage.daemon.url, "2025-11-25").await);
    let mut luck = Luck { stage, place, dice, client, begun: Instant::now(), count: BTreeMap::new() };
    loop {
        let pause = luck.millis(500..6000);
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => break,
            () = sleep(pause) => {}
        }
        luck.strike().await;
    }
    luck.client.delete().await;
    luck.count
}

impl Luck {
    fn server(&self) -> &Server {
        &self.stage.servers[self.place]
    }

    fn port(&self) -> Option<&Port> {
        self.server().port.as_ref()
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice.u64(range))
    }

    fn note(&mut self, fault: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        println!("{at:8.2} s {:<10} {fault}", self.server().name);
        *self.count.entry(fault.to_owned()).or_default() += 1;
    }

    /// One fault, and its end.
    async fn strike(&mut self) {
        match self.dice.u8(..10) {
            0..3 => self.misdeed().await,
            3..5 => self.sick().await,
            _ if self.port().is_some() => self.weather().await,
            _ => self.process().await,
        }
        self.server().heal().await;
        let stage = Arc::clone(&self.stage);
        let _all = stage.all_there.read().await;
        let shown = stage.daemon.server(self.server().name).await;
        let parked = shown["state"] == "misconfigured" || shown["state"] == "needs_auth";
        if parked || self.dice.u8(..12) == 0 {
            self.note("restarted by the operator");
            self.stage.restart(self.server().name).await;
        }
    }

    /// A call that makes the server misbehave.
    async fn misdeed(&mut self) {
        let choice = MISDEEDS.len() - usize::from(self.port().is_some());
        let (tool, arguments) = MISDEEDS[self.dice.usize(..choice)];
        self.note(&format!("tool {tool}"));
        let params = format!(r#"{{"name":"{}__{tool}","arguments":{arguments}}}"#, self.server().name);
        let (client, stage) = (Arc::clone(&self.client), Arc::clone(&self.stage));
        let asked = stage.survive(async move {
            let messages = client.exchange("tools/call", &params).await;
            assert!(!messages.is_empty(), "no answer to {params}");
        });
        asked.await;
    }

    /// The server answers badly for a while.
    async fn sick(&mut self) {
        let faults: &[&str] = match self.port() {
            Some(_) => &["503", "busy", "500", "garbage", "html", "hang", "empty", "swallow", "404", "401", "no-tools"],
            None => &["hang", "garbage", "no-tools"],
        };
        let fault = faults[self.dice.usize(..faults.len())];
        self.note(&format!("answers: {fault}"));
        self.server().desk.fail(fault);
        let time = self.millis(100..3000);
        sleep(time).await;
    }

    /// What befalls a child.
    async fn process(&mut self) {
        let (stage, place) = (Arc::clone(&self.stage), self.place);
        let pid = move || stage.servers[place].pid(&stage.daemon.home.marker);
        let Some(pid) = tokio::task::spawn_blocking(pid).await.expect("no panic") else { return };
        match self.dice.u8(..3) {
            0 => {
                self.note("stopped, and continued");
                census::signal(pid, Signal::STOP);
                let time = self.millis(200..4000);
                sleep(time).await;
                census::signal(pid, Signal::CONT);
            }
            1 => {
                self.note("exits at each start");
                self.server().desk.fail("exit");
                census::signal(pid, Signal::KILL);
                let time = self.millis(500..2000);
                sleep(time).await;
            }
            _ => {
                self.note("killed");
                census::signal(pid, Signal::KILL);
            }
        }
    }

    /// What befalls connections.
    async fn weather(&mut self) {
        let time = self.millis(200..4000);
        let cut = self.dice.usize(..2000);
        let kind = self.dice.u8(..15);
        let seed = self.dice.u64(..);
        let Some(Port { proxy, .. }) = self.port() else { return };
        let fault = match kind {
            0 => {
                proxy.reset_all();
                "reset"
            }
            1 => {
                proxy.close_all();
                "closed"
            }
            2 => {
                self.server().desk.forget_sessions();
                "sessions forgotten"
            }
            3 => {
                proxy.set(&Weather::holding());
                "held"
            }
            4 => {
                proxy.set(&Weather::swallowing());
                "swallowed"
            }
            5 => {
                proxy.set_established(&Weather::swallowing());
                "established swallowed"
            }
            6 => {
                proxy.set(&Weather::delaying(Duration::from_millis(5)..Duration::from_millis(300)));
                "delayed"
            }
            7 => {
                proxy.set(&Weather::slicing(3));
                "sliced"
            }
            8 => {
                proxy.set(&Weather::throttling(2000, Duration::from_millis(20)));
                "throttled"
            }
            9 => {
                proxy.set(&Weather::cutting_answers(cut, End::Reset));
                "answers reset"
            }
            10 => {
                proxy.set(&Weather::cutting_answers(cut, End::HalfClose));
                "answers half closed"
            }
            11 => {
                proxy.set(&Weather::cutting_requests(cut, End::Close));
                "requests cut"
            }
            12 => {
                let fates = [
                    Weather::default(),
                    Weather::cutting_answers(cut, End::Close),
                    Weather::cutting_requests(0, End::Reset),
                ];
                proxy.shuffle(seed, fates.to_vec());
                "some connections cut"
            }
            _ => "door",
        };
        if fault == "door" {
            let doors = [Door::Refuse, Door::Reset, Door::Silent];
            let door = doors[usize::try_from(seed % 3).expect("small")];
            if seed.is_multiple_of(2) {
                proxy.reset_all();
            }
            proxy.door(door).await;
            self.note(&format!("door {door:?}"));
        } else {
            self.note(fault);
        }
        sleep(time).await;
    }
}
