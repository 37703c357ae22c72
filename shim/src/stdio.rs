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
    let not_fifo = || StdioError::NotFifo { stream, path: path.to_owned() };
    // containerd also knows URIs: file://, binary://.
    if path.to_string_lossy().contains("://") {
        return Err(not_fifo());
    }
    if !std::fs::metadata(path).map_err(open)?.file_type().is_fifo() {
        return Err(not_fifo());
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    /// No step of these tests takes this long; a hang ends here.
    const HANG: Duration = Duration::from_secs(30);

    fn fifo(dir: &TempDir, name: &str) -> String {
        let path = dir.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs what blocks apart, so that a hang fails the test instead of stopping it.
    async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::time::timeout(HANG, tokio::task::spawn_blocking(work)).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn output_opens_without_a_reader_and_arrives_when_one_comes() {
        let dir = TempDir::new().unwrap();
        let path = fifo(&dir, "out");
        let paths = StdioPaths { stdout: path.clone(), ..StdioPaths::default() };
        let (task, _held) = open(&paths).unwrap();
        File::from(task.stdout).write_all(b"hello").unwrap();

        let text = apart(move || {
            let nonblock = OFlags::NONBLOCK.bits().try_into().unwrap();
            let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
            let mut text = [0; 5];
            reader.unwrap().read_exact(&mut text).unwrap();
            text
        })
        .await;

        assert_eq!(&text, b"hello");
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_does_not_break_the_pipe() {
        let dir = TempDir::new().unwrap();
        let path = fifo(&dir, "out");
        let paths = StdioPaths { stdout: path.clone(), ..StdioPaths::default() };
        let (task, _held) = open(&paths).unwrap();
        drop(File::open(&path).unwrap());

        File::from(task.stdout).write_all(b"x").unwrap();
    }

    #[tokio::test]
    async fn input_waits_for_its_writer_and_ends_with_it() {
        let dir = TempDir::new().unwrap();
        let path = fifo(&dir, "in");
        let (task, _held) =
            open(&StdioPaths { stdin: path.clone(), ..StdioPaths::default() }).unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            File::from(task.stdin).read_to_end(&mut text).unwrap();
            text
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!reading.is_finished(), "no writer yet is not the end");

        apart(move || OpenOptions::new().write(true).open(path).unwrap().write_all(b"hi").unwrap())
            .await;

        assert_eq!(tokio::time::timeout(HANG, reading).await.unwrap().unwrap(), b"hi");
    }

    #[tokio::test]
    async fn closing_input_ends_it() {
        let dir = TempDir::new().unwrap();
        let path = fifo(&dir, "in");
        let (task, held) =
            open(&StdioPaths { stdin: path.clone(), ..StdioPaths::default() }).unwrap();
        let _writer = apart(move || OpenOptions::new().write(true).open(path).unwrap()).await;

        held.close_stdin();

        let text = apart(move || io::read_to_string(File::from(task.stdin)).unwrap()).await;
        assert_eq!(text, "");
    }

    #[tokio::test]
    async fn what_is_no_fifo_is_refused() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for stdout in [file.to_str().unwrap(), "file:///var/log/x", "binary:///bin/logger?a=b"] {
            let paths = StdioPaths { stdout: stdout.to_owned(), ..StdioPaths::default() };

            assert!(matches!(open(&paths), Err(StdioError::NotFifo { .. })), "{stdout}");
        }
    }
}
