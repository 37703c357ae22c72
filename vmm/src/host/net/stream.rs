//! Stream sockets: accepting, reading, writing.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use abi::{Errno, SocketAddress};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as Os;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recv, send};

use super::super::Answer;
use super::super::errno::refusal;
use super::super::handles::{Object, Role};
use super::{Socket, address};

/// Takes a connection; its peer's address goes to `reply`.
///
/// # Errors
///
/// [`Errno::Again`] if there is none; [`Errno::ConnectionAborted`] if it has ended already, which
/// accept(2) tells with the error of the connection.
pub(in crate::host) fn accept(
    listener: &Socket<'_>,
    reply: &mut [u8],
) -> Result<(Object, Answer), Errno> {
    if reply.len() < size_of::<SocketAddress>() {
        return Err(Errno::TooBig); // before a connection is taken
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = acceptfrom_with(listener.fd, flags).map_err(|os| match os {
        Os::NETDOWN
        | Os::PROTO
        | Os::NOPROTOOPT
        | Os::HOSTDOWN
        | Os::NONET
        | Os::HOSTUNREACH
        | Os::OPNOTSUPP
        | Os::NETUNREACH
        | Os::TIMEDOUT => Errno::ConnectionAborted,
        os => refusal(os),
    })?;
    let peer = peer.ok_or(Errno::ConnectionAborted)?;
    let peer = SocketAddr::try_from(peer).map_err(refusal)?;
    let described = Answer::of(&address::wire(peer), reply)?;
    let role = Role::Socket { family: listener.family, kind: listener.kind };
    Ok((Object { fd: fd.into(), role, read: true, write: true, volume: None }, described))
}

/// Reads what has come into `buffer`, or what will come if `wait`. Returns the bytes read; 0 at the end.
pub(in crate::host) fn read(
    fd: BorrowedFd<'_>,
    wait: bool,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    waiting(fd, PollFlags::IN, wait, || {
        recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(read, _)| read)
    })
}

/// Writes as much of `data` as the socket takes, at least something if `wait`. Returns the bytes written.
pub(in crate::host) fn write(fd: BorrowedFd<'_>, wait: bool, data: &[u8]) -> Result<usize, Errno> {
    waiting(fd, PollFlags::OUT, wait, || send(fd, data, SendFlags::NOSIGNAL | SendFlags::DONTWAIT))
}

/// Makes a call; if it would have to wait and may, again and again after waiting.
fn waiting(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    wait: bool,
    mut call: impl FnMut() -> Result<usize, Os>,
) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Os::AGAIN) if wait => {
                poll(&mut [PollFd::from_borrowed_fd(fd, events)], None).map_err(refusal)?;
            }
            result => return result.map_err(refusal),
        }
    }
}
