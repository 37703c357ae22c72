//! wasi:sockets/ip-name-lookup.

use alloc::string::String;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::super::Wasi;
use super::super::bindings::wasi::sockets::ip_name_lookup;
use super::super::bindings::wasi::sockets::network::{ErrorCode, IpAddress};
use super::{Network, SocketResult, ip_address};
use crate::poll::Pollable;
use crate::socket::lookup::Lookup;

impl ip_name_lookup::Host for Wasi {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<Lookup>> {
        self.table.get(&network)?;
        self.refuse_full(1, ErrorCode::OutOfMemory)?;
        let lookup = Lookup::begin(self.process.get()?.calls(), &name)?;
        self.give(lookup)
    }
}

impl ip_name_lookup::HostResolveAddressStream for Wasi {
    fn resolve_next_address(
        &mut self,
        lookup: Resource<Lookup>,
    ) -> SocketResult<Option<IpAddress>> {
        let address = self.table.get(&lookup)?.next()?;
        Ok(address.map(|address| ip_address(&address)))
    }

    fn subscribe(&mut self, lookup: Resource<Lookup>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&lookup)?.pollable();
        Ok(self.table.push_child(pollable, &lookup)?)
    }

    fn drop(&mut self, lookup: Resource<Lookup>) -> Result<()> {
        self.take_back(lookup)
    }
}
