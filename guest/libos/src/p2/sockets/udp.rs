//! wasi:sockets/udp.

use alloc::vec::Vec;

use abi::SocketOption;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::super::Wasi;
use super::super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::super::bindings::wasi::sockets::udp::{self, IncomingDatagram, OutgoingDatagram};
use super::{Network, SocketResult, address_family, from_host, to_host};
use crate::poll::Pollable;
use crate::socket::udp::{IncomingDatagrams, OutgoingDatagrams, UdpSocket};

type Streams = (Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>);

impl udp::Host for Wasi {}

impl udp::HostUdpSocket for Wasi {
    fn start_bind(
        &mut self,
        socket: Resource<UdpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&socket)?.start_bind(to_host(local))?)
    }

    fn finish_bind(&mut self, socket: Resource<UdpSocket>) -> SocketResult<()> {
        Ok(self.table.get_mut(&socket)?.finish_bind()?)
    }

    fn stream(
        &mut self,
        socket: Resource<UdpSocket>,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<Streams> {
        self.refuse_full(2, ErrorCode::OutOfMemory)?;
        let streams = self.table.get_mut(&socket)?.stream(remote.map(to_host))?;
        let (incoming, outgoing) = streams?;
        Ok((self.give(incoming)?, self.give(outgoing)?))
    }

    fn local_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(from_host(&self.table.get(&socket)?.local_address()?))
    }

    fn remote_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(from_host(&self.table.get(&socket)?.remote_address()?))
    }

    fn address_family(&mut self, socket: Resource<UdpSocket>) -> Result<IpAddressFamily> {
        Ok(address_family(self.table.get(&socket)?.family()))
    }

    fn unicast_hop_limit(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u8> {
        let hops = self.table.get(&socket)?.option(SocketOption::HopLimit)?;
        Ok(u8::try_from(hops).unwrap_or(u8::MAX))
    }

    fn set_unicast_hop_limit(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u8,
    ) -> SocketResult<()> {
        Ok(self.table.get(&socket)?.set_option(SocketOption::HopLimit, value.into())?)
    }

    fn receive_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&socket)?.option(SocketOption::ReceiveBuffer)?)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        Ok(self.table.get(&socket)?.set_option(SocketOption::ReceiveBuffer, value)?)
    }

    fn send_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.table.get(&socket)?.option(SocketOption::SendBuffer)?)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<UdpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        Ok(self.table.get(&socket)?.set_option(SocketOption::SendBuffer, value)?)
    }

    fn subscribe(&mut self, socket: Resource<UdpSocket>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&socket)?.pollable();
        Ok(self.table.push_child(pollable, &socket)?)
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> Result<()> {
        self.take_back(socket)
    }
}

impl udp::HostIncomingDatagramStream for Wasi {
    fn receive(
        &mut self,
        stream: Resource<IncomingDatagrams>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let received = self.table.get(&stream)?.receive(max_results)?;
        let datagram = |(data, from)| IncomingDatagram { data, remote_address: from_host(&from) };
        Ok(received.into_iter().map(datagram).collect())
    }

    fn subscribe(&mut self, stream: Resource<IncomingDatagrams>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        Ok(self.table.push_child(pollable, &stream)?)
    }

    fn drop(&mut self, stream: Resource<IncomingDatagrams>) -> Result<()> {
        self.take_back(stream)
    }
}

impl udp::HostOutgoingDatagramStream for Wasi {
    fn check_send(&mut self, stream: Resource<OutgoingDatagrams>) -> SocketResult<u64> {
        Ok(self.table.get_mut(&stream)?.permit()?)
    }

    fn send(
        &mut self,
        stream: Resource<OutgoingDatagrams>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let to_send =
            |datagram: OutgoingDatagram| (datagram.data, datagram.remote_address.map(to_host));
        let datagrams: Vec<_> = datagrams.into_iter().map(to_send).collect();
        Ok(self.table.get_mut(&stream)?.send(&datagrams)??)
    }

    fn subscribe(&mut self, stream: Resource<OutgoingDatagrams>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&stream)?.pollable();
        Ok(self.table.push_child(pollable, &stream)?)
    }

    fn drop(&mut self, stream: Resource<OutgoingDatagrams>) -> Result<()> {
        self.take_back(stream)
    }
}
