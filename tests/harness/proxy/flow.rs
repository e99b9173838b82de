//! One connection through the proxy: two ways, each in its weather, until an end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::Counts;
use super::weather::{Cut, End, Flow, Hole, Weather};

/// What others hold of a connection.
pub(crate) struct Line {
    pub(crate) weather: watch::Sender<Weather>,
    pub(crate) order: watch::Sender<Option<End>>,
    dice: Mutex<fastrand::Rng>,
}

/// How a connection ended.
pub(crate) enum Fate {
    Ended,
    Cut(End),
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Line {
    pub(crate) fn new(weather: Weather, dice: fastrand::Rng) -> Line {
        Line { weather: watch::Sender::new(weather), order: watch::Sender::new(None), dice: Mutex::new(dice) }
    }

    fn draw(&self, flow: &Flow) -> Option<Duration> {
        let delay = flow.delay.clone()?;
        let share = self.dice.lock().expect("short").f64();
        Some(delay.start + delay.end.saturating_sub(delay.start).mul_f64(share))
    }
}

/// Carries bytes both ways until both ways ended, one was cut, or an order came.
pub(crate) async fn both(client: &mut TcpStream, server: &mut TcpStream, line: &Line, counts: &Counts) -> Fate {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = one(from_client, to_server, Way::Up, line, counts);
    let down = one(from_server, to_client, Way::Down, line, counts);
    let mut order = line.order.subscribe();
    tokio::select! {
        biased;
        Ok(end) = order.wait_for(Option::is_some) => Fate::Cut(end.unwrap_or(End::Close)),
        both = async { tokio::try_join!(up, down) } => both.map_or_else(Fate::Cut, |_| Fate::Ended),
    }
}

/// One way. An error is the end of both.
async fn one(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way, line: &Line, counts: &Counts) -> Result<(), End> {
    let mut weather = line.weather.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut lost = false;
    'weather: loop {
        let flow = way.of(&weather.borrow_and_update()).clone();
        if lost && flow.hole != Some(Hole::Swallow) {
            return Err(End::Reset);
        }
        let mut passed = 0;
        loop {
            let read = tokio::select! {
                biased;
                _ = weather.changed() => continue 'weather,
                read = from.read(&mut buffer), if flow.hole != Some(Hole::Hold) => read,
            };
            // A peer that reset is passed on as what it did.
            let read = read.map_err(|_| End::Reset)?;
            if flow.hole == Some(Hole::Swallow) {
                lost = true;
                counts.swallowed.fetch_add(read as u64, Ordering::Relaxed);
                if read == 0 {
                    // The other end is not to learn that this one left. A change ends it.
                    let _ = weather.changed().await;
                    continue 'weather;
                }
                continue;
            }
            if read == 0 {
                let _ = to.shutdown().await;
                return Ok(());
            }
            let room = flow.cut.map_or(read, |cut| cut.after - passed);
            let portion = &buffer[..read.min(room)];
            if let Some(delay) = line.draw(&flow) {
                tokio::time::sleep(delay).await;
            }
            write(&mut to, portion, &flow, way.counter(counts)).await?;
            passed += portion.len();
            if let Some(Cut { end, .. }) = flow.cut.filter(|_| read > room) {
                if end != End::HalfClose {
                    return Err(end);
                }
                counts.half_closed.fetch_add(1, Ordering::Relaxed);
                let _ = to.shutdown().await;
                return drain(from, &mut buffer, counts).await;
            }
        }
    }
}

async fn write(to: &mut WriteHalf<'_>, bytes: &[u8], flow: &Flow, counter: &AtomicU64) -> Result<(), End> {
    let throttled = flow.throttle.map_or(usize::MAX, |throttle| throttle.bytes);
    let portion = flow.slice.unwrap_or(usize::MAX).min(throttled).max(1);
    for part in bytes.chunks(portion) {
        to.write_all(part).await.map_err(|_| End::Reset)?;
        counter.fetch_add(part.len() as u64, Ordering::Relaxed);
        match flow.throttle {
            Some(throttle) => tokio::time::sleep(throttle.pause).await,
            // The peer shall see the parts, not what the kernel makes of them.
            None if flow.slice.is_some() => tokio::task::yield_now().await,
            None => {}
        }
    }
    Ok(())
}

/// Takes what a peer still says to a way that is closed.
async fn drain(mut from: ReadHalf<'_>, buffer: &mut [u8], counts: &Counts) -> Result<(), End> {
    loop {
        match from.read(buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => counts.swallowed.fetch_add(read as u64, Ordering::Relaxed),
            Err(_) => return Err(End::Reset),
        };
    }
}

impl Way {
    fn of(self, weather: &Weather) -> &Flow {
        match self {
            Way::Up => &weather.up,
            Way::Down => &weather.down,
        }
    }

    fn counter(self, counts: &Counts) -> &AtomicU64 {
        match self {
            Way::Up => &counts.up,
            Way::Down => &counts.down,
        }
    }
}
