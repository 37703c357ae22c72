//! Waiting: one ppoll(2) for everything a guest waits for.
//!
//! Rule: an entry whose call would be refused (not open, or without the right) is ready at once, so
//! that the guest makes the call and learns why. Everything else is the kernel's answer, or that of an
//! exchange, whose [`Bell`] is in the same call; and the wait ends by an event, the timeout, or a signal
//! ([`Errno::Interrupted`]); nothing here spins.
//!
//! Entries of one handle share one descriptor in the call, because ppoll(2) refuses more descriptors
//! than the process may have open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use abi::{Errno, FOREVER, Handle, PollEntry, layout, poll_events};
use rustix::event::{PollFd, PollFlags};
use zerocopy::{FromBytes, IntoBytes};

use super::Answer;
use super::bell::Bell;
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
    bell: Option<&Bell>,
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
    let mut exchanges = false;
    for entry in &mut entries {
        let handle = Handle(entry.handle);
        if handles.exchange(handle).is_some() {
            exchanges |= entry.events != 0;
            continue;
        }
        let refused = refused_events(handles, handle);
        entry.ready = entry.events & refused;
        let events = flags(entry.events & !refused);
        if !events.is_empty() {
            *watched.entry(handle).or_insert(PollFlags::empty()) |= events;
        }
    }

    let bell = bell.filter(|_| exchanges);
    let wait = Wait::of(timeout_ns, bell);
    let happened = loop {
        if let Some(bell) = bell {
            bell.listen();
            for entry in &mut entries {
                if let Some(exchange) = handles.exchange(Handle(entry.handle)) {
                    entry.ready = entry.events & exchange.ready();
                }
            }
        }
        let nothing_to_wait_for = entries.iter().any(|entry| entry.ready != 0);
        let timeout_ns = if nothing_to_wait_for { 0 } else { wait.left_ns() };
        let happened = ppoll(handles, &watched, bell, timeout_ns)?;
        let only_rung = happened.is_rung && !nothing_to_wait_for && happened.events.is_empty();
        if !only_rung {
            break happened.events;
        }
    };

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

/// How long a wait goes on. The clock is read only if the wait can be begun more than once.
enum Wait {
    Once(u64),
    Until(Instant),
}

impl Wait {
    fn of(timeout_ns: u64, bell: Option<&Bell>) -> Self {
        let span = Duration::from_nanos(timeout_ns);
        match bell.and_then(|_| Instant::now().checked_add(span)) {
            Some(deadline) if timeout_ns != FOREVER => Self::Until(deadline),
            _ => Self::Once(timeout_ns),
        }
    }

    fn left_ns(&self) -> u64 {
        match self {
            Self::Once(timeout_ns) => *timeout_ns,
            Self::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                u64::try_from(left.as_nanos()).unwrap_or(FOREVER)
            }
        }
    }
}

fn parse(entries: &[u8]) -> Result<Vec<PollEntry>, Errno> {
    let known = poll_events::READ | poll_events::WRITE;
    let chunks = entries.chunks(size_of::<PollEntry>());
    chunks
        .map(|bytes| PollEntry::read_from_bytes(bytes).ok().filter(|e| e.events & !known == 0))
        .collect::<Option<_>>()
        .ok_or(Errno::Invalid)
}

/// The events of `handle` whose call would be refused. Those of a socket are about its own calls, too:
/// accepting, receiving and sending.
fn refused_events(handles: &Handles, handle: Handle) -> u32 {
    if handles.socket(handle).is_ok() {
        return 0;
    }
    let read = if handles.readable(handle).is_ok() { 0 } else { poll_events::READ };
    let write = if handles.writable(handle).is_ok() { 0 } else { poll_events::WRITE };
    read | write
}

/// What ended a wait.
struct Happened {
    /// What happened to each of the handles to which something did.
    events: BTreeMap<Handle, PollFlags>,
    /// The bell was rung.
    is_rung: bool,
}

/// Waits for the handles in `watched`, of which only open ones may be there, and for `bell`.
fn ppoll(
    handles: &Handles,
    watched: &BTreeMap<Handle, PollFlags>,
    bell: Option<&Bell>,
    timeout_ns: u64,
) -> Result<Happened, Errno> {
    let mut fds = Vec::with_capacity(watched.len() + 1);
    for (handle, events) in watched {
        fds.push(PollFd::from_borrowed_fd(handles.get(*handle)?.fd(), *events));
    }
    fds.extend(bell.map(|bell| PollFd::from_borrowed_fd(bell.fd(), PollFlags::IN)));
    let timeout = (timeout_ns != FOREVER).then(|| timespec(timeout_ns));
    rustix::event::poll(&mut fds, timeout.as_ref()).map_err(refusal)?;
    let is_rung = fds.get(watched.len()).is_some_and(|fd| !fd.revents().is_empty());
    let events = watched.keys().copied().zip(fds.iter().map(PollFd::revents));
    Ok(Happened { events: events.filter(|(_, events)| !events.is_empty()).collect(), is_rung })
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
