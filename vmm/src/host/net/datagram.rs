//! Datagrams: as many in one call as there are, and as fit.
//!
//! Rule: a datagram is sent whole or not at all, and received whole: no call begins to receive one unless
//! the largest that there can be fits the reply.

use std::net::SocketAddr;

use abi::{DatagramHeader, Errno, SocketAddress};
use rustix::io::Errno as Os;
use rustix::net::{RecvFlags, SendFlags, recvfrom, send, sendto};
use zerocopy::IntoBytes as _;

use super::super::Answer;
use super::super::errno::refusal;
use super::{Granted, Socket, address};

/// Longest UDP payload: the field that tells the length has 16 bits (RFC 768).
const DATAGRAM_BYTES_MAX: usize = u16::MAX as usize;

impl Granted {
    /// Sends datagrams until there is no more, or one cannot be sent. The answer tells how many were.
    ///
    /// # Errors
    ///
    /// Why the first was not sent; [`Errno::Invalid`] if there is none, or one is broken off.
    pub(in crate::host) fn send(
        &self,
        socket: &Socket<'_>,
        datagrams: &[u8],
    ) -> Result<Answer, Errno> {
        let (mut sent, mut rest) = (0, datagrams);
        while let Some((header, datagram, others)) = DatagramHeader::split_first(rest) {
            match self.send_one(socket, &header.address, datagram) {
                Ok(()) => sent += 1,
                Err(errno) if sent == 0 => return Err(errno),
                Err(_) => break, // the next call meets it again
            }
            rest = others;
        }
        if sent == 0 { Err(Errno::Invalid) } else { Ok(Answer { value: sent, data_bytes: 0 }) }
    }

    fn send_one(
        &self,
        socket: &Socket<'_>,
        to: &SocketAddress,
        datagram: &[u8],
    ) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = if to.family == [0; 2] {
            send(socket.fd, datagram, flags) // connecting was allowed
        } else {
            let to = address::of(socket.family, to)?;
            self.check(socket, to)?;
            sendto(socket.fd, datagram, flags, &to)
        };
        sent.map(drop).map_err(|os| match os {
            Os::DESTADDRREQ => Errno::NotConnected,
            os => refusal(os),
        })
    }

    /// Receives up to `count` datagrams into `reply`, fewer if there are no more, or no more are sure to
    /// fit.
    ///
    /// # Errors
    ///
    /// [`Errno::Again`] if there is none, [`Errno::Invalid`] for a count of 0, [`Errno::TooBig`] for a
    /// reply that does not hold every datagram.
    pub(in crate::host) fn receive(
        &mut self,
        socket: &Socket<'_>,
        count: u32,
        reply: &mut [u8],
    ) -> Result<Answer, Errno> {
        if count == 0 {
            return Err(Errno::Invalid);
        }
        let mut filled = 0;
        for _ in 0..count {
            let Some(room) = reply.get_mut(filled..) else { break };
            let received = match receive_one(socket, room) {
                Err(errno) if filled == 0 => return Err(errno),
                Err(_) => break,
                Ok((len, from)) => {
                    if self.network.policy.is_a_list() {
                        self.senders.insert((socket.handle, from.ip(), from.port()));
                    }
                    len
                }
            };
            filled += received;
        }
        Ok(Answer::data(filled))
    }
}

/// Receives a datagram to the start of `room`, after its header. Returns the bytes of both, and the sender.
fn receive_one(socket: &Socket<'_>, room: &mut [u8]) -> Result<(usize, SocketAddr), Errno> {
    let (head, body) =
        room.split_at_mut_checked(size_of::<DatagramHeader>()).ok_or(Errno::TooBig)?;
    if body.len() < DATAGRAM_BYTES_MAX {
        return Err(Errno::TooBig);
    }
    let (len, _, from) = recvfrom(socket.fd, body, RecvFlags::DONTWAIT).map_err(refusal)?;
    let from = SocketAddr::try_from(from.ok_or(Errno::Io)?).map_err(refusal)?;
    let bytes = u32::try_from(len).map_err(|_| Errno::Overflow)?.to_le_bytes();
    let header = DatagramHeader { address: address::wire(from), len: bytes };
    head.copy_from_slice(header.as_bytes());
    Ok((size_of::<DatagramHeader>() + len, from))
}
