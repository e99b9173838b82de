//! The addresses that the gateway listens on: both loopbacks, and the owner's unix socket.
//!
//! Loopback means `127.0.0.1` and `::1` with the same port: clients resolve `localhost` to either, and a
//! port that is ours on one family and a stranger's on the other would hand the stranger our clients. So
//! both are bound or none, with one exception: a machine without IPv6 has no `::1` for anybody to take.
//!
//! A taken address is asked for again for five seconds, because whoever has it may be about to go.
//!
//! Sockets that a service manager made and handed over ([`Listeners::adopt`], [`OwnerSocket::adopt`]) are taken in
//! place of own ones, if they are no wider than own ones could be. They stay the service manager's: nothing of them is
//! removed or shut down here, so that connections wait in the kernel while no daemon runs.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::time::{Instant, sleep};
use trunkline_config::Listen;

use crate::limits::{BACKLOG, BIND_PATIENCE, BIND_PAUSE};

/// Bound and listening; connections wait in the kernel until [`crate::serve()`] takes them.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<TcpListener>,
}

/// The owner's unix socket, bound. Its file is removed on drop, unless the socket was handed over.
#[derive(Debug)]
pub struct OwnerSocket {
    listener: UnixListener,
    own: Option<PathBuf>,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it, and kept it while we asked again.
    #[error(
        "{address} is taken: another trunkline, or another program, is listening there; stop it or choose another port with `--listen`"
    )]
    InUse {
        /// The address, or the path of the owner's socket.
        address: String,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {address}")]
    Refused {
        /// The address, or the path of the owner's socket.
        address: String,
        /// The system's word.
        source: io::Error,
    },
    /// What was handed over is reachable from other machines (S-1).
    #[error(
        "the service manager handed over {address}, which is reachable from other machines; let its socket unit listen on 127.0.0.1 and [::1]"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// What was handed over has several ports, and only one can be the gateway's own (S-2).
    #[error("the service manager handed over {first} and {second}; let its socket unit use one port for all addresses")]
    Ports {
        /// The first address.
        first: SocketAddr,
        /// One with another port.
        second: SocketAddr,
    },
    /// What was handed over does not listen.
    #[error(
        "the service manager handed over {address}, which is no listening socket; its socket unit needs `Accept=no`"
    )]
    Deaf {
        /// The address.
        address: String,
    },
    /// The configuration names no address.
    #[error("there is no address to listen on; `listen.hosts` is empty")]
    Nowhere,
}

/// Binds all of `listen.hosts` with one port; port 0 picks one that is free on all.
pub async fn bind(listen: &Listen) -> Result<Listeners, BindError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match bind_once(listen) {
            Err(BindError::InUse { .. }) if Instant::now() < deadline => sleep(BIND_PAUSE).await,
            outcome => return outcome,
        }
    }
}

impl BindError {
    /// Whether a restart cannot mend it: somebody has to change the configuration, or the service manager's.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            Self::Exposed { .. } | Self::Ports { .. } | Self::Deaf { .. } | Self::Nowhere => true,
            Self::InUse { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Listeners {
    /// Takes listeners that were handed over, at least one.
    pub fn adopt(handed: Vec<std::net::TcpListener>) -> Result<Self, BindError> {
        let mut tcp: Vec<TcpListener> = Vec::with_capacity(handed.len());
        let mut first: Option<SocketAddr> = None;
        for listener in handed {
            let unusable = |source| BindError::Refused { address: "a socket that was handed over".to_owned(), source };
            let address = listener.local_addr().map_err(unusable)?;
            if !address.ip().is_loopback() {
                return Err(BindError::Exposed { address });
            }
            let first = *first.get_or_insert(address);
            if first.port() != address.port() {
                return Err(BindError::Ports { first, second: address });
            }
            if !rustix::net::sockopt::socket_acceptconn(&listener).map_err(|error| unusable(error.into()))? {
                return Err(BindError::Deaf { address: address.to_string() });
            }
            listener.set_nonblocking(true).map_err(unusable)?;
            tcp.push(TcpListener::from_std(listener).map_err(unusable)?);
        }
        if tcp.is_empty() { Err(BindError::Nowhere) } else { Ok(Self { tcp }) }
    }

    /// The addresses, with the port that was really taken.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    pub(crate) fn into_tcp(self) -> Vec<TcpListener> {
        self.tcp
    }
}

impl OwnerSocket {
    /// Binds `path`, readable by its owner alone, in a directory of mode 0700 that is made if need be.
    ///
    /// A socket file that nobody listens on is a leftover of a crash and is replaced.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { address: path.display().to_string(), source };
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(refused)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(BindError::InUse { address: path.display().to_string() });
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(refused)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        Ok(Self { listener, own: Some(path.to_owned()) })
    }

    /// Takes a socket that was handed over. Who may open its file is the service manager's to see to; here every peer is
    /// asked who it is.
    pub fn adopt(handed: std::os::unix::net::UnixListener) -> Result<Self, BindError> {
        let address = handed.local_addr().ok().and_then(|address| Some(address.as_pathname()?.display().to_string()));
        let address = address.unwrap_or_else(|| "a nameless unix socket".to_owned());
        let refused = |source| BindError::Refused { address: address.clone(), source };
        if !rustix::net::sockopt::socket_acceptconn(&handed).map_err(|error| refused(error.into()))? {
            return Err(BindError::Deaf { address });
        }
        handed.set_nonblocking(true).map_err(refused)?;
        Ok(Self { listener: UnixListener::from_std(handed).map_err(refused)?, own: None })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.own {
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_once(listen: &Listen) -> Result<Listeners, BindError> {
    let mut tcp: Vec<TcpListener> = Vec::with_capacity(listen.hosts.len());
    let mut port = listen.port;
    for host in &listen.hosts {
        let address = SocketAddr::new(*host, port);
        match bind_address(address) {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |bound| bound.port());
                tcp.push(listener);
            }
            Err(error) if is_absent(*host, &error) && listen.hosts.len() > 1 => {
                tracing::warn!(%address, "this machine has no such address; listening without it");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::InUse { address: address.to_string() });
            }
            Err(source) => return Err(BindError::Refused { address: address.to_string(), source }),
        }
    }
    if tcp.is_empty() { Err(BindError::Nowhere) } else { Ok(Listeners { tcp }) }
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A predecessor's closed connections do not keep the port from us; a listener of anybody's does.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the machine has no IPv6 at all, so that its loopback is nobody's.
fn is_absent(host: IpAddr, error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    host.is_ipv6() && (error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn loopback(port: u16) -> Listen {
        let hosts = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        Listen { port, hosts, ..Listen::default() }
    }

    #[tokio::test]
    async fn g9_r42_both_loopbacks_share_one_port_and_nothing_else_is_bound() {
        let addresses = bind(&loopback(0)).await.expect("a free port").addresses();
        assert_eq!(addresses.len(), 2);
        assert_eq!(addresses[0].port(), addresses[1].port());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = bind_address("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = bind_once(&loopback(address.port())).expect_err("taken");
        assert!(matches!(&error, BindError::InUse { address: named } if *named == address.to_string()), "{error}");
        assert!(error.to_string().contains("another trunkline"));
    }

    #[tokio::test]
    async fn the_owners_socket_is_private_and_replaces_a_leftover() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state/trunkline.sock");
        let first = OwnerSocket::bind(&path).expect("free");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a parent"))), (0o600, 0o700));
        assert!(matches!(OwnerSocket::bind(&path), Err(BindError::InUse { .. })));
        drop(first);
        // What a crash leaves behind: the file without a listener.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("free"));
        assert!(path.exists());
        assert!(OwnerSocket::bind(&path).is_ok());
        assert!(!path.exists(), "its owner removes it");
    }

    #[tokio::test]
    async fn r4_what_was_handed_over_is_taken_if_it_is_loopback_on_one_port_and_listens() {
        let bound = |address: &str| std::net::TcpListener::bind(address).expect("a free port");
        let v4 = bound("127.0.0.1:0");
        let port = v4.local_addr().expect("bound").port();
        let adopted = Listeners::adopt(vec![v4, bound(&format!("[::1]:{port}"))]).expect("fine");
        assert_eq!(adopted.addresses().iter().map(SocketAddr::port).collect::<Vec<_>>(), [port, port]);
        let error = Listeners::adopt(vec![bound("0.0.0.0:0")]).expect_err("S-1");
        assert!(matches!(error, BindError::Exposed { .. }) && error.is_of_configuration());
        let error = Listeners::adopt(vec![bound("127.0.0.1:0"), bound("127.0.0.1:0")]).expect_err("two ports");
        assert!(matches!(error, BindError::Ports { .. }));
        let deaf = silent();
        let error = Listeners::adopt(vec![deaf]).expect_err("nobody listens");
        assert!(matches!(error, BindError::Deaf { .. }));
        assert!(matches!(Listeners::adopt(Vec::new()), Err(BindError::Nowhere)));
    }

    /// Bound, and not listening.
    fn silent() -> std::net::TcpListener {
        use rustix::net::{AddressFamily, SocketType, bind, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        socket.into()
    }

    #[tokio::test]
    async fn r4_a_socket_of_the_service_manager_keeps_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("trunkline.sock");
        let managers = std::os::unix::net::UnixListener::bind(&path).expect("free");
        drop(OwnerSocket::adopt(managers.try_clone().expect("a descriptor")).expect("fine"));
        assert!(path.exists());
        assert!(UnixStream::connect(&path).is_ok(), "it waits in the kernel");
    }
}
