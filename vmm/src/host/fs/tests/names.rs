//! Making, removing, renaming and linking.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use abi::{Errno, Request};

use crate::host::DirAccess;
use crate::host::tests::{Guest, INSIDE};

#[test]
fn a_directory_is_made_and_removed() {
    let mut guest = Guest::new();
    assert_eq!(guest.mkdir("dir"), Ok(0));
    assert!(guest.inside("dir").is_dir());
    assert_eq!(guest.mkdir("dir"), Err(Errno::Exists));
    assert_eq!(guest.mkdir("dir/below"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Err(Errno::NotEmpty));
    assert_eq!(guest.rmdir("dir/below"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Ok(0));
    assert_eq!(guest.rmdir("dir"), Err(Errno::NotFound));
}

#[test]
fn removing_a_name_tells_files_from_directories() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.unlink("dir"), Err(Errno::IsDirectory));
    assert_eq!(guest.rmdir("file"), Err(Errno::NotDirectory));
    assert_eq!(guest.unlink("file"), Ok(0));
    assert_eq!(guest.unlink("file"), Err(Errno::NotFound));
}

#[test]
fn removing_a_link_leaves_its_target() {
    let mut guest = Guest::new();
    symlink("../sentinel", guest.inside("link")).expect("symlink");
    assert_eq!(guest.unlink("link"), Ok(0));
    assert!(fs::symlink_metadata(guest.inside("link")).is_err());
    guest.assert_nothing_outside_changed();
}

#[test]
fn renaming_moves_and_replaces() {
    let mut guest = Guest::new();
    guest.write_inside("a", "a");
    guest.write_inside("b", "b");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.rename("a", "dir/c"), Ok(0));
    assert_eq!(guest.rename("dir/c", "b"), Ok(0));
    assert_eq!(fs::read(guest.inside("b")).expect("read"), b"a");
    assert_eq!(guest.rename("a", "c"), Err(Errno::NotFound));
    assert_eq!(guest.rename("b", "dir"), Err(Errno::IsDirectory));
    assert_eq!(guest.rename("dir", "dir/below"), Err(Errno::Invalid));
}

#[test]
fn names_move_and_link_between_two_preopens() {
    let mut guest = Guest::new();
    fs::create_dir(guest.root.path().join("inside/second")).expect("mkdir");
    let second = fs::File::open(guest.inside("second")).expect("open").into();
    let to_dir = guest.host.preopen(second, "/second", DirAccess::ReadWrite).expect("preopen");
    guest.write_inside("file", "text");
    let (from_dir, from, to) = (INSIDE, b"file", b"linked");
    assert_eq!(guest.call(Request::LinkAt { from_dir, to_dir, follow: false, from, to }), Ok(0));
    let to = b"renamed";
    assert_eq!(guest.call(Request::RenameAt { from_dir, to_dir, from, to }), Ok(0));
    assert_eq!(fs::read(guest.inside("second/linked")).expect("read"), b"text");
    assert_eq!(fs::read(guest.inside("second/renamed")).expect("read"), b"text");
    assert!(!guest.inside("file").exists());
}

#[test]
fn names_on_different_volumes_are_told() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    let other = Path::new("/dev/shm");
    let volume = |path: &Path| fs::metadata(path).expect("stat").dev();
    assert_ne!(volume(other), volume(&guest.inside("file")), "TMPDIR must be another volume");
    let other = fs::File::open(other).expect("open").into();
    let to_dir = guest.host.preopen(other, "/other", DirAccess::ReadWrite).expect("preopen");
    let (from_dir, from, to) = (INSIDE, b"file", b"never-created");
    let rename = Request::RenameAt { from_dir, to_dir, from, to };
    assert_eq!(guest.call(rename), Err(Errno::CrossDevice));
    let link = Request::LinkAt { from_dir, to_dir, follow: false, from, to };
    assert_eq!(guest.call(link), Err(Errno::CrossDevice));
}

#[test]
fn a_hard_link_names_the_same_object() {
    let mut guest = Guest::new();
    guest.write_inside("file", "text");
    guest.symlink("file", "link").expect("symlink");
    guest.mkdir("dir").expect("mkdir");
    assert_eq!(guest.link("file", "dir/second", false), Ok(0));
    assert_eq!(guest.link("link", "dir/of-link", false), Ok(0));
    let ino = |path: &str| fs::symlink_metadata(guest.inside(path)).expect("stat").ino();
    assert_eq!(ino("dir/second"), ino("file"));
    assert_eq!(ino("dir/of-link"), ino("link"));
    assert_eq!(guest.link("file", "dir/second", false), Err(Errno::Exists));
    assert_eq!(guest.link("nowhere", "x", false), Err(Errno::NotFound));
    assert_eq!(guest.link("dir", "x", false), Err(Errno::NotPermitted));
    assert_eq!(guest.link("dir/", "x", false), Err(Errno::NotPermitted));
}

#[test]
fn a_hard_link_follows_links_if_asked() {
    let mut guest = Guest::new();
    guest.mkdir("dir").expect("mkdir");
    guest.write_inside("file", "text");
    guest.symlink("../second", "dir/first").expect("symlink");
    guest.symlink("dir/../file", "second").expect("symlink");
    assert_eq!(guest.link("dir/first", "hard", true), Ok(0));
    let ino = |path: &str| fs::symlink_metadata(guest.inside(path)).expect("stat").ino();
    assert_eq!(ino("hard"), ino("file"));
    guest.symlink("dir/", "to-dir").expect("symlink");
    assert_eq!(guest.link("to-dir", "x", true), Err(Errno::NotPermitted));
    guest.symlink("nowhere", "dangling").expect("symlink");
    assert_eq!(guest.link("dangling", "x", true), Err(Errno::NotFound));
}

#[test]
fn a_symbolic_link_is_made_and_read() {
    let mut guest = Guest::new();
    assert_eq!(guest.symlink("some/../target", "link"), Ok(0));
    assert_eq!(guest.read_link(INSIDE, "link"), Ok(b"some/../target".to_vec()));
    assert_eq!(guest.symlink("x", "link"), Err(Errno::Exists));
    assert_eq!(guest.symlink("/etc", "absolute"), Err(Errno::NotPermitted));
    assert!(fs::symlink_metadata(guest.inside("absolute")).is_err());
}

#[test]
fn only_a_symbolic_link_can_be_read_as_one() {
    let mut guest = Guest::new();
    guest.write_inside("file", "");
    assert_eq!(guest.read_link(INSIDE, "file"), Err(Errno::Invalid));
    assert_eq!(guest.read_link(INSIDE, "nowhere"), Err(Errno::NotFound));
}

#[test]
fn a_symbolic_link_as_long_as_they_get_is_read_whole_or_not_at_all() {
    let mut guest = Guest::new();
    let target = "t/".repeat(2047);
    guest.symlink(&target, "link").expect("symlink");
    assert_eq!(guest.read_link(INSIDE, "link"), Ok(target.clone().into_bytes()));
    let request = Request::ReadLinkAt { dir: INSIDE, path: b"link" };
    let mut reply = vec![0; target.len() - 1];
    assert_eq!(guest.host.call(request, &mut reply), Err(Errno::TooBig));
}
