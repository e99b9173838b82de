//! How soon `/health/*` answers while everything else is as busy as can be. The probes are made by a thread of
//! their own, so that they do not wait for the load generator.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::load::Failure;

/// Pause between two probes: far more often than any prober asks.
const PAUSE: Duration = Duration::from_millis(5);

/// Probes until `over`; returns how long each took, in milliseconds, shortest first.
pub(crate) fn probe(address: SocketAddr, over: &AtomicBool) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    for path in ["/health/live", "/health/ready", "/health"].iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        took.push(ask(address, path)?.as_secs_f64() * 1000.0);
        std::thread::sleep(PAUSE);
    }
    took.sort_unstable_by(f64::total_cmp);
    Ok(took)
}

/// One probe, on a connection of its own, as probers have it.
fn ask(address: SocketAddr, path: &str) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(format!("{path} under load: {}", answer.lines().next().unwrap_or_default()).into());
    }
    Ok(began.elapsed())
}
