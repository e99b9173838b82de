//! Who listens at an address of this machine, as the kernel's tables have it. Elsewhere than on Linux nobody is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket that connections to an address may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Whose it is.
    pub(crate) uid: u32,
    /// Its number, by which its process can be found.
    pub(crate) inode: u64,
}

/// The sockets that listen at an address, those that do at all addresses included.
pub(crate) fn at(address: SocketAddr) -> Vec<Listening> {
    let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    of(&[table("/proc/net/tcp"), table("/proc/net/tcp6")].concat(), address)
}

/// Another user, neither this one nor root, who listens at an address: what is sent there is his to read (S-7).
pub(crate) fn stranger(address: SocketAddr) -> Option<u32> {
    let own = rustix::process::geteuid().as_raw();
    at(address).into_iter().map(|listening| listening.uid).find(|uid| *uid != own && *uid != 0)
}

fn of(tables: &str, address: SocketAddr) -> Vec<Listening> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, uid, _, inode, ..] = columns[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        let is_there = state == LISTEN && u16::from_str_radix(port, 16).ok()? == address.port();
        (is_there && reaches(parsed(ip)?, address.ip()))
            .then_some(Listening { uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    tables.lines().filter_map(row).collect()
}

/// Whether a socket that listens at `bound` is reached at `ip`. One at all addresses of IPv6 mostly is by IPv4 as well.
fn reaches(bound: IpAddr, ip: IpAddr) -> bool {
    bound.is_unspecified() && (bound.is_ipv6() || ip.is_ipv4()) || bound.to_canonical() == ip.to_canonical()
}

/// An address as the tables write it: words of 32 bits, each in the order of the machine's bytes.
fn parsed(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    const TABLES: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1880 0100007F:1880 01 00000000:00000000 00:00000000 00000000  1000        0 11 1
   1: 0100007F:187E 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1
   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4712 1
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:187E 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 4713 1
   1: 00000000000000000000000000000000:2382 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 4714 1
";

    #[test]
    fn the_kernels_tables_say_who_listens_where() {
        let at = |address: &str| {
            let found = of(TABLES, address.parse().expect("an address"));
            found.into_iter().map(|listening| (listening.uid, listening.inode)).collect::<Vec<_>>()
        };
        assert_eq!(at("127.0.0.1:6270"), [(1000, 4711)]);
        assert_eq!(at("[::1]:6270"), [(1002, 4713)], "the same port of another address is another's");
        assert_eq!(at("127.0.0.2:6270"), []);
        assert_eq!(at("127.0.0.1:6272"), [], "that one is connected");
        assert_eq!(at("127.0.0.1:8080"), [(1001, 4712)], "at all addresses");
        assert_eq!(at("[::1]:8080"), []);
        assert_eq!(at("127.0.0.1:9090"), [(1003, 4714)], "at all of both kinds");
    }

    #[test]
    fn ones_own_listener_is_no_stranger() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        assert_eq!((at(address).len(), stranger(address)), (1, None));
    }
}
