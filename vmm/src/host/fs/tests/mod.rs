//! Files and directories: each call with its right, without it, and with paths that lead nowhere or out.

mod content;
mod describe;
mod gone;
mod list;
mod names;
mod open;
mod paths;
mod read_only;
mod special;

use std::fs;

use abi::{DirEntry, Errno, FileKind, Handle, OpenFlags, Request, TimesMask};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::host::tests::{Guest, INSIDE};

const READ: OpenFlags = OpenFlags::READ;
const WRITE: OpenFlags = OpenFlags::WRITE;
const CREATE: OpenFlags = OpenFlags::CREATE;
const FOLLOW: OpenFlags = OpenFlags::FOLLOW;

/// Calls without the boilerplate of a request.
impl Guest {
    fn mkdir(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::MkdirAt { dir: INSIDE, path: path.as_bytes() })
    }

    fn unlink(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::UnlinkAt { dir: INSIDE, directory: false, path: path.as_bytes() })
    }

    fn rmdir(&mut self, path: &str) -> Result<u64, Errno> {
        self.call(Request::UnlinkAt { dir: INSIDE, directory: true, path: path.as_bytes() })
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<u64, Errno> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.call(Request::RenameAt { from_dir: INSIDE, to_dir: INSIDE, from, to })
    }

    fn link(&mut self, from: &str, to: &str, follow: bool) -> Result<u64, Errno> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.call(Request::LinkAt { from_dir: INSIDE, to_dir: INSIDE, follow, from, to })
    }

    fn symlink(&mut self, target: &str, path: &str) -> Result<u64, Errno> {
        let (target, path) = (target.as_bytes(), path.as_bytes());
        self.call(Request::SymlinkAt { dir: INSIDE, target, path })
    }

    fn read_link(&mut self, dir: Handle, path: &str) -> Result<Vec<u8>, Errno> {
        let (value, data) = self.ask(Request::ReadLinkAt { dir, path: path.as_bytes() })?;
        assert_eq!(value, data.len() as u64);
        Ok(data)
    }

    fn set_times_at(&mut self, path: &str, follow: bool, mtime_ns: u64) -> Result<u64, Errno> {
        let (dir, mask, path) = (INSIDE, TimesMask::MTIME, path.as_bytes());
        self.call(Request::SetTimesAt { dir, follow, mask, atime_ns: 0, mtime_ns, path })
    }

    /// One page of a listing: the names and the cookie after the last.
    fn page(
        &mut self,
        dir: Handle,
        cookie: u64,
        reply: &mut [u8],
    ) -> Result<Vec<(Vec<u8>, u64, FileKind)>, Errno> {
        let answer = self.host.call(Request::ReadDir { handle: dir, cookie }, reply)?;
        assert_eq!(answer.value, answer.data_bytes as u64);
        let mut rest = &reply[..answer.data_bytes];
        let mut entries = Vec::new();
        while let Some((entry, tail)) = DirEntry::split_first(rest) {
            let kind = FileKind::from_wire(entry.header.kind);
            entries.push((entry.name.to_vec(), entry.header.next, kind));
            rest = tail;
        }
        assert_eq!(rest, [], "whole entries");
        Ok(entries)
    }

    /// Lists a directory to its end, in pages of `page_bytes`.
    fn list(&mut self, dir: Handle, page_bytes: usize) -> Vec<(Vec<u8>, FileKind)> {
        let (mut all, mut cookie, mut reply) = (Vec::new(), 0, vec![0; page_bytes]);
        loop {
            let page = self.page(dir, cookie, &mut reply).expect("list");
            let Some((_, next, _)) = page.last() else { return all };
            cookie = *next;
            all.extend(page.into_iter().map(|(name, _, kind)| (name, kind)));
        }
    }

    fn write_inside(&self, path: &str, content: &str) {
        fs::write(self.inside(path), content).expect("write");
    }

    fn fifo(&self, path: &str) {
        mkfifoat(CWD, self.inside(path), Mode::from_raw_mode(0o600)).expect("make FIFO");
    }
}
