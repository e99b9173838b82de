//! [`Holders`]: which process is behind a client, where the kernel tells.
//!
//! A client's port leads to its socket, by the same question that the door asks (`peer.rs`), and the socket to the process
//! that has it among its descriptors. Only processes of our own user can be looked into, which are those that may connect.
//! It is done while somebody watches, for the clients that are shown, and once for each connection: what was found, or not,
//! is kept until the connection is another one. Where it is closed, as clients do between requests, what was found stands for
//! as long as the process is there. Of a process its number and its short name are told, never its arguments,
//! which may hold secrets.

use std::collections::HashMap;
use std::path::Path;

use trunkline_telemetry::redact;

use crate::limits::{HOLDERS_FILES_MAX, HOLDERS_PROCESSES_MAX};
use crate::peer;

/// Longest name of a process that is shown; the kernel's own are shorter.
const NAME_BYTES_MAX: usize = 64;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) program: String,
}

/// By port: the socket that was there, and whose it is.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<u16, (u32, Option<Holder>)>);

impl Holders {
    /// Who holds the connection from `port`, as far as it was found out.
    pub(super) fn of(&self, port: u16) -> Option<&Holder> {
        self.0.get(&port)?.1.as_ref()
    }

    /// Looks for the processes behind connections from `ports` to the gateway's `gateway`, and forgets all others. Reads
    /// what the kernel shows of processes, so it is to be called where that may take its time.
    pub(super) fn look(&mut self, ports: &[u16], gateway: u16) {
        let sockets: HashMap<u16, u32> =
            ports.iter().filter_map(|port| Some((*port, peer::socket_of(*port, gateway)?))).collect();
        let lives = |holder: &Holder| Path::new("/proc").join(holder.pid.to_string()).exists();
        self.0.retain(|port, (inode, holder)| match sockets.get(port) {
            Some(now) => now == inode,
            None => ports.contains(port) && holder.as_ref().is_some_and(lives),
        });
        let new: HashMap<u32, u16> = sockets
            .iter()
            .filter(|(port, _)| !self.0.contains_key(port))
            .map(|(port, inode)| (*inode, *port))
            .collect();
        if new.is_empty() {
            return;
        }
        self.0.extend(new.iter().map(|(inode, port)| (*port, (*inode, None))));
        for (inode, holder) in found(&new) {
            self.0.insert(new[&inode], (inode, Some(holder)));
        }
    }
}

/// Looks through the processes for those that have one of these sockets open.
fn found(wanted: &HashMap<u32, u16>) -> HashMap<u32, Holder> {
    let mut found = HashMap::new();
    let numbers = list(Path::new("/proc")).filter_map(|name| name.parse::<u32>().ok());
    for pid in numbers.take(HOLDERS_PROCESSES_MAX) {
        if found.len() == wanted.len() {
            break;
        }
        let files = Path::new("/proc").join(pid.to_string()).join("fd");
        for file in list(&files).take(HOLDERS_FILES_MAX) {
            let Ok(target) = std::fs::read_link(files.join(file)) else { continue };
            let inode = target.to_str().and_then(|it| it.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            // A socket that was inherited is its first holder's.
            if let Some(inode) = inode.filter(|inode| wanted.contains_key(inode)) {
                found.entry(inode).or_insert_with(|| Holder { pid, program: program(pid) });
            }
        }
    }
    found
}

/// The names in a directory; none if it cannot be read.
fn list(path: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

fn program(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    redact::printable(name.trim_end(), NAME_BYTES_MAX)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_behind_a_connection_is_found_once_and_forgotten_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let gateway = listener.local_addr().expect("bound").port();
        let client = TcpStream::connect(("127.0.0.1", gateway)).expect("listening");
        let port = client.local_addr().expect("bound").port();
        let mut holders = Holders::default();
        holders.look(&[port, 1], gateway);
        let own = holders.of(port).cloned().expect("our own");
        assert_eq!(own.pid, std::process::id());
        assert!(!own.program.is_empty() && holders.of(1).is_none());
        holders.look(&[port], gateway);
        assert_eq!(holders.of(port), Some(&own));
        drop((client, listener));
        holders.look(&[port], gateway);
        assert_eq!(holders.of(port), Some(&own), "it closed the connection, and is there");
        holders.look(&[], gateway);
        assert_eq!(holders.of(port), None, "the client is gone");
    }
}
