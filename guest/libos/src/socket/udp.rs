//! UDP sockets and their streams of datagrams.
//!
//! Invariant: at most one pair of streams is alive, and it sends to and receives from the peer that it was
//! made for, if it was made for one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::layout::CALL_DATA_BYTES;
use abi::{
    DatagramHeader, Errno, Family, Request, SocketAddress, SocketKind, SocketOption, poll_events,
};

use super::{Refusal, Socket, check_family, check_remote, port_exhaustion};
use crate::call::Calls;
use crate::poll::Pollable;

/// Most datagrams of one call, of the program and of the host.
const DATAGRAMS: usize = 64;

/// Longest datagram: what the length in its header can say (RFC 768).
const DATAGRAM_BYTES: usize = u16::MAX as usize;

/// A UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    state: State,
    association: Arc<Association>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Unbound,
    BindInProgress,
    Bound,
}

/// What a socket shares with its streams.
#[derive(Debug)]
struct Association {
    socket: Arc<Socket>,
    /// The peer to which the socket is connected.
    remote: Option<SocketAddress>,
}

/// Datagrams that arrive.
#[derive(Debug)]
pub struct IncomingDatagrams(Arc<Association>);

/// Datagrams that are sent.
#[derive(Debug)]
pub struct OutgoingDatagrams {
    association: Arc<Association>,
    /// Datagrams that the next call may send.
    permitted: usize,
    /// The host had no room.
    full: bool,
}

/// A datagram and its source.
pub(crate) type Received = (Vec<u8>, SocketAddress);

/// What [`OutgoingDatagrams::send`] sends: bytes, and where to, if not to the peer.
pub(crate) type ToSend = (Vec<u8>, Option<SocketAddress>);

/// More datagrams were to be sent than [`OutgoingDatagrams::permit`] had said, or streams were asked for while
/// there were some.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleBroken(pub(crate) &'static str);

impl UdpSocket {
    /// A socket that is not bound.
    ///
    /// # Errors
    ///
    /// [`Errno::Access`] without a network, and what socket(2) may fail with.
    pub(crate) fn open(calls: &Calls, family: Family) -> Result<Self, Errno> {
        let socket = Arc::new(Socket::open(calls, family, SocketKind::Datagram)?);
        let association = Arc::new(Association { socket, remote: None });
        Ok(Self { state: State::Unbound, association })
    }

    pub(crate) fn start_bind(&mut self, local: SocketAddress) -> Result<(), Refusal> {
        match self.state {
            State::Unbound => {}
            State::BindInProgress => return Err(Refusal::ConcurrencyConflict),
            State::Bound => return Err(Refusal::InvalidState),
        }
        check_family(self.family(), &local)?;
        self.association.socket.bind(local)?;
        self.state = State::BindInProgress;
        Ok(())
    }

    pub(crate) fn finish_bind(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::BindInProgress => self.state = State::Bound,
            State::Unbound | State::Bound => return Err(Refusal::NotInProgress),
        }
        Ok(())
    }

    /// The streams of the socket, for `remote` alone if that is given. The inner result is the interface's.
    ///
    /// # Errors
    ///
    /// The streams that were made before are still there.
    pub(crate) fn stream(
        &mut self,
        remote: Option<SocketAddress>,
    ) -> Result<Result<(IncomingDatagrams, OutgoingDatagrams), Refusal>, RuleBroken> {
        if Arc::strong_count(&self.association) > 1 {
            return Err(RuleBroken("the streams of the socket have not been dropped"));
        }
        Ok(self.associate(remote).map(|()| {
            let association = Arc::clone(&self.association);
            let incoming = IncomingDatagrams(Arc::clone(&association));
            (incoming, OutgoingDatagrams { association, permitted: 0, full: false })
        }))
    }

    fn associate(&mut self, remote: Option<SocketAddress>) -> Result<(), Refusal> {
        self.refuse_unbound()?;
        if let Some(remote) = &remote {
            check_family(self.family(), remote)?;
            check_remote(remote)?;
        }
        let socket = Arc::clone(&self.association.socket);
        let was_connected = self.association.remote.is_some();
        // A socket that cannot be connected is connected to nobody any more.
        self.association = Arc::new(Association { socket: Arc::clone(&socket), remote: None });
        if let Some(remote) = remote {
            socket.connect(remote).map_err(port_exhaustion)?;
            // As the kernel has it: that is what it names the source of datagrams by.
            let remote = Some(socket.address(true)?);
            self.association = Arc::new(Association { socket, remote });
        } else if was_connected {
            socket.connect(SocketAddress::default())?;
        }
        Ok(())
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddress, Refusal> {
        self.refuse_unbound()?;
        Ok(self.association.socket.address(false)?)
    }

    pub(crate) fn remote_address(&self) -> Result<SocketAddress, Refusal> {
        self.association.remote.ok_or(Refusal::InvalidState)
    }

    pub(crate) fn family(&self) -> Family {
        self.association.socket.family()
    }

    pub(crate) fn option(&self, option: SocketOption) -> Result<u64, Refusal> {
        Ok(self.association.socket.option(option)?)
    }

    /// As [`Socket::set_option`].
    pub(crate) fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Refusal> {
        Ok(self.association.socket.set_option(option, value)?)
    }

    /// Ready: what a socket starts is done at once.
    pub(crate) fn pollable(&self) -> Pollable {
        Pollable::Ready
    }

    fn refuse_unbound(&self) -> Result<(), Refusal> {
        if self.state == State::Bound { Ok(()) } else { Err(Refusal::InvalidState) }
    }
}

impl IncomingDatagrams {
    /// Receives up to `max` datagrams: as many as are there, none if there are none.
    pub(crate) fn receive(&self, max: u64) -> Result<Vec<Received>, Refusal> {
        let count = u32::try_from(max.min(DATAGRAMS as u64)).unwrap_or_default();
        let mut received = Vec::new();
        while count > 0 && received.is_empty() {
            match self.receive_some(count, &mut received) {
                Ok(true) => {}
                Ok(false) | Err(Errno::Again | Errno::Interrupted) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(received)
    }

    /// Receives what one call of the host gives, and keeps what is the peer's. Returns whether there was
    /// any.
    fn receive_some(&self, count: u32, received: &mut Vec<Received>) -> Result<bool, Errno> {
        let Association { socket, remote } = &*self.0;
        let request = Request::Receive { handle: socket.get(), count };
        socket.handle.calls().call_for_bytes(&request, |mut data| {
            let mut any = false;
            while let Some((header, datagram, rest)) = DatagramHeader::split_first(data) {
                // What arrived before the socket was connected may be from anybody (connect(2)).
                if remote.is_none_or(|remote| remote == header.address) {
                    received.push((datagram.to_vec(), header.address));
                }
                (any, data) = (true, rest);
            }
            any
        })
    }

    /// Ready when there is a datagram, or an error.
    pub(crate) fn pollable(&self) -> Pollable {
        Pollable::Handle(self.0.socket.get(), poll_events::READ)
    }
}

impl OutgoingDatagrams {
    /// Datagrams that the next call of [`send`](Self::send) takes.
    pub(crate) fn permit(&mut self) -> Result<u64, Refusal> {
        if self.full {
            self.full = !self.association.socket.is_ready(poll_events::WRITE)?;
        }
        self.permitted = if self.full { 0 } else { DATAGRAMS };
        Ok(self.permitted as u64)
    }

    /// Sends datagrams until the first error. Returns how many were sent; an error if the first was not.
    /// The inner result is the interface's.
    ///
    /// # Errors
    ///
    /// They are more than were permitted.
    pub(crate) fn send(
        &mut self,
        datagrams: &[ToSend],
    ) -> Result<Result<u64, Refusal>, RuleBroken> {
        if datagrams.is_empty() {
            return Ok(Ok(0));
        }
        if datagrams.len() > self.permitted {
            return Err(RuleBroken("more datagrams were sent than check-send permitted"));
        }
        self.permitted = 0;
        let mut sent = 0;
        while let Some(rest) = datagrams.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.send_some(rest) {
                Ok(0) => break,
                Ok(some) => sent += some,
                // The next call meets it again.
                Err(_) if sent > 0 => break,
                Err(errno) => return Ok(Err(errno.into())),
            }
        }
        Ok(Ok(sent as u64))
    }

    /// Sends as many datagrams as one call of the host takes. Returns how many; 0 where there is no room.
    fn send_some(&mut self, datagrams: &[ToSend]) -> Result<usize, Errno> {
        let (batch, count) = self.batch(datagrams)?;
        let socket = &self.association.socket;
        match socket.call(&Request::Send { handle: socket.get(), datagrams: &batch }) {
            Err(Errno::Again) => {
                self.full = true;
                Ok(0)
            }
            Err(Errno::Interrupted) => Ok(0),
            sent => Ok(usize::try_from(sent?).unwrap_or(usize::MAX).min(count)),
        }
    }

    /// The first of `datagrams`, up to one that cannot be sent, as they cross. Returns how many they are.
    fn batch(&self, datagrams: &[ToSend]) -> Result<(Vec<u8>, usize), Errno> {
        let head = size_of::<DatagramHeader>();
        let wanted: usize = datagrams.iter().map(|(bytes, _)| head + bytes.len()).sum();
        let mut batch = alloc::vec![0; wanted.min(CALL_DATA_BYTES)];
        let (mut at, mut count) = (0, 0);
        for (bytes, to) in datagrams {
            let address = match self.destination(bytes, to.as_ref()) {
                Err(errno) if count == 0 => return Err(errno),
                Err(_) => break,
                Ok(address) => address,
            };
            let Some(end) = DatagramHeader::write(address, bytes, &mut batch, at) else { break };
            (at, count) = (end, count + 1);
        }
        batch.truncate(at);
        Ok((batch, count))
    }

    /// The address to send to: none for the peer.
    fn destination(
        &self,
        bytes: &[u8],
        to: Option<&SocketAddress>,
    ) -> Result<SocketAddress, Errno> {
        let Association { socket, remote } = &*self.association;
        if bytes.len() > DATAGRAM_BYTES {
            return Err(Errno::MessageTooLarge);
        }
        if let Some(to) = to {
            check_remote(to)?;
            check_family(socket.family(), to)?;
        }
        match (remote, to) {
            (None, Some(to)) => Ok(*to),
            (Some(_), None) => Ok(SocketAddress::default()),
            (Some(remote), Some(to)) if remote == to => Ok(SocketAddress::default()),
            (None, None) | (Some(_), Some(_)) => Err(Errno::Invalid),
        }
    }

    /// Ready when the host has room for a datagram.
    pub(crate) fn pollable(&self) -> Pollable {
        Pollable::Handle(self.association.socket.get(), poll_events::WRITE)
    }
}
