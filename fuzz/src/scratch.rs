//! The directories of a run: some that the guest is granted, and some that it must not reach.
//!
//! ```text
//! SENTINEL/SENTINEL       out of reach
//! SENTINEL.txt            out of reach
//! inside/                 granted, writable: filled anew for each run, with ways out
//! readonly/               granted, read-only, with a way out
//! ```
//!
//! Everything out of reach has the [`SENTINEL`] in its name and content: bytes that no input of a guest
//! holds, so they are in an answer only if they came from there. What is not to change is compared by
//! name, content and everything that stat(2) says but the time of access.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use abi::Stat;
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

/// No input has a byte above 0x7f in a row of two.
pub const SENTINEL: &[u8] = b"\xf5\xc3\xf5\xc3\xf5\xc3\xf5\xc3\xf5\xc3\xf5\xc3";

/// The directories.
#[derive(Debug)]
pub struct Scratch {
    root: TempDir,
    /// What must not change, as it was in the beginning.
    before: BTreeMap<PathBuf, Facts>,
    /// Inodes that no answer may name, all of one file system.
    secret: Vec<u64>,
    /// The device number of that file system: others, as that of pipes, may number theirs alike.
    device: u64,
}

/// What is compared of an object: content (or target), and metadata.
type Facts = (Vec<u8>, [i64; 8]);

impl Scratch {
    /// Makes the directories, where temporary files go.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn new() -> Self {
        let root = TempDir::new().expect("make a temporary directory");
        let path = root.path();
        let sentinel = path.join(OsStr::from_bytes(SENTINEL));
        fs::create_dir(&sentinel).expect("mkdir");
        fs::write(sentinel.join(OsStr::from_bytes(SENTINEL)), SENTINEL).expect("write");
        fs::write(sentinel.with_extension("txt"), SENTINEL).expect("write");
        let read_only = path.join("readonly");
        fs::create_dir_all(read_only.join("dir")).expect("mkdir");
        for file in ["file", "dir/file"] {
            fs::write(read_only.join(file), "content").expect("write");
        }
        symlink("file", read_only.join("link")).expect("symlink");
        symlink("../inside", read_only.join("out")).expect("symlink");
        fs::create_dir(path.join("inside")).expect("mkdir");

        let ino = |path: &Path| fs::metadata(path).expect("stat").ino();
        let secret = vec![
            ino(path),
            ino(path.parent().expect("a temporary directory has one")),
            ino(&sentinel),
            ino(&sentinel.join(OsStr::from_bytes(SENTINEL))),
            ino(&sentinel.with_extension("txt")),
        ];
        let device = fs::metadata(path).expect("stat").dev();
        let mut scratch = Self { root, before: BTreeMap::new(), secret, device };
        scratch.before = scratch.facts();
        scratch
    }

    /// Empties the writable directory and fills it.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn refill(&self) {
        let inside = self.root.path().join("inside");
        for entry in fs::read_dir(&inside).expect("list") {
            let entry = entry.expect("list");
            let is_dir = entry.file_type().expect("stat").is_dir();
            let remove = if is_dir { fs::remove_dir_all } else { fs::remove_file };
            remove(entry.path()).expect("remove");
        }
        fs::create_dir(inside.join("dir")).expect("mkdir");
        fs::write(inside.join("file"), "text").expect("write");
        fs::write(inside.join("dir/file"), "more text").expect("write");
        mkfifoat(CWD, inside.join("fifo"), Mode::from_raw_mode(0o600)).expect("make FIFO");
        let sentinel = OsStr::from_bytes(SENTINEL);
        let links = [
            ("file".into(), "link"),
            ("loop".into(), "loop"),
            ("..".into(), "up"),
            ("dir/../..".into(), "dir/up"),
            (Path::new("..").join(sentinel), "out"),
            (self.root.path().join(sentinel), "abs"),
            (Path::new("../..").join(sentinel).with_extension("txt"), "dir/out"),
            ("../readonly".into(), "sibling"),
        ];
        for (target, link) in links {
            symlink::<PathBuf, _>(target, inside.join(link)).expect("symlink");
        }
    }

    /// Opens a granted directory.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn open(&self, name: &str) -> File {
        File::open(self.root.path().join(name)).expect("open")
    }

    /// Whether what is described is out of reach.
    #[must_use]
    pub fn is_secret(&self, stat: &Stat) -> bool {
        stat.dev == self.device && self.is_secret_entry(stat.ino)
    }

    /// Whether an inode is of something out of reach, if it is in a directory that is granted.
    #[must_use]
    pub fn is_secret_entry(&self, ino: u64) -> bool {
        self.secret.contains(&ino)
    }

    /// # Panics
    ///
    /// If something changed that must not.
    pub fn check(&self) {
        assert_eq!(self.facts(), self.before, "changed out of reach");
    }

    /// Everything that must not change.
    fn facts(&self) -> BTreeMap<PathBuf, Facts> {
        let mut facts = BTreeMap::new();
        let mut directories = vec![self.root.path().to_owned()];
        while let Some(directory) = directories.pop() {
            let metadata = fs::symlink_metadata(&directory).expect("stat");
            facts.insert(directory.clone(), (Vec::new(), numbers(&metadata)));
            for entry in fs::read_dir(&directory).expect("list") {
                let path = entry.expect("list").path();
                let metadata = fs::symlink_metadata(&path).expect("stat");
                if path.ends_with("inside") {
                    // Its name, not what is in it.
                    facts.insert(path, (Vec::new(), [metadata.ino().cast_signed(); 8]));
                } else if metadata.is_dir() {
                    directories.push(path);
                } else if metadata.is_symlink() {
                    let target = fs::read_link(&path).expect("read link");
                    let target = target.as_os_str().as_bytes().to_owned();
                    facts.insert(path, (target, numbers(&metadata)));
                } else {
                    let content = fs::read(&path).expect("read");
                    facts.insert(path, (content, numbers(&metadata)));
                }
            }
        }
        facts
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

fn numbers(metadata: &Metadata) -> [i64; 8] {
    [
        metadata.ino().cast_signed(),
        metadata.nlink().cast_signed(),
        metadata.size().cast_signed(),
        metadata.mode().into(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ]
}
