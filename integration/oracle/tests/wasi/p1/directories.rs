//! Listing: buffers of every size, cookies in any order, names of any bytes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oracle::Wasi;

use super::{P1, ROOT};

/// Entries of a large directory.
const ENTRIES: usize = 5000;
/// Bytes of a `dirent` without its name.
const DIRENT_BYTES: u32 = 24;

fn large_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..ENTRIES {
        std::fs::write(directory.path().join(name(number)), "").unwrap();
    }
    directory
}

/// Names of different lengths.
fn name(number: usize) -> String {
    format!("{number}{}", "x".repeat(number % 40))
}

fn all_names() -> BTreeSet<Vec<u8>> {
    let own = [".", ".."].map(|name| name.as_bytes().to_vec());
    (0..ENTRIES).map(|number| name(number).into_bytes()).chain(own).collect()
}

/// All names by as many calls with a buffer of `room` bytes as it takes.
fn names(program: &mut P1, room: u32) -> Vec<Vec<u8>> {
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let (used, entries) = program.list(ROOT, room, cookie);
        if let Some((next, _)) = entries.last() {
            cookie = *next;
        }
        let none = entries.is_empty();
        names.extend(entries.into_iter().map(|(_, name)| name));
        if used < room {
            return names;
        }
        assert!(!none, "a buffer of {room} bytes holds no entry");
    }
}

#[test]
fn each_name_is_listed_once_whatever_the_size_of_the_buffer() {
    let directory = large_directory();
    let mut program = P1::start(Wasi::Ours, directory.path());
    // The longest name has 43 bytes.
    for room in [DIRENT_BYTES + 44, 100, 333, 4096, 65_536, 1 << 20] {
        let names = names(&mut program, room);
        assert_eq!(names.len(), ENTRIES + 2, "with {room} bytes");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), all_names(), "with {room} bytes");
    }
}

#[test]
fn listing_goes_on_at_any_cookie_in_any_order() {
    let directory = large_directory();
    let mut program = P1::start(Wasi::Ours, directory.path());
    let (_, entries) = program.list(ROOT, 1 << 20, 0);
    assert_eq!(entries.len(), ENTRIES + 2);
    // A step that has no divisor in common with the number of entries meets each of them.
    let places = (0..entries.len()).map(|index| index * 1999 % entries.len());
    for place in places {
        let (cookie, _) = &entries[place];
        let (_, following) = program.list(ROOT, 100, *cookie);
        let expected = entries.get(place + 1).map(|(_, name)| name);
        assert_eq!(following.first().map(|(_, name)| name), expected, "after entry {place}");
    }
}

#[test]
fn a_cookie_that_was_never_given_harms_nothing() {
    let directory = large_directory();
    let mut program = P1::start(Wasi::Ours, directory.path());
    for cookie in [1 << 20, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX] {
        let arguments = [3, u64::from(super::DATA), 4096, cookie, super::RESULT.into()];
        let errno = program.errno("fd_readdir", &arguments);
        assert!([0, 28, 44].contains(&errno), "cookie {cookie:#x}: {errno}");
    }
    assert_eq!(names(&mut program, 4096).len(), ENTRIES + 2);
}

#[test]
fn what_is_added_and_removed_while_listing_disturbs_no_other_name() {
    let directory = large_directory();
    let mut program = P1::start(Wasi::Ours, directory.path());
    let (mut names, mut removed, mut cookie) = (BTreeSet::new(), BTreeSet::new(), 0);
    for round in 0.. {
        let (used, entries) = program.list(ROOT, 4096, cookie);
        cookie = entries.last().map_or(cookie, |(next, _)| *next);
        let none = entries.is_empty();
        for (_, name) in entries {
            assert!(names.insert(name.clone()), "{name:?} twice");
        }
        if used < 4096 || none {
            break;
        }
        std::fs::write(directory.path().join(format!("added{round}")), "").unwrap();
        let name = name(ENTRIES - 1 - round);
        std::fs::remove_file(directory.path().join(&name)).unwrap();
        removed.insert(name.into_bytes());
    }
    // A name that was removed may have been listed before.
    names.extend(removed);
    let missing: Vec<_> = all_names().difference(&names).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Makes files with names that are not UTF-8; whether the file system takes them.
fn make_odd_names(directory: &Path) -> bool {
    odd_names()
        .iter()
        .all(|name| std::fs::write(directory.join(OsStr::from_bytes(name)), name).is_ok())
}

fn odd_names() -> [&'static [u8]; 4] {
    [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\x01\n\"\\"]
}

#[test]
fn names_that_are_not_utf_8_pass_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    if !make_odd_names(directory.path()) {
        println!(
            "skipped: names_that_are_not_utf_8_pass_as_they_are: the file system refuses them"
        );
        return;
    }
    let mut program = P1::start(Wasi::Ours, directory.path());
    let listed: BTreeSet<_> = names(&mut program, 4096).into_iter().collect();
    for name in odd_names() {
        assert!(listed.contains(name), "{name:?} is not listed");
        let fd = program.open(ROOT, name, 0, 1 << 1, 0).unwrap();
        assert_eq!(program.errno("fd_close", &[fd.into()]), 0);
    }
    let fd = program.open(ROOT, b"made\xff", 1, 1 << 6, 0).unwrap();
    assert_eq!(program.write(fd, b"x"), Ok(1));
    let made = directory.path().join(OsStr::from_bytes(b"made\xff"));
    assert_eq!(std::fs::read(made).unwrap(), b"x");
}
