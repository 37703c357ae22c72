//! A terminal for a process: the process has the one end (pts(4)), the shim copies between the other end
//! and containerd's FIFOs.
//!
//! Rule: the shim keeps no descriptor of the process's end, so that the end of the process ends its output.
//! Input that ends is no end for a terminal: the process goes on. What the shim cannot write waits in the
//! terminal, and the process with it.
#![expect(unsafe_code, reason = "the runtime watches a descriptor by its number")]
// UNSAFETY: tokio has no type for a terminal, and trusts whoever gives it another descriptor to keep that open.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use super::{TaskStdio, WindowSize};

/// Bytes that are copied at a time: what a terminal buffers.
const CHUNK_BYTES: usize = 4 << 10;

/// The shim's end.
#[derive(Debug)]
pub(super) struct Terminal {
    ours: Arc<AsyncFd<OwnedFd>>,
    output: JoinHandle<()>,
    input: Option<JoinHandle<()>>,
}

/// Where the output goes.
enum Sink {
    Pipe(pipe::Sender),
    File(File),
}

impl Terminal {
    /// Makes a terminal of `size` that is fed from `input` and written to `output`, and the process's
    /// streams.
    pub(super) fn open(
        input: Option<pipe::Receiver>,
        output: File,
        size: Option<WindowSize>,
    ) -> io::Result<(Self, TaskStdio)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        // By descriptor: no path to the terminal is needed, here or in the process.
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        // SAFETY: the number of an `OwnedFd` stays that of the same open file as long as it lives, and the
        // `AsyncFd`, which owns it, gives it to nobody.
        let ours = Arc::new(unsafe { AsyncFd::register(ours) }.map_err(io::Error::from)?);
        let sink = match FileType::from_raw_mode(fstat(&output)?.st_mode) {
            FileType::Fifo => {
                fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
                Sink::Pipe(pipe::Sender::from_file(output)?)
            }
            _file_or_null => Sink::File(output),
        };
        let input = input.map(|input| tokio::spawn(feed(input, Arc::clone(&ours))));
        let stdio =
            TaskStdio { stdin: theirs.try_clone()?, stdout: theirs.try_clone()?, stderr: theirs };
        let output = tokio::spawn(collect(Arc::clone(&ours), sink));
        let terminal = Self { ours, output, input };
        if let Some(size) = size {
            terminal.resize(size)?;
        }
        Ok((terminal, stdio))
    }

    /// Sets the window's size; the process gets SIGWINCH, which it ignores unless it cares.
    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let (ws_row, ws_col) = (size.rows, size.columns);
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.ours.get_ref(), size)?)
    }

    /// Waits until the output of the process, which has ended, is written.
    pub(super) async fn drained(&mut self) {
        // It does not panic; if it did, nothing is left to wait for.
        let _ = (&mut self.output).await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.output.abort();
        if let Some(input) = &self.input {
            input.abort();
        }
    }
}

async fn collect(terminal: Arc<AsyncFd<OwnedFd>>, mut sink: Sink) {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let Ok(mut ready) = terminal.readable().await else { return };
        let read = ready.try_io(|terminal| Ok(rustix::io::read(terminal, &mut chunk)?));
        let bytes = match read {
            Err(_would_block) => continue,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            // EIO: the process's end is closed.
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => chunk.get(..count).unwrap_or_default(),
        };
        let written = match &mut sink {
            Sink::Pipe(pipe) => pipe.write_all(bytes).await,
            Sink::File(file) => file.write_all(bytes),
        };
        if let Err(error) = written {
            // The process is not to wait for a log that cannot be written: a full disk, a logging
            // program that has ended.
            log::warn!("write the terminal's output, {} bytes are lost: {error}", bytes.len());
        }
    }
}

async fn feed(mut input: pipe::Receiver, terminal: Arc<AsyncFd<OwnedFd>>) {
    let mut chunk = [0; CHUNK_BYTES];
    while let Ok(count @ 1..) = input.read(&mut chunk).await {
        let mut rest = chunk.get(..count).unwrap_or_default();
        while !rest.is_empty() {
            let Ok(mut ready) = terminal.writable().await else { return };
            match ready.try_io(|terminal| Ok(rustix::io::write(terminal, rest)?)) {
                Err(_would_block) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
                Ok(Err(_)) => return,
            }
        }
    }
}
