//! Where the daemon would listen: is it free, and who has it if not.
//!
//! Nothing is connected to before the holder is known: a connection to a socket of the service manager would start the
//! daemon.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use trunkline_config::Listen;

use super::report::{Finding, Mark, Report};
use crate::{listening, live, service};

/// Looks at each address while no daemon of this state directory runs.
pub(super) async fn examine(listen: &Listen, report: &mut Report) {
    if listen.port == 0 {
        return report.note("port", Mark::Well, "the system chooses one");
    }
    let mut findings = Vec::new();
    let mut held = false;
    for host in &listen.hosts {
        let address = SocketAddr::new(*host, listen.port);
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => match holder(address) {
                // Its sockets are there before the daemon is.
                Some(holder) if holder.name == "systemd" => held = true,
                holder => findings.push(taken(address, holder).await),
            },
            // The daemon goes on without it, as long as there is another.
            Err(_) if host.is_ipv6() && listen.hosts.len() > 1 && service::is_absent(*host) => {}
            Err(error) => {
                let says = format!("{address} cannot be listened at: {error}");
                let advice = "Name the addresses that this machine has in `[listen] hosts`.";
                findings.push(Finding::error("TL-LISTEN", says, advice).by("trunkline check"));
            }
        }
    }
    let says = match (findings.is_empty(), held) {
        (true, true) => format!("{} is held by the service manager, which starts the daemon", listen.port),
        (true, false) => format!("{} is free", listen.port),
        (false, _) => format!("{} cannot be had", listen.port),
    };
    report.part("port", says, findings);
}

async fn taken(address: SocketAddr, holder: Option<Holder>) -> Finding {
    if let Ok(pid) = live::ask(address).await {
        let says = format!("{address} is held by another trunkline (pid {pid}), with another state directory");
        let advice = "Stop that one, or look at it with its XDG_STATE_HOME.";
        return Finding::error("TL-PORT-TAKEN", says, advice).by(format!("kill {pid}"));
    }
    let advice = "Stop that program, or set another `port` in `[listen]`; clients have to be given the same one.";
    match holder {
        Some(Holder { name, pid }) => {
            let says = format!("{address} is held by `{name}` (pid {pid})");
            Finding::error("TL-PORT-TAKEN", says, advice).by(format!("ps -o pid,user,args -p {pid}"))
        }
        None => Finding::error("TL-PORT-TAKEN", format!("{address} is held by another program"), advice)
            .by(format!("lsof -nP -iTCP:{} -sTCP:LISTEN", address.port())),
    }
}

/// A process that listens.
struct Holder {
    name: String,
    pid: u32,
}

/// Who listens at an address, where the system tells and it is a process that we may look into.
fn holder(address: SocketAddr) -> Option<Holder> {
    let inode = listening::at(address).first()?.inode;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let mut files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        files.find(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.to_string_lossy() == socket))?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(Holder { name: name.trim().to_owned(), pid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r41_a_taken_port_is_told_with_who_has_it() {
        let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = stranger.local_addr().expect("bound");
        let listen = Listen { port: address.port(), hosts: vec![address.ip()], ..Listen::default() };
        // Whoever connects is cut off.
        let cutting = std::thread::spawn(move || drop(stranger.accept()));
        let mut report = Report::default();
        examine(&listen, &mut report).await;
        let [finding] = &report.findings[..] else { panic!("{report:?}") };
        assert_eq!(finding.code, "TL-PORT-TAKEN");
        if cfg!(target_os = "linux") {
            assert!(finding.says.contains(&format!("(pid {})", std::process::id())), "{finding:?}");
        }
        cutting.join().expect("cut");
    }
}
