//! FIFOs that containerd made, opened at once whoever is at the other end (fifo(7)).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tokio::net::unix::pipe;

use super::StdioError;

/// What ends the input that comes through a FIFO.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    /// A writing end, where the input is not to end with its client.
    keeper: Option<File>,
}

/// The writing end, and a reading end that keeps it from breaking.
pub(super) fn open_output(stream: &'static str, path: &Path) -> Result<(File, File), StdioError> {
    // Reading first: with a reader there, opening for writing does not wait.
    let keeper = open(stream, path, OpenOptions::new().read(true), OFlags::NONBLOCK)?;
    let writer = open(stream, path, OpenOptions::new().write(true), OFlags::empty())?;
    Ok((writer, keeper))
}

/// The reading end, which does not block, and what ends it: the last client to go, or, if it `outlives` its
/// clients, [`Input::end`].
pub(super) fn open_input(
    path: &Path,
    outlives: bool,
) -> Result<(pipe::Receiver, Input), StdioError> {
    let reader = open("stdin", path, OpenOptions::new().read(true), OFlags::NONBLOCK)?;
    let path = path.to_owned();
    let keeper = if outlives { Some(writer(&path)?) } else { None };
    let reader = pipe::Receiver::from_file(reader).map_err(|source| StdioError::Open {
        stream: "stdin",
        path: path.clone(),
        source,
    })?;
    Ok((reader, Input { path, keeper }))
}

impl Input {
    /// Lets the input end after what is in it, once no client writes any more.
    pub(super) fn end(&mut self) {
        // A reader is told of the end when a writer goes. Nobody may ever have come.
        match self.keeper.take().map_or_else(|| writer(&self.path), Ok) {
            Ok(writer) => drop(writer),
            // Also if the reader is gone, who needs to be told nothing.
            Err(error) => log::debug!("end the input: {}", crate::error::line(&error)),
        }
    }
}

fn writer(path: &Path) -> Result<File, StdioError> {
    open("stdin", path, OpenOptions::new().write(true), OFlags::NONBLOCK)
}

fn open(
    stream: &'static str,
    path: &Path,
    options: &mut OpenOptions,
    flags: OFlags,
) -> Result<File, StdioError> {
    let open = |source| StdioError::Open { stream, path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(open)?.file_type().is_fifo() {
        return Err(StdioError::NotFifo { stream, path: path.to_owned() });
    }
    let flags = i32::try_from((flags | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    options.custom_flags(flags).open(path).map_err(open)
}
