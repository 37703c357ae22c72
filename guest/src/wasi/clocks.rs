//! wasi:clocks: the guest's clocks, with a resolution of one nanosecond.

use abi::Errno;
use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use super::poll::Pollable;

/// Nanoseconds of a second.
pub(super) const NS_PER_S: u64 = 1_000_000_000;

/// The host cannot tell the time: nothing that a program could handle.
fn host_failed(errno: Errno) -> Error {
    Error::msg(alloc::format!("wasi:clocks: the host answered {errno:?}"))
}

/// A moment of the wall clock.
pub(super) fn datetime(ns_since_epoch: u64) -> wall_clock::Datetime {
    wall_clock::Datetime {
        seconds: ns_since_epoch / NS_PER_S,
        nanoseconds: u32::try_from(ns_since_epoch % NS_PER_S).unwrap_or(0),
    }
}

impl monotonic_clock::Host for Wasi {
    fn now(&mut self) -> Result<u64> {
        self.clock.monotonic_ns().map_err(host_failed)
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable::Deadline(when))?)
    }

    fn subscribe_duration(&mut self, duration: u64) -> Result<Resource<Pollable>> {
        let when = self.now()?.saturating_add(duration);
        Ok(self.table.push(Pollable::Deadline(when))?)
    }
}

impl wall_clock::Host for Wasi {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        self.clock.realtime_ns().map(datetime).map_err(host_failed)
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(1))
    }
}
