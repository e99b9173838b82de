//! Asks whoever listens at an address whether it is a trunkline that lives: the watchdog asks itself, a daemon
//! that finds its port taken asks who has it.
//!
//! What comes back is a stranger's word, so it is bounded in time and size, and used for nothing but a sentence and a
//! comparison.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{LIVE_BYTES_MAX, LIVE_TIMEOUT};

/// The pid of the trunkline that answers there, by its own account. An error if nobody answers, or somebody else.
pub(crate) async fn ask(address: SocketAddr) -> io::Result<u32> {
    let head =
        timeout(LIVE_TIMEOUT, exchange(address)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let no = || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no trunkline");
    pid(&head).ok_or_else(no)
}

async fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    stream.take(LIVE_BYTES_MAX).read_to_end(&mut head).await?;
    Ok(head)
}

fn pid(head: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.lines();
    if !lines.next()?.starts_with("HTTP/1.1 200") {
        return None;
    }
    let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let mut pids = fields.filter(|(name, _)| name.eq_ignore_ascii_case(trunkline_edge::PID_HEADER));
    pids.next()?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trunkline_that_is_well_says_its_pid() {
        let fine = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nTrunkline-Pid: 42\r\n\r\nlive\n";
        assert_eq!(pid(fine), Some(42));
        for other in [
            &b"HTTP/1.1 503 Service Unavailable\r\ntrunkline-pid: 42\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\ntrunkline-pid: 42\r\n",
            b"HTTP/1.1 200 OK\r\ntrunkline-pid: 42; rm -rf\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"\xff\xfe",
            b"",
        ] {
            assert_eq!(pid(other), None);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let free =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        assert!(ask(free).await.is_err());
    }
}
