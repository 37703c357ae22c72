//! The values of command line options.

use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bytesize::ByteSize;

use crate::workload::size;

/// Least memory of a compilation that can be chosen, in bytes of address space: a module of 2 MiB takes more than
/// 100 MiB of it, and is compiled as fast as with more from 200 MiB on.
const AOT_MEMORY_BYTES_MIN: u64 = 256 << 20;

/// `HOST[::GUEST][:ro]`: a directory for the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirOption {
    /// The directory here.
    pub(super) host: PathBuf,
    /// The path under which the program sees it; as here unless given.
    pub(super) guest: OsString,
    /// Whether the program may change nothing in it.
    pub(super) read_only: bool,
}

/// What an option cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OptionError {
    #[error("the host's directory is missing; the form is HOST[::GUEST][:ro]")]
    NoHost,
    #[error("the guest's path is missing; the form is HOST[::GUEST][:ro]")]
    NoGuest,
    #[error("not a size: write bytes, or a number with KiB, MiB or GiB, like 256MiB")]
    Size,
    #[error("too little to compile with: at least {} are needed", size(AOT_MEMORY_BYTES_MIN))]
    LittleMemory,
    #[error("not a duration: write a number with ms, s, m or h, like 30s")]
    Duration,
    #[error("must be longer than nothing")]
    NoTime,
}

/// Parses `HOST[::GUEST][:ro]`.
pub(super) fn dir(option: OsString) -> Result<DirOption, OptionError> {
    let bytes = option.as_bytes();
    let (bytes, read_only) = match bytes.strip_suffix(b":ro") {
        Some(rest) => (rest, true),
        None => (bytes, false),
    };
    let colons = bytes.windows(2).position(|pair| pair == b"::");
    let (host, guest) = match colons.and_then(|at| bytes.split_at_checked(at)) {
        Some((host, guest)) => (host, guest.strip_prefix(b"::").unwrap_or_default()),
        None => (bytes, bytes),
    };
    if host.is_empty() {
        return Err(OptionError::NoHost);
    }
    if guest.is_empty() {
        return Err(OptionError::NoGuest);
    }
    let owned = |bytes| OsStr::from_bytes(bytes).to_owned();
    Ok(DirOption { host: owned(host).into(), guest: owned(guest), read_only })
}

/// Parses a number of bytes.
pub(super) fn bytes(option: &str) -> Result<u64, OptionError> {
    option.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| OptionError::Size)
}

/// Parses most bytes of memory of a compilation.
pub(super) fn aot_memory(option: &str) -> Result<NonZero<u64>, OptionError> {
    let bytes = bytes(option)?;
    NonZero::new(bytes)
        .filter(|it| it.get() >= AOT_MEMORY_BYTES_MIN)
        .ok_or(OptionError::LittleMemory)
}

/// Parses a time that is longer than nothing. A bare number is seconds, as timeout(1) has it.
pub(super) fn duration(option: &str) -> Result<std::time::Duration, OptionError> {
    let parsed = match option.parse::<u64>() {
        Ok(seconds) => std::time::Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(option).map_err(|_| OptionError::Duration)?,
    };
    if parsed.is_zero() { Err(OptionError::NoTime) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(host: &str, guest: &str, read_only: bool) -> Result<DirOption, OptionError> {
        Ok(DirOption { host: host.into(), guest: guest.into(), read_only })
    }

    #[test]
    fn a_directory_is_seen_as_it_is_named_unless_told_otherwise() {
        assert_eq!(dir(".".into()), parsed(".", ".", false));
        assert_eq!(dir("/srv/a::/data".into()), parsed("/srv/a", "/data", false));
    }

    #[test]
    fn a_directory_can_be_read_only() {
        assert_eq!(dir("/srv:ro".into()), parsed("/srv", "/srv", true));
        assert_eq!(dir("/srv::/data:ro".into()), parsed("/srv", "/data", true));
    }

    #[test]
    fn a_single_colon_belongs_to_the_name() {
        assert_eq!(dir("a:b::/c:d".into()), parsed("a:b", "/c:d", false));
    }

    #[test]
    fn half_a_directory_option_is_refused() {
        assert_eq!(dir("".into()), Err(OptionError::NoHost));
        assert_eq!(dir("::/data".into()), Err(OptionError::NoHost));
        assert_eq!(dir(":ro".into()), Err(OptionError::NoHost));
        assert_eq!(dir("/srv::".into()), Err(OptionError::NoGuest));
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        let sizes = [
            ("4096", 4096),
            ("256MiB", 256 << 20),
            ("256 mib", 256 << 20),
            ("64M", 64_000_000),
            ("1.5GiB", 3 << 29),
        ];
        for (text, expected) in sizes {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "-1", "64MX", "lots"] {
            assert_eq!(bytes(text), Err(OptionError::Size), "{text}");
        }
    }

    #[test]
    fn a_compilation_has_as_much_memory_as_the_compiler_needs_to_start() {
        assert_eq!(aot_memory("256MiB"), Ok(NonZero::new(256 << 20).unwrap()));
        for text in ["0", "255MiB"] {
            assert_eq!(aot_memory(text), Err(OptionError::LittleMemory), "{text}");
        }
    }

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(duration("soon"), Err(OptionError::Duration));
        assert_eq!(duration("-1s"), Err(OptionError::Duration));
        assert_eq!(duration("0s"), Err(OptionError::NoTime));
    }
}
