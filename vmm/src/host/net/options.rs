//! Options of sockets.
//!
//! Rule: a value that means nothing is [`Errno::Invalid`]; one that the kernel cannot keep exactly becomes
//! the nearest that it can, as `wasi:sockets` allows: it counts times in seconds and bounds all of them.

use std::time::Duration;

use abi::{Errno, Family, SocketKind, SocketOption};
use rustix::net::sockopt;

use super::super::Answer;
use super::super::errno::refusal;
use super::Socket;

/// Longest time between probes or before them: `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` of Linux.
const KEEP_ALIVE_SECONDS_MAX: u64 = 32767;

/// Most probes: `MAX_TCP_KEEPCNT` of Linux.
const KEEP_ALIVE_COUNT_MAX: u64 = 127;

/// Tells an option, or the error that is pending.
///
/// # Errors
///
/// That error; [`Errno::BadHandle`] for an option that this kind of socket does not have.
pub(in crate::host) fn option(socket: &Socket<'_>, option: SocketOption) -> Result<Answer, Errno> {
    check_kind(socket, option)?;
    let fd = socket.fd;
    let value = match option {
        SocketOption::Error => {
            sockopt::socket_error(fd).map_err(refusal)?.map_err(refusal)?;
            Ok(0)
        }
        SocketOption::KeepAlive => sockopt::socket_keepalive(fd).map(u64::from),
        SocketOption::KeepAliveIdle => sockopt::tcp_keepidle(fd).map(nanoseconds),
        SocketOption::KeepAliveInterval => sockopt::tcp_keepintvl(fd).map(nanoseconds),
        SocketOption::KeepAliveCount => sockopt::tcp_keepcnt(fd).map(u64::from),
        SocketOption::HopLimit => match socket.family {
            Family::V4 => sockopt::ip_ttl(fd).map(u64::from),
            Family::V6 => sockopt::ipv6_unicast_hops(fd).map(u64::from),
        },
        SocketOption::ReceiveBuffer => sockopt::socket_recv_buffer_size(fd).map(as_set),
        SocketOption::SendBuffer => sockopt::socket_send_buffer_size(fd).map(as_set),
    };
    Ok(Answer { value: value.map_err(refusal)?, data_bytes: 0 })
}

/// Sets an option.
///
/// # Errors
///
/// [`Errno::Invalid`] for what is no value of the option; [`Errno::BadHandle`] for an option that this kind
/// of socket does not have; [`Errno::NotPermitted`] for [`SocketOption::Error`].
pub(in crate::host) fn set_option(
    socket: &Socket<'_>,
    option: SocketOption,
    value: u64,
) -> Result<Answer, Errno> {
    check_kind(socket, option)?;
    let fd = socket.fd;
    let set = match option {
        SocketOption::Error => return Err(Errno::NotPermitted),
        SocketOption::KeepAlive => sockopt::set_socket_keepalive(fd, flag(value)?),
        SocketOption::KeepAliveIdle => sockopt::set_tcp_keepidle(fd, seconds(value)?),
        SocketOption::KeepAliveInterval => sockopt::set_tcp_keepintvl(fd, seconds(value)?),
        SocketOption::KeepAliveCount => {
            let count = not_zero(value)?.min(KEEP_ALIVE_COUNT_MAX);
            sockopt::set_tcp_keepcnt(fd, u32::try_from(count).map_err(|_| Errno::Invalid)?)
        }
        SocketOption::HopLimit => {
            let hops = u8::try_from(not_zero(value)?).map_err(|_| Errno::Invalid)?;
            match socket.family {
                Family::V4 => sockopt::set_ip_ttl(fd, hops.into()),
                Family::V6 => sockopt::set_ipv6_unicast_hops(fd, Some(hops)),
            }
        }
        SocketOption::ReceiveBuffer => sockopt::set_socket_recv_buffer_size(fd, size(value)?),
        SocketOption::SendBuffer => sockopt::set_socket_send_buffer_size(fd, size(value)?),
    };
    set.map_err(refusal)?;
    Ok(Answer::DONE)
}

fn check_kind(socket: &Socket<'_>, option: SocketOption) -> Result<(), Errno> {
    let of_streams = match option {
        SocketOption::KeepAlive
        | SocketOption::KeepAliveIdle
        | SocketOption::KeepAliveInterval
        | SocketOption::KeepAliveCount => true,
        SocketOption::Error
        | SocketOption::HopLimit
        | SocketOption::ReceiveBuffer
        | SocketOption::SendBuffer => false,
    };
    let missing = of_streams && socket.kind != SocketKind::Stream;
    if missing { Err(Errno::BadHandle) } else { Ok(()) }
}

fn flag(value: u64) -> Result<bool, Errno> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::Invalid),
    }
}

fn not_zero(value: u64) -> Result<u64, Errno> {
    if value == 0 { Err(Errno::Invalid) } else { Ok(value) }
}

fn seconds(nanoseconds: u64) -> Result<Duration, Errno> {
    let seconds = not_zero(nanoseconds)?.div_ceil(1_000_000_000);
    Ok(Duration::from_secs(seconds.min(KEEP_ALIVE_SECONDS_MAX)))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes of a buffer, of which the kernel takes as many as it allows (`net.core.rmem_max`, `wmem_max`).
fn size(value: u64) -> Result<usize, Errno> {
    let most = i32::MAX.cast_unsigned() / 2;
    Ok(u32::try_from(not_zero(value)?).unwrap_or(most).min(most) as usize)
}

/// The kernel doubles the size of a buffer for what it needs beside the data (socket(7)).
fn as_set(bytes: usize) -> u64 {
    (bytes / 2) as u64
}
