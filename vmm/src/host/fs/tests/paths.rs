//! Paths that lead nowhere, in a circle, or out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use abi::{Errno, FileKind, Handle, OpenFlags, Request, TimesMask};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{CREATE, FOLLOW, READ, WRITE};
use crate::host::tests::{Guest, INSIDE};

/// Every call that takes a path, made with `path`.
pub(super) fn every_path_call(path: &[u8]) -> Vec<Request<'_>> {
    let (dir, other) = (INSIDE, b"other".as_slice());
    let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
    let mut requests = vec![
        Request::OpenAt { dir, flags: OpenFlags::default(), path },
        Request::OpenAt { dir, flags: READ, path },
        Request::OpenAt { dir, flags: READ.with(FOLLOW), path },
        Request::OpenAt { dir, flags: WRITE.with(CREATE), path },
        Request::OpenAt { dir, flags: WRITE.with(CREATE).with(FOLLOW), path },
        Request::MkdirAt { dir, path },
        Request::UnlinkAt { dir, directory: false, path },
        Request::UnlinkAt { dir, directory: true, path },
        Request::RenameAt { from_dir: dir, to_dir: dir, from: path, to: other },
        Request::RenameAt { from_dir: dir, to_dir: dir, from: b"file", to: path },
        Request::LinkAt { from_dir: dir, to_dir: dir, follow: false, from: b"file", to: path },
        Request::SymlinkAt { dir, target: b"target", path },
        Request::ReadLinkAt { dir, path },
    ];
    for follow in [false, true] {
        requests.extend([
            Request::StatAt { dir, follow, path },
            Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path },
            Request::LinkAt { from_dir: dir, to_dir: dir, follow, from: path, to: other },
        ]);
    }
    requests
}

#[test]
fn no_call_takes_an_absolute_path() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for path in ["/", "//", "/file", "/etc/passwd", "/nowhere/at/all"] {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
}

#[test]
fn no_call_takes_a_path_out_of_the_directory() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    let paths =
        ["..", "../", "../sentinel", "../new", "dir/../..", "dir/../../outside/file", "./../.."];
    for path in paths {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn no_call_goes_through_a_link_that_leads_out() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    symlink(guest.root.path().join("outside"), guest.inside("absolute")).expect("symlink");
    symlink("../outside", guest.inside("relative")).expect("symlink");
    for path in ["absolute/file", "relative/file", "absolute/new", "relative/."] {
        for request in every_path_call(path.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::NotPermitted), "{request:?}");
        }
    }
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_trailing_slash_does_not_lead_out_through_a_link() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    symlink(guest.root.path().join("outside"), guest.inside("link")).expect("symlink");
    for request in every_path_call(b"link/") {
        let errno = guest.ask(request).expect_err("refused");
        // What is about the link itself says so; what would follow it is not permitted.
        let local = [Errno::NotDirectory, Errno::Exists, Errno::NotPermitted, Errno::IsDirectory];
        assert!(local.contains(&errno), "{request:?}: {errno:?}");
    }
    assert_eq!(guest.stat_at(INSIDE, "link/", false), Err(Errno::NotPermitted));
    assert_eq!(guest.read_link(INSIDE, "link/"), Err(Errno::NotPermitted));
    assert_eq!(guest.link("link/", "other", false), Err(Errno::NotPermitted));
    guest.assert_nothing_outside_changed();
}

#[test]
fn what_exists_outside_cannot_be_told_from_what_does_not() {
    let mut guest = Guest::new();
    symlink("../outside", guest.inside("existing")).expect("symlink");
    symlink("../nowhere", guest.inside("missing")).expect("symlink");
    for name in ["existing", "missing"] {
        let slash = format!("{name}/");
        assert_eq!(guest.stat_at(INSIDE, name, true), Err(Errno::NotPermitted));
        assert_eq!(guest.stat_at(INSIDE, &slash, false), Err(Errno::NotPermitted));
        assert_eq!(guest.set_times_at(&slash, false, 0), Err(Errno::NotPermitted));
        assert_eq!(guest.read_link(INSIDE, &slash), Err(Errno::NotPermitted));
        assert_eq!(guest.link(&slash, "other", false), Err(Errno::NotPermitted));
        assert_eq!(guest.link(name, "other", true), Err(Errno::NotPermitted));
        assert_eq!(guest.rename(&slash, "other"), Err(Errno::NotDirectory));
        assert_eq!(guest.rmdir(&slash), Err(Errno::NotDirectory));
        assert_eq!(guest.mkdir(&slash), Err(Errno::Exists));
    }
}

#[test]
fn open_at_dotdot_stays_beneath_the_directory() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    let dir = guest.open(INSIDE, "dir", READ).expect("open");
    assert_eq!(guest.open(dir, "..", READ), Err(Errno::NotPermitted));
    assert!(guest.open(INSIDE, "dir/..", READ).is_ok());
    assert_eq!(guest.open(INSIDE, "..", READ), Err(Errno::NotPermitted));
}

#[test]
fn a_symlink_to_an_absolute_path_is_refused() {
    let mut guest = Guest::new();
    symlink(guest.root.path().join("sentinel"), guest.inside("link")).expect("symlink");
    assert_eq!(guest.open(INSIDE, "link", READ.with(FOLLOW)), Err(Errno::NotPermitted));
    assert_eq!(guest.stat_at(INSIDE, "link", true), Err(Errno::NotPermitted));
    assert_eq!(guest.set_times_at("link", true, 0), Err(Errno::NotPermitted));
    assert_eq!(guest.link("link", "other", true), Err(Errno::NotPermitted));
    guest.assert_nothing_outside_changed();
}

#[test]
fn a_link_within_the_directory_is_followed_if_asked() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "text");
    guest.symlink("../file", "dir/link").expect("symlink");
    assert_eq!(guest.open(INSIDE, "dir/link", READ), Err(Errno::Loop));
    let file = guest.open(INSIDE, "dir/link", READ.with(FOLLOW)).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"text".to_vec()));
    let kind = |stat: abi::Stat| FileKind::from_wire(stat.kind);
    assert_eq!(guest.stat_at(INSIDE, "dir/link", true).map(kind), Ok(FileKind::RegularFile));
    assert_eq!(guest.stat_at(INSIDE, "dir/link", false).map(kind), Ok(FileKind::SymbolicLink));
}

#[test]
fn links_in_a_circle_are_a_loop() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    for (target, link) in [("itself", "itself"), ("b", "a"), ("dir/../a", "b"), ("c/..", "c")] {
        guest.symlink(target, link).expect("symlink");
    }
    for link in ["itself", "a", "b", "c"] {
        assert_eq!(guest.stat_at(INSIDE, link, true), Err(Errno::Loop), "{link}");
        assert_eq!(guest.set_times_at(link, true, 0), Err(Errno::Loop), "{link}");
        assert_eq!(guest.link(link, "other", true), Err(Errno::Loop), "{link}");
        for flags in [OpenFlags::default(), READ, WRITE, WRITE.with(CREATE)] {
            let open = guest.open(INSIDE, link, flags.with(FOLLOW));
            assert_eq!(open, Err(Errno::Loop), "{link} {flags:?}");
        }
        // As a directory on the way no call gets past it.
        let below = format!("{link}/below");
        for request in every_path_call(below.as_bytes()) {
            assert_eq!(guest.ask(request).err(), Some(Errno::Loop), "{request:?}");
        }
        // The link itself is a name as any other.
        assert_eq!(guest.rename(link, "moved"), Ok(0), "{link}");
        assert_eq!(guest.rename("moved", link), Ok(0), "{link}");
    }
    for link in ["itself", "a", "b", "c"] {
        assert_eq!(guest.unlink(link), Ok(0), "{link}");
    }
}

#[test]
fn a_chain_of_links_as_long_as_the_kernel_follows_is_followed() {
    let mut guest = Guest::new();
    guest.write_inside("0", "end");
    for number in 1..=41 {
        guest.symlink(&format!("{}", number - 1), &format!("{number}")).expect("symlink");
    }
    let file = guest.open(INSIDE, "40", READ.with(FOLLOW)).expect("open");
    assert_eq!(guest.read(file, 0), Ok(b"end".to_vec()));
    assert_eq!(guest.open(INSIDE, "41", READ.with(FOLLOW)), Err(Errno::Loop));
    assert_eq!(guest.link("39", "hard", true), Ok(0));
    assert_eq!(guest.link("41", "harder", true), Err(Errno::Loop));
}

#[test]
fn a_directory_swapped_for_a_link_never_leads_outside() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("dir/file", "inside");
    symlink("../outside", guest.inside("link")).expect("symlink");
    let (dir, link) = (guest.inside("dir"), guest.inside("link"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).expect("swap");
            }
        });
        let (mut seen_inside, mut refused) = (0, 0);
        for round in 0..5_000 {
            match guest.open(INSIDE, "dir/file", READ.with(FOLLOW)) {
                Ok(handle) => {
                    assert_eq!(guest.read(handle, 0), Ok(b"inside".to_vec()));
                    guest.call(Request::Close { handle }).expect("close");
                    seen_inside += 1;
                }
                Err(errno) => {
                    assert!(matches!(errno, Errno::NotPermitted | Errno::Busy), "{errno:?}");
                    refused += 1;
                }
            }
            // Whether these succeed is up to the race; that they stay inside is not.
            let name = format!("dir/new{round}");
            for request in [
                Request::MkdirAt { dir: INSIDE, path: name.as_bytes() },
                Request::RenameAt {
                    from_dir: INSIDE,
                    to_dir: INSIDE,
                    from: name.as_bytes(),
                    to: b"link/renamed",
                },
                Request::UnlinkAt { dir: INSIDE, directory: true, path: b"link/renamed" },
                Request::UnlinkAt { dir: INSIDE, directory: true, path: name.as_bytes() },
                Request::SetTimesAt {
                    dir: INSIDE,
                    follow: true,
                    mask: TimesMask::MTIME,
                    atime_ns: 0,
                    mtime_ns: 0,
                    path: b"dir/file",
                },
            ] {
                let errno = guest.call(request).err();
                assert!(errno != Some(Errno::Io), "{request:?}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen_inside > 0 && refused > 0, "{seen_inside} inside, {refused} refused");
    });
    guest.assert_nothing_outside_changed();
    assert!(fs::metadata(guest.root.path().join("outside/file")).expect("stat").mtime() > 0);
}

#[test]
fn a_dot_is_the_directory_itself() {
    let mut guest = Guest::new();
    let directory = guest.stat(INSIDE).expect("stat");
    for path in [".", "./", "./."] {
        assert_eq!(guest.stat_at(INSIDE, path, false), Ok(directory), "{path}");
        assert!(guest.open(INSIDE, path, READ).is_ok(), "{path}");
        assert_eq!(guest.mkdir(path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.rmdir(path), Err(Errno::Invalid), "{path}");
        assert_eq!(guest.unlink(path), Err(Errno::IsDirectory), "{path}");
        assert_eq!(guest.rename(path, "other"), Err(Errno::Busy), "{path}");
        assert_eq!(guest.symlink("target", path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.link(path, "other", false), Err(Errno::NotPermitted), "{path}");
        assert_eq!(guest.read_link(INSIDE, path), Err(Errno::Invalid), "{path}");
    }
}

#[test]
fn a_dotdot_at_the_end_names_no_entry() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    for path in ["dir/..", "dir/../"] {
        assert_eq!(guest.mkdir(path), Err(Errno::Exists), "{path}");
        assert_eq!(guest.rmdir(path), Err(Errno::NotEmpty), "{path}");
        assert_eq!(guest.unlink(path), Err(Errno::IsDirectory), "{path}");
        assert_eq!(guest.rename(path, "other"), Err(Errno::Busy), "{path}");
        assert_eq!(guest.link(path, "other", false), Err(Errno::NotPermitted), "{path}");
    }
    assert_eq!(guest.mkdir("nowhere/.."), Err(Errno::NotFound));
}

#[test]
fn a_trailing_slash_asks_for_a_directory() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir/").expect("mkdir");
    assert!(guest.stat_at(INSIDE, "dir//", false).is_ok());
    assert_eq!(guest.stat_at(INSIDE, "file/", false), Err(Errno::NotDirectory));
    assert_eq!(guest.open(INSIDE, "file/", READ), Err(Errno::NotDirectory));
    assert_eq!(guest.open(INSIDE, "new/", WRITE.with(CREATE)), Err(Errno::IsDirectory));
    assert_eq!(guest.unlink("file/"), Err(Errno::NotDirectory));
    assert_eq!(guest.rename("file/", "other"), Err(Errno::NotDirectory));
    assert_eq!(guest.link("file/", "other", false), Err(Errno::NotDirectory));
    assert_eq!(guest.symlink("target", "new/"), Err(Errno::NotFound));
    assert_eq!(guest.rename("dir/", "renamed/"), Ok(0));
    assert_eq!(guest.rmdir("renamed/"), Ok(0));
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let name = vec![b'a'; 256];
    for request in every_path_call(&name) {
        assert_eq!(guest.ask(request).err(), Some(Errno::NameTooLong), "{request:?}");
    }
}

#[test]
fn a_component_that_is_no_directory_is_told() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for request in every_path_call(b"file/below") {
        assert_eq!(guest.ask(request).err(), Some(Errno::NotDirectory), "{request:?}");
    }
}

#[test]
fn a_parent_that_does_not_exist_is_not_found() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    for request in every_path_call(b"nowhere/below") {
        assert_eq!(guest.ask(request).err(), Some(Errno::NotFound), "{request:?}");
    }
}

#[test]
fn every_path_call_needs_a_directory() {
    let mut guest = Guest::new();
    let file = guest.create("file");
    let name_only = guest.open(INSIDE, ".", OpenFlags::default()).expect("open");
    for dir in [Handle::STDIN, file, name_only, Handle(4711)] {
        assert_eq!(guest.open(dir, "x", READ), Err(Errno::BadHandle));
        assert_eq!(guest.stat_at(dir, "x", true), Err(Errno::BadHandle));
        assert_eq!(guest.read_link(dir, "x"), Err(Errno::BadHandle));
        let (target, path, from, to) = (b"t", b"x", b"file", b"y");
        let (mask, atime_ns, mtime_ns) = (TimesMask::MTIME, 0, 0);
        for request in [
            Request::ReadDir { handle: dir, cookie: 0 },
            Request::SetTimesAt { dir, follow: true, mask, atime_ns, mtime_ns, path },
            Request::MkdirAt { dir, path },
            Request::UnlinkAt { dir, directory: false, path },
            Request::RenameAt { from_dir: dir, to_dir: INSIDE, from, to },
            Request::RenameAt { from_dir: INSIDE, to_dir: dir, from, to },
            Request::LinkAt { from_dir: dir, to_dir: INSIDE, follow: false, from, to },
            Request::LinkAt { from_dir: INSIDE, to_dir: dir, follow: false, from, to },
            Request::SymlinkAt { dir, target, path },
        ] {
            assert_eq!(guest.ask(request).err(), Some(Errno::BadHandle), "{request:?}");
        }
    }
}

#[test]
fn names_need_not_be_utf8() {
    let mut guest = Guest::new();
    // Not UTF-8, an overlong form, a lone surrogate, control characters, Latin-1, a newline.
    let names: [&[u8]; 6] =
        [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\x01\x7f", b"caf\xe9", b"two\nlines"];
    for name in names {
        let file = guest.create(name);
        guest.write(file, 0, b"text").expect("write");
        let path = guest.root.path().join("inside").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(&path).expect("read"), b"text");
        assert_eq!(guest.list(INSIDE, 4096), [(name.to_vec(), FileKind::RegularFile)]);
        assert_eq!(guest.stat_at(INSIDE, name, false), guest.stat(file));

        let dir = [name, b".dir"].concat();
        let below = [&dir, b"/".as_slice(), name].concat();
        guest.call(Request::MkdirAt { dir: INSIDE, path: &dir }).expect("mkdir");
        let (from_dir, to_dir) = (INSIDE, INSIDE);
        let link = Request::LinkAt { from_dir, to_dir, follow: true, from: name, to: &below };
        assert_eq!(guest.call(link), Ok(0));
        let rename = Request::RenameAt { from_dir, to_dir, from: &below, to: b"moved" };
        assert_eq!(guest.call(rename), Ok(0));
        let link = Request::SymlinkAt { dir: INSIDE, target: name, path: &below };
        assert_eq!(guest.call(link), Ok(0));
        assert_eq!(
            guest.ask(Request::ReadLinkAt { dir: INSIDE, path: &below }),
            Ok((name.len() as u64, name.to_vec()))
        );
        for (path, directory) in
            [(below.as_slice(), false), (&dir, true), (b"moved", false), (name, false)]
        {
            assert_eq!(guest.call(Request::UnlinkAt { dir: INSIDE, directory, path }), Ok(0));
        }
        guest.call(Request::Close { handle: file }).expect("close");
    }
    assert_eq!(guest.list(INSIDE, 4096), []);
}
