//! What the shim and a VMM process say to each other, over one pair of connected sockets.
//!
//! | Says | | With descriptors | Means |
//! |---|---|---|---|
//! | shim | [`Order::Join`] | | join the task's control group |
//! | shim | [`Order::Confine`] | | go where the task is to live, and see nothing else |
//! | VMM | [`Report::Made`] | | where it is told to wait: that place is made |
//! | shim | [`Order::Enter`] | | go there |
//! | shim | [`Order::Run`] | [`Handed`] | be locked, open everything the workload names, make the micro-VM |
//! | VMM | [`Report::Ready`] | | it stands, and waits |
//! | shim | [`Order::Start`] | | run the program |
//! | VMM | [`Report::Error`] | | in place of being ready: what is wrong |
//!
//! Rule: a message is one line of JSON. Descriptors come with the first byte of the message they belong
//! to (unix(7), `SCM_RIGHTS`); nothing is inherited but the socket. If the other side is gone, the
//! socket ends: a VMM process that has not been started ends with it.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};

use super::confine::Confinement;
use crate::workload::Workload;

/// Descriptors of one message: see [`Handed`].
const DESCRIPTORS: usize = 7;

/// Longest order that is read: arguments and environment have at most 4 MiB, and JSON may take six
/// bytes for one.
const ORDER_BYTES_MAX: usize = 32 << 20;

/// Longest report that is read.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// What the shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Enter the task's namespaces.
    Confine(Box<Confinement>),
    /// See nothing but what was made.
    Enter,
    /// Join the control group by these files.
    Join(Vec<PathBuf>),
    /// Make the micro-VM. The program's path in it is not used: it comes as a descriptor.
    Run(Box<Workload>),
    /// Run the program.
    Start,
}

/// What a VMM process says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Report {
    /// Namespaces and mounts are made.
    Made,
    /// The micro-VM stands ready.
    Ready(Cost),
    /// It does not, and why.
    Error(String),
}

/// What getting ready took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Entering namespaces and mounting what the process is to see, by the clock.
    pub confine: u64,
    /// Joining the control group, by the clock.
    pub join: u64,
    /// Locking the process, by the clock.
    pub lock: u64,
    /// Opening what the workload names and making the micro-VM, by the clock.
    pub boot: u64,
    /// CPU time of the process from its first instruction on.
    pub cpu: u64,
}

/// The descriptors that come with [`Order::Run`].
#[derive(Debug)]
pub(crate) struct Handed {
    /// The compiled program.
    pub(crate) program: OwnedFd,
    /// Its snapshot, for reading; or an empty file where there is none.
    pub(crate) snapshot: OwnedFd,
    /// The guest image to be mapped; an empty file where the process loads its own.
    pub(crate) image: OwnedFd,
    /// The pipe that the process leaves its [`Counts`](crate::counts::Counts) in, when it ends by itself.
    pub(crate) account: OwnedFd,
    /// The standard streams.
    pub(crate) stdio: [OwnedFd; 3],
}

/// Sends an order with descriptors. The shim's side.
pub(crate) async fn send(
    socket: &mut tokio::net::UnixStream,
    order: &Order,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let mut sent = 0;
    if !descriptors.is_empty() {
        let to = &*socket;
        let write = || send_with(to, &line, descriptors);
        sent = to.async_io(Interest::WRITABLE, write).await?;
    }
    socket.write_all(line.get(sent..).unwrap_or_default()).await
}

fn send_with(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Reads the report of a VMM process; `Ok(None)` if it said nothing, an error of kind `InvalidData` if
/// what it said is no report. The shim's side.
pub(crate) async fn report(socket: &mut tokio::net::UnixStream) -> io::Result<Option<Report>> {
    let mut line = Vec::new();
    // Nothing follows a report, so a buffer takes nothing away from anyone.
    BufReader::new(socket.take(REPORT_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    match line.trim_ascii() {
        b"" => Ok(None),
        line => {
            let parsed = serde_json::from_slice(line);
            // Also of a line that is cut off.
            Ok(Some(parsed.map_err(|it| io::Error::new(io::ErrorKind::InvalidData, it))?))
        }
    }
}

/// The VMM process's side.
#[derive(Debug)]
pub(crate) struct Orders {
    socket: UnixStream,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Orders {
    /// Orders that come over `socket`.
    pub(crate) const fn new(socket: UnixStream) -> Self {
        Self { socket, bytes: Vec::new(), descriptors: Vec::new() }
    }

    /// Waits for the next order; `None` if the shim is gone, or has changed its mind.
    pub(crate) fn next(&mut self) -> io::Result<Option<Order>> {
        let mut searched = 0;
        loop {
            let unsearched = self.bytes.get(searched..).unwrap_or_default();
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            searched = self.bytes.len();
            if searched > ORDER_BYTES_MAX {
                return Err(io::Error::other("the order has no end"));
            }
            if self.receive()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The descriptors of the last [`Order::Run`].
    pub(crate) fn descriptors(&mut self) -> io::Result<Handed> {
        let descriptors: [OwnedFd; DESCRIPTORS] = std::mem::take(&mut self.descriptors)
            .try_into()
            .map_err(|_| io::Error::other("the order lacks descriptors"))?;
        let [program, snapshot, image, account, stdin, stdout, stderr] = descriptors;
        Ok(Handed { program, snapshot, image, account, stdio: [stdin, stdout, stderr] })
    }

    /// Says how it went.
    pub(crate) fn report(&mut self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        self.socket.write_all(&line)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut into = [IoSliceMut::new(&mut chunk)];
            match recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.descriptors.extend(fds);
            }
        }
        self.bytes.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
        Ok(received.bytes)
    }
}

impl Handed {
    /// The descriptors in the order in which they are sent.
    pub(crate) fn borrowed(&self) -> [BorrowedFd<'_>; DESCRIPTORS] {
        let [stdin, stdout, stderr] = &self.stdio;
        [&self.program, &self.snapshot, &self.image, &self.account, stdin, stdout, stderr]
            .map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests;
