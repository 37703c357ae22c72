//! Waiting for streams and times in one host call.
//!
//! Invariant: a wait is one [`Request::Poll`] with the nearest deadline as its timeout, so it costs no
//! CPU. Pollables that are ready by nature make the call a check instead of a wait. Pending output goes
//! out meanwhile, and the call waits for room for that too.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::layout::POLL_ENTRIES_MAX;
use abi::{Errno, FOREVER, Handle, PollEntry, Request, poll_events};
use zerocopy::{FromBytes, IntoBytes};

use crate::call::Calls;
use crate::http::receiving::Receiving;
use crate::http::sending::BodyId;
use crate::process::Process;

/// Longest time in nanoseconds for which a program that has ended waits for the peers of its connections
/// to take what it sent: they had the kernel's buffers to take before that.
const LINGER_NS: u64 = 10_000_000_000;

/// What can be waited for.
#[derive(Clone, Debug)]
pub enum Pollable {
    /// Ready now and always.
    Ready,
    /// Ready from a moment of the monotonic clock on.
    Deadline(u64),
    /// Ready when the host says so of a handle; the bits are [`abi::poll_events`].
    Handle(Handle, u32),
    /// Ready when nothing is pending that a stream wrote to a handle.
    Output(Handle),
    /// Ready when a body of HTTP takes bytes, or fails.
    Body(BodyId),
    /// Ready when a body of HTTP gives bytes, or has ended.
    Received(Arc<Receiving>),
    /// Ready when a body of HTTP has ended, whose bytes nobody wants.
    Trailers(Arc<Receiving>),
}

/// Whether each pollable is ready, after waiting for one if `wait`.
///
/// # Errors
///
/// The host cannot tell: its clock or the wait itself failed. [`Errno::Deadlock`] if nothing could end
/// the wait.
pub(crate) fn readiness(
    process: &mut Process,
    pollables: &[Pollable],
    wait: bool,
) -> Result<Vec<bool>, Errno> {
    loop {
        let ready = look(process, pollables, wait)?;
        if !wait || ready.contains(&true) {
            return Ok(ready);
        }
    }
}

/// Waits until nothing of `handle` is pending, while other output goes out too.
///
/// # Errors
///
/// As [`readiness`], and what the output fails with.
pub(crate) fn drain(process: &mut Process, handle: Handle) -> Result<(), Errno> {
    while !process.outputs.deliver(handle)? {
        readiness(process, &[Pollable::Output(handle)], true)?;
    }
    Ok(())
}

/// Waits until connections have taken what is pending, for [`LINGER_NS`] at most; what they have not
/// taken then is given up.
pub(crate) fn linger(process: &mut Process) {
    let mut until = None;
    loop {
        let mut awaited: Vec<_> = process.outputs.connections().map(Pollable::Output).collect();
        if awaited.is_empty() {
            return;
        }
        let Ok(now) = process.clock.monotonic_ns() else { break };
        awaited.push(Pollable::Deadline(*until.get_or_insert(now.saturating_add(LINGER_NS))));
        match readiness(process, &awaited, true) {
            Ok(ready) if ready.last() != Some(&true) => {}
            Ok(_) | Err(_) => break,
        }
    }
    process.outputs.abandon_connections();
}

fn look(process: &mut Process, pollables: &[Pollable], wait: bool) -> Result<Vec<bool>, Errno> {
    let now = match pollables.iter().any(|pollable| matches!(pollable, Pollable::Deadline(_))) {
        true => process.clock.monotonic_ns()?,
        false => 0,
    };
    let mut watched = BTreeMap::<Handle, u32>::new();
    let mut deadline = None;
    let mut none_ready = true;
    for pollable in pollables {
        match waits_for(process, pollable, now) {
            Awaited::Nothing => none_ready = false,
            Awaited::Never => {}
            Awaited::Time(at) => {
                deadline = Some(deadline.map_or(at, |nearest: u64| nearest.min(at)));
            }
            Awaited::Events(handle, events) => *watched.entry(handle).or_default() |= events,
            Awaited::Output => {}
        }
    }
    // As many as one call can wait for: the others' turn comes.
    let room = POLL_ENTRIES_MAX.saturating_sub(watched.len());
    let outputs: Vec<Handle> = process.outputs.waiting().take(room).collect();
    for handle in &outputs {
        *watched.entry(*handle).or_default() |= poll_events::WRITE;
    }
    let timeout_ns = match (wait && none_ready, deadline) {
        (false, _) => 0,
        (true, None) => FOREVER,
        (true, Some(deadline)) => deadline - now,
    };
    if !watched.is_empty() || timeout_ns != 0 {
        process.bodies.release();
        let room = POLL_ENTRIES_MAX.saturating_sub(watched.len());
        for handle in process.bodies.pending().take(room) {
            *watched.entry(handle).or_default() |= poll_events::WRITE;
        }
    }
    if timeout_ns == FOREVER && watched.is_empty() {
        return Err(Errno::Deadlock);
    }
    let mut entries: Vec<PollEntry> = watched
        .into_iter()
        .map(|(handle, events)| PollEntry { handle: handle.0, events, ..PollEntry::default() })
        .collect();
    if !entries.is_empty() || timeout_ns != 0 {
        ask(process.calls(), &mut entries, timeout_ns)?;
    }
    let has_happened = |handle: Handle, events| {
        let entry = entries.binary_search_by_key(&handle.0, |entry| entry.handle);
        let entry = entry.ok().and_then(|index| entries.get(index));
        entry.is_none_or(|entry| entry.ready & events != 0)
    };
    for handle in outputs {
        if has_happened(handle, poll_events::WRITE) {
            process.outputs.push_out(handle);
        }
    }
    let later = match deadline {
        Some(_) => process.clock.monotonic_ns()?,
        None => now,
    };
    let is_ready = |pollable: &Pollable| match waits_for(process, pollable, now) {
        Awaited::Nothing => true,
        Awaited::Never => false,
        Awaited::Time(at) => at <= later,
        // There may be more before the end.
        Awaited::Events(..) if matches!(pollable, Pollable::Trailers(_)) => false,
        Awaited::Events(handle, events) => has_happened(handle, events),
        Awaited::Output => false,
    };
    Ok(pollables.iter().map(is_ready).collect())
}

/// What has to happen before a pollable is ready.
enum Awaited {
    Nothing,
    /// Nothing that happens while the program waits makes it ready.
    Never,
    Time(u64),
    Events(Handle, u32),
    /// Pending output, which is waited for in any case.
    Output,
}

fn waits_for(process: &Process, pollable: &Pollable, now: u64) -> Awaited {
    let readable = |handle: Option<Handle>| match handle {
        Some(handle) => Awaited::Events(handle, poll_events::READ),
        None => Awaited::Nothing,
    };
    match pollable {
        Pollable::Deadline(at) if *at > now => Awaited::Time(*at),
        Pollable::Output(handle) if process.outputs.is_pending(*handle) => Awaited::Output,
        Pollable::Handle(handle, events) => Awaited::Events(*handle, *events),
        Pollable::Body(body) => match process.bodies.awaited(*body) {
            Ok(()) => Awaited::Nothing,
            Err(None) => Awaited::Never,
            Err(Some(handle)) => Awaited::Events(handle, poll_events::WRITE),
        },
        Pollable::Received(body) => readable(body.awaited()),
        Pollable::Trailers(body) if !body.discard() => readable(body.awaited()),
        Pollable::Ready | Pollable::Deadline(_) | Pollable::Output(_) | Pollable::Trailers(_) => {
            Awaited::Nothing
        }
    }
}

/// Asks the host, and reads its answer into the entries.
fn ask(calls: &Calls, entries: &mut [PollEntry], timeout_ns: u64) -> Result<(), Errno> {
    let bytes = Vec::from(entries.as_bytes());
    let answer = calls.call_with(&Request::Poll { timeout_ns, entries: &bytes }, |_, data| {
        for (entry, bytes) in entries.iter_mut().zip(data.chunks_exact(size_of::<PollEntry>())) {
            if let Ok(answered) = PollEntry::read_from_bytes(bytes) {
                entry.ready = answered.ready;
            }
        }
    });
    match answer {
        // Interrupted: nothing is ready yet, and whoever waits asks again.
        Ok(()) | Err(Errno::Interrupted) => Ok(()),
        Err(errno) => Err(errno),
    }
}
