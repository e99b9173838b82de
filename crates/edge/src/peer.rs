//! [`Peers`]: whether the process at the other end of a loopback connection may speak to us (S-5, S-7).
//!
//! Every local user can reach a loopback port. On Linux the kernel tells whose socket the other end is
//! (`NETLINK_SOCK_DIAG`, which needs no privilege), so nobody has to configure anything: the daemon's own
//! user and root pass, others are refused. The lookup takes a few microseconds, once per connection and
//! before its first request. Where the kernel has no such facility the daemon says so once and relies on
//! loopback and the checks of `guard`, as it does on macOS. Where the facility is there, a single lookup
//! that fails is a refusal: it must not be possible to get in by making it fail.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::strain;

/// What is known about the user at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The daemon's own user or root, or nobody can tell on this system.
    Permitted,
    /// Another user, or a lookup that failed.
    Stranger,
    /// Nobody knows, since there was no descriptor left to ask the kernel with.
    Unasked,
    /// Another machine, of whose users nobody knows: a token has to tell.
    Remote,
}

/// How a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// The gateway's port that it came by; another one may be in use since.
    pub(crate) port: u16,
    /// Where from.
    pub(crate) address: IpAddr,
    /// The port of this machine that it came from; 0: of another machine.
    pub(crate) from: u16,
}

impl Arrival {
    /// A connection from `remote` that was accepted at `local`.
    pub(crate) fn of(peer: Peer, remote: SocketAddr, local: SocketAddr) -> Self {
        let address = remote.ip();
        let from = if address.to_canonical().is_loopback() { remote.port() } else { 0 };
        Self { peer, port: local.port(), address, from }
    }
}

/// The inode of the socket at port `from` of this machine that is connected to the gateway's `port`, if the kernel tells.
pub(crate) fn socket_of(from: u16, port: u16) -> Option<u32> {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .into_iter()
        .find_map(|host| os::look_up(SocketAddr::new(host, from), SocketAddr::new(host, port)).ok())
        .map(|socket| socket.inode)
}

/// What the kernel says of a socket.
struct Socket {
    uid: u32,
    inode: u32,
}

/// The kernel's word, or the knowledge that there is none to be had.
#[derive(Debug)]
pub(crate) enum Peers {
    /// Every connection is looked up.
    Asked {
        /// The daemon's own user.
        own: u32,
    },
    /// Everyone who gets through to the listener passes; the text says why.
    Unknown {
        /// For the log and for health.
        reason: String,
    },
}

impl Peers {
    /// Finds out, by looking up a connection of our own, whether the kernel answers.
    pub(crate) fn probe() -> Self {
        match os::probe() {
            Ok(own) => Self::Asked { own },
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "other users of this machine cannot be told apart; set `auth.tokens` if there are any"
                );
                Self::Unknown { reason }
            }
        }
    }

    /// Decides about the connection from `remote` that was accepted at `local`.
    pub(crate) fn judge(&self, remote: SocketAddr, local: SocketAddr) -> Peer {
        let far = !remote.ip().to_canonical().is_loopback();
        let Self::Asked { own } = self else { return if far { Peer::Remote } else { Peer::Permitted } };
        match os::look_up(remote, local).map(|socket| socket.uid) {
            Ok(uid) if uid == *own || uid == 0 => Peer::Permitted,
            Ok(uid) => {
                tracing::warn!(uid, "a connection by another user of this machine was refused");
                Peer::Stranger
            }
            // Not a socket of this machine's: the kernel knows all of those, at whatever address.
            Err(_) if far => Peer::Remote,
            Err(error) => refused(&error),
        }
    }

    /// Why users cannot be told apart, if so.
    pub(crate) fn unknown_reason(&self) -> Option<&str> {
        match self {
            Self::Asked { .. } => None,
            Self::Unknown { reason } => Some(reason),
        }
    }
}

/// What becomes of a connection from this machine whose user the kernel did not tell.
fn refused(error: &io::Error) -> Peer {
    if strain::is_for_want_of_descriptors(error) {
        return Peer::Unasked;
    }
    // Whoever opens a connection and leaves, as a client that is closed, needs no answer either.
    if error.kind() == io::ErrorKind::NotConnected || error.kind() == io::ErrorKind::NotFound {
        tracing::debug!(%error, "a connection was over before its user was looked up");
    } else {
        tracing::warn!(%error, "a connection was refused, because its user could not be looked up");
    }
    Peer::Stranger
}

#[cfg(target_os = "linux")]
mod os {
    use std::io;
    use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with,
    };

    use super::Socket;

    // Numbers of the kernel's interface: linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const IPPROTO_TCP: u8 = 6;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const ALL_STATES: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];

    const HEADER_BYTES: usize = 16;
    const REQUEST_BYTES: usize = HEADER_BYTES + 56;
    /// Family, state, timer, retransmissions.
    const ID_AT: usize = HEADER_BYTES + 4;
    const PORTS_BYTES: usize = 4;
    /// Behind the 48 bytes of the socket's id stand expiry and both queues.
    const UID_AT: usize = ID_AT + 48 + 12;
    const INODE_AT: usize = UID_AT + 4;

    /// Far beyond what the kernel needs, which answers before the send returns.
    const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

    /// Looks up a connection of our own and returns our uid if that worked.
    pub(super) fn probe() -> Result<u32, String> {
        let own = rustix::process::geteuid().as_raw();
        let looked_up = (|| {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let client = TcpStream::connect(listener.local_addr()?)?;
            Ok::<_, io::Error>(look_up(client.local_addr()?, client.peer_addr()?)?.uid)
        })();
        match looked_up {
            Ok(uid) if uid == own => Ok(own),
            Ok(uid) => Err(format!("the kernel names uid {uid} for a socket of our own, which has {own}")),
            Err(error) => Err(format!("the kernel does not tell whose a socket is: {error}")),
        }
    }

    /// Returns the uid of the process that holds the socket bound to `remote` and connected to `local`, and its inode.
    pub(super) fn look_up(remote: SocketAddr, local: SocketAddr) -> io::Result<Socket> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        sendto(&socket, &question(remote, local), SendFlags::empty(), &kernel)?;
        let mut answer = [0_u8; 512];
        let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        read(&answer[..length.min(answer.len())], remote, local)
    }

    /// Writes `nlmsghdr` and `inet_diag_req_v2` for one exact connection, seen from the peer's side.
    fn question(remote: SocketAddr, local: SocketAddr) -> [u8; REQUEST_BYTES] {
        let mut out = [0_u8; REQUEST_BYTES];
        let length = u32::try_from(REQUEST_BYTES).expect("a small constant");
        out[0..4].copy_from_slice(&length.to_ne_bytes());
        out[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        out[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        out[16] = if canonical(remote.ip()).is_ipv4() { AF_INET } else { AF_INET6 };
        out[17] = IPPROTO_TCP;
        out[20..24].copy_from_slice(&ALL_STATES.to_ne_bytes());
        out[24..26].copy_from_slice(&remote.port().to_be_bytes());
        out[26..28].copy_from_slice(&local.port().to_be_bytes());
        write_ip(remote.ip(), &mut out[28..44]);
        write_ip(local.ip(), &mut out[44..60]);
        // out[60..64]: any interface.
        out[64..72].copy_from_slice(&NO_COOKIE);
        out
    }

    /// Reads uid and inode out of the kernel's answer.
    ///
    /// A closed socket has no owner any more, and the kernel fills in uid 0 then, as it does for one that
    /// lingers in time-wait: without the check of the inode anyone would pass for root by closing early.
    /// The ports are compared because a lookup may fall back to a listener.
    fn read(answer: &[u8], remote: SocketAddr, local: SocketAddr) -> io::Result<Socket> {
        let kind = u16_at(answer, 4).ok_or_else(|| short(answer))?;
        if kind != SOCK_DIAG_BY_FAMILY {
            let errno = u32_at(answer, HEADER_BYTES).map_or(0, u32::cast_signed);
            return Err(io::Error::from_raw_os_error(-errno));
        }
        let mut ports = [0_u8; PORTS_BYTES];
        ports[..2].copy_from_slice(&remote.port().to_be_bytes());
        ports[2..].copy_from_slice(&local.port().to_be_bytes());
        let (Some(uid), Some(inode)) = (u32_at(answer, UID_AT), u32_at(answer, INODE_AT)) else {
            return Err(short(answer));
        };
        if answer[ID_AT..ID_AT + PORTS_BYTES] != ports {
            return Err(io::Error::other("the kernel described another socket"));
        }
        if inode == 0 {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the peer has closed its socket"));
        }
        Ok(Socket { uid, inode })
    }

    /// An IPv6 socket that reached us over IPv4 shows a mapped address; the kernel files it under IPv4.
    fn canonical(ip: IpAddr) -> IpAddr {
        ip.to_canonical()
    }

    fn write_ip(ip: IpAddr, out: &mut [u8]) {
        match canonical(ip) {
            IpAddr::V4(ip) => out[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.copy_from_slice(&ip.octets()),
        }
    }

    fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    }

    fn short(answer: &[u8]) -> io::Error {
        io::Error::other(format!("the kernel's answer is cut short at {} bytes", answer.len()))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn pair(host: &str) -> (TcpStream, TcpStream) {
            let listener = TcpListener::bind((host, 0)).expect("a free port");
            let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
            (client, listener.accept().expect("connected").0)
        }

        fn look(server: &TcpStream) -> io::Result<u32> {
            look_up(server.peer_addr().expect("connected"), server.local_addr().expect("connected")).map(|it| it.uid)
        }

        #[test]
        fn the_kernel_names_our_own_uid_on_both_families() {
            for host in ["127.0.0.1", "::1"] {
                let (_client, server) = pair(host);
                assert_eq!(look(&server).ok(), Some(rustix::process::geteuid().as_raw()), "{host}");
            }
        }

        #[test]
        fn a_v6_socket_that_came_over_v4_is_found() {
            let listener = TcpListener::bind("[::]:0").expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            let _client = TcpStream::connect(("127.0.0.1", port)).expect("listening");
            let server = listener.accept().expect("connected").0;
            assert!(server.peer_addr().expect("connected").ip().is_ipv6(), "the address is mapped");
            assert_eq!(look(&server).ok(), Some(rustix::process::geteuid().as_raw()));
        }

        #[test]
        fn a_peer_that_has_gone_is_not_taken_for_root() {
            let (client, server) = pair("127.0.0.1");
            drop(client);
            assert!(look(&server).is_err());
        }

        #[test]
        fn a_connection_that_never_was_has_no_owner() {
            let remote: SocketAddr = "127.0.0.1:1".parse().expect("an address");
            assert!(look_up(remote, "127.0.0.1:2".parse().expect("an address")).is_err());
        }

        #[test]
        fn an_answer_about_another_socket_or_cut_short_is_an_error() {
            let remote: SocketAddr = "127.0.0.1:10".parse().expect("an address");
            let local: SocketAddr = "127.0.0.1:20".parse().expect("an address");
            let mut answer = vec![0_u8; INODE_AT + 4];
            answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            answer[INODE_AT] = 1;
            assert!(read(&answer, remote, local).is_err(), "its ports are not those asked for");
            answer[ID_AT..ID_AT + 4].copy_from_slice(&[0, 10, 0, 20]);
            assert_eq!(read(&answer, remote, local).ok().map(|it| (it.uid, it.inode)), Some((0, 1)));
            for length in 0..answer.len() {
                assert!(read(&answer[..length], remote, local).is_err(), "{length} bytes");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use std::io;
    use std::net::SocketAddr;

    use super::Socket;

    pub(super) fn probe() -> Result<u32, String> {
        Err("this system does not tell whose a loopback connection is".to_owned())
    }

    pub(super) fn look_up(_remote: SocketAddr, _local: SocketAddr) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_only_the_own_user_and_root_pass() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (remote, local) = (client.local_addr().expect("bound"), client.peer_addr().expect("connected"));
        let Peers::Asked { own } = Peers::probe() else { return };
        assert_eq!(Peers::Asked { own }.judge(remote, local), Peer::Permitted);
        let other = Peers::Asked { own: own.wrapping_add(1) }.judge(remote, local);
        // Root passes whoever the daemon is.
        assert_eq!(other, if own == 0 { Peer::Permitted } else { Peer::Stranger });
        drop((client, listener));
        assert_eq!(Peers::Asked { own }.judge(remote, local), Peer::Stranger);
        assert_eq!(Peers::Unknown { reason: String::new() }.judge(remote, local), Peer::Permitted);
    }

    #[test]
    fn s7_a_user_who_cannot_be_looked_up_for_want_of_descriptors_is_no_stranger_and_not_let_in() {
        assert_eq!(refused(&rustix::io::Errno::MFILE.into()), Peer::Unasked);
        assert_eq!(refused(&rustix::io::Errno::PERM.into()), Peer::Stranger);
    }
}
