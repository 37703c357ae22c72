//! Paths of a guest, resolved beneath a directory and never outside it.
//!
//! Rule: a path of more than one component goes to the kernel only through openat2(2) with
//! `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`, which refuses absolute paths, absolute symbolic links and
//! every `..` out of the directory, whatever other processes rename meanwhile. Calls that have no such
//! form act on a descriptor it gave: on the object itself ([`object`]), or on one single name in the
//! opened parent ([`Place`]) where the call does not follow that name.
//!
//! A path that leads out is [`Errno::NotPermitted`], whether or not anything is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use abi::Errno;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno as Os;

use crate::host::errno::refusal;

/// How often a path is resolved again when a rename elsewhere disturbed its `..` (openat2(2), `EAGAIN`):
/// 128 times are not enough for a path of forty `..` beside a process that does nothing but rename.
const ATTEMPTS: usize = 4096;

/// Symbolic links that a path may lead through (the kernel's own limit, path_resolution(7)).
const SYMLINKS_MAX: usize = 40;

/// Opens what `path` names. The last component is followed unless `flags` has `NOFOLLOW`.
pub(super) fn open(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..ATTEMPTS {
        match openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Os::AGAIN) => {}
            Err(Os::XDEV) => return Err(Errno::NotPermitted),
            result => return result.map_err(refusal),
        }
    }
    Err(Errno::Busy)
}

/// What `path` names, as a descriptor that serves only to act on it (`O_PATH`).
pub(super) fn object(dir: BorrowedFd<'_>, path: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    open(dir, path, OFlags::PATH | nofollow, Mode::empty())
}

/// Where a name is, or is to be: an opened directory and one component in it.
pub(super) struct Place<'a> {
    parent: OwnedFd,
    /// The component, with the slashes that trail it: the kernel gives them their meaning. `.` and `..`
    /// are left to it too; the calls that make, remove and rename never accept them.
    pub(super) name: &'a [u8],
}

impl<'a> Place<'a> {
    /// The place that `path` names, for calls that never follow the last component, not even one with a
    /// trailing slash: mkdirat, unlinkat, renameat, symlinkat, and the new name of linkat.
    pub(super) fn of(dir: BorrowedFd<'_>, path: &'a [u8]) -> Result<Self, Errno> {
        let (parent, name) = split(path);
        if without_slashes(name) == b".." {
            object(dir, path, true)?; // not beneath, if this fails
        }
        let parent = open(dir, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { parent, name })
    }

    /// The directory.
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }
}

/// The place of an existing object that is to get a hard link, for linkat(2) without flags.
///
/// linkat(2) follows by itself where there is a trailing slash, and through a descriptor it works for
/// the privileged only. So links are followed here, each step beneath `dir`. A link that appears after
/// the last step is linked itself, not followed.
///
/// # Errors
///
/// [`Errno::NotPermitted`] for directories, which have no hard links.
pub(super) fn link_source(
    dir: BorrowedFd<'_>,
    path: &[u8],
    follow: bool,
) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let mut path = path.to_vec();
    for _ in 0..SYMLINKS_MAX {
        let (parent_path, name) = split(&path);
        if matches!(name, b"." | b"..") || name.ends_with(b"/") {
            object(dir, &path, true)?; // a directory, if there is anything
            return Err(Errno::NotPermitted);
        }
        let Place { parent, name } = Place::of(dir, &path)?;
        match readlinkat(&parent, name, Vec::new()) {
            Ok(target) if follow => {
                let target = target.as_bytes();
                path = if target.starts_with(b"/") {
                    return Err(Errno::NotPermitted);
                } else {
                    [parent_path, b"/", target].concat()
                };
            }
            Ok(_) | Err(Os::INVAL) => return Ok((parent, name.to_vec())),
            Err(os) => return Err(refusal(os)),
        }
    }
    Err(Errno::Loop)
}

/// Splits a path into its parent, `.` if it has none, and the last component with trailing slashes.
/// The parent of an absolute path is absolute, so that resolving it fails as it must.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = without_slashes(path).len();
    match path[..end].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..=slash], &path[slash + 1..]),
        None if end == 0 => (b"/", path),
        None => (b".", path),
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_splits_into_parent_and_last_component() {
        let cases: [(&str, (&str, &str)); 9] = [
            ("a", (".", "a")),
            ("a/b", ("a/", "b")),
            ("a/b//", ("a/", "b//")),
            ("a//b", ("a//", "b")),
            (".", (".", ".")),
            ("a/..", ("a/", "..")),
            ("../", (".", "../")),
            ("/a", ("/", "a")),
            ("//", ("/", "//")),
        ];
        for (path, (parent, name)) in cases {
            assert_eq!(split(path.as_bytes()), (parent.as_bytes(), name.as_bytes()), "{path}");
        }
    }
}
