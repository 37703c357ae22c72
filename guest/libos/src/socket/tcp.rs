//! TCP sockets.
//!
//! Invariant: the host has bound, connects or listens from the `start-` call on; the `finish-` call
//! acknowledges it, and only then is the socket in the state that it started for. A socket whose
//! attempt to connect failed is closed, and answers with the reason ever after.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::{
    Direction, Errno, Family, Request, SocketAddress, SocketKind, SocketOption, poll_events,
};

use super::{
    ANY_PROGRESS, Refusal, Socket, check_family, check_remote, check_unicast, own, port_exhaustion,
};
use crate::call::Calls;
use crate::output::Outputs;
use crate::poll::Pollable;
use crate::stream::{InputStream, OutputStream};

/// Connections that wait to be accepted, where the program does not say how many may.
const BACKLOG: u32 = 128;

/// A TCP socket.
#[derive(Debug)]
pub struct TcpSocket {
    socket: Socket,
    state: State,
    backlog: u32,
}

#[derive(Debug)]
enum State {
    Unbound,
    BindInProgress,
    Bound,
    ListenInProgress,
    Listening,
    /// With how it went, where that is known.
    ConnectInProgress(Option<Result<(), Errno>>),
    Connected(Ends),
    /// For this reason.
    Closed(Errno),
}

/// What of a connection was shut down.
#[derive(Debug, Default)]
struct Ends {
    receive: Arc<AtomicBool>,
    send: Arc<AtomicBool>,
}

/// A connection's streams.
pub(crate) type Streams = (InputStream, OutputStream);

impl TcpSocket {
    /// A socket that is not bound.
    ///
    /// # Errors
    ///
    /// [`Errno::Access`] without a network, and what socket(2) may fail with.
    pub(crate) fn open(calls: &Calls, family: Family) -> Result<Self, Errno> {
        let socket = Socket::open(calls, family, SocketKind::Stream)?;
        Ok(Self { socket, state: State::Unbound, backlog: BACKLOG })
    }

    pub(crate) fn start_bind(&mut self, local: SocketAddress) -> Result<(), Refusal> {
        self.refuse_in_progress()?;
        let State::Unbound = self.state else { return Err(Refusal::InvalidState) };
        check_unicast(&local)?;
        check_family(self.socket.family(), &local)?;
        self.socket.bind(local)?;
        self.state = State::BindInProgress;
        Ok(())
    }

    pub(crate) fn finish_bind(&mut self) -> Result<(), Refusal> {
        let State::BindInProgress = self.state else { return Err(Refusal::NotInProgress) };
        self.state = State::Bound;
        Ok(())
    }

    /// Begins to connect. What the host refuses at once is told by
    /// [`finish_connect`](Self::finish_connect), as what it refuses later.
    pub(crate) fn start_connect(&mut self, remote: SocketAddress) -> Result<(), Refusal> {
        self.refuse_in_progress()?;
        let is_bound = match self.state {
            State::Unbound => false,
            State::Bound => true,
            _ => return Err(Refusal::InvalidState),
        };
        check_unicast(&remote)?;
        check_remote(&remote)?;
        check_family(self.socket.family(), &remote)?;
        self.state = State::ConnectInProgress(match self.socket.connect(remote) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(errno) if is_bound => Some(Err(errno)),
            Err(errno) => Some(Err(port_exhaustion(errno))),
        });
        Ok(())
    }

    /// Ends to connect.
    ///
    /// # Errors
    ///
    /// [`Errno::Again`] while it goes on.
    pub(crate) fn finish_connect(&mut self) -> Result<Streams, Refusal> {
        let State::ConnectInProgress(outcome) = self.state else {
            return Err(Refusal::NotInProgress);
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None if !self.socket.is_ready(poll_events::WRITE)? => return Err(Errno::Again.into()),
            None => self.socket.option(SocketOption::Error).map(drop),
        };
        match outcome {
            Ok(()) => Ok(self.connected()),
            Err(errno) => {
                self.state = State::Closed(errno);
                Err(errno.into())
            }
        }
    }

    pub(crate) fn start_listen(&mut self) -> Result<(), Refusal> {
        self.refuse_in_progress()?;
        let State::Bound = self.state else { return Err(Refusal::InvalidState) };
        self.listen(self.backlog)?;
        self.state = State::ListenInProgress;
        Ok(())
    }

    pub(crate) fn finish_listen(&mut self) -> Result<(), Refusal> {
        let State::ListenInProgress = self.state else { return Err(Refusal::NotInProgress) };
        self.state = State::Listening;
        Ok(())
    }

    /// Takes a connection.
    ///
    /// # Errors
    ///
    /// [`Errno::Again`] while there is none; [`Errno::ConnectionAborted`] for one that ended before.
    pub(crate) fn accept(&mut self) -> Result<(Self, Streams), Refusal> {
        let State::Listening = self.state else { return Err(Refusal::InvalidState) };
        let accepted = self.socket.call(&Request::Accept { handle: self.socket.get() });
        let handle = accepted.map_err(|errno| match errno {
            // Linux tells here what befell the connection since (accept(2)).
            Errno::ConnectionReset | Errno::Unreachable | Errno::NotSupported => {
                Errno::ConnectionAborted
            }
            errno => errno,
        })?;
        let handle = own(self.socket.handle.calls(), handle)?;
        let socket = Socket { handle, family: self.socket.family() };
        let mut accepted = Self { socket, state: State::Unbound, backlog: BACKLOG };
        let streams = accepted.connected();
        Ok((accepted, streams))
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddress, Refusal> {
        match self.state {
            State::Unbound | State::BindInProgress => Err(Refusal::InvalidState),
            State::Closed(errno) => Err(errno.into()),
            State::Bound
            | State::ListenInProgress
            | State::Listening
            | State::ConnectInProgress(_)
            | State::Connected(_) => Ok(self.socket.address(false)?),
        }
    }

    pub(crate) fn remote_address(&self) -> Result<SocketAddress, Refusal> {
        match self.state {
            State::Connected(_) => Ok(self.socket.address(true)?),
            State::Closed(errno) => Err(errno.into()),
            _ => Err(Refusal::InvalidState),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening)
    }

    pub(crate) fn family(&self) -> Family {
        self.socket.family()
    }

    /// Sets how many connections may wait to be accepted.
    pub(crate) fn set_backlog(&mut self, backlog: u64) -> Result<(), Refusal> {
        if backlog == 0 {
            return Err(Errno::Invalid.into());
        }
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX).min(i32::MAX as u32);
        match self.state {
            State::Unbound | State::BindInProgress | State::Bound => {}
            State::ListenInProgress | State::Listening => self.listen(backlog)?,
            State::ConnectInProgress(_) | State::Connected(_) => return Err(Refusal::InvalidState),
            State::Closed(errno) => return Err(errno.into()),
        }
        self.backlog = backlog;
        Ok(())
    }

    pub(crate) fn option(&self, option: SocketOption) -> Result<u64, Refusal> {
        self.refuse_closed()?;
        Ok(self.socket.option(option)?)
    }

    /// As [`Socket::set_option`].
    pub(crate) fn set_option(&self, option: SocketOption, value: u64) -> Result<(), Refusal> {
        self.refuse_closed()?;
        Ok(self.socket.set_option(option, value)?)
    }

    /// Ends directions of a connection: what is received from then on is nobody's, and what was written
    /// is sent before the end.
    pub(crate) fn shutdown(
        &self,
        outputs: &mut Outputs,
        direction: Direction,
    ) -> Result<(), Refusal> {
        let State::Connected(ends) = &self.state else { return Err(Refusal::InvalidState) };
        let handle = &self.socket.handle;
        if matches!(direction, Direction::Receive | Direction::Both)
            && !ends.receive.swap(true, Ordering::Relaxed)
        {
            let direction = Direction::Receive;
            unless_over(self.socket.call(&Request::Shutdown { handle: handle.get(), direction }))?;
        }
        if matches!(direction, Direction::Send | Direction::Both)
            && !ends.send.swap(true, Ordering::Relaxed)
        {
            unless_over(outputs.end(handle))?;
        }
        Ok(())
    }

    /// Ready when whatever is in progress can be finished, and when a connection can be accepted.
    ///
    /// The kernel's events say it in every state: a socket that does nothing is hung up (tcp(7)), one that
    /// connects is writable at the end of that, and one that listens is only ever readable.
    pub(crate) fn pollable(&self) -> Pollable {
        Pollable::Handle(self.socket.get(), ANY_PROGRESS)
    }

    fn connected(&mut self) -> Streams {
        let ends = Ends::default();
        let input = InputStream::of_socket(Arc::clone(&self.socket.handle), &ends.receive);
        let output = OutputStream::of_socket(Arc::clone(&self.socket.handle), &ends.send);
        self.state = State::Connected(ends);
        (input, output)
    }

    fn listen(&self, backlog: u32) -> Result<(), Errno> {
        self.socket.call(&Request::Listen { handle: self.socket.get(), backlog })?;
        Ok(())
    }

    fn refuse_in_progress(&self) -> Result<(), Refusal> {
        match self.state {
            State::BindInProgress | State::ListenInProgress | State::ConnectInProgress(_) => {
                Err(Refusal::ConcurrencyConflict)
            }
            State::Unbound
            | State::Bound
            | State::Listening
            | State::Connected(_)
            | State::Closed(_) => Ok(()),
        }
    }

    fn refuse_closed(&self) -> Result<(), Refusal> {
        match self.state {
            State::Closed(errno) => Err(errno.into()),
            _ => Ok(()),
        }
    }
}

/// A connection that its peer has ended needs no end.
fn unless_over<T>(result: Result<T, Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NotConnected | Errno::ConnectionReset | Errno::BrokenPipe) => Ok(()),
        result => result.map(drop),
    }
}
