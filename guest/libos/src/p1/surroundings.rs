//! Arguments, environment, clocks, random numbers, signals, and the sockets that a program has none of.

use alloc::string::String;
use alloc::vec::Vec;

use rand_chacha::rand_core::Rng;

use super::View;
use super::errno::{Answer, Errno, Failure};
use super::memory::Memory;
use crate::process::Exited;

/// `clockid`.
pub(super) const REALTIME: u32 = 0;
/// `clockid`.
pub(super) const MONOTONIC: u32 = 1;

/// Writes the strings with a NUL each from `text` on, and where each begins from `pointers` on.
fn strings(
    memory: &mut Memory<'_>,
    strings: &[String],
    mut pointers: u32,
    mut text: u32,
) -> Answer {
    for string in strings {
        let mut bytes = Vec::from(string.as_bytes());
        bytes.push(0);
        let len = length(bytes.len())?;
        memory.write_u32(pointers, text)?;
        memory.bytes_mut(text, len)?.copy_from_slice(&bytes);
        // Neither can wrap: what was written lies before it.
        pointers = pointers.wrapping_add(4);
        text = text.wrapping_add(len);
    }
    Ok(())
}

fn sizes(memory: &mut Memory<'_>, strings: &[String], count: u32, bytes: u32) -> Answer {
    memory.write_u32(count, length(strings.len())?)?;
    memory.write_u32(bytes, length(strings.iter().map(|string| string.len() + 1).sum())?)
}

/// A length as the interface has it.
pub(super) fn length(len: usize) -> Answer<u32> {
    u32::try_from(len).map_err(|_| Failure::from(Errno::Overflow))
}

pub(super) fn args_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    argv: u32,
    text: u32,
) -> Answer {
    strings(memory, &wasi.process.args, argv, text)
}

pub(super) fn args_sizes_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    count: u32,
    bytes: u32,
) -> Answer {
    sizes(memory, &wasi.process.args, count, bytes)
}

pub(super) fn environ_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    environ: u32,
    text: u32,
) -> Answer {
    strings(memory, &wasi.process.env, environ, text)
}

pub(super) fn environ_sizes_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    count: u32,
    bytes: u32,
) -> Answer {
    sizes(memory, &wasi.process.env, count, bytes)
}

/// The clocks have a resolution of one nanosecond. Those of CPU time do not exist here: a program
/// cannot tell its own from that of the guest.
pub(super) fn clock_res_get(
    _: &mut View<'_>,
    memory: &mut Memory<'_>,
    id: u32,
    resolution: u32,
) -> Answer {
    match id {
        REALTIME | MONOTONIC => memory.write_u64(resolution, 1),
        _ => Err(no_clock(id)),
    }
}

/// `precision` is how far the answer may be off; it is never off by more than the clock's own error.
pub(super) fn clock_time_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    id: u32,
    _precision: u64,
    time: u32,
) -> Answer {
    let clock = &mut wasi.process.clock;
    let now = match id {
        REALTIME => clock.realtime_ns()?,
        MONOTONIC => clock.monotonic_ns()?,
        _ => return Err(no_clock(id)),
    };
    memory.write_u64(time, now)
}

fn no_clock(id: u32) -> Failure {
    match id {
        2 | 3 => Errno::BadFd.into(), // a clock of CPU time; other runtimes answer so too
        _ => Errno::Invalid.into(),
    }
}

/// A signal has its default action, as for a process that handles none: it is ignored or ends the
/// program. Nothing could continue a program that stopped.
pub(super) fn proc_raise(_: &mut View<'_>, _: &mut Memory<'_>, signal: u32) -> Answer {
    const CHILD: u32 = 16;
    const CONTINUE: u32 = 17;
    const STOP: u32 = 18;
    const TTY_OUT: u32 = 21;
    const URGENT: u32 = 22;
    const WINDOW: u32 = 27;
    const LAST: u32 = 30;
    match signal {
        0 | CHILD | CONTINUE | URGENT | WINDOW => Ok(()),
        STOP..=TTY_OUT => Err(Errno::NotSupported.into()),
        1..=LAST => {
            // Linux counts one signal more before SIGCHLD.
            let number = if signal < CHILD { signal } else { signal + 1 };
            Err(Failure::Trap(Exited(128 + number.cast_signed()).into()))
        }
        _ => Err(Errno::Invalid.into()),
    }
}

/// There is no other thread to yield to.
pub(super) fn sched_yield(_: &mut View<'_>, _: &mut Memory<'_>) -> Answer {
    Ok(())
}

pub(super) fn random_get(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    at: u32,
    len: u32,
) -> Answer {
    wasi.process.random.secure().fill_bytes(memory.bytes_mut(at, len)?);
    Ok(())
}

/// No descriptor is a socket.
fn no_socket(wasi: &View<'_>, fd: u32) -> Answer {
    wasi.fds.get(fd)?;
    Err(Errno::NotSocket.into())
}

pub(super) fn sock_accept(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    _flags: u32,
    _accepted: u32,
) -> Answer {
    no_socket(wasi, fd)
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
pub(super) fn sock_recv(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    _buffers: u32,
    _count: u32,
    _flags: u32,
    _received: u32,
    _flags_out: u32,
) -> Answer {
    no_socket(wasi, fd)
}

pub(super) fn sock_send(
    wasi: &mut View<'_>,
    _: &mut Memory<'_>,
    fd: u32,
    _buffers: u32,
    _count: u32,
    _flags: u32,
    _sent: u32,
) -> Answer {
    no_socket(wasi, fd)
}

pub(super) fn sock_shutdown(wasi: &mut View<'_>, _: &mut Memory<'_>, fd: u32, _how: u32) -> Answer {
    no_socket(wasi, fd)
}
