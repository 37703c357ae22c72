//! The numbers of the host calls.
//!
//! Invariant: a number keeps its meaning for ever; new calls get new ones.

#[expect(unused_imports, reason = "for the documentation")]
use super::Request;
use super::Violation;

/// Defines [`Nr`] and its decoding from one list, so that the two cannot differ.
macro_rules! call_numbers {
    ($($(#[$doc:meta])* $name:ident = $nr:literal,)*) => {
        /// Call numbers. Append only; never renumber.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Nr { $($(#[$doc])* $name = $nr,)* }

        impl Nr {
            /// Every call, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl TryFrom<u32> for Nr {
            type Error = Violation;

            fn try_from(nr: u32) -> Result<Self, Violation> {
                match nr {
                    $($nr => Ok(Self::$name),)*
                    _ => Err(Violation::UnknownCall(nr)),
                }
            }
        }
    };
}

call_numbers! {
    /// See [`Request::Exit`].
    Exit = 0x00,
    /// See [`Request::Abort`].
    Abort = 0x01,
    /// See [`Request::Log`].
    Log = 0x02,
    /// See [`Request::Map`].
    Map = 0x03,
    /// See [`Request::Program`].
    Program = 0x04,
    /// See [`Request::Ready`].
    Ready = 0x05,
    /// See [`Request::BootInfo`].
    BootInfo = 0x06,
    /// See [`Request::Clock`].
    Clock = 0x10,
    /// See [`Request::Poll`].
    Poll = 0x11,
    /// See [`Request::Read`].
    Read = 0x20,
    /// See [`Request::Write`].
    Write = 0x21,
    /// See [`Request::Close`].
    Close = 0x22,
    /// See [`Request::Sync`].
    Sync = 0x23,
    /// See [`Request::Stat`].
    Stat = 0x24,
    /// See [`Request::SetSize`].
    SetSize = 0x25,
    /// See [`Request::SetTimes`].
    SetTimes = 0x26,
    /// See [`Request::ReadDir`].
    ReadDir = 0x27,
    /// See [`Request::Allocate`].
    Allocate = 0x28,
    /// See [`Request::Advise`].
    Advise = 0x29,
    /// See [`Request::OpenAt`].
    OpenAt = 0x30,
    /// See [`Request::StatAt`].
    StatAt = 0x31,
    /// See [`Request::SetTimesAt`].
    SetTimesAt = 0x32,
    /// See [`Request::MkdirAt`].
    MkdirAt = 0x33,
    /// See [`Request::UnlinkAt`].
    UnlinkAt = 0x34,
    /// See [`Request::RenameAt`].
    RenameAt = 0x35,
    /// See [`Request::LinkAt`].
    LinkAt = 0x36,
    /// See [`Request::SymlinkAt`].
    SymlinkAt = 0x37,
    /// See [`Request::ReadLinkAt`].
    ReadLinkAt = 0x38,
    /// See [`Request::Socket`].
    Socket = 0x40,
    /// See [`Request::Bind`].
    Bind = 0x41,
    /// See [`Request::Listen`].
    Listen = 0x42,
    /// See [`Request::Accept`].
    Accept = 0x43,
    /// See [`Request::Connect`].
    Connect = 0x44,
    /// See [`Request::Send`].
    Send = 0x45,
    /// See [`Request::Receive`].
    Receive = 0x46,
    /// See [`Request::Shutdown`].
    Shutdown = 0x47,
    /// See [`Request::Address`].
    Address = 0x48,
    /// See [`Request::GetOption`].
    GetOption = 0x49,
    /// See [`Request::SetOption`].
    SetOption = 0x4a,
    /// See [`Request::Resolve`].
    Resolve = 0x4b,
    /// See [`Request::Respond`].
    Respond = 0x50,
    /// See [`Request::Fetch`].
    Fetch = 0x51,
    /// See [`Request::Finish`].
    Finish = 0x52,
    /// See [`Request::Head`].
    Head = 0x53,
    /// See [`Request::Trailers`].
    Trailers = 0x54,
    /// See [`Request::Fail`].
    Fail = 0x55,
}
