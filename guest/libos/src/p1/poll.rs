//! `poll_oneoff`: waiting for times and descriptors in one host call.

use alloc::vec::Vec;

use abi::poll_events;

use super::View;
use super::errno::{Answer, Errno, Failure};
use super::memory::Memory;
use super::surroundings::{MONOTONIC, REALTIME, length};
use crate::poll::{Pollable, readiness};

/// Most subscriptions of one call: more than a guest can have descriptors and use timers.
const SUBSCRIPTIONS_MAX: u32 = 1 << 16;
/// Bytes of a `subscription`.
const SUBSCRIPTION_BYTES: u32 = 48;
/// Bytes of an `event`.
const EVENT_BYTES: u32 = 32;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// What is waited for, and what an event says of it.
struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    /// An error is an event that has happened already.
    awaited: Result<Pollable, Errno>,
}

/// Waits until something has happened; a descriptor or clock that cannot be waited for is an event with
/// an error.
pub(super) fn poll_oneoff(
    wasi: &mut View<'_>,
    memory: &mut Memory<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    happened: u32,
) -> Answer {
    // Nothing to wait for would be a wait without end.
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(Errno::Invalid.into());
    }
    memory.bytes(subscriptions, count * SUBSCRIPTION_BYTES)?;
    memory.bytes(events, count * EVENT_BYTES)?;
    let subscriptions = (0..count)
        .map(|index| subscription(wasi, memory, subscriptions + index * SUBSCRIPTION_BYTES))
        .collect::<Answer<Vec<_>>>()?;
    let pollables: Vec<Pollable> = subscriptions
        .iter()
        .map(|subscription| subscription.awaited.as_ref().unwrap_or(&Pollable::Ready).clone())
        .collect();
    let ready = readiness(wasi.process, &pollables, true)?;
    let mut at = events;
    let mut written = 0;
    for (subscription, _) in subscriptions.iter().zip(ready).filter(|(_, ready)| *ready) {
        memory.write_struct(at, &event(subscription))?;
        at = at.wrapping_add(EVENT_BYTES);
        written += 1;
    }
    memory.write_u32(happened, length(written)?)
}

fn subscription(wasi: &mut View<'_>, memory: &Memory<'_>, at: u32) -> Answer<Subscription> {
    // The caller has checked that a whole subscription lies there.
    let userdata = memory.read(at)?;
    let [kind] = memory.read(at + 8)?;
    let awaited = match kind {
        CLOCK => {
            let (id, timeout) = (memory.read_u32(at + 16)?, memory.read(at + 24)?);
            let flags = u16::from_le_bytes(memory.read(at + 40)?);
            deadline(wasi, id, u64::from_le_bytes(timeout), flags & 1 != 0)
        }
        FD_READ | FD_WRITE => descriptor(wasi, memory.read_u32(at + 16)?, kind),
        _ => return Err(Errno::Invalid.into()),
    };
    match awaited {
        Ok(pollable) => Ok(Subscription { userdata, kind, awaited: Ok(pollable) }),
        Err(Failure::Errno(errno)) => Ok(Subscription { userdata, kind, awaited: Err(errno) }),
        Err(trap) => Err(trap),
    }
}

fn deadline(wasi: &mut View<'_>, id: u32, timeout: u64, absolute: bool) -> Answer<Pollable> {
    let clock = &mut wasi.process.clock;
    let remaining = match (id, absolute) {
        (MONOTONIC, true) => return Ok(Pollable::Deadline(timeout)),
        (REALTIME, true) => timeout.saturating_sub(clock.realtime_ns()?),
        (MONOTONIC | REALTIME, false) => timeout,
        _ => return Err(Errno::Invalid.into()),
    };
    Ok(Pollable::Deadline(clock.monotonic_ns()?.saturating_add(remaining)))
}

fn descriptor(wasi: &View<'_>, fd: u32, kind: u8) -> Answer<Pollable> {
    let fd = wasi.fds.get(fd)?;
    let (handle, events) = match kind {
        FD_READ => (fd.descriptor.readable()?, poll_events::READ),
        _ => (fd.descriptor.writable()?, poll_events::WRITE),
    };
    match fd.check_seekable() {
        Ok(()) => Ok(Pollable::Ready),
        Err(_) => Ok(Pollable::Handle(handle.get(), events)),
    }
}

fn event(subscription: &Subscription) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&subscription.userdata);
    match subscription.awaited {
        Ok(_) if subscription.kind == CLOCK => {}
        // How much can be moved is not known; something can.
        Ok(_) => bytes[16] = 1,
        Err(errno) => bytes[8..10].copy_from_slice(&(errno as u16).to_le_bytes()),
    }
    bytes[10] = subscription.kind;
    bytes
}
