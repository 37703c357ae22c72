//! wasi:io/poll: waiting for streams and times in one host call.
//!
//! Invariant: a wait is one [`Request::Poll`] with the nearest deadline as its timeout, so it costs no
//! CPU. Pollables that are ready by nature make the call a check instead of a wait.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, FOREVER, Handle, PollEntry, Request};
use wasmtime::component::Resource;
use wasmtime::{Error, Result};
use zerocopy::{FromBytes, IntoBytes};

use super::Wasi;
use super::bindings::wasi::io::poll;
use super::stream::Output;
use crate::doorbell;

/// What can be waited for.
#[derive(Clone, Debug)]
pub enum Pollable {
    /// Ready now and always.
    Ready,
    /// Ready from a moment of the monotonic clock on.
    Deadline(u64),
    /// Ready when the host says so of a handle; the bits are [`abi::poll_events`].
    Handle(Handle, u32),
    /// Ready when an output takes bytes.
    Output(Arc<Output>),
}

/// Whether each pollable is ready, after waiting for one if `wait`.
fn readiness(wasi: &mut Wasi, pollables: &[Pollable], wait: bool) -> Result<Vec<bool>, Errno> {
    let mut entries: Vec<PollEntry> = Vec::new();
    let mut entry_of = Vec::with_capacity(pollables.len());
    let mut deadline = None;
    let mut none_ready = true;
    let now = match pollables.iter().any(|pollable| matches!(pollable, Pollable::Deadline(_))) {
        true => wasi.clock.monotonic_ns()?,
        false => 0,
    };
    for pollable in pollables {
        let waits_for = match pollable {
            Pollable::Ready => None,
            Pollable::Output(output) => output.waits_for(),
            Pollable::Handle(handle, events) => Some((*handle, *events)),
            Pollable::Deadline(at) if *at > now => {
                deadline = Some(deadline.map_or(*at, |nearest: u64| nearest.min(*at)));
                entry_of.push(None);
                continue;
            }
            Pollable::Deadline(_) => None,
        };
        match waits_for {
            None => {
                none_ready = false;
                entry_of.push(None);
            }
            Some((handle, events)) => {
                entry_of.push(Some((entry(&mut entries, handle, events), events)))
            }
        }
    }
    let timeout_ns = match (wait && none_ready, deadline) {
        (false, _) => 0,
        (true, None) => FOREVER,
        (true, Some(deadline)) => deadline - now,
    };
    if !entries.is_empty() || timeout_ns != 0 {
        poll_host(&mut entries, timeout_ns)?;
    }
    let now = match deadline {
        Some(_) => wasi.clock.monotonic_ns()?,
        None => now,
    };
    Ok(pollables
        .iter()
        .zip(entry_of)
        .map(|(pollable, entry_of)| match (pollable, entry_of) {
            (Pollable::Deadline(at), _) => *at <= now,
            (_, Some((index, events))) => {
                entries.get(index).is_none_or(|entry| entry.ready & events != 0)
            }
            (_, None) => true,
        })
        .collect())
}

/// Index of the entry for `handle`, made or extended.
fn entry(entries: &mut Vec<PollEntry>, handle: Handle, events: u32) -> usize {
    if let Some(index) = entries.iter().position(|entry| entry.handle == handle.0) {
        if let Some(entry) = entries.get_mut(index) {
            entry.events |= events;
        }
        return index;
    }
    entries.push(PollEntry { handle: handle.0, events, ..PollEntry::default() });
    entries.len() - 1
}

/// Asks the host, and reads its answer into the entries.
fn poll_host(entries: &mut [PollEntry], timeout_ns: u64) -> Result<(), Errno> {
    let bytes = Vec::from(entries.as_bytes());
    let answer = doorbell::call_with(&Request::Poll { timeout_ns, entries: &bytes }, |_, data| {
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

/// Waits until the handle is ready for one of the events.
pub(crate) fn wait_for(handle: Handle, events: u32) -> Result<(), Errno> {
    poll_host(&mut [PollEntry { handle: handle.0, events, ..PollEntry::default() }], FOREVER)
}

/// An error of the host that a program cannot handle: the clock or the poll itself failed.
fn host_failed(errno: Errno) -> Error {
    Error::msg(alloc::format!("wasi:io/poll: the host answered {errno:?}"))
}

impl poll::Host for Wasi {
    fn poll(&mut self, pollables: Vec<Resource<Pollable>>) -> Result<Vec<u32>> {
        if pollables.is_empty() {
            return Err(Error::msg("wasi:io/poll: the list of pollables is empty"));
        }
        let pollables = pollables
            .iter()
            .map(|pollable| self.table.get(pollable).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        loop {
            let ready = readiness(self, &pollables, true).map_err(host_failed)?;
            let indices: Vec<u32> =
                (0u32..).zip(&ready).filter_map(|(index, ready)| ready.then_some(index)).collect();
            if !indices.is_empty() {
                return Ok(indices);
            }
        }
    }
}

impl poll::HostPollable for Wasi {
    fn ready(&mut self, pollable: Resource<Pollable>) -> Result<bool> {
        let pollable = self.table.get(&pollable)?.clone();
        let ready = readiness(self, &[pollable], false).map_err(host_failed)?;
        Ok(ready.first().copied().unwrap_or(true))
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        poll::Host::poll(self, alloc::vec![pollable]).map(drop)
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        self.table.delete(pollable)?;
        Ok(())
    }
}
