//! How a command and its three pipes are handed from process to process.
//!
//! The daemon hands them to the guard, and the guard to the stage that becomes the command. They travel over the
//! socket that is the receiver's stdin, with the pipes attached as ancillary data. So no descriptor but 0, 1 and 2 is
//! ever inherited (S-32), nothing has to be marked inheritable while other threads may spawn, and the guard's
//! command line shows no argument of the server's.
//!
//! Wire form: the length of the rest in four bytes, big end first, then program and arguments, each ended by NUL.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// More than any system takes as arguments; what is longer is no order of ours.
const ORDER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A program and its arguments.
pub(super) type Argv = Vec<OsString>;

/// Sends `argv` and the descriptors that are to be its stdin, stdout and stderr.
pub(super) fn hand_over<'a>(
    mut socket: &UnixStream,
    argv: impl IntoIterator<Item = &'a OsStr>,
    pipes: [BorrowedFd<'_>; 3],
) -> io::Result<()> {
    let order = encode(argv)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&pipes));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(&order)], &mut control, SendFlags::empty())?;
    socket.write_all(&order[sent..])
}

/// Takes over what [`hand_over`] sent.
pub(super) fn take_over(mut socket: &UnixStream) -> io::Result<(Argv, [OwnedFd; 3])> {
    let mut length = [0_u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::empty())?.bytes;
    let pipes: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(pipes) = message { Some(pipes) } else { None })
        .flatten()
        .collect();
    // Set by hand, because not every system can do so on receipt. Nobody spawns here yet.
    pipes.iter().try_for_each(|pipe| rustix::io::fcntl_setfd(pipe, FdFlags::CLOEXEC))?;
    socket.read_exact(&mut length[received..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ORDER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the order is too long"));
    }
    let mut order = vec![0; length];
    socket.read_exact(&mut order)?;
    let argv = order.split_inclusive(|byte| *byte == 0).map(|item| OsString::from_vec(item[..item.len() - 1].to_vec()));
    let incomplete = || io::Error::new(io::ErrorKind::InvalidData, "the order came without its three pipes");
    Ok((argv.collect(), pipes.try_into().map_err(|_| incomplete())?))
}

/// The program file of this process, good for running it once more even after an upgrade replaced it.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// Takes the socket that this process got as stdin, and leaves an empty stdin in its place.
pub(super) fn take_stdin_socket() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?.as_fd())?;
    Ok(UnixStream::from(socket))
}

/// Closes all descriptors but 0, 1 and 2. For a process that has opened none of its own yet.
///
/// The daemon opens none that is inherited, but whoever started the daemon may have left it some.
pub(super) fn close_inherited() -> io::Result<()> {
    // The directory's own descriptor is among them, and closed by the time they are.
    let open: Vec<i32> =
        std::fs::read_dir("/dev/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in open.into_iter().filter(|number| *number > 2) {
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

fn encode<'a>(argv: impl IntoIterator<Item = &'a OsStr>) -> io::Result<Vec<u8>> {
    let mut order = vec![0; 4];
    for item in argv {
        if item.as_bytes().contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "command or argument holds a NUL byte"));
        }
        order.extend_from_slice(item.as_bytes());
        order.push(0);
    }
    let length = order.len() - 4;
    if length > ORDER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, "the arguments are too long"));
    }
    order[..4].copy_from_slice(&u32::try_from(length).expect("checked against the maximum").to_be_bytes());
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_crosses_with_its_pipes() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (mut read, write) = io::pipe().expect("a pipe");
        let argv = ["/bin/x", "", "-y", "ünï\n"].map(OsString::from);
        hand_over(&ours, argv.iter().map(OsString::as_os_str), [read.as_fd(), write.as_fd(), write.as_fd()])
            .expect("handed over");
        drop(write);
        let (got, [_, stdout, stderr]) = take_over(&theirs).expect("taken over");
        assert_eq!(got, argv);
        assert!(rustix::io::fcntl_getfd(&stdout).expect("open").contains(FdFlags::CLOEXEC));
        std::fs::File::from(stdout).write_all(b"through").expect("the pipe is whole");
        drop(stderr);
        let mut text = String::new();
        read.read_to_string(&mut text).expect("ends, since no other writer is left");
        assert_eq!(text, "through");
    }

    #[test]
    fn s33_an_argument_with_nul_is_refused() {
        assert!(encode([OsStr::from_bytes(b"a\0b")]).is_err());
    }
}
