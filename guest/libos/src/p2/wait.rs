//! wasi:io/poll.

use alloc::vec::Vec;

use abi::Errno;
use wasmtime::component::Resource;
use wasmtime::{Error, Result};

use super::Wasi;
use super::bindings::wasi::io::poll;
use crate::poll::{Pollable, readiness};

/// An error that a program cannot handle: the clock or the poll itself failed, or waiting is all that
/// there is left to do.
fn host_failed(errno: Errno) -> Error {
    if errno == Errno::Deadlock {
        return Error::msg("wasi:io/poll: nothing that is waited for can ever happen");
    }
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
        let ready = readiness(self.process.get()?, &pollables, true).map_err(host_failed)?;
        Ok((0..).zip(ready).filter_map(|(index, ready)| ready.then_some(index)).collect())
    }
}

impl poll::HostPollable for Wasi {
    fn ready(&mut self, pollable: Resource<Pollable>) -> Result<bool> {
        let pollable = self.table.get(&pollable)?.clone();
        let ready = readiness(self.process.get()?, &[pollable], false).map_err(host_failed)?;
        Ok(ready.contains(&true))
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        let pollable = self.table.get(&pollable)?.clone();
        readiness(self.process.get()?, &[pollable], true).map_err(host_failed)?;
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        self.table.delete(pollable)?;
        Ok(())
    }
}
