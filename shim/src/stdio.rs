//! Standard streams of a process: what containerd names, opened so that neither side can hang.
//!
//! * A FIFO for output: the process gets the writing end. The shim keeps a reading end that it never reads,
//!   until the task is deleted: opening needs no reader, and when the reader (containerd, for logs)
//!   restarts, the process waits on a full FIFO as it would on a slow reader, instead of dying of EPIPE.
//! * A FIFO for input: the process gets a pipe and the shim copies into it, because only a reader that waits
//!   can tell "no writer yet" from "the writer is gone" (poll(2): `POLLHUP` needs a writer that has been
//!   there). The input ends when containerd closes it (CloseIO) and no client writes any more. In a pod, where
//!   clients come and go, and containerd closes what is to end, it ends no sooner; elsewhere it also ends
//!   with its client: `ctr` closes only what ends after the task was created.
//! * `file://`: output is appended to the file. `binary://`: a logging program reads it (`stdio/logger.rs`).
//! * A terminal: the process gets one for its three streams; the shim copies (`stdio/terminal.rs`).
//! * A stream that is not wanted is `/dev/null`.
//!
//! Source: containerd `core/runtime/v2/README.md`, IO, and `cmd/containerd-shim-runc-v2/process/io.go`.

mod fifo;
pub(crate) mod logger;
mod terminal;
#[cfg(test)]
mod tests;
mod uri;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use self::fifo::Input;
use self::logger::{Logger, LoggerError};
use self::terminal::Terminal;
use self::uri::{Target, UriError};

/// How long the last output of a process may take to where it is wanted. A reader that does not read loses
/// what is left.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The streams containerd asks for; an empty path is a stream that is not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// FIFO the process reads.
    pub stdin: String,
    /// FIFO the process writes, or a URI.
    pub stdout: String,
    /// FIFO the process writes, or a URI; not used with a terminal.
    pub stderr: String,
    /// Whether the process has a terminal.
    pub terminal: bool,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Whose streams they are: what a logging program is told.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// containerd's namespace.
    pub namespace: &'a str,
    /// The container, or the exec.
    pub id: &'a str,
    /// Whether it is part of a pod.
    pub in_pod: bool,
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
    /// A stream is neither a FIFO nor a URI.
    #[error("{stream} {} is not a FIFO", path.display())]
    NotFifo {
        /// Which.
        stream: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// A stream's URI cannot be used.
    #[error("{stream} {uri}")]
    Uri {
        /// Which.
        stream: &'static str,
        /// The URI.
        uri: String,
        /// What is wrong with it.
        source: UriError,
    },
    /// A logging program could not be started.
    #[error("start the logging program {}", path.display())]
    Logger {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: LoggerError,
    },
    /// The pipe for standard input could not be made.
    #[error("make the pipe for stdin")]
    Pipe(#[source] io::Error),
    /// A terminal could not be made.
    #[error("make a terminal")]
    Terminal(#[source] io::Error),
    /// The process has no terminal.
    #[error("the process has no terminal")]
    NoTerminal,
    /// A terminal could not be resized.
    #[error("resize the terminal to {rows} rows and {columns} columns")]
    Resize {
        /// Lines.
        rows: u32,
        /// Characters in a line.
        columns: u32,
        /// Why.
        source: io::Error,
    },
}

/// The process's ends of its streams.
#[derive(Debug)]
pub struct TaskStdio {
    /// To be descriptor 0.
    pub stdin: OwnedFd,
    /// To be descriptor 1.
    pub stdout: OwnedFd,
    /// To be descriptor 2.
    pub stderr: OwnedFd,
}

/// What the shim holds while the process exists.
#[derive(Debug, Default)]
pub struct HeldStdio {
    /// Reading ends of FIFOs for output.
    keepers: Vec<File>,
    input: Option<Input>,
    copier: Option<JoinHandle<()>>,
    terminal: Option<Terminal>,
    logger: Option<Logger>,
}

impl HeldStdio {
    /// Ends the process's standard input once its clients have ended it too: it reads the end of the file
    /// after it has read what is there.
    pub fn close_stdin(&mut self) {
        if let Some(input) = &mut self.input {
            input.end();
        }
    }

    /// Sets the size of the terminal's window.
    ///
    /// # Errors
    ///
    /// There is no terminal, or the kernel refuses.
    pub fn resize(&self, rows: u32, columns: u32) -> Result<(), StdioError> {
        let terminal = self.terminal.as_ref().ok_or(StdioError::NoTerminal)?;
        // What a terminal cannot have is as good as its greatest.
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        let size = WindowSize { rows: side(rows), columns: side(columns) };
        terminal.resize(size).map_err(|source| StdioError::Resize { rows, columns, source })
    }

    /// Waits until what the process, which has ended, has written is where it is wanted, and gives
    /// everything back. Takes a while if nobody reads, but not for ever.
    pub async fn finish(mut self) {
        if let Some(terminal) = &mut self.terminal
            && tokio::time::timeout(DRAIN_LIMIT, terminal.drained()).await.is_err()
        {
            log::warn!("nobody reads the terminal's output: what is left is lost");
        }
        drop(self.terminal.take());
        if let Some(logger) = self.logger.take() {
            logger.finish().await;
        }
    }
}

impl Drop for HeldStdio {
    fn drop(&mut self) {
        if let Some(copier) = &self.copier {
            copier.abort();
        }
    }
}

/// Opens the streams of `owner`. Never waits for the other side, but for a logging program to be ready.
/// Needs a tokio runtime. `size` is the terminal's, if it has one.
///
/// # Errors
///
/// See [`StdioError`]; then nothing is left open, and no logging program.
pub async fn open(
    paths: &StdioPaths,
    owner: Owner<'_>,
    size: Option<WindowSize>,
) -> Result<(TaskStdio, HeldStdio), StdioError> {
    let mut held = HeldStdio::default();
    if paths.terminal {
        return open_terminal(paths, owner, size, held).await;
    }
    let stdin = match paths.stdin.as_str() {
        "" => null("stdin")?,
        path => {
            let (mut fifo, input) = fifo::open_input(Path::new(path), owner.in_pod)?;
            let (reader, writer) = io::pipe().map_err(StdioError::Pipe)?;
            let writer = pipe::Sender::from_owned_fd(writer.into());
            let mut writer = writer.map_err(StdioError::Pipe)?;
            held.input = Some(input);
            held.copier = Some(tokio::spawn(async move {
                // The task reads no more, or the clients write no more: both end the stream.
                let _ = tokio::io::copy(&mut fifo, &mut writer).await;
            }));
            reader.into()
        }
    };
    let out = uri::target("stdout", &paths.stdout)?;
    let err = uri::target("stderr", &paths.stderr)?;
    // One program takes both streams, as the protocol has it.
    let program = [&out, &err].into_iter().find_map(|target| match target {
        Target::Program(program) => Some(program.clone()),
        Target::Null | Target::Fifo(_) | Target::File(_) => None,
    });
    let mut pipes = None;
    if let Some(program) = program {
        let (logger, ends) = Logger::start(&program, owner).await?;
        (held.logger, pipes) = (Some(logger), Some(ends));
    }
    let (of_stdout, of_stderr) = pipes.unzip();
    let stdout = open_output("stdout", out, of_stdout, &mut held)?;
    let stderr = open_output("stderr", err, of_stderr, &mut held)?;
    Ok((TaskStdio { stdin, stdout, stderr }, held))
}

async fn open_terminal(
    paths: &StdioPaths,
    owner: Owner<'_>,
    size: Option<WindowSize>,
    mut held: HeldStdio,
) -> Result<(TaskStdio, HeldStdio), StdioError> {
    let input = match paths.stdin.as_str() {
        "" => None,
        path => {
            let (reader, input) = fifo::open_input(Path::new(path), owner.in_pod)?;
            held.input = Some(input);
            Some(reader)
        }
    };
    let target = uri::target("stdout", &paths.stdout)?;
    let mut pipe = None;
    if let Target::Program(program) = &target {
        let (logger, (stdout, _stderr)) = Logger::start(program, owner).await?;
        (held.logger, pipe) = (Some(logger), Some(stdout));
    }
    let output = open_output("stdout", target, pipe, &mut held)?;
    let (terminal, stdio) =
        Terminal::open(input, File::from(output), size).map_err(StdioError::Terminal)?;
    held.terminal = Some(terminal);
    Ok((stdio, held))
}

fn open_output(
    stream: &'static str,
    target: Target,
    pipe: Option<OwnedFd>,
    held: &mut HeldStdio,
) -> Result<OwnedFd, StdioError> {
    match target {
        Target::Null => null(stream),
        Target::Fifo(path) => {
            let (writer, keeper) = fifo::open_output(stream, &path)?;
            held.keepers.push(keeper);
            Ok(writer.into())
        }
        Target::File(path) => append(stream, &path),
        Target::Program(_) => pipe.map_or_else(|| null(stream), Ok),
    }
}

/// Opens a log file for what comes after its end, with the directories above it.
fn append(stream: &'static str, path: &Path) -> Result<OwnedFd, StdioError> {
    let open = |source| StdioError::Open { stream, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(open)?;
    }
    OpenOptions::new().append(true).create(true).open(path).map(OwnedFd::from).map_err(open)
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
