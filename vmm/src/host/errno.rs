//! The one table from errors of the kernel to refusals of the contract.
//!
//! Total: an error that the contract has no word for is [`Errno::Io`]. An error that means something
//! else in one place (`EXDEV` while a path is resolved, say) is translated there, before this table.

use abi::Errno;
use rustix::io::Errno as Os;

/// The refusal that a guest gets for an error of a system call.
pub(super) fn refusal(error: Os) -> Errno {
    match error {
        Os::BADF => Errno::BadHandle,
        Os::NOENT => Errno::NotFound,
        Os::ACCESS => Errno::Access,
        Os::PERM => Errno::NotPermitted,
        Os::AGAIN => Errno::Again,
        Os::EXIST => Errno::Exists,
        Os::NOTEMPTY => Errno::NotEmpty,
        Os::NOTDIR => Errno::NotDirectory,
        Os::ISDIR => Errno::IsDirectory,
        Os::INVAL | Os::NOTTY => Errno::Invalid,
        Os::LOOP => Errno::Loop,
        Os::NAMETOOLONG => Errno::NameTooLong,
        Os::NOSPC => Errno::NoSpace,
        Os::DQUOT => Errno::Quota,
        Os::ROFS => Errno::ReadOnly,
        Os::NOMEM | Os::NOBUFS => Errno::NoMemory,
        Os::MFILE | Os::NFILE => Errno::TooManyHandles,
        Os::MLINK => Errno::TooManyLinks,
        Os::FBIG => Errno::FileTooLarge,
        Os::BUSY => Errno::Busy,
        Os::TXTBSY => Errno::TextBusy,
        Os::XDEV => Errno::CrossDevice,
        Os::PIPE => Errno::BrokenPipe,
        Os::SPIPE => Errno::NotSeekable,
        Os::NOSYS | Os::OPNOTSUPP => Errno::NotSupported,
        Os::TOOBIG => Errno::TooBig,
        Os::OVERFLOW | Os::RANGE => Errno::Overflow,
        Os::DEADLK => Errno::Deadlock,
        Os::NODEV | Os::NXIO => Errno::NoDevice,
        Os::INTR => Errno::Interrupted,
        Os::ILSEQ => Errno::IllegalBytes,
        Os::CONNRESET => Errno::ConnectionReset,
        Os::ADDRINUSE => Errno::AddressInUse,
        Os::ADDRNOTAVAIL => Errno::AddressNotAvailable,
        Os::CONNREFUSED => Errno::ConnectionRefused,
        Os::CONNABORTED => Errno::ConnectionAborted,
        Os::NOTCONN => Errno::NotConnected,
        Os::ISCONN => Errno::IsConnected,
        Os::HOSTUNREACH | Os::NETUNREACH | Os::HOSTDOWN | Os::NETDOWN => Errno::Unreachable,
        Os::TIMEDOUT => Errno::TimedOut,
        Os::MSGSIZE => Errno::MessageTooLarge,
        Os::AFNOSUPPORT | Os::PROTONOSUPPORT => Errno::AddressFamily,
        Os::INPROGRESS | Os::ALREADY => Errno::InProgress,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_that_the_contract_names_has_its_own_refusal() {
        let table = [
            (libc::EBADF, Errno::BadHandle),
            (libc::ENOENT, Errno::NotFound),
            (libc::EACCES, Errno::Access),
            (libc::EPERM, Errno::NotPermitted),
            (libc::EAGAIN, Errno::Again),
            (libc::EEXIST, Errno::Exists),
            (libc::ENOTEMPTY, Errno::NotEmpty),
            (libc::ENOTDIR, Errno::NotDirectory),
            (libc::EISDIR, Errno::IsDirectory),
            (libc::EINVAL, Errno::Invalid),
            (libc::EIO, Errno::Io),
            (libc::ELOOP, Errno::Loop),
            (libc::ENAMETOOLONG, Errno::NameTooLong),
            (libc::ENOSPC, Errno::NoSpace),
            (libc::EDQUOT, Errno::Quota),
            (libc::EROFS, Errno::ReadOnly),
            (libc::ENOMEM, Errno::NoMemory),
            (libc::EMFILE, Errno::TooManyHandles),
            (libc::ENFILE, Errno::TooManyHandles),
            (libc::EMLINK, Errno::TooManyLinks),
            (libc::EFBIG, Errno::FileTooLarge),
            (libc::EBUSY, Errno::Busy),
            (libc::ETXTBSY, Errno::TextBusy),
            (libc::EXDEV, Errno::CrossDevice),
            (libc::EPIPE, Errno::BrokenPipe),
            (libc::ESPIPE, Errno::NotSeekable),
            (libc::ENOTSUP, Errno::NotSupported),
            (libc::ENOSYS, Errno::NotSupported),
            (libc::E2BIG, Errno::TooBig),
            (libc::EOVERFLOW, Errno::Overflow),
            (libc::EDEADLK, Errno::Deadlock),
            (libc::ENXIO, Errno::NoDevice),
            (libc::EINTR, Errno::Interrupted),
            (libc::EILSEQ, Errno::IllegalBytes),
            (libc::ECONNRESET, Errno::ConnectionReset),
            (libc::EADDRINUSE, Errno::AddressInUse),
            (libc::EADDRNOTAVAIL, Errno::AddressNotAvailable),
            (libc::ECONNREFUSED, Errno::ConnectionRefused),
            (libc::ECONNABORTED, Errno::ConnectionAborted),
            (libc::ENOTCONN, Errno::NotConnected),
            (libc::EISCONN, Errno::IsConnected),
            (libc::EHOSTUNREACH, Errno::Unreachable),
            (libc::ENETUNREACH, Errno::Unreachable),
            (libc::ETIMEDOUT, Errno::TimedOut),
            (libc::EAFNOSUPPORT, Errno::AddressFamily),
            (libc::EINPROGRESS, Errno::InProgress),
            (libc::EMSGSIZE, Errno::MessageTooLarge),
        ];
        for (os, expected) in table {
            assert_eq!(refusal(Os::from_raw_os_error(os)), expected, "errno {os}");
        }
        // What no system call says, but the resolver.
        let named = [Errno::NameNotFound, Errno::NameTryAgain, Errno::NameFailure];
        for errno in Errno::ALL.iter().filter(|errno| !named.contains(errno)) {
            assert!(table.iter().any(|(_, to)| to == errno), "{errno:?} has no line in the table");
        }
    }

    #[test]
    fn an_error_without_a_word_is_an_io_error() {
        for os in 1..4096 {
            let known = refusal(Os::from_raw_os_error(os));
            assert!(Errno::ALL.contains(&known));
        }
        assert_eq!(refusal(Os::from_raw_os_error(4000)), Errno::Io);
    }
}
