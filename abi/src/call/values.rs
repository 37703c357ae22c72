//! The small values in arguments of host calls: enums and sets of flags.
//!
//! Rule: each is defined with its numbers in one list, and a number that is not in it is refused.

#[expect(unused_imports, reason = "for the documentation")]
use super::Request;

/// Defines a small enum that crosses as an integer.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl $name {
            /// The value of this number, if it has one.
            #[must_use]
            pub const fn from_wire(value: u64) -> Option<Self> {
                match value {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use wire_enum;

wire_enum! {
    /// Why the guest gave up. The message of [`Request::Abort`] says the rest.
    AbortKind {
        /// The guest runtime failed an assertion of its own: a bug of ours.
        Panic = 0,
        /// The micro-VM's memory does not suffice to start or to go on.
        OutOfMemory = 1,
        /// The program cannot run here: an import that is not provided, no `wasi:cli/run`, another build.
        BadProgram = 2,
        /// A CPU exception that is no trap of wasm: a bug of ours, or an escaped program.
        Exception = 3,
    }
}

wire_enum! {
    /// Severity of [`Request::Log`].
    LogLevel {
        /// Something is wrong and was not handled.
        Error = 1,
        /// Something is unusual.
        Warn = 2,
        /// What a curious operator wants to know.
        Info = 3,
        /// What a developer wants to know.
        Debug = 4,
    }
}

wire_enum! {
    /// What [`Request::Map`] makes of a range. There is no executable access: code is mapped by the host.
    Access {
        /// Not present; what was mapped is given back and its content is lost.
        None = 0,
        /// Readable.
        Read = 1,
        /// Readable and writable.
        ReadWrite = 3,
    }
}

wire_enum! {
    /// How far the guest is when it makes [`Request::Ready`].
    Readiness {
        /// The program is loaded and its imports are linked.
        Linked = 0,
        /// It is instantiated too: its start functions have run and made no host call.
        Instantiated = 1,
    }
}

wire_enum! {
    /// How a program means to use a part of a file ([`Request::Advise`], posix_fadvise(2)).
    Advice {
        /// In no particular way.
        Normal = 0,
        /// From lower offsets to higher ones.
        Sequential = 1,
        /// In no order.
        Random = 2,
        /// Soon.
        WillNeed = 3,
        /// Not soon.
        DontNeed = 4,
        /// Once.
        NoReuse = 5,
    }
}

/// Defines a set of flags with unknown bits refused.
macro_rules! wire_flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $flag:ident = $bit:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$fdoc])* pub const $flag: Self = Self($bit);)*
            const KNOWN: u32 = 0 $(| $bit)*;

            /// Whether every flag of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// `self` if `condition`, else no flag.
            #[must_use]
            pub const fn when(self, condition: bool) -> Self {
                if condition { self } else { Self(0) }
            }

            /// The flags of this number, if all of its bits are known.
            #[must_use]
            pub fn from_wire(value: u64) -> Option<Self> {
                u32::try_from(value).ok().filter(|bits| bits & !Self::KNOWN == 0).map(Self)
            }
        }
    };
}

wire_flags! {
    /// How [`Request::OpenAt`] opens. Without [`READ`](Self::READ) and [`WRITE`](Self::WRITE) the handle
    /// serves for `Stat` and `SetTimes` only; a directory is listed with [`READ`](Self::READ).
    OpenFlags {
        /// For reading.
        READ = 1,
        /// For writing.
        WRITE = 2,
        /// Create a regular file if the name does not exist.
        CREATE = 4,
        /// With [`CREATE`](Self::CREATE): fail if the name exists.
        EXCLUSIVE = 8,
        /// Set the size to 0.
        TRUNCATE = 16,
        /// Fail unless it is a directory.
        DIRECTORY = 32,
        /// If the last component is a symbolic link, open what it points to.
        FOLLOW = 64,
        /// Each write is on the medium, with its metadata, when it returns (`O_SYNC`).
        SYNC = 128,
        /// Each write is on the medium, with the metadata needed to read it, when it returns (`O_DSYNC`).
        DATA_SYNC = 256,
    }
}

wire_flags! {
    /// Which times [`Request::SetTimes`] sets, and from where.
    TimesMask {
        /// Set the access time to the given value.
        ATIME = 1,
        /// Set the access time to the host's present time.
        ATIME_NOW = 2,
        /// Set the modification time to the given value.
        MTIME = 4,
        /// Set the modification time to the host's present time.
        MTIME_NOW = 8,
    }
}
