//! wasi:clocks: the guest's clocks, with a resolution of one nanosecond.

use alloc::string::String;

use abi::Errno;
use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::clocks::{monotonic_clock, timezone, wall_clock};
use crate::descriptor::NS_PER_S;
use crate::poll::Pollable;

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
        self.process.get()?.clock.monotonic_ns().map_err(host_failed)
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
        self.process.get()?.clock.realtime_ns().map(datetime).map_err(host_failed)
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(1))
    }
}

/// A micro-VM has no time zone: the interface's own answers for that.
impl timezone::Host for Wasi {
    fn display(&mut self, when: wall_clock::Datetime) -> Result<timezone::TimezoneDisplay> {
        Ok(timezone::TimezoneDisplay {
            utc_offset: self.utc_offset(when)?,
            name: String::from("UTC"),
            in_daylight_saving_time: false,
        })
    }

    fn utc_offset(&mut self, _: wall_clock::Datetime) -> Result<i32> {
        Ok(0)
    }
}
