//! A TCP proxy that plays the bad network between the daemon and a server, switchable while it runs.
//!
//! It knows bytes and no protocol. How a connection fares is its [`Weather`]; whether there can be new ones is the
//! [`Door`]. Both change at any time: for all, for those that exist, or for those to come. Randomness comes from a
//! seed alone. What it did to whom is counted, so that a test can tell that the fault happened.
//!
//! What it cannot do: lose packets below TCP. A black hole here reads (or stops to read) and does not pass on, so the
//! kernels still acknowledge; for whoever waits for an answer it is the same silence.

mod flow;
mod weather;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use weather::{Cut, Door, End, Flow, Weather};

use flow::{Fate, Line};

/// A listener of its own in front of one server.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What the proxy did so far.
#[derive(Default)]
pub(crate) struct Counts {
    /// Connections that were accepted.
    pub(crate) accepted: AtomicU64,
    /// Those of them that reached the server.
    pub(crate) connected: AtomicU64,
    /// Ended by a reset, whether by order, by a cut, at the door, or since bytes had been swallowed.
    pub(crate) reset: AtomicU64,
    /// Ended on both sides by order or by a cut.
    pub(crate) closed: AtomicU64,
    /// One way ended by a cut.
    pub(crate) half_closed: AtomicU64,
    /// Ended as both peers wished.
    pub(crate) ended: AtomicU64,
    /// Bytes that went to the server.
    pub(crate) up: AtomicU64,
    /// Bytes that went to the client.
    pub(crate) down: AtomicU64,
    /// Bytes that went nowhere.
    pub(crate) swallowed: AtomicU64,
}

struct Shared {
    server: String,
    counts: Counts,
    door: watch::Sender<Door>,
    /// The door as it is, a moment after it was ordered.
    taken: watch::Sender<Door>,
    /// What the next connection gets.
    coming: Mutex<Coming>,
    lines: Mutex<Vec<Arc<Line>>>,
}

struct Coming {
    choose: Box<dyn FnMut(u64) -> Weather + Send>,
    seed: u64,
    next: u64,
}

impl FaultProxy {
    /// Stands in front of `server` (`host:port`), in fair weather.
    pub(crate) async fn before(server: &str) -> FaultProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let coming = Coming { choose: Box::new(|_| Weather::default()), seed: 1, next: 0 };
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            counts: Counts::default(),
            door: watch::Sender::new(Door::Open),
            taken: watch::Sender::new(Door::Open),
            coming: Mutex::new(coming),
            lines: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, address, Arc::clone(&shared))).abort_handle();
        FaultProxy { address, shared, accepting }
    }

    /// The same place of the server as `url`, by way of the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(super::http::authority(url), &self.address.to_string(), 1)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// The weather of all connections, those to come included.
    pub(crate) fn set(&self, weather: &Weather) {
        self.set_coming(weather);
        self.set_established(weather);
    }

    /// The weather of the connections that exist now.
    pub(crate) fn set_established(&self, weather: &Weather) {
        self.each(|line| line.weather.send_replace(weather.clone()));
    }

    /// The weather of connections to come.
    pub(crate) fn set_coming(&self, weather: &Weather) {
        let weather = weather.clone();
        self.choose(move |_| weather.clone());
    }

    /// Chooses the weather of each connection to come, by its number (the first ever is 0).
    pub(crate) fn choose(&self, choose: impl FnMut(u64) -> Weather + Send + 'static) {
        self.shared.coming.lock().expect("short").choose = Box::new(choose);
    }

    /// Each connection to come gets one of these, as the seed has it. Delays are drawn from the same seed.
    pub(crate) fn shuffle(&self, seed: u64, of: Vec<Weather>) {
        let mut dice = fastrand::Rng::with_seed(seed);
        self.choose(move |_| of[dice.usize(..of.len())].clone());
        self.shared.coming.lock().expect("short").seed = seed;
    }

    /// Whether and how new connections come in. Those that exist stay.
    pub(crate) async fn door(&self, door: Door) {
        let mut taken = self.shared.taken.subscribe();
        self.shared.door.send_replace(door);
        super::in_time("the proxy's door", taken.wait_for(|taken| *taken == door)).await.expect("the proxy lives");
    }

    /// Resets every connection that exists (RST to both sides).
    pub(crate) fn reset_all(&self) {
        self.each(|line| line.order.send_replace(Some(End::Reset)));
    }

    /// Closes every connection that exists (FIN to both sides).
    pub(crate) fn close_all(&self) {
        self.each(|line| line.order.send_replace(Some(End::Close)));
    }

    /// How many connections exist now.
    pub(crate) fn established(&self) -> usize {
        self.shared.living().len()
    }

    fn each<T>(&self, mut act: impl FnMut(&Line) -> T) {
        for line in self.shared.living() {
            act(&line);
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The connections are tasks of the accepting one, and end with it.
        self.accepting.abort();
    }
}

impl Counts {
    pub(crate) fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// The connections that exist; what ended is forgotten on the way.
    fn living(&self) -> Vec<Arc<Line>> {
        let mut lines = self.lines.lock().expect("short");
        // The task of a connection holds the other reference.
        lines.retain(|line| Arc::strong_count(line) > 1);
        lines.clone()
    }

    fn new_line(&self) -> Arc<Line> {
        let (weather, dice) = {
            let mut coming = self.coming.lock().expect("short");
            let number = coming.next;
            coming.next += 1;
            let dice = fastrand::Rng::with_seed(coming.seed.wrapping_add(number));
            ((coming.choose)(number), dice)
        };
        let line = Arc::new(Line::new(weather, dice));
        let mut lines = self.lines.lock().expect("short");
        lines.retain(|line| Arc::strong_count(line) > 1);
        lines.push(Arc::clone(&line));
        line
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut door = shared.door.subscribe();
    let mut carried = JoinSet::new();
    loop {
        let now = *door.borrow_and_update();
        match now {
            Door::Refuse => listener = None,
            Door::Open | Door::Reset | Door::Silent if listener.is_none() => listener = Some(listen(address)),
            Door::Open | Door::Reset | Door::Silent => {}
        }
        shared.taken.send_replace(now);
        let next = async {
            match &listener {
                Some(listener) if now != Door::Silent => listener.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = door.changed() => if changed.is_err() { return },
            Some(_) = carried.join_next() => {}
            Ok((socket, _)) = next => {
                Counts::one(&shared.counts.accepted);
                if now == Door::Reset {
                    reset(&socket, &shared.counts);
                } else {
                    carried.spawn(carry(socket, Arc::clone(&shared)));
                }
            }
        }
    }
}

/// The port was ours, and connections of before may linger on it.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a TCP socket");
    socket.bind(address).expect("the proxy's own port");
    socket.listen(1024).expect("a bound socket")
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let line = shared.new_line();
    let counts = &shared.counts;
    let Ok(mut server) = TcpStream::connect(&shared.server).await else {
        reset(&client, counts);
        return;
    };
    Counts::one(&counts.connected);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    match flow::both(&mut client, &mut server, &line, counts).await {
        Fate::Ended => Counts::one(&counts.ended),
        Fate::Cut(End::Reset) => {
            let _ = server.set_zero_linger();
            reset(&client, counts);
        }
        Fate::Cut(End::Close | End::HalfClose) => Counts::one(&counts.closed),
    }
}

/// Makes the end of this socket an RST.
fn reset(socket: &TcpStream, counts: &Counts) {
    let _ = socket.set_zero_linger();
    Counts::one(&counts.reset);
}
