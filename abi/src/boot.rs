//! Boot information: what a guest is given for a run, as the answer to
//! [`Request::Ready`](crate::Request::Ready).
//!
//! A fixed [`BootHeader`] followed by records of `u32` length + bytes: the program's name, the working
//! directory, the function to invoke, an HTTP request, then arguments, environment entries (`KEY=VALUE`) and preopened
//! directories (handle, whether writable, guest path), as many of each as the header counts. The host
//! encodes, the guest decodes; the guest trusts the host, but decoding is total all the same.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Handle;

/// Flags of [`BootHeader::flags`].
pub mod boot_flags {
    /// Standard input is a terminal.
    pub const STDIN_IS_TERMINAL: u32 = 1;
    /// Standard output is a terminal.
    pub const STDOUT_IS_TERMINAL: u32 = 2;
    /// Standard error is a terminal.
    pub const STDERR_IS_TERMINAL: u32 = 4;
    /// A further call wants a new instance in place of the one that is there.
    pub const NEW_INSTANCE: u32 = 8;
}

/// The fixed part.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BootHeader {
    /// TSC ticks per millisecond; 0 if the TSC is no clock here and each reading must ask the host.
    pub tsc_khz: u64,
    /// Fresh entropy, never given twice. Zero for another call in the same instance, whose generators go on.
    pub seed: [u8; 32],
    /// [`boot_flags`].
    pub flags: u32,
    /// Number of arguments, the program's name as argument 0 among them.
    pub args: u32,
    /// Number of environment entries.
    pub env: u32,
    /// Number of preopened directories.
    pub preopens: u32,
    /// Bytes of the whole boot information, this header included.
    pub boot_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// Most bytes of boot information.
///
/// Linux accepts 2 MiB of arguments and environment by default (a quarter of the 8 MiB stack,
/// execve(2)); twice that leaves room for the records' lengths.
pub const BOOT_BYTES_MAX: u64 = 4 << 20;

const _: () = assert!(size_of::<BootHeader>() == 64, "guest ABI changed: bump ABI_VERSION");

/// A directory that is open at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preopen<'a> {
    /// Its handle.
    pub handle: Handle,
    /// Whether something can be changed in it.
    pub writable: bool,
    /// The path under which the program sees it.
    pub guest_path: &'a [u8],
}

/// The boot information, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo<'a> {
    /// The fixed part; its counts and `boot_bytes` are those of the rest.
    pub header: BootHeader,
    /// What messages call the program: the file's name.
    pub program_name: &'a [u8],
    /// Where the program should think it is; empty if nobody said.
    pub cwd: &'a [u8],
    /// What to call instead of the command's entry point: an exported function of a core module, whose
    /// arguments are `args` from argument 1 on, or a call in WAVE (`add(1, 2)`) of a component's; empty
    /// for the entry point.
    pub invoke: &'a [u8],
    /// The request to be given to the component's `wasi:http/incoming-handler`, a
    /// [`crate::http::IncomingRequest`]; empty for another entry point.
    pub request: &'a [u8],
    /// Arguments, argument 0 first.
    pub args: Vec<&'a [u8]>,
    /// Environment, each `KEY=VALUE`.
    pub env: Vec<&'a [u8]>,
    /// Preopened directories.
    pub preopens: Vec<Preopen<'a>>,
}

impl<'a> BootInfo<'a> {
    /// Writes the boot information out. The header's counts and `boot_bytes` are taken from the rest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        const PREOPEN_BYTES: usize = 3 * 4 + size_of::<u32>() + 1;
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let texts = [self.program_name, self.cwd, self.invoke, self.request];
        let texts = || texts.iter().chain(&self.args).chain(&self.env);
        let of_texts: usize = texts().map(|bytes| 4 + bytes.len()).sum();
        let of_preopens = self.preopens.iter().map(|it| PREOPEN_BYTES + it.guest_path.len());
        let bytes = size_of::<BootHeader>() + of_texts + of_preopens.sum::<usize>();
        let header = BootHeader {
            args: count(self.args.len()),
            env: count(self.env.len()),
            preopens: count(self.preopens.len()),
            boot_bytes: count(bytes),
            ..self.header
        };
        // At once: it is written for every call.
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(header.as_bytes());
        let mut record = |bytes: &[u8]| {
            out.extend_from_slice(&count(bytes.len()).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        texts().for_each(|bytes| record(bytes));
        for preopen in &self.preopens {
            record(&preopen.handle.0.to_le_bytes());
            record(&[u8::from(preopen.writable)]);
            record(preopen.guest_path);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if `bytes` is nothing of the kind.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = BootHeader::read_from_prefix(bytes).ok()?;
        let mut record = || {
            let (len, tail) = rest.split_at_checked(4)?;
            let len = u32::from_le_bytes(len.try_into().ok()?);
            let (record, tail) = tail.split_at_checked(usize::try_from(len).ok()?)?;
            rest = tail;
            Some(record)
        };
        let program_name = record()?;
        let cwd = record()?;
        let invoke = record()?;
        let request = record()?;
        let args = (0..header.args).map(|_| record()).collect::<Option<_>>()?;
        let env = (0..header.env).map(|_| record()).collect::<Option<_>>()?;
        let preopens = (0..header.preopens)
            .map(|_| {
                let handle = Handle(u32::from_le_bytes(record()?.try_into().ok()?));
                let writable = record()? != [0];
                Some(Preopen { handle, writable, guest_path: record()? })
            })
            .collect::<Option<_>>()?;
        Some(Self { header, program_name, cwd, invoke, request, args, env, preopens })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn sample() -> BootInfo<'static> {
        BootInfo {
            header: BootHeader {
                args: 2,
                env: 1,
                preopens: 1,
                boot_bytes: 152,
                seed: [7; 32],
                ..BootHeader::default()
            },
            program_name: b"hello.wasm",
            cwd: b"/srv",
            invoke: b"add(1, 2)",
            request: b"request",
            args: vec![b"hello", b""],
            env: vec![b"K=V"],
            preopens: vec![Preopen { handle: Handle(3), writable: true, guest_path: b"/data" }],
        }
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        let bytes = sample().encode();
        assert_eq!(BootInfo::decode(&bytes), Some(sample()));
        assert_eq!(bytes.len(), 152);
    }

    #[test]
    fn decode_refuses_every_truncation() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(BootInfo::decode(&bytes[..len]), None, "first {len} bytes");
        }
    }
}
