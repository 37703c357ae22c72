//! Listing directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, Errno, FileKind, Handle, Request};
use tempfile::TempDir;

use super::{CREATE, READ, WRITE};
use crate::host::tests::{Guest, INSIDE, Random};
use crate::host::{Answer, DirAccess};

#[test]
fn a_listing_tells_names_and_kinds_without_the_dots() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    guest.symlink("file", "link").expect("symlink");
    guest.fifo("fifo");
    let entries: BTreeSet<_> =
        guest.list(INSIDE, 4096).into_iter().map(|(name, kind)| (name, kind as u32)).collect();
    let expected = [
        (b"dir".to_vec(), FileKind::Directory as u32),
        (b"fifo".to_vec(), FileKind::Fifo as u32),
        (b"file".to_vec(), FileKind::RegularFile as u32),
        (b"link".to_vec(), FileKind::SymbolicLink as u32),
    ];
    assert_eq!(entries, BTreeSet::from(expected));
}

#[test]
fn an_empty_directory_lists_nothing() {
    let mut guest = Guest::new();
    assert_eq!(guest.list(INSIDE, 4096), []);
}

#[test]
fn a_removed_directory_lists_nothing() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    let dir = guest.open(INSIDE, "dir", READ).expect("open");
    guest.rmdir("dir").expect("rmdir");
    let listed = guest.page(dir, 0, &mut [0; 4096]);
    assert!(matches!(listed.as_deref(), Ok([]) | Err(Errno::NotFound)), "{listed:?}");
    let create = guest.open(dir, "file", WRITE.with(CREATE));
    assert_eq!(create, Err(Errno::NotFound));
}

/// How many entries a directory is to cope with.
const MANY: usize = 100_000;

/// Makes [`MANY`] empty files in `dir`, named by their number.
fn fill(dir: &Path) {
    for number in 0..MANY {
        fs::File::create(dir.join(number.to_string())).expect("create");
    }
}

/// A temporary directory below `parent` with [`MANY`] files, opened by the guest.
fn many(guest: &mut Guest, parent: &Path) -> (TempDir, Handle) {
    let dir = TempDir::new_in(parent).expect("temporary directory");
    fill(dir.path());
    let fd = fs::File::open(dir.path()).expect("open").into();
    let handle = guest.host.preopen(fd, "/many", DirAccess::ReadWrite).expect("preopen");
    (dir, handle)
}

/// The directories on which listings are tested: file systems number their entries in different ways.
fn parents() -> [PathBuf; 2] {
    [std::env::temp_dir(), PathBuf::from("/dev/shm")]
}

#[test]
fn a_hundred_thousand_entries_are_listed_in_pages() {
    for parent in parents() {
        let mut guest = Guest::new();
        let (_dir, handle) = many(&mut guest, &parent);
        let entries = guest.list(handle, CALL_DATA_BYTES);
        assert_eq!(entries.len(), MANY, "{}", parent.display());
        let names: BTreeSet<_> = entries.into_iter().map(|(name, _)| name).collect();
        let expected = (0..MANY).map(|number| number.to_string().into_bytes());
        assert_eq!(names, expected.collect(), "{}", parent.display());
    }
}

#[test]
fn entries_that_stay_are_listed_once_while_others_are_removed() {
    for parent in parents() {
        let mut guest = Guest::new();
        let (dir, handle) = many(&mut guest, &parent);
        let (mut stay, mut cookie, mut reply) = (Vec::new(), 0, vec![0; 8 << 10]);
        let mut random = Random(7);
        loop {
            let page = guest.page(handle, cookie, &mut reply).expect("list");
            let Some((_, next, _)) = page.last() else { break };
            cookie = *next;
            for (name, _, _) in page {
                let number: usize = str::from_utf8(&name).expect("digits").parse().expect("number");
                // Odd ones go: what was listed, and at random what may yet be.
                if number.is_multiple_of(2) {
                    stay.push(number);
                    let other = (usize::try_from(random.next()).expect("64 bits") % MANY) | 1;
                    let _ = fs::remove_file(dir.path().join(other.to_string()));
                } else {
                    let (directory, path) = (false, name.as_slice());
                    let unlink = Request::UnlinkAt { dir: handle, directory, path };
                    let removed = guest.call(unlink);
                    assert!(matches!(removed, Ok(0) | Err(Errno::NotFound)), "{removed:?}");
                }
            }
        }
        stay.sort_unstable();
        let expected: Vec<_> = (0..MANY).step_by(2).collect();
        assert!(stay == expected, "{} of {} that stay", stay.len(), expected.len());
    }
}

#[test]
fn the_smallest_pages_list_everything_once() {
    let mut guest = Guest::new();
    let names: BTreeSet<Vec<u8>> = (1..=64).map(|len| vec![b'n'; len]).collect();
    for name in &names {
        guest.create(name);
    }
    let entries = guest.list(INSIDE, DirEntry::wire_bytes(64));
    assert_eq!(entries.len(), names.len());
    assert_eq!(entries.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), names);
}

#[test]
fn a_name_too_long_for_the_reply_is_told() {
    let mut guest = Guest::new();
    let name = vec![b'n'; 255];
    guest.create(&name);
    let mut reply = vec![0; DirEntry::wire_bytes(name.len())];
    let too_small = reply.len() - 1;
    let request = Request::ReadDir { handle: INSIDE, cookie: 0 };
    assert_eq!(guest.host.call(request, &mut reply[..too_small]), Err(Errno::TooBig));
    let len = reply.len();
    let answer = guest.host.call(request, &mut reply);
    assert_eq!(answer, Ok(Answer { value: len as u64, data_bytes: len }));
}

#[test]
fn a_listing_goes_on_after_names_were_removed() {
    let mut guest = Guest::new();
    for number in 0..500 {
        guest.write_inside(&number.to_string(), "");
    }
    let mut reply = [0; 1024];
    let mut removed = 0;
    loop {
        let page = guest.page(INSIDE, 0, &mut reply).expect("list");
        if page.is_empty() {
            break;
        }
        for (name, _, _) in page {
            let path = name.as_slice();
            guest.call(Request::UnlinkAt { dir: INSIDE, directory: false, path }).expect("unlink");
            removed += 1;
        }
    }
    assert_eq!(removed, 500);
}

#[test]
fn a_cookie_that_was_never_given_is_answered_all_the_same() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let mut reply = [0; 4096];
    assert_eq!(guest.page(INSIDE, u64::MAX, &mut reply), Err(Errno::Invalid));
    for cookie in [1, 12_345, 1 << 31, 1 << 62, i64::MAX.cast_unsigned()] {
        match guest.page(INSIDE, cookie, &mut reply) {
            Ok(page) => assert!(page.len() <= 1, "{cookie}"),
            Err(errno) => assert_eq!(errno, Errno::Invalid, "{cookie}"),
        }
    }
}

#[test]
fn two_listings_of_one_handle_do_not_disturb_each_other() {
    let mut guest = Guest::new();
    for number in 0..100 {
        guest.write_inside(&number.to_string(), "");
    }
    let (mut at, mut seen, mut ended) = ([0, 0], [0, 0], [false, false]);
    while ended != [true, true] {
        for which in [0, 1] {
            let page = guest.page(INSIDE, at[which], &mut [0; 256]).expect("list");
            seen[which] += page.len();
            ended[which] = page.is_empty();
            at[which] = page.last().map_or(at[which], |(_, next, _)| *next);
        }
    }
    assert_eq!(seen, [100, 100]);
}
