//! Sockets that a service manager made and hands over, so that they are there before the daemon is, while it restarts
//! and after it.
//!
//! systemd hands them over as descriptors from 3 on, announced by variables; launchd is asked for each by its name in
//! the plist. They are taken once, before any thread is started, because the variables are removed by it: what is
//! inherited is the allow-list of `upstream` alone (S-32), and nobody below may take our sockets for its own. What they
//! may be is for `edge` to judge.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::exit::Failure;

/// What was handed over; nothing, where nobody did.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// For clients.
    pub(crate) tcp: Vec<TcpListener>,
    /// For the owner's own commands.
    pub(crate) owner: Option<UnixListener>,
}

/// Takes what systemd handed over to this very process. `env` are the process's variables.
#[cfg(not(target_os = "macos"))]
pub(crate) fn take(env: &[(String, String)]) -> Result<Handed, Failure> {
    let mut handed = Handed::default();
    // A count without a pid is not systemd's: some parent's variables came down to us, and the descriptors did not.
    if variable(env, "LISTEN_PID").is_none() {
        return Ok(handed);
    }
    let names: Vec<&str> = variable(env, "LISTEN_FDNAMES").map(|names| names.split(':').collect()).unwrap_or_default();
    let mut sockets = listenfd::ListenFd::from_env();
    for index in 0..sockets.len() {
        if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
            handed.tcp.push(listener);
        } else if let (None, Ok(Some(listener))) = (&handed.owner, sockets.take_unix_listener(index)) {
            handed.owner = Some(listener);
        } else {
            let name = names.get(index).copied().filter(|name| !name.is_empty()).unwrap_or("without a name");
            return Err(Failure::config(format!(
                "the service manager handed over a socket ({name}, number {}) that is neither for TCP connections nor \
                 the one unix socket for the owner's commands; see deploy/systemd/trunkline.socket",
                index + 1
            )));
        }
    }
    Ok(handed)
}

/// Asks launchd for the sockets of our plist. Not run by launchd, or without sockets in it: there are none.
#[cfg(target_os = "macos")]
pub(crate) fn take(_env: &[(String, String)]) -> Result<Handed, Failure> {
    use std::os::fd::OwnedFd;

    use service_binding::{Binding, Listener};

    // The library takes every descriptor for a unix socket's; which it is, we know by the name.
    let socket = |name: &str| -> Option<OwnedFd> {
        match Listener::try_from(Binding::try_from(format!("fd://{name}").as_str()).ok()?).ok()? {
            Listener::Unix(listener) => Some(listener.into()),
            _ => None,
        }
    };
    let tcp = ["trunkline-v4", "trunkline-v6"].into_iter().filter_map(socket).map(TcpListener::from).collect();
    Ok(Handed { tcp, owner: socket("trunkline-owner").map(UnixListener::from) })
}

#[cfg(not(target_os = "macos"))]
fn variable<'e>(env: &'e [(String, String)], name: &str) -> Option<&'e str> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_sockets_that_is_not_ours_is_left_alone() {
        let env = [("LISTEN_FDS".to_owned(), "1".to_owned())];
        let handed = take(&env).expect("nothing is wrong");
        assert!(handed.tcp.is_empty() && handed.owner.is_none());
    }
}
