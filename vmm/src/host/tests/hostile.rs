//! Random requests, which no guest of ours makes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use abi::{Handle, OpenFlags, Request, TimesMask};

use super::{Guest, INSIDE, OUTSIDE_TEXT, READ_ONLY};

/// SplitMix64: the same sequence for the same seed.
pub(in crate::host) struct Random(pub(in crate::host) u64);

impl Random {
    pub(in crate::host) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::host) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let len = choices.len() as u64;
        choices[usize::try_from(self.next() % len).expect("small")]
    }

    pub(in crate::host) fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn number(&mut self) -> u64 {
        let any = self.next();
        self.pick(&[0, 1, 100, any % 512, any, i64::MAX.cast_unsigned(), 1 << 63, u64::MAX])
    }

    /// Mostly the writable preopen, or something that was opened; sometimes nothing.
    fn handle(&mut self) -> Handle {
        let any = u32::try_from(self.next() % 64).expect("small");
        self.pick(&[INSIDE, INSIDE, INSIDE, READ_ONLY, Handle(any), Handle(any)])
    }

    fn mask(&mut self) -> TimesMask {
        TimesMask(u32::try_from(self.next() % 16).expect("small"))
    }

    /// A request that decoding could have given, of the calls of the host.
    fn request<'a>(&mut self, path: &'a [u8], other: &'a [u8]) -> Request<'a> {
        let (handle, dir, to_dir) = (self.handle(), self.handle(), self.handle());
        let (follow, mask) = (self.flag(), self.mask());
        let (atime_ns, mtime_ns, offset) = (self.number(), self.number(), self.number());
        let open = u32::try_from(self.next() & self.next() & 0x1ff).expect("nine bits");
        let entries = &[0; 32][..];
        self.pick(&[
            Request::Clock,
            Request::Poll { timeout_ns: 0, entries },
            Request::Read { handle, offset, len: 64 << 10, wait: false },
            Request::Write { handle, offset, wait: false, data: other },
            // The preopens stay, so that the rest goes on to mean something.
            Request::Close { handle: Handle(5 + handle.0 * 16) },
            Request::Sync { handle, data_only: follow },
            Request::Stat { handle },
            Request::SetSize { handle, size: offset },
            Request::SetTimes { handle, mask, atime_ns, mtime_ns },
            Request::ReadDir { handle, cookie: offset },
            Request::Allocate { handle, offset, len: atime_ns % (1 << 20) },
            Request::Advise { handle, offset, len: mtime_ns, advice: abi::Advice::WillNeed },
            Request::OpenAt { dir, flags: OpenFlags(open), path },
            Request::StatAt { dir, follow, path },
            Request::SetTimesAt { dir, follow, mask, atime_ns, mtime_ns, path },
            Request::MkdirAt { dir, path },
            Request::UnlinkAt { dir, directory: follow, path },
            Request::RenameAt { from_dir: dir, to_dir, from: path, to: other },
            Request::LinkAt { from_dir: dir, to_dir, follow, from: path, to: other },
            Request::SymlinkAt { dir, target: other, path },
            Request::ReadLinkAt { dir, path },
        ])
    }

    fn path(&mut self) -> Vec<u8> {
        const COMPONENTS: &[&[u8]] =
            &[b"a", b"b", b"c", b"out", b"abs", b"..", b".", b"", b"\xff", b"sentinel", b"file"];
        let mut path = self.pick(COMPONENTS).to_vec();
        for _ in 0..self.pick(&[0, 0, 0, 1, 2, 3]) {
            path.push(b'/');
            path.extend_from_slice(self.pick(COMPONENTS));
        }
        path
    }
}

#[test]
fn random_requests_never_panic_and_never_leave_the_preopens() {
    let mut guest = Guest::new();
    let mut random = Random(1);
    let mut granted = BTreeSet::new();
    for round in 0..100_000 {
        if round % 500 == 0 {
            plant_ways_out(&guest);
        }
        let (path, other) = (random.path(), random.path());
        let request = random.request(&path, &other);
        let mut reply = vec![0; usize::try_from(random.next() % 512).expect("small")];
        if let Ok(answer) = guest.host.call(request, &mut reply) {
            let data = &reply[..answer.data_bytes];
            let leaks = data.windows(6).any(|bytes| bytes == &OUTSIDE_TEXT.as_bytes()[..6]);
            assert!(!leaks, "{request:?}");
            let frame = request.encode(&mut [0; 512]).expect("short");
            granted.insert(frame.nr);
        }
    }
    // Those of time, handles and directories.
    let asked = abi::Nr::ALL.iter().map(|nr| *nr as u32).filter(|nr| (0x10..0x40).contains(nr));
    assert_eq!(granted, asked.collect(), "calls that were granted at least once");
    guest.assert_nothing_outside_changed();
}

/// Symbolic links that lead out, which random requests remove now and then.
fn plant_ways_out(guest: &Guest) {
    let outside = guest.root.path().join("outside");
    for (name, target) in [("abs", outside.as_path()), ("out", Path::new("../outside"))] {
        match std::os::unix::fs::symlink(target, guest.inside(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => panic!("{name}: {error}"),
            _ => {}
        }
    }
}
