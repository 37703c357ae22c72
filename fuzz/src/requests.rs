//! Sequences of host calls, as a generator makes them: most decode and mean something.
//!
//! A call says of which kind its arguments are, not what they are: a handle is picked among those that
//! are open when the call is made, a path is put together from names that exist and ways that lead out.
//! What no call of a guest of ours would say is done to the finished frame ([`Damage`]).

use abi::http::{ErrorCode, HttpError, RequestHead, ResponseHead, encode_trailers};
use abi::layout::CALL_DATA_BYTES;
use abi::{
    AbortKind, Access, Advice, Direction, Family, Frame, Handle, LogLevel, NAME_BYTES_MAX, Nr,
    OpenFlags, PollEntry, Readiness, Request, SocketAddress, SocketKind, SocketOption, TimesMask,
    layout,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use zerocopy::IntoBytes as _;

/// A whole window.
#[expect(clippy::cast_possible_truncation, reason = "a frame counts the window's bytes in 32 bits")]
const WINDOW: u32 = CALL_DATA_BYTES as u32;

/// Longest wait in nanoseconds: the fuzzer is not to wait.
const WAIT_NS_MAX: u64 = 50_000;

/// Most bytes that are reserved at once: the fuzzer is not to fill the disk.
const ALLOCATE_BYTES_MAX: u64 = 1 << 20;

/// What a guest does with its standard streams and granted directories.
#[derive(Clone, Debug, Arbitrary)]
pub struct Sequence {
    /// What its standard streams are.
    pub streams: Streams,
    /// What it asks for, in order.
    pub calls: Vec<Call>,
}

/// Bytes of input that come from `seed` alone, now and then, into `data`; how many of them, if so.
///
/// Small changes of what is there, as libFuzzer makes them, repeat the same few calls. Fresh input has
/// every kind of call with every kind of argument.
#[must_use]
pub fn fresh(data: &mut [u8], max_bytes: usize, seed: u32) -> Option<usize> {
    if !seed.is_multiple_of(4) {
        return None;
    }
    // SplitMix64.
    let mut state = u64::from(seed);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let most = max_bytes.min(data.len());
    let len = usize::try_from(next()).ok()? % (most + 1);
    for chunk in data[..len].chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    Some(len)
}

/// What the standard streams are.
#[derive(Clone, Copy, Debug)]
pub enum Streams {
    /// The null device.
    Null,
    /// Pipes that nobody uses at the other end.
    Idle,
    /// Pipes that are closed at the other end.
    Gone,
    /// Input is a pipe with something in it, output a file.
    Full,
}

/// One host call.
#[derive(Clone, Debug, Arbitrary)]
pub struct Call {
    nr: Kind,
    handle: Pick,
    other: Pick,
    path: Path,
    second: Path,
    numbers: [Number; 3],
    flags: Flags,
    bits: u16,
    data: Data,
    damage: Damage,
    /// How large the reply may be.
    pub reply: Reply,
}

/// Which call.
#[derive(Clone, Copy, Debug)]
struct Kind(Nr);

/// A handle.
#[derive(Clone, Copy, Debug)]
enum Pick {
    /// The first directory: the writable one, if it is open.
    First,
    /// Of those that are open, counted from the newest.
    Newest(u8),
    /// Any number.
    Number(u8),
}

/// How to open.
#[derive(Clone, Copy, Debug)]
struct Flags(OpenFlags);

/// A path: components with slashes between.
#[derive(Clone, Debug)]
struct Path(Vec<u8>);

/// A number where offsets, sizes and times are wanted.
#[derive(Clone, Copy, Debug)]
enum Number {
    Zero,
    Small(u8),
    Medium(u16),
    Far,
    Largest,
    TooLarge,
    Append,
    Any(u64),
}

/// What is written.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct Data {
    byte: u8,
    len: u16,
    long: bool,
}

/// Something done to a finished frame.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Nothing,
    Nr(u8),
    DataLen(u32),
    Arg(u8, u64),
}

/// Bytes that a reply may take.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// The window, as in a micro-VM.
    Window,
    /// None.
    Nothing,
    /// A few.
    Small(u8),
}

impl Reply {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Window => CALL_DATA_BYTES,
            Self::Nothing => 0,
            Self::Small(bytes) => bytes.into(),
        }
    }
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Small(value) => value.into(),
            Self::Medium(value) => value.into(),
            Self::Far => (5 << 30) + 1,
            Self::Largest => i64::MAX.cast_unsigned(),
            Self::TooLarge => 1 << 63,
            Self::Append => abi::APPEND,
            Self::Any(value) => value,
        }
    }
}

// By hand: one byte of input for a choice, and the usual more often than the rest.

impl<'a> Arbitrary<'a> for Streams {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(*u.choose(&[Self::Null, Self::Idle, Self::Gone, Self::Full])?)
    }
}

impl<'a> Arbitrary<'a> for Kind {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // Those of the machine itself are declined; one is enough.
        let calls = Nr::ALL.split_at(3).1;
        let often = [Nr::OpenAt, Nr::OpenAt, Nr::Write, Nr::Read, Nr::Respond, Nr::Head];
        let index = u.int_in_range(0..=often.len() + calls.len() - 1)?;
        Ok(Self(often.get(index).copied().unwrap_or_else(|| calls[index - often.len()])))
    }
}

impl<'a> Arbitrary<'a> for Pick {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=31_u8)? {
            31 => Self::Number(u.arbitrary()?),
            0..=11 => Self::First,
            newest => Self::Newest(newest - 12),
        })
    }
}

impl<'a> Arbitrary<'a> for Flags {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const READ: OpenFlags = OpenFlags::READ;
        const BOTH: OpenFlags = READ.with(OpenFlags::WRITE);
        let usual = [
            BOTH.with(OpenFlags::CREATE),
            BOTH.with(OpenFlags::CREATE).with(OpenFlags::FOLLOW),
            OpenFlags::WRITE.with(OpenFlags::CREATE).with(OpenFlags::TRUNCATE),
            BOTH,
            BOTH.with(OpenFlags::FOLLOW),
            READ,
            READ.with(OpenFlags::FOLLOW),
            READ.with(OpenFlags::DIRECTORY).with(OpenFlags::FOLLOW),
            OpenFlags::default(),
        ];
        let index = u.int_in_range(0..=usual.len() + 2)?;
        let any = OpenFlags((u.arbitrary::<u16>()? & 0x1ff).into());
        Ok(Self(usual.get(index).copied().unwrap_or(any)))
    }
}

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15_u8)? {
            0..=4 => Self::Zero,
            5..=8 => Self::Small(u.arbitrary()?),
            9 | 10 => Self::Medium(u.arbitrary()?),
            11 => Self::Far,
            12 => Self::Largest,
            13 => Self::TooLarge,
            14 => Self::Append,
            _ => Self::Any(u.arbitrary()?),
        })
    }
}

impl<'a> Arbitrary<'a> for Damage {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=31_u8)? {
            29 => Self::Nr(u.arbitrary()?),
            30 => Self::DataLen(u.arbitrary()?),
            31 => Self::Arg(u.arbitrary()?, u.arbitrary()?),
            _ => Self::Nothing,
        })
    }
}

impl<'a> Arbitrary<'a> for Reply {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=15_u8)? {
            14 => Self::Nothing,
            15 => Self::Small(u.arbitrary()?),
            _ => Self::Window,
        })
    }
}

impl<'a> Arbitrary<'a> for Path {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        const PLAIN: [&[u8]; 9] =
            [b"file", b"new", b"dir", b"a", b"b", b"link", b"dir/file", b"dir/new", b"fifo"];
        const OTHER: [&[u8]; 16] = [
            b"..",
            b".",
            b"",
            b"out",
            b"abs",
            b"up",
            b"dir/up",
            b"dir/out",
            b"sibling",
            b"loop",
            b"dir/..",
            b"\xff",
            b"inside",
            b"readonly",
            b"file",
            b"new",
        ];
        let usual = u.ratio(1, 2)?;
        if usual {
            return Ok(Self(u.choose(&PLAIN)?.to_vec()));
        }
        let mut path = Vec::new();
        for number in 0..u.int_in_range(1..=4)? {
            if number > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(u.choose(&OTHER)?);
        }
        match u.int_in_range(0..=15)? {
            11 | 12 => path.push(b'/'),
            13 => path.insert(0, b'/'),
            14 => path.extend([b'n'; 256]),
            15 => path = b"a/".repeat(layout::PATH_BYTES_MAX / 2),
            _ => {}
        }
        Ok(Self(path))
    }
}

impl Call {
    /// The frame of this call by a guest that has `open` handles, of which `directories` are some. The
    /// payload goes to the start of `area`, a data area of zeros; how long it is.
    ///
    /// # Panics
    ///
    /// If `area` is no whole data area.
    #[must_use]
    pub fn encode(
        &self,
        open: &[Handle],
        directories: &[Handle],
        area: &mut [u8],
    ) -> (Frame, usize) {
        let data = vec![self.data.byte & 0x7f; self.data.bytes()];
        let entries: Vec<_> = [(self.handle, self.bits), (self.other, self.bits >> 2)]
            .into_iter()
            .map(|(pick, events)| PollEntry {
                handle: pick.among(open).0,
                events: (events & 3).into(),
                ..PollEntry::default()
            })
            .collect();
        let message = self.message();
        let request = self.request(open, directories, &data, entries.as_bytes(), &message);
        let mut frame = request.encode(area).expect("it fits");
        let payload = frame.data_len as usize;
        match self.damage {
            Damage::Nothing => {}
            Damage::Nr(nr) => frame.nr = nr.into(),
            Damage::DataLen(len) => frame.data_len = len,
            Damage::Arg(index, value) => frame.args[usize::from(index) % 6] = value,
        }
        match Nr::try_from(frame.nr) {
            Ok(Nr::Poll) => frame.args[0] %= WAIT_NS_MAX,
            // What waits for another party waits for ever: there is none.
            Ok(Nr::Read) => frame.args[3] &= !1,
            Ok(Nr::Write) => frame.args[2] &= !1,
            Ok(Nr::Allocate) => frame.args[2] %= ALLOCATE_BYTES_MAX,
            _ => {}
        }
        (frame, payload)
    }

    /// An address of this machine, where nobody listens.
    fn address(&self) -> SocketAddress {
        let family = if self.bits & 1 == 1 { Family::V4 } else { Family::V6 };
        let mut ip = [0; 16];
        match family {
            Family::V4 => ip[..4].copy_from_slice(&[127, 0, 0, 1]),
            Family::V6 => ip[15] = 1,
        }
        SocketAddress::new(family, ip, self.bits & 4)
    }

    fn option(&self) -> SocketOption {
        SocketOption::from_wire(u64::from(self.bits % 8)).expect("there are eight")
    }

    /// What a call about an exchange says: a head, trailers or an error, and now and then none.
    fn message(&self) -> Vec<u8> {
        let path = self.path.0.as_slice();
        let headers: Vec<(&[u8], &[u8])> = match self.bits >> 3 & 7 {
            0 => Vec::new(),
            1 => vec![(b"content-length", b"3")],
            2 => vec![(path, b"value")],
            3 => vec![(b"connection", path)],
            _ => vec![(b"x-path", path), (b"x-second", &self.second.0)],
        };
        match self.nr.0 {
            _ if self.bits & 7 == 7 => path.to_vec(),
            Nr::Respond => ResponseHead { status: self.bits % 1024, headers }.encode(),
            Nr::Fetch => {
                let method = if self.bits & 64 == 64 { path } else { b"POST" };
                let (scheme, authority, path_with_query) = (b"http", b"a.test:80", b"/");
                RequestHead { method, scheme, authority, path_with_query, headers }.encode()
            }
            Nr::Finish => encode_trailers(&headers),
            Nr::Fail => {
                let number = Some(self.numbers[0].value());
                HttpError { code: ErrorCode::InternalError, text: Some(path), number }.encode()
            }
            _ => Vec::new(),
        }
    }

    fn request<'a>(
        &'a self,
        open: &[Handle],
        directories: &[Handle],
        data: &'a [u8],
        entries: &'a [u8],
        message: &'a [u8],
    ) -> Request<'a> {
        let handle = self.handle.among(open);
        let (dir, to_dir) = (self.handle.among(directories), self.other.among(directories));
        let (path, second) = (self.path.0.as_slice(), self.second.0.as_slice());
        let [offset, atime_ns, mtime_ns] = self.numbers.map(Number::value);
        let len = atime_ns;
        let follow = self.bits & 1 == 1;
        let mask = TimesMask(u32::from(self.bits >> 1 & 0xf));
        match self.nr.0 {
            Nr::Exit => Request::Exit { status: i32::from(self.bits) },
            Nr::Abort => Request::Abort { kind: AbortKind::Panic, message: data },
            Nr::Log => Request::Log { level: LogLevel::Debug, message: data },
            Nr::Map => {
                let (gva, len) = (layout::MAP_AREA.start, layout::PAGE);
                Request::Map { gva, len, access: Access::Read }
            }
            Nr::Program => Request::Program,
            Nr::Ready => Request::Ready {
                readiness: if follow { Readiness::Instantiated } else { Readiness::Linked },
            },
            Nr::BootInfo => Request::BootInfo { offset },
            Nr::Clock => Request::Clock,
            Nr::Poll => Request::Poll { timeout_ns: offset, entries },
            Nr::Read => {
                let len = if follow { u32::from(self.bits) } else { WINDOW };
                Request::Read { handle, offset, len, wait: false }
            }
            Nr::Write => Request::Write { handle, offset, wait: false, data },
            Nr::Close => Request::Close { handle },
            Nr::Sync => Request::Sync { handle, data_only: follow },
            Nr::Stat => Request::Stat { handle },
            Nr::SetSize => Request::SetSize { handle, size: offset },
            Nr::SetTimes => Request::SetTimes { handle, mask, atime_ns, mtime_ns },
            Nr::ReadDir => Request::ReadDir { handle: dir, cookie: offset },
            Nr::Allocate => Request::Allocate { handle, offset, len },
            Nr::Advise => {
                let advice = Advice::from_wire(u64::from(self.bits % 6)).expect("there are six");
                Request::Advise { handle, offset, len, advice }
            }
            Nr::OpenAt => Request::OpenAt { dir, flags: self.flags.0, path },
            Nr::StatAt => Request::StatAt { dir, follow, path },
            Nr::SetTimesAt => Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path },
            Nr::MkdirAt => Request::MkdirAt { dir, path },
            Nr::UnlinkAt => Request::UnlinkAt { dir, directory: follow, path },
            Nr::RenameAt => Request::RenameAt { from_dir: dir, to_dir, from: path, to: second },
            Nr::LinkAt => Request::LinkAt { from_dir: dir, to_dir, follow, from: path, to: second },
            Nr::SymlinkAt => Request::SymlinkAt { dir, target: second, path },
            Nr::ReadLinkAt => Request::ReadLinkAt { dir, path },
            Nr::Socket => Request::Socket {
                family: if follow { Family::V4 } else { Family::V6 },
                kind: if self.bits & 2 == 2 { SocketKind::Stream } else { SocketKind::Datagram },
            },
            Nr::Bind => Request::Bind { handle, address: self.address() },
            Nr::Listen => Request::Listen { handle, backlog: u32::from(self.bits) },
            Nr::Accept => Request::Accept { handle },
            Nr::Connect => Request::Connect { handle, address: self.address() },
            Nr::Send => Request::Send { handle, datagrams: data },
            Nr::Receive => Request::Receive { handle, count: u32::from(self.bits) },
            Nr::Shutdown => {
                let direction =
                    Direction::from_wire(u64::from(self.bits % 3)).expect("there are three");
                Request::Shutdown { handle, direction }
            }
            Nr::Address => Request::Address { handle, peer: follow },
            Nr::GetOption => Request::GetOption { handle, option: self.option() },
            Nr::SetOption => Request::SetOption { handle, option: self.option(), value: offset },
            Nr::Resolve => Request::Resolve { name: data.get(..NAME_BYTES_MAX).unwrap_or(data) },
            Nr::Respond => {
                Request::Respond { exchange: handle, finished: follow, head: message, body: data }
            }
            Nr::Fetch => Request::Fetch {
                finished: follow,
                connect_ns: WAIT_NS_MAX,
                first_byte_ns: WAIT_NS_MAX,
                between_bytes_ns: WAIT_NS_MAX,
                head: message,
                body: data,
            },
            Nr::Finish => Request::Finish { exchange: handle, trailers: message },
            Nr::Head => Request::Head { exchange: handle },
            Nr::Trailers => Request::Trailers { exchange: handle },
            Nr::Fail => Request::Fail { exchange: handle, error: message },
        }
    }
}

impl Pick {
    fn among(self, handles: &[Handle]) -> Handle {
        let any = Handle(0);
        match self {
            Self::First => handles.first().copied().unwrap_or(any),
            Self::Newest(back) => {
                handles.iter().rev().cycle().nth(back.into()).copied().unwrap_or(any)
            }
            Self::Number(number) => Handle(number.into()),
        }
    }
}

impl Data {
    fn bytes(self) -> usize {
        let len = usize::from(self.len);
        if self.long { len } else { len % 64 }
    }
}
