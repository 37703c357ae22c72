//! wasi:sockets/tcp.

use abi::{Direction, SocketOption};
use wasmtime::Result;
use wasmtime::component::Resource;

use super::super::Wasi;
use super::super::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::super::bindings::wasi::sockets::tcp::{self, ShutdownType};
use super::{Network, SocketResult, address_family, from_host, to_host};
use crate::poll::Pollable;
use crate::socket::tcp::TcpSocket;
use crate::stream::{InputStream, OutputStream};

type Connection = (Resource<TcpSocket>, Resource<InputStream>, Resource<OutputStream>);

impl Wasi {
    fn tcp_option(&self, socket: &Resource<TcpSocket>, option: SocketOption) -> SocketResult<u64> {
        Ok(self.table.get(socket)?.option(option)?)
    }

    fn set_tcp_option(
        &self,
        socket: &Resource<TcpSocket>,
        option: SocketOption,
        value: impl Into<u64>,
    ) -> SocketResult<()> {
        Ok(self.table.get(socket)?.set_option(option, value.into())?)
    }
}

impl tcp::Host for Wasi {}

impl tcp::HostTcpSocket for Wasi {
    fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&socket)?.start_bind(to_host(local))?)
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.table.get_mut(&socket)?.finish_bind()?)
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&socket)?.start_connect(to_host(remote))?)
    }

    fn finish_connect(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<InputStream>, Resource<OutputStream>)> {
        self.refuse_full(2, ErrorCode::OutOfMemory)?;
        let (input, output) = self.table.get_mut(&socket)?.finish_connect()?;
        Ok((self.give(input)?, self.give(output)?))
    }

    fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.table.get_mut(&socket)?.start_listen()?)
    }

    fn finish_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        Ok(self.table.get_mut(&socket)?.finish_listen()?)
    }

    fn accept(&mut self, socket: Resource<TcpSocket>) -> SocketResult<Connection> {
        self.refuse_full(3, ErrorCode::NewSocketLimit)?;
        let (accepted, (input, output)) = self.table.get_mut(&socket)?.accept()?;
        Ok((self.give(accepted)?, self.give(input)?, self.give(output)?))
    }

    fn local_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(from_host(&self.table.get(&socket)?.local_address()?))
    }

    fn remote_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(from_host(&self.table.get(&socket)?.remote_address()?))
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table.get(&socket)?.is_listening())
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> Result<IpAddressFamily> {
        Ok(address_family(self.table.get(&socket)?.family()))
    }

    fn set_listen_backlog_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        Ok(self.table.get_mut(&socket)?.set_backlog(value)?)
    }

    fn keep_alive_enabled(&mut self, socket: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.tcp_option(&socket, SocketOption::KeepAlive)? != 0)
    }

    fn set_keep_alive_enabled(
        &mut self,
        socket: Resource<TcpSocket>,
        value: bool,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::KeepAlive, value)
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        self.tcp_option(&socket, SocketOption::KeepAliveIdle)
    }

    fn set_keep_alive_idle_time(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::KeepAliveIdle, value)
    }

    fn keep_alive_interval(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        self.tcp_option(&socket, SocketOption::KeepAliveInterval)
    }

    fn set_keep_alive_interval(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::KeepAliveInterval, value)
    }

    fn keep_alive_count(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u32> {
        let count = self.tcp_option(&socket, SocketOption::KeepAliveCount)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn set_keep_alive_count(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u32,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::KeepAliveCount, value)
    }

    fn hop_limit(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u8> {
        let hops = self.tcp_option(&socket, SocketOption::HopLimit)?;
        Ok(u8::try_from(hops).unwrap_or(u8::MAX))
    }

    fn set_hop_limit(&mut self, socket: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::HopLimit, value)
    }

    fn receive_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        self.tcp_option(&socket, SocketOption::ReceiveBuffer)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::ReceiveBuffer, value)
    }

    fn send_buffer_size(&mut self, socket: Resource<TcpSocket>) -> SocketResult<u64> {
        self.tcp_option(&socket, SocketOption::SendBuffer)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        self.set_tcp_option(&socket, SocketOption::SendBuffer, value)
    }

    fn subscribe(&mut self, socket: Resource<TcpSocket>) -> Result<Resource<Pollable>> {
        let pollable = self.table.get(&socket)?.pollable();
        Ok(self.table.push_child(pollable, &socket)?)
    }

    fn shutdown(&mut self, socket: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let direction = match how {
            ShutdownType::Receive => Direction::Receive,
            ShutdownType::Send => Direction::Send,
            ShutdownType::Both => Direction::Both,
        };
        let socket = self.table.get(&socket)?;
        Ok(socket.shutdown(&mut self.process.get()?.outputs, direction)?)
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> Result<()> {
        self.take_back(socket)
    }
}
