//! Why the host declined a well-formed request.

/// Defines [`Errno`] and its decoding from one list.
macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// Why the host declined a well-formed request. Crosses as `-(errno as i64)` in
        /// [`Frame::ret`](crate::Frame::ret). The guest maps it to an error of WASI. Append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Errno { $($(#[$doc])* $name = $value,)* }

        impl Errno {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The result that a frame's `ret` stands for. A number that is none is [`Errno::Io`].
            ///
            /// # Errors
            ///
            /// The host's refusal.
            pub fn result_of(ret: i64) -> Result<u64, Self> {
                match ret {
                    0.. => Ok(ret.cast_unsigned()),
                    $(-$value => Err(Self::$name),)*
                    _ => Err(Self::Io),
                }
            }

            /// What goes into a frame's `ret`. A result beyond `i64::MAX` saturates.
            #[must_use]
            pub fn to_ret(result: Result<u64, Self>) -> i64 {
                match result {
                    Ok(value) => i64::try_from(value).unwrap_or(i64::MAX),
                    Err(errno) => -i64::from(errno as u16),
                }
            }
        }
    };
}

errnos! {
    /// The handle is not open, of the wrong kind, or lacks the right.
    BadHandle = 1,
    /// The name does not exist.
    NotFound = 2,
    /// The host's permissions forbid it.
    Access = 3,
    /// Not allowed on this object at all, or the path leads out of the directory.
    NotPermitted = 4,
    /// Nothing to read or no room to write now: poll.
    Again = 5,
    /// The name exists.
    Exists = 6,
    /// The directory is not empty.
    NotEmpty = 7,
    /// A component of the path is no directory.
    NotDirectory = 8,
    /// It is a directory.
    IsDirectory = 9,
    /// An argument makes no sense for this object.
    Invalid = 10,
    /// The device failed.
    Io = 11,
    /// Too many symbolic links.
    Loop = 12,
    /// A name is too long.
    NameTooLong = 13,
    /// No room on the device.
    NoSpace = 14,
    /// The disk quota is used up.
    Quota = 15,
    /// The volume is read-only.
    ReadOnly = 16,
    /// The micro-VM's memory limit, or the host's memory, is used up.
    NoMemory = 17,
    /// The limit of open handles is reached.
    TooManyHandles = 18,
    /// Too many hard links.
    TooManyLinks = 19,
    /// The file would be too large.
    FileTooLarge = 20,
    /// The object is in use.
    Busy = 21,
    /// The program file is being executed.
    TextBusy = 22,
    /// The names lie on different volumes.
    CrossDevice = 23,
    /// The reader of a pipe is gone.
    BrokenPipe = 24,
    /// The object has no position.
    NotSeekable = 25,
    /// Not supported by the host or the volume.
    NotSupported = 26,
    /// The data do not fit the window.
    TooBig = 27,
    /// A value does not fit its type.
    Overflow = 28,
    /// A deadlock was avoided.
    Deadlock = 29,
    /// No such device.
    NoDevice = 30,
    /// The host was interrupted: try again.
    Interrupted = 31,
    /// The name is not valid in this volume's encoding.
    IllegalBytes = 32,
    /// The connection was reset.
    ConnectionReset = 33,
    /// The address is in use.
    AddressInUse = 34,
    /// The address is none of this network's.
    AddressNotAvailable = 35,
    /// Nobody listens at the address.
    ConnectionRefused = 36,
    /// The connection was given up before it was accepted.
    ConnectionAborted = 37,
    /// The socket is not connected.
    NotConnected = 38,
    /// The socket is connected.
    IsConnected = 39,
    /// No way leads to the address.
    Unreachable = 40,
    /// The other side does not answer.
    TimedOut = 41,
    /// The datagram is too large.
    MessageTooLarge = 42,
    /// Addresses of this family are not supported.
    AddressFamily = 43,
    /// The connection is being made.
    InProgress = 44,
    /// The name has no address, or does not exist.
    NameNotFound = 45,
    /// The name could not be looked up now.
    NameTryAgain = 46,
    /// The name cannot be looked up.
    NameFailure = 47,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_frame() {
        for errno in Errno::ALL {
            assert_eq!(Errno::result_of(Errno::to_ret(Err(*errno))), Err(*errno));
        }
    }

    #[test]
    fn results_survive_the_frame() {
        for value in [0, 1, u64::from(u32::MAX), i64::MAX.cast_unsigned()] {
            assert_eq!(Errno::result_of(Errno::to_ret(Ok(value))), Ok(value));
        }
    }

    #[test]
    fn an_unknown_refusal_is_an_io_error() {
        assert_eq!(Errno::result_of(i64::MIN), Err(Errno::Io));
    }
}
