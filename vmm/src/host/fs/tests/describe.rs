//! Descriptions and times.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use abi::{Errno, FileKind, Handle, Request, TimesMask};

use crate::host::tests::{Guest, INSIDE};

#[test]
fn a_description_is_what_the_host_sees() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.link("file", "second", false).expect("link");
    let stat = guest.stat_at(INSIDE, "file", false).expect("stat");
    let metadata = fs::metadata(guest.inside("file")).expect("stat");
    assert_eq!((stat.dev, stat.ino), (metadata.dev(), metadata.ino()));
    assert_eq!((stat.links, stat.size), (2, 4));
    let ns = metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec();
    assert_eq!(stat.mtime_ns, ns.cast_unsigned());
    assert_eq!(FileKind::from_wire(stat.kind), FileKind::RegularFile);
    assert_eq!(guest.stat_at(INSIDE, "nowhere", false), Err(Errno::NotFound));
    assert_eq!(guest.stat(Handle(4711)), Err(Errno::BadHandle));
}

#[test]
fn a_time_before_1970_is_described_as_zero() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    let file = fs::File::options().write(true).open(guest.inside("file")).expect("open");
    let day = std::time::Duration::from_secs(86_400);
    file.set_modified(std::time::UNIX_EPOCH - day).expect("set");
    assert_eq!(guest.stat_at(INSIDE, "file", false).expect("stat").mtime_ns, 0);
}

#[test]
fn a_description_that_does_not_fit_is_refused() {
    let mut guest = Guest::new();
    let request = Request::Stat { handle: INSIDE };
    assert_eq!(guest.host.call(request, &mut [0; 63]), Err(Errno::TooBig));
}

#[test]
fn times_are_set_as_the_mask_says() {
    let mut guest = Guest::new();
    let handle = guest.create("file");
    let mut set = |mask: TimesMask, atime_ns, mtime_ns| {
        guest.call(Request::SetTimes { handle, mask, atime_ns, mtime_ns })?;
        guest.stat(handle).map(|stat| (stat.atime_ns, stat.mtime_ns))
    };
    let both = TimesMask::ATIME.with(TimesMask::MTIME);
    assert_eq!(set(both, 1_000_000_001, 2_000_000_002), Ok((1_000_000_001, 2_000_000_002)));
    assert_eq!(set(TimesMask::ATIME, 3_000_000_000, 9), Ok((3_000_000_000, 2_000_000_002)));
    assert_eq!(set(TimesMask::MTIME, 9, 4_000_000_000), Ok((3_000_000_000, 4_000_000_000)));
    assert_eq!(set(TimesMask::default(), 9, 9), Ok((3_000_000_000, 4_000_000_000)));
    let (atime_ns, mtime_ns) = set(TimesMask::MTIME_NOW, 9, 9).expect("set");
    assert_eq!(atime_ns, 3_000_000_000);
    assert!(mtime_ns > 1_000_000_000_000_000_000);
    let contradiction = TimesMask::ATIME.with(TimesMask::ATIME_NOW);
    assert_eq!(set(contradiction, 9, 9), Err(Errno::Invalid));
    let contradiction = TimesMask::MTIME.with(TimesMask::MTIME_NOW);
    assert_eq!(set(contradiction, 9, 9), Err(Errno::Invalid));
}

#[test]
fn the_times_of_a_link_or_of_its_target_are_set() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.symlink("file", "link").expect("symlink");
    assert_eq!(guest.set_times_at("link", false, 1_000_000_000), Ok(0));
    assert_eq!(guest.set_times_at("link", true, 2_000_000_000), Ok(0));
    let mut mtime = |path| guest.stat_at(INSIDE, path, false).expect("stat").mtime_ns;
    assert_eq!((mtime("link"), mtime("file")), (1_000_000_000, 2_000_000_000));
    assert_eq!(guest.set_times_at("nowhere", true, 0), Err(Errno::NotFound));
}
