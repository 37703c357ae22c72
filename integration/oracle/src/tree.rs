//! A directory as a run left it, in a form that compares with another.
//!
//! Times that a program set compare by value; those that the kernel set differ between two runs, so
//! that only *that* it set them compares: every time of a prepared file must lie before the run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Everything beneath a directory, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

/// One name in a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it names.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Hard links.
    pub links: u64,
    /// The first path in the tree that names the same object, if this is not it.
    pub same_as: Option<PathBuf>,
    /// Last modification.
    pub modified: Time,
    /// Last access, if it was set. The kernel sets it as it likes (`relatime`), so it compares with nothing.
    pub accessed: Option<i128>,
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with this content.
    File(Vec<u8>),
    /// A symbolic link that says this.
    Link(Vec<u8>),
    /// Anything else, by its file type bits (`S_IFMT`).
    Other(u32),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => f.write_str("directory"),
            Self::File(content) => {
                let start = content.get(..content.len().min(32)).unwrap_or_default();
                write!(f, "file of {} bytes \"{}\"", content.len(), start.escape_ascii())
            }
            Self::Link(target) => write!(f, "link to \"{}\"", target.escape_ascii()),
            Self::Other(kind) => write!(f, "file type {kind:#o}"),
        }
    }
}

/// A time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nanoseconds since the Unix epoch, before the run.
    Set(i128),
    /// In the run.
    Present,
}

impl Tree {
    /// Describes what lies beneath `directory`, and itself under the empty path. The run began at `since`.
    ///
    /// # Errors
    ///
    /// Something cannot be read.
    pub fn of(directory: &Path, since: SystemTime) -> io::Result<Self> {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut tree = Self::default();
        let mut objects = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let place = directory.join(&path);
            let metadata = fs::symlink_metadata(&place)?;
            if metadata.is_dir() {
                let entries = fs::read_dir(&place)?.collect::<io::Result<Vec<_>>>()?;
                pending.extend(entries.iter().map(|entry| path.join(entry.file_name())));
            }
            let object = (metadata.dev(), metadata.ino());
            tree.0.insert(path.clone(), Node::of(&place, &metadata, since.cast_signed())?);
            objects.entry(object).or_insert_with(Vec::new).push(path);
        }
        for mut paths in objects.into_values().filter(|paths| paths.len() > 1) {
            paths.sort();
            let first = paths.remove(0);
            for path in paths {
                if let Some(node) = tree.0.get_mut(&path) {
                    node.same_as = Some(first.clone());
                }
            }
        }
        Ok(tree)
    }

    /// The differences of two trees, a line each; none if they are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for path in self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path))) {
            match (self.0.get(path), other.0.get(path)) {
                (Some(a), Some(b)) if a.equals(b) => {}
                (a, b) => lines.push(format!("{}: {a:?} and {b:?}", path.display())),
            }
        }
        lines
    }
}

impl Node {
    fn of(place: &Path, metadata: &Metadata, since: i128) -> io::Result<Self> {
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_file() {
            Kind::File(fs::read(place)?)
        } else if file_type.is_symlink() {
            Kind::Link(OsString::from(fs::read_link(place)?).into_vec())
        } else {
            Kind::Other(metadata.mode() & 0o170_000)
        };
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        let modified = ns(metadata.mtime(), metadata.mtime_nsec());
        let accessed = ns(metadata.atime(), metadata.atime_nsec());
        Ok(Self {
            kind,
            mode: metadata.mode() & 0o7777,
            links: metadata.nlink(),
            same_as: None,
            modified: if modified < since { Time::Set(modified) } else { Time::Present },
            accessed: (accessed < since).then_some(accessed),
        })
    }

    fn equals(&self, other: &Self) -> bool {
        let accessed = match (self.accessed, other.accessed) {
            (Some(a), Some(b)) => a == b,
            (None, _) | (_, None) => true,
        };
        let Self { kind, mode, links, same_as, modified, accessed: _ } = self;
        (kind, mode, links, same_as, modified)
            == (&other.kind, &other.mode, &other.links, &other.same_as, &other.modified)
            && accessed
    }
}
