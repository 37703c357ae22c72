//! The server's log: a FIFO in its working directory, which containerd reads.
//!
//! Rule: the log never keeps the server waiting. A start action that was killed leaves a server whose FIFO nobody
//! will read, and a containerd that stands still leaves one that is full: lines are lost then.
//!
//! Source: containerd `core/runtime/v2/README.md`, "Logging".

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use containerd_shim::logger::{FifoLogger, LOG_ENV};
use log::LevelFilter;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The FIFO's name in the bundle.
const NAME: &str = "log";

/// How long containerd may take to open its end, which it does beside running the start action.
const READER_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two looks for it.
const POLL: Duration = Duration::from_millis(5);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The FIFO cannot be opened.
    #[error("open the log of containerd, {NAME} in the bundle")]
    Open(#[source] io::Error),
    /// Nobody reads it.
    #[error("nobody reads the log in the bundle for {} s: is containerd gone?", READER_WITHIN.as_secs())]
    NoReader,
    /// The process has a log already.
    #[error("set the log of the process")]
    Set(#[from] log::SetLoggerError),
}

/// Has the process log to the FIFO: what `RUST_LOG` in its environment says, or from `info` on, and from `debug` on if
/// containerd does.
///
/// # Errors
///
/// [`LogError`].
pub(crate) async fn begin(debug: bool) -> Result<(), LogError> {
    let file = open(Path::new(NAME), READER_WITHIN).await?;
    let asked = std::env::var(LOG_ENV).ok().and_then(|level| level.parse().ok());
    let least = if debug { LevelFilter::Debug } else { LevelFilter::Off };
    log::set_boxed_logger(Box::new(FifoLogger::with_file(file)))?;
    log::set_max_level(asked.unwrap_or(LevelFilter::Info).max(least));
    Ok(())
}

/// Opens the FIFO `path` for writing that does not wait, when it has a reader.
async fn open(path: &Path, limit: Duration) -> Result<File, LogError> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let opened = async {
        loop {
            match options.open(path) {
                // fifo(7): nobody has opened it for reading.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                    tokio::time::sleep(POLL).await;
                }
                opened => return opened.map_err(LogError::Open),
            }
        }
    };
    tokio::time::timeout(limit, opened).await.unwrap_or(Err(LogError::NoReader))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// No step of these tests takes this long; a hang ends here.
    const HANG: Duration = Duration::from_secs(30);

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn a_log_without_a_reader_is_given_up() {
        let (_dir, path) = fifo();
        let opened = open(&path, Duration::from_millis(20)).await;
        assert!(matches!(opened, Err(LogError::NoReader)), "{opened:?}");
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_given_up_at_once() {
        let (dir, path) = fifo();
        drop(dir);
        let opened = tokio::time::timeout(HANG, open(&path, HANG * 10)).await.unwrap();
        assert!(matches!(opened, Err(LogError::Open(_))), "{opened:?}");
    }

    #[tokio::test]
    async fn a_reader_that_comes_later_is_waited_for() {
        let (_dir, path) = fifo();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || {
                std::thread::sleep(POLL * 4);
                std::fs::read_to_string(path).unwrap()
            }
        });
        let mut log = open(&path, HANG).await.unwrap();
        log.write_all(b"line\n").unwrap();
        drop(log);
        assert_eq!(reader.join().unwrap(), "line\n");
    }

    #[tokio::test]
    async fn a_full_log_does_not_keep_its_writer_waiting() {
        let (_dir, path) = fifo();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || File::open(path).unwrap()
        });
        let mut log = open(&path, HANG).await.unwrap();
        let mut reader = reader.join().unwrap();
        // More than any pipe holds by default (pipe(7)).
        let full = log.write_all(&[b'x'; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        reader.read_exact(&mut [0; 4096]).unwrap();
        log.write_all(b"again").unwrap();
    }
}
