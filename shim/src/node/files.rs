//! The node's files: written whole or not at all, and noted so that they can be put back.
//!
//! Rule: a file is replaced by a rename in its own directory. So nobody reads half of one, a shim that runs keeps
//! the program it was started from, and a crash leaves either file. A symbolic link is followed, not
//! replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::aot::sha256_hex;

/// A file that could not be handled.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(super) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// What was done to the node. Kept beside the programs; its absence says that nothing was done.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    /// Directories that were made, in the order of their making.
    pub(super) directories: Vec<PathBuf>,
    /// Text files that were changed or made.
    pub(super) files: Vec<Changed>,
    /// Whether a restart of containerd is due.
    pub(super) restart_due: bool,
    /// Whether the node had a cache of compiled programs before.
    pub(super) had_cache: bool,
}

/// A text file that was changed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    /// Where it is, without links.
    pub(super) path: PathBuf,
    /// What it was; `None` if it was not there.
    pub(super) original: Option<String>,
    /// SHA-256 of what was written.
    pub(super) written: String,
}

impl Record {
    /// Reads the record at `path`; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let record = serde_json::from_str(&text).map_err(io::Error::from);
        record.map(Some).map_err(FileError::of("read the record", path))
    }

    /// Writes the record to `path`.
    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        replace(path, &text.map_err(FileError::of("write the record", path))?)
    }

    /// Writes `text` to `path` and notes what was there. What others have written since counts as
    /// the original from then on.
    pub(super) fn change(&mut self, path: &Path, text: &str) -> Result<(), FileError> {
        self.directories.extend(make_directories(path.parent())?);
        let path = &resolved(path);
        let current = read(path)?;
        let written = sha256_hex(text.as_bytes());
        let noted = self.files.iter_mut().find(|it| it.path == *path);
        let is_ours = |it: &Changed| {
            current.as_ref().map(|it| sha256_hex(it.as_bytes())) == Some(it.written.clone())
        };
        match noted {
            Some(noted) if is_ours(noted) => noted.written = written,
            Some(noted) => *noted = Changed { original: current, written, ..noted.clone() },
            None => {
                self.files.push(Changed { path: path.clone(), original: current, written });
            }
        }
        replace(path, text.as_bytes())
    }

    /// Whether `path` is as it was written last.
    pub(super) fn wrote(&self, path: &Path, text: &str) -> bool {
        let (path, written) = (resolved(path), sha256_hex(text.as_bytes()));
        self.files.iter().any(|it| it.path == path && it.written == written)
    }
}

/// Puts a text file back; `None` removes it.
pub(super) fn put_back(path: &Path, text: Option<&str>) -> Result<(), FileError> {
    match text {
        Some(text) => replace(path, text.as_bytes()),
        None => remove(path),
    }
}

/// The file's text; `None` if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::of("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The path without links, of a file that may not be there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Makes a directory and those that it is in; returns those that were not there.
pub(super) fn make_directories(path: Option<&Path>) -> Result<Vec<PathBuf>, FileError> {
    let Some(path) = path.filter(|path| !path.is_dir()) else { return Ok(Vec::new()) };
    let mut made = make_directories(path.parent())?;
    fs::create_dir(path).map_err(FileError::of("create", path))?;
    made.push(path.to_owned());
    Ok(made)
}

/// Replaces a file, with the owner and permissions that it has; a fresh one is root's and readable by all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let old = fs::metadata(path).ok();
    let mode = old.as_ref().map_or(0o644, |old| old.mode() & 0o7777);
    let owner = old.map(|old| (old.uid(), old.gid()));
    put(path, mode, owner, |file| file.write_all(bytes))
}

/// Puts a copy of the program `from` at `path`, unless it is that already; returns whether it did.
pub(super) fn place(from: &File, path: &Path) -> Result<bool, FileError> {
    let failed = FileError::of("install", path);
    match is_same(from, path) {
        Ok(true) => return Ok(false),
        Ok(false) => {}
        Err(error) => return Err(failed(error)),
    }
    put(path, 0o755, None, |file| {
        let mut from = from;
        from.rewind()?;
        io::copy(&mut from, file).map(drop)
    })?;
    Ok(true)
}

fn is_same(from: &File, path: &Path) -> io::Result<bool> {
    let there = match File::open(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let (ours, theirs) = (from.metadata()?, there.metadata()?);
    if ours.len() != theirs.len() || theirs.mode() & 0o7777 != 0o755 {
        return Ok(false);
    }
    let mut from = from;
    from.rewind()?;
    let (mut ours, mut theirs) = (BufReader::new(from), BufReader::new(there));
    let (mut one, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = ours.read(&mut one)?;
        if read == 0 {
            return Ok(true);
        }
        theirs.read_exact(&mut other[..read])?;
        if one[..read] != other[..read] {
            return Ok(false);
        }
    }
}

fn put(
    path: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = || {
        // What a run that was killed has left.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    written().map_err(|error| {
        // The error that matters is the first one.
        let _ = fs::remove_file(&partial);
        FileError::of("write", path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noted_with_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (old, fresh) = (dir.path().join("old"), dir.path().join("a/b/fresh"));
        fs::write(&old, "one").unwrap();
        let mut record = Record::default();

        record.change(&old, "two").unwrap();
        record.change(&fresh, "two").unwrap();
        record.change(&old, "three").unwrap();

        let originals: Vec<_> = record.files.iter().map(|it| it.original.as_deref()).collect();
        assert_eq!(originals, [Some("one"), None]);
        assert_eq!(record.directories, [dir.path().join("a"), dir.path().join("a/b")]);
        assert_eq!(read(&old).unwrap().as_deref(), Some("three"));
        assert!(record.wrote(&old, "three") && !record.wrote(&old, "two"));
    }

    #[test]
    fn what_others_wrote_since_is_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, "one").unwrap();
        let mut record = Record::default();
        record.change(&path, "two").unwrap();
        fs::write(&path, "theirs").unwrap();

        record.change(&path, "three").unwrap();

        assert_eq!(record.files[0].original.as_deref(), Some("theirs"));
    }

    #[test]
    fn a_link_is_followed_and_permissions_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();

        Record::default().change(&link, "two").unwrap();

        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_program_is_placed_once_and_its_old_file_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let (from, path) = (dir.path().join("from"), dir.path().join("program"));
        fs::write(&path, "old").unwrap();
        fs::write(&from, "new program").unwrap();
        let mut running = File::open(&path).unwrap();
        let from = File::open(&from).unwrap();

        assert!(place(&from, &path).unwrap());
        assert!(!place(&from, &path).unwrap());

        let mut text = String::new();
        running.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read(&path).unwrap()), ("old", b"new program".to_vec()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let mut record = Record { had_cache: true, ..Record::default() };
        record.change(&dir.path().join("x"), "y").unwrap();

        assert_eq!(Record::read(&path).unwrap(), None);
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record));
    }

    #[test]
    fn a_record_that_is_damaged_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        fs::write(&path, "{").unwrap();
        let error = Record::read(&path).unwrap_err();
        assert!(error.to_string().starts_with("read the record /"), "{error}");
    }
}
