//! Standard streams of a task: the FIFOs that containerd made, opened so that neither side can
//! hang.
//!
//! * Output: the task gets the writing end. The shim keeps a reading end that it never reads, until
//!   the task is deleted: opening needs no reader, and when the reader (containerd, for logs)
//!   restarts, the task waits on a full FIFO as it would on a slow reader, instead of dying of EPIPE.
//! * Input: the task gets a pipe and the shim copies into it, because only a reader that waits can
//!   tell "no writer yet" from "the writer is gone" (poll(2): `POLLHUP` needs a writer that has been
//!   there).
//! * A stream that is not wanted is `/dev/null`.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// The streams containerd asks for; an empty path is a stream that is not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// FIFO the task reads.
    pub stdin: String,
    /// FIFO the task writes.
    pub stdout: String,
    /// FIFO the task writes.
    pub stderr: String,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// A stream could not be opened.
    #[error("open {stream} {}", path.display())]
    Open {
        /// Which.
        stream: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A stream is not a FIFO.
    #[error(
        "{stream} {} is not a FIFO: only FIFOs are supported (ctr's --log-uri is not)",
        path.display()
    )]
    NotFifo {
        /// Which.
        stream: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The pipe for standard input could not be made.
    #[error("make the pipe for stdin")]
    Pipe(#[source] io::Error),
}

/// The task's ends of its streams.
#[derive(Debug)]
pub struct TaskStdio {
    /// To be descriptor 0.
    pub stdin: OwnedFd,
    /// To be descriptor 1.
    pub stdout: OwnedFd,
    /// To be descriptor 2.
    pub stderr: OwnedFd,
}

/// What the shim holds while the task exists.
#[derive(Debug)]
pub struct HeldStdio {
    _keepers: Vec<File>,
    copier: Option<JoinHandle<()>>,
}

impl HeldStdio {
    /// Ends the task's standard input: it reads the end of the file once it has read what is there.
    pub fn close_stdin(&self) {
        if let Some(copier) = &self.copier {
            copier.abort();
        }
    }
}

impl Drop for HeldStdio {
    fn drop(&mut self) {
        self.close_stdin();
    }
}

/// Opens the streams. Never waits for the other side. Needs a tokio runtime for standard input.
///
/// # Errors
///
/// A path cannot be opened or is no FIFO.
pub fn open(paths: &StdioPaths) -> Result<(TaskStdio, HeldStdio), StdioError> {
    let mut keepers = Vec::new();
    let (stdin, copier) = match paths.stdin.as_str() {
        "" => (null("stdin")?, None),
        path => {
            let (reader, copier) = open_input(Path::new(path))?;
            (reader.into(), Some(copier))
        }
    };
    let stdout = open_output("stdout", &paths.stdout, &mut keepers)?;
    let stderr = open_output("stderr", &paths.stderr, &mut keepers)?;
    Ok((TaskStdio { stdin, stdout, stderr }, HeldStdio { _keepers: keepers, copier }))
}

fn open_output(
    stream: &'static str,
    path: &str,
    keepers: &mut Vec<File>,
) -> Result<OwnedFd, StdioError> {
    if path.is_empty() {
        return null(stream);
    }
    let path = Path::new(path);
    // Reading first: with a reader there, opening for writing does not wait.
    let keeper = open_fifo(stream, path, OpenOptions::new().read(true), OFlags::NONBLOCK)?;
    let writer = open_fifo(stream, path, OpenOptions::new().write(true), OFlags::empty())?;
    keepers.push(keeper);
    Ok(writer.into())
}

fn open_input(path: &Path) -> Result<(PipeReader, JoinHandle<()>), StdioError> {
    let fifo = open_fifo("stdin", path, OpenOptions::new().read(true), OFlags::NONBLOCK)?;
    let open = |source| StdioError::Open { stream: "stdin", path: path.to_owned(), source };
    let mut fifo = pipe::Receiver::from_file(fifo).map_err(open)?;
    let (reader, writer) = io::pipe().map_err(StdioError::Pipe)?;
    let mut writer = pipe::Sender::from_owned_fd(writer.into()).map_err(StdioError::Pipe)?;
    let copier = tokio::spawn(async move {
        // The task reads no more, or the client writes no more: both end the stream.
        let _ = tokio::io::copy(&mut fifo, &mut writer).await;
    });
    Ok((reader, copier))
}

fn open_fifo(
    stream: &'static str,
    path: &Path,
    options: &mut OpenOptions,
    flags: OFlags,
) -> Result<File, StdioError> {
    let open = |source| StdioError::Open { stream, path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(open)?.file_type();
    if !kind.is_fifo() {
        return Err(StdioError::NotFifo { stream, path: path.to_owned() });
    }
    let flags = i32::try_from((flags | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    options.custom_flags(flags).open(path).map_err(open)
}

fn null(stream: &'static str) -> Result<OwnedFd, StdioError> {
    let path = Path::new("/dev/null");
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map(OwnedFd::from)
        .map_err(|source| StdioError::Open { stream, path: path.to_owned(), source })
}
