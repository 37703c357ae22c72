//! How a request crosses: from a frame and a data area, and into them.

use super::{
    AbortKind, Access, Advice, Frame, Handle, LogLevel, Nr, OpenFlags, Readiness, Request,
    TimesMask, Violation,
};
use crate::layout;
use crate::socket::{Direction, Family, NAME_BYTES_MAX, SocketAddress, SocketKind, SocketOption};
use zerocopy::{FromBytes, IntoBytes};

impl<'a> Request<'a> {
    /// Parses a frame that the guest wrote. `area` is the whole data area, already copied out.
    ///
    /// # Errors
    ///
    /// The [`Violation`] that ends the micro-VM.
    pub fn decode(frame: &Frame, area: &'a [u8]) -> Result<Self, Violation> {
        let nr = Nr::try_from(frame.nr)?;
        let bad = Violation::BadArgument(nr);
        let data = usize::try_from(frame.data_len)
            .ok()
            .and_then(|len| area.get(..len))
            .ok_or(Violation::DataOverrun(frame.data_len))?;
        let arg32 = |i: usize| u32::try_from(frame.args[i]).map_err(|_| bad);
        let flag = |i: usize| match frame.args[i] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad),
        };
        let handle = |i: usize| arg32(i).map(Handle);
        let path = |bytes: &'a [u8]| {
            if path_is_valid(bytes) { Ok(bytes) } else { Err(bad) }
        };
        let mask = |i: usize| TimesMask::from_wire(frame.args[i]).ok_or(bad);
        let both_paths = |i: usize| {
            let first = arg32(i)? as usize;
            let (a, b) = data.split_at_checked(first).ok_or(bad)?;
            Ok((path(a)?, path(b)?))
        };
        let head_and_body = |i: usize| {
            let head = arg32(i)? as usize;
            data.split_at_checked(head).ok_or(bad)
        };
        let option = |i: usize| SocketOption::from_wire(frame.args[i]).ok_or(bad);
        Ok(match nr {
            Nr::Exit => Self::Exit { status: arg32(0)?.cast_signed() },
            Nr::Abort => {
                Self::Abort { kind: AbortKind::from_wire(frame.args[0]).ok_or(bad)?, message: data }
            }
            Nr::Log => {
                Self::Log { level: LogLevel::from_wire(frame.args[0]).ok_or(bad)?, message: data }
            }
            Nr::Map => {
                let (gva, len) = (frame.args[0], frame.args[1]);
                if !layout::map_range_is_valid(gva, len) {
                    return Err(bad);
                }
                Self::Map { gva, len, access: Access::from_wire(frame.args[2]).ok_or(bad)? }
            }
            Nr::Program => Self::Program,
            Nr::Ready => Self::Ready { readiness: Readiness::from_wire(frame.args[0]).ok_or(bad)? },
            Nr::BootInfo => Self::BootInfo { offset: frame.args[0] },
            Nr::Clock => Self::Clock,
            Nr::Poll => {
                let entry = size_of::<crate::PollEntry>();
                if data.len() % entry != 0 || data.len() / entry > layout::POLL_ENTRIES_MAX {
                    return Err(bad);
                }
                Self::Poll { timeout_ns: frame.args[0], entries: data }
            }
            Nr::Read => {
                let len = arg32(2)?;
                if len as usize > layout::CALL_DATA_BYTES {
                    return Err(bad);
                }
                Self::Read { handle: handle(0)?, offset: frame.args[1], len, wait: flag(3)? }
            }
            Nr::Write => {
                Self::Write { handle: handle(0)?, offset: frame.args[1], wait: flag(2)?, data }
            }
            Nr::Close => Self::Close { handle: handle(0)? },
            Nr::Sync => Self::Sync { handle: handle(0)?, data_only: flag(1)? },
            Nr::Stat => Self::Stat { handle: handle(0)? },
            Nr::SetSize => Self::SetSize { handle: handle(0)?, size: frame.args[1] },
            Nr::SetTimes => Self::SetTimes {
                handle: handle(0)?,
                mask: mask(1)?,
                atime_ns: frame.args[2],
                mtime_ns: frame.args[3],
            },
            Nr::ReadDir => Self::ReadDir { handle: handle(0)?, cookie: frame.args[1] },
            Nr::Allocate => {
                Self::Allocate { handle: handle(0)?, offset: frame.args[1], len: frame.args[2] }
            }
            Nr::Advise => Self::Advise {
                handle: handle(0)?,
                offset: frame.args[1],
                len: frame.args[2],
                advice: Advice::from_wire(frame.args[3]).ok_or(bad)?,
            },
            Nr::OpenAt => Self::OpenAt {
                dir: handle(0)?,
                flags: OpenFlags::from_wire(frame.args[1]).ok_or(bad)?,
                path: path(data)?,
            },
            Nr::StatAt => Self::StatAt { dir: handle(0)?, follow: flag(1)?, path: path(data)? },
            Nr::SetTimesAt => Self::SetTimesAt {
                dir: handle(0)?,
                follow: flag(1)?,
                mask: mask(2)?,
                atime_ns: frame.args[3],
                mtime_ns: frame.args[4],
                path: path(data)?,
            },
            Nr::MkdirAt => Self::MkdirAt { dir: handle(0)?, path: path(data)? },
            Nr::UnlinkAt => {
                Self::UnlinkAt { dir: handle(0)?, directory: flag(1)?, path: path(data)? }
            }
            Nr::RenameAt => {
                let (from, to) = both_paths(2)?;
                Self::RenameAt { from_dir: handle(0)?, to_dir: handle(1)?, from, to }
            }
            Nr::LinkAt => {
                let (from, to) = both_paths(2)?;
                Self::LinkAt {
                    from_dir: handle(0)?,
                    to_dir: handle(1)?,
                    follow: flag(3)?,
                    from,
                    to,
                }
            }
            Nr::SymlinkAt => {
                let (target, path) = both_paths(1)?;
                Self::SymlinkAt { dir: handle(0)?, target, path }
            }
            Nr::ReadLinkAt => Self::ReadLinkAt { dir: handle(0)?, path: path(data)? },
            Nr::Socket => Self::Socket {
                family: Family::from_wire(frame.args[0]).ok_or(bad)?,
                kind: SocketKind::from_wire(frame.args[1]).ok_or(bad)?,
            },
            Nr::Bind => Self::Bind { handle: handle(0)?, address: address(data).ok_or(bad)? },
            Nr::Listen => Self::Listen { handle: handle(0)?, backlog: arg32(1)? },
            Nr::Accept => Self::Accept { handle: handle(0)? },
            Nr::Connect => Self::Connect { handle: handle(0)?, address: address(data).ok_or(bad)? },
            Nr::Send => Self::Send { handle: handle(0)?, datagrams: data },
            Nr::Receive => Self::Receive { handle: handle(0)?, count: arg32(1)? },
            Nr::Shutdown => Self::Shutdown {
                handle: handle(0)?,
                direction: Direction::from_wire(frame.args[1]).ok_or(bad)?,
            },
            Nr::Address => Self::Address { handle: handle(0)?, peer: flag(1)? },
            Nr::GetOption => Self::GetOption { handle: handle(0)?, option: option(1)? },
            Nr::SetOption => {
                Self::SetOption { handle: handle(0)?, option: option(1)?, value: frame.args[2] }
            }
            Nr::Resolve if data.len() <= NAME_BYTES_MAX => Self::Resolve { name: data },
            Nr::Resolve => return Err(bad),
            Nr::Respond => {
                let (head, body) = head_and_body(1)?;
                Self::Respond { exchange: handle(0)?, finished: flag(2)?, head, body }
            }
            Nr::Fetch => {
                let (head, body) = head_and_body(0)?;
                Self::Fetch {
                    finished: flag(1)?,
                    connect_ns: frame.args[2],
                    first_byte_ns: frame.args[3],
                    between_bytes_ns: frame.args[4],
                    head,
                    body,
                }
            }
            Nr::Finish => Self::Finish { exchange: handle(0)?, trailers: data },
            Nr::Head => Self::Head { exchange: handle(0)? },
            Nr::Trailers => Self::Trailers { exchange: handle(0)? },
            Nr::Fail => Self::Fail { exchange: handle(0)?, error: data },
        })
    }

    /// Writes this request as a frame, with its payload at the start of `area`.
    ///
    /// # Errors
    ///
    /// [`crate::Errno::TooBig`] if the payload does not fit into `area`.
    pub fn encode(&self, area: &mut [u8]) -> Result<Frame, crate::Errno> {
        let wire = |handle: Handle| u64::from(handle.0);
        let (nr, args, first, second): (Nr, [u64; 6], &[u8], &[u8]) = match *self {
            Self::Exit { status } => {
                (Nr::Exit, [u64::from(status.cast_unsigned()), 0, 0, 0, 0, 0], &[], &[])
            }
            Self::Abort { kind, message } => {
                (Nr::Abort, [kind as u64, 0, 0, 0, 0, 0], message, &[])
            }
            Self::Log { level, message } => (Nr::Log, [level as u64, 0, 0, 0, 0, 0], message, &[]),
            Self::Map { gva, len, access } => {
                (Nr::Map, [gva, len, access as u64, 0, 0, 0], &[], &[])
            }
            Self::Program => (Nr::Program, [0; 6], &[], &[]),
            Self::Ready { readiness } => (Nr::Ready, [readiness as u64, 0, 0, 0, 0, 0], &[], &[]),
            Self::BootInfo { offset } => (Nr::BootInfo, [offset, 0, 0, 0, 0, 0], &[], &[]),
            Self::Clock => (Nr::Clock, [0; 6], &[], &[]),
            Self::Poll { timeout_ns, entries } => {
                (Nr::Poll, [timeout_ns, 0, 0, 0, 0, 0], entries, &[])
            }
            Self::Read { handle, offset, len, wait } => {
                (Nr::Read, [wire(handle), offset, u64::from(len), u64::from(wait), 0, 0], &[], &[])
            }
            Self::Write { handle, offset, wait, data } => {
                (Nr::Write, [wire(handle), offset, u64::from(wait), 0, 0, 0], data, &[])
            }
            Self::Close { handle } => (Nr::Close, [wire(handle), 0, 0, 0, 0, 0], &[], &[]),
            Self::Sync { handle, data_only } => {
                (Nr::Sync, [wire(handle), u64::from(data_only), 0, 0, 0, 0], &[], &[])
            }
            Self::Stat { handle } => (Nr::Stat, [wire(handle), 0, 0, 0, 0, 0], &[], &[]),
            Self::SetSize { handle, size } => {
                (Nr::SetSize, [wire(handle), size, 0, 0, 0, 0], &[], &[])
            }
            Self::SetTimes { handle, mask, atime_ns, mtime_ns } => (
                Nr::SetTimes,
                [wire(handle), u64::from(mask.0), atime_ns, mtime_ns, 0, 0],
                &[],
                &[],
            ),
            Self::ReadDir { handle, cookie } => {
                (Nr::ReadDir, [wire(handle), cookie, 0, 0, 0, 0], &[], &[])
            }
            Self::Allocate { handle, offset, len } => {
                (Nr::Allocate, [wire(handle), offset, len, 0, 0, 0], &[], &[])
            }
            Self::Advise { handle, offset, len, advice } => {
                (Nr::Advise, [wire(handle), offset, len, advice as u64, 0, 0], &[], &[])
            }
            Self::OpenAt { dir, flags, path } => {
                (Nr::OpenAt, [wire(dir), u64::from(flags.0), 0, 0, 0, 0], path, &[])
            }
            Self::StatAt { dir, follow, path } => {
                (Nr::StatAt, [wire(dir), u64::from(follow), 0, 0, 0, 0], path, &[])
            }
            Self::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path } => (
                Nr::SetTimesAt,
                [wire(dir), u64::from(follow), u64::from(mask.0), atime_ns, mtime_ns, 0],
                path,
                &[],
            ),
            Self::MkdirAt { dir, path } => (Nr::MkdirAt, [wire(dir), 0, 0, 0, 0, 0], path, &[]),
            Self::UnlinkAt { dir, directory, path } => {
                (Nr::UnlinkAt, [wire(dir), u64::from(directory), 0, 0, 0, 0], path, &[])
            }
            Self::RenameAt { from_dir, to_dir, from, to } => {
                (Nr::RenameAt, [wire(from_dir), wire(to_dir), from.len() as u64, 0, 0, 0], from, to)
            }
            Self::LinkAt { from_dir, to_dir, follow, from, to } => {
                let args =
                    [wire(from_dir), wire(to_dir), from.len() as u64, u64::from(follow), 0, 0];
                (Nr::LinkAt, args, from, to)
            }
            Self::SymlinkAt { dir, target, path } => {
                (Nr::SymlinkAt, [wire(dir), target.len() as u64, 0, 0, 0, 0], target, path)
            }
            Self::ReadLinkAt { dir, path } => {
                (Nr::ReadLinkAt, [wire(dir), 0, 0, 0, 0, 0], path, &[])
            }
            Self::Socket { family, kind } => {
                (Nr::Socket, [family as u64, kind as u64, 0, 0, 0, 0], &[], &[])
            }
            Self::Bind { handle, ref address } => {
                (Nr::Bind, [wire(handle), 0, 0, 0, 0, 0], address.as_bytes(), &[])
            }
            Self::Listen { handle, backlog } => {
                (Nr::Listen, [wire(handle), u64::from(backlog), 0, 0, 0, 0], &[], &[])
            }
            Self::Accept { handle } => (Nr::Accept, [wire(handle), 0, 0, 0, 0, 0], &[], &[]),
            Self::Connect { handle, ref address } => {
                (Nr::Connect, [wire(handle), 0, 0, 0, 0, 0], address.as_bytes(), &[])
            }
            Self::Send { handle, datagrams } => {
                (Nr::Send, [wire(handle), 0, 0, 0, 0, 0], datagrams, &[])
            }
            Self::Receive { handle, count } => {
                (Nr::Receive, [wire(handle), u64::from(count), 0, 0, 0, 0], &[], &[])
            }
            Self::Shutdown { handle, direction } => {
                (Nr::Shutdown, [wire(handle), direction as u64, 0, 0, 0, 0], &[], &[])
            }
            Self::Address { handle, peer } => {
                (Nr::Address, [wire(handle), u64::from(peer), 0, 0, 0, 0], &[], &[])
            }
            Self::GetOption { handle, option } => {
                (Nr::GetOption, [wire(handle), option as u64, 0, 0, 0, 0], &[], &[])
            }
            Self::SetOption { handle, option, value } => {
                (Nr::SetOption, [wire(handle), option as u64, value, 0, 0, 0], &[], &[])
            }
            Self::Resolve { name } => (Nr::Resolve, [0; 6], name, &[]),
            Self::Respond { exchange, finished, head, body } => {
                let args = [wire(exchange), head.len() as u64, u64::from(finished), 0, 0, 0];
                (Nr::Respond, args, head, body)
            }
            Self::Fetch { finished, connect_ns, first_byte_ns, between_bytes_ns, head, body } => {
                let len = head.len() as u64;
                let args =
                    [len, u64::from(finished), connect_ns, first_byte_ns, between_bytes_ns, 0];
                (Nr::Fetch, args, head, body)
            }
            Self::Finish { exchange, trailers } => {
                (Nr::Finish, [wire(exchange), 0, 0, 0, 0, 0], trailers, &[])
            }
            Self::Head { exchange } => (Nr::Head, [wire(exchange), 0, 0, 0, 0, 0], &[], &[]),
            Self::Trailers { exchange } => {
                (Nr::Trailers, [wire(exchange), 0, 0, 0, 0, 0], &[], &[])
            }
            Self::Fail { exchange, error } => {
                (Nr::Fail, [wire(exchange), 0, 0, 0, 0, 0], error, &[])
            }
        };
        let len = first.len() + second.len();
        let target = area.get_mut(..len).ok_or(crate::Errno::TooBig)?;
        let (a, b) = target.split_at_mut(first.len());
        a.copy_from_slice(first);
        b.copy_from_slice(second);
        let data_len = u32::try_from(len).map_err(|_| crate::Errno::TooBig)?;
        Ok(Frame { nr: nr as u32, data_len, args, ret: 0 })
    }
}

/// Whether `path` may be decoded: not empty, free of NUL, not too long.
fn path_is_valid(path: &[u8]) -> bool {
    !path.is_empty() && path.len() <= layout::PATH_BYTES_MAX && !path.contains(&0)
}

/// The address that `data` is; `None` if it is of another size, or of a family that is none.
fn address(data: &[u8]) -> Option<SocketAddress> {
    let address = SocketAddress::read_from_bytes(data).ok()?;
    (address.family == [0; 2] || address.family().is_some()).then_some(address)
}
