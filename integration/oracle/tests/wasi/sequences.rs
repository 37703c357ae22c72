//! Generated sequences of file-system calls, made by the same program over ours and over Wasmtime's WASI
//! in equal directories: each call's answer compares, and what is left behind.
//!
//! A sequence that differs is made shorter until nothing can be left out. Differences that are meant stand
//! in the table of each interface with their reasons; a sequence is compared up to one of them where what
//! follows cannot be the same.
//!
//! `ORACLE_SEQUENCES` is the number of sequences for each interface, `ORACLE_SEED` another start of the
//! generator than the one that every run has.

mod p1;
mod p2;
mod paths;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use oracle::{Tree, Wasi};

/// Sequences for each interface in an ordinary run.
const SEQUENCES: u32 = 4000;
/// Most calls of a sequence.
pub(super) const CALLS_MAX: usize = 30;
/// Times of everything in a prepared directory: seconds since the Unix epoch.
const PREPARED_S: i64 = 1_000_000_000;
/// Start of the generator.
const SEED: u64 = 48;

/// Makes sequences of `calls` on both sides by `run`, and compares.
fn compare_sequences<C: Clone + Debug, E: Debug + PartialEq>(
    calls: impl Strategy<Value = C>,
    run: impl Fn(Wasi, &Arena, &[C]) -> Vec<Answer<E>>,
    meant: &[Difference<C, E>],
) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let (sequences, seed) = (number("ORACLE_SEQUENCES"), number("ORACLE_SEED"));
    let config = Config {
        cases: sequences.map_or(SEQUENCES, |n| u32::try_from(n).expect("ORACLE_SEQUENCES")),
        rng_seed: RngSeed::Fixed(seed.unwrap_or(SEED)),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let met = RefCell::new(BTreeMap::new());
    let compared = TestRunner::new(config)
        .run(&proptest::collection::vec(calls, 1..=CALLS_MAX), |sequence| {
            compare(&sequence, &run, meant, &met).map_err(TestCaseError::fail)
        });
    if let Err(failure) = compared {
        panic!("{failure}");
    }
    let met = met.into_inner();
    for (reason, times) in &met {
        println!("{times} times: {reason}");
    }
    if sequences.is_none() && seed.is_none() {
        let stale = meant.iter().map(|it| it.reason).filter(|reason| !met.contains_key(reason));
        assert_eq!(stale.collect::<Vec<_>>(), [""; 0], "differences that are none");
    }
}

/// A directory for one run: a prepared tree, and beside it what must not be reached. In memory where
/// there is such a file system: sequences ask often that what they wrote be on the medium.
struct Arena {
    directory: tempfile::TempDir,
    since: SystemTime,
}

impl Arena {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let directory = directory.expect("a directory");
        prepare(directory.path()).expect("prepare a directory");
        // Files have their times from a clock of the kernel that may be some milliseconds late.
        Self { directory, since: SystemTime::now() - Duration::from_secs(1) }
    }

    /// What the program sees.
    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn left(&self) -> Tree {
        Tree::of(self.directory.path(), self.since).expect("describe what is left")
    }
}

/// Files, directories, hard links, and symbolic links of every kind.
fn prepare(directory: &Path) -> std::io::Result<()> {
    let root = directory.join("root");
    fs::create_dir_all(root.join("d/e"))?;
    fs::write(directory.join("outside"), "not to be reached")?;
    fs::write(root.join("f"), "0123456789")?;
    fs::write(root.join("g"), "")?;
    fs::write(root.join("d/x"), vec![b'x'; 5000])?;
    fs::hard_link(root.join("f"), root.join("h"))?;
    let links = [
        ("l", "f"),
        ("ld", "d"),
        ("ll", "ld/x"),
        ("out", "../outside"),
        ("abs", "/etc/hostname"),
        ("dangling", "nothing"),
        ("loop", "pool"),
        ("pool", "loop"),
        ("slash", "d/"),
        ("d/up", "../f"),
        ("d/root", ".."),
        ("d/out", "../../outside"),
    ];
    for (name, target) in links {
        symlink(target, root.join(name))?;
    }
    let time = Timespec { tv_sec: PREPARED_S, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut names: Vec<&str> = links.map(|(name, _)| name).to_vec();
    names.extend(["f", "g", "d/x", "d/e", "d", "", "../outside", ".."]);
    for name in names {
        utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// What one call answered, in a form that compares between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<E> {
    /// It failed.
    Error(E),
    /// It gave these.
    Gave(Vec<Seen>),
}

/// Something that a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Number(u64),
    Bytes(Vec<u8>),
    Words(Vec<String>),
    /// A time before the run, in nanoseconds; `None` for one in it.
    Time(Option<u64>),
    /// An object, by the order in which the run met it.
    Object(usize),
    /// What a directory holds.
    Entries(BTreeMap<Vec<u8>, (u64, Option<usize>)>),
}

/// Objects in the order in which a run met them.
#[derive(Debug, Default)]
struct Objects(Vec<(u64, u64)>);

impl Objects {
    fn place(&mut self, identity: (u64, u64)) -> usize {
        let known = self.0.iter().position(|it| *it == identity);
        known.unwrap_or_else(|| {
            self.0.push(identity);
            self.0.len() - 1
        })
    }
}

/// A time as it compares.
fn time(ns: u64) -> Seen {
    const YEAR_2020_NS: u64 = 1_577_836_800_000_000_000;
    Seen::Time((ns < YEAR_2020_NS).then_some(ns))
}

/// A difference that is meant.
struct Difference<C, E> {
    /// Why ours is as it is.
    reason: &'static str,
    /// Whether what follows cannot be compared: one of the calls changed something, or met an object.
    parts: bool,
    /// Whether this is what a call's two answers, ours and theirs, show.
    applies: fn(&C, Outcome<'_, E>, Outcome<'_, E>) -> bool,
}

/// How a call ended, without what it gave.
type Outcome<'a, E> = Result<(), &'a E>;

impl<E> Answer<E> {
    fn outcome(&self) -> Outcome<'_, E> {
        match self {
            Answer::Error(error) => Err(error),
            Answer::Gave(_) => Ok(()),
        }
    }
}

/// Whether a path can name nothing but a directory.
fn names_a_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// Runs a sequence on both sides and compares.
fn compare<C: Debug, E: Debug + PartialEq>(
    calls: &[C],
    run: impl Fn(Wasi, &Arena, &[C]) -> Vec<Answer<E>>,
    meant: &[Difference<C, E>],
    met: &RefCell<BTreeMap<&'static str, u32>>,
) -> Result<(), String> {
    let (our_arena, their_arena) = (Arena::new(), Arena::new());
    let ours = run(Wasi::Ours, &our_arena, calls);
    let theirs = run(Wasi::Theirs, &their_arena, calls);
    for (call, (ours, theirs)) in calls.iter().zip(ours.iter().zip(&theirs)) {
        if ours == theirs {
            continue;
        }
        let (our_end, their_end) = (ours.outcome(), theirs.outcome());
        let applies = |it: &&Difference<C, E>| (it.applies)(call, our_end, their_end);
        let Some(difference) = meant.iter().find(applies) else {
            return Err(format!("{call:?}\n ours: {ours:?}\n theirs: {theirs:?}"));
        };
        *met.borrow_mut().entry(difference.reason).or_default() += 1;
        if difference.parts && (our_end.is_ok() || their_end.is_ok()) {
            return Ok(());
        }
    }
    let differences = our_arena.left().differences(&their_arena.left());
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("left behind, ours and theirs:\n {}", differences.join("\n ")))
}
