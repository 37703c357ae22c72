//! Waiting: one ppoll(2) for everything a guest waits for.
//!
//! Rule: an entry whose call would be refused (not open, or without the right) is ready at once, so
//! that the guest makes the call and learns why. Everything else is the kernel's answer, and the wait
//! ends by an event, the timeout, or a signal ([`Errno::Interrupted`]); nothing here spins.
//!
//! Entries of one handle share one descriptor in the call, because ppoll(2) refuses more descriptors
//! than the process may have open.

use std::collections::BTreeMap;

use abi::{Errno, FOREVER, Handle, PollEntry, layout, poll_events};
use rustix::event::{PollFd, PollFlags};
use zerocopy::{FromBytes, IntoBytes};

use super::Answer;
use super::clock::timespec;
use super::errno::refusal;
use super::handles::Handles;

/// Waits until one of `entries` is ready or `timeout_ns` has passed, and writes them to `reply` with
/// `ready` filled in. The value of the answer is the number of ready entries.
///
/// # Errors
///
/// [`Errno::Invalid`] for a broken array or an unknown event, [`Errno::TooBig`] for too many entries.
pub(super) fn wait(
    handles: &Handles,
    timeout_ns: u64,
    entries: &[u8],
    reply: &mut [u8],
) -> Result<Answer, Errno> {
    if entries.len() / size_of::<PollEntry>() > layout::POLL_ENTRIES_MAX {
        return Err(Errno::TooBig);
    }
    let reply = reply.get_mut(..entries.len()).ok_or(Errno::TooBig)?;
    let mut entries = parse(entries)?;

    let mut watched = BTreeMap::<Handle, PollFlags>::new();
    for entry in &mut entries {
        let refused = refused_events(handles, Handle(entry.handle));
        entry.ready = entry.events & refused;
        let events = flags(entry.events & !refused);
        if !events.is_empty() {
            *watched.entry(Handle(entry.handle)).or_insert(PollFlags::empty()) |= events;
        }
    }

    let nothing_to_wait_for = entries.iter().any(|entry| entry.ready != 0);
    let timeout_ns = if nothing_to_wait_for { 0 } else { timeout_ns };
    let happened = ppoll(handles, watched, timeout_ns)?;

    let mut ready_entries = 0;
    for (entry, slot) in entries.iter_mut().zip(reply.chunks_exact_mut(size_of::<PollEntry>())) {
        if let Some(events) = happened.get(&Handle(entry.handle)) {
            entry.ready |= entry.events & progress(*events);
        }
        ready_entries += u64::from(entry.ready != 0);
        slot.copy_from_slice(entry.as_bytes());
    }
    Ok(Answer { value: ready_entries, data_bytes: reply.len() })
}

fn parse(entries: &[u8]) -> Result<Vec<PollEntry>, Errno> {
    let known = poll_events::READ | poll_events::WRITE;
    let chunks = entries.chunks(size_of::<PollEntry>());
    chunks
        .map(|bytes| PollEntry::read_from_bytes(bytes).ok().filter(|e| e.events & !known == 0))
        .collect::<Option<_>>()
        .ok_or(Errno::Invalid)
}

/// The events of `handle` whose call would be refused.
fn refused_events(handles: &Handles, handle: Handle) -> u32 {
    let read = if handles.readable(handle).is_ok() { 0 } else { poll_events::READ };
    let write = if handles.writable(handle).is_ok() { 0 } else { poll_events::WRITE };
    read | write
}

/// What happened to each of the handles in `watched`, of which only open ones may be there.
fn ppoll(
    handles: &Handles,
    watched: BTreeMap<Handle, PollFlags>,
    timeout_ns: u64,
) -> Result<BTreeMap<Handle, PollFlags>, Errno> {
    let mut fds = Vec::with_capacity(watched.len());
    for (handle, events) in &watched {
        fds.push(PollFd::from_borrowed_fd(handles.get(*handle)?.fd(), *events));
    }
    let timeout = (timeout_ns != FOREVER).then(|| timespec(timeout_ns));
    rustix::event::poll(&mut fds, timeout.as_ref()).map_err(refusal)?;
    Ok(watched.into_keys().zip(fds.iter().map(PollFd::revents)).collect())
}

fn flags(events: u32) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, events & poll_events::READ != 0);
    flags.set(PollFlags::OUT, events & poll_events::WRITE != 0);
    flags
}

/// The calls that would make progress: an error or a hang-up is progress for both.
fn progress(happened: PollFlags) -> u32 {
    let ended = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    let mut ready = 0;
    if happened.intersects(PollFlags::IN | ended) {
        ready |= poll_events::READ;
    }
    if happened.intersects(PollFlags::OUT | ended) {
        ready |= poll_events::WRITE;
    }
    ready
}
