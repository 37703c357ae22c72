//! wasi:sockets for a program to which no network is granted.
//!
//! Components import these interfaces whether they use them or not (a language's runtime does). Here
//! they link, and what would make a socket or look a name up answers `access-denied`, the interface's own
//! word for it. So no socket ever exists, and the methods of sockets cannot be reached.

use alloc::boxed::Box;
use alloc::string::String;

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType, Val};
use wasmtime::{Error, Result, StoreContextMut};

use super::Wasi;

/// The network, of which there is one.
struct Network;

/// A resource of which there is none.
enum Nothing {}

const TCP_METHODS: &[&str] = &[
    "start-bind",
    "finish-bind",
    "start-connect",
    "finish-connect",
    "start-listen",
    "finish-listen",
    "accept",
    "local-address",
    "remote-address",
    "is-listening",
    "address-family",
    "set-listen-backlog-size",
    "keep-alive-enabled",
    "set-keep-alive-enabled",
    "keep-alive-idle-time",
    "set-keep-alive-idle-time",
    "keep-alive-interval",
    "set-keep-alive-interval",
    "keep-alive-count",
    "set-keep-alive-count",
    "hop-limit",
    "set-hop-limit",
    "receive-buffer-size",
    "set-receive-buffer-size",
    "send-buffer-size",
    "set-send-buffer-size",
    "subscribe",
    "shutdown",
];
const UDP_METHODS: &[&str] = &[
    "start-bind",
    "finish-bind",
    "stream",
    "local-address",
    "remote-address",
    "address-family",
    "unicast-hop-limit",
    "set-unicast-hop-limit",
    "receive-buffer-size",
    "set-receive-buffer-size",
    "send-buffer-size",
    "set-send-buffer-size",
    "subscribe",
];

/// Adds the interfaces of wasi:sockets.
pub(super) fn add_to_linker(linker: &mut Linker<Wasi>) -> Result<()> {
    let mut network = linker.instance("wasi:sockets/network@0.2.12")?;
    network.resource("network", ResourceType::host::<Network>(), |mut store, rep| {
        let network = Resource::<Network>::new_own(rep);
        store.data_mut().table.delete(network)?;
        Ok(())
    })?;

    let mut granted = linker.instance("wasi:sockets/instance-network@0.2.12")?;
    granted.func_wrap("instance-network", |mut store: StoreContextMut<'_, Wasi>, (): ()| {
        Ok((store.data_mut().table.push(Network)?,))
    })?;

    let mut tcp = linker.instance("wasi:sockets/tcp@0.2.12")?;
    nothing(&mut tcp, "tcp-socket", TCP_METHODS)?;
    let mut udp = linker.instance("wasi:sockets/udp@0.2.12")?;
    nothing(&mut udp, "udp-socket", UDP_METHODS)?;
    nothing(&mut udp, "incoming-datagram-stream", &["receive", "subscribe"])?;
    nothing(&mut udp, "outgoing-datagram-stream", &["check-send", "send", "subscribe"])?;
    denied(&mut linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?, "create-tcp-socket")?;
    denied(&mut linker.instance("wasi:sockets/udp-create-socket@0.2.12")?, "create-udp-socket")?;

    let mut lookup = linker.instance("wasi:sockets/ip-name-lookup@0.2.12")?;
    nothing(&mut lookup, "resolve-address-stream", &["resolve-next-address", "subscribe"])?;
    denied(&mut lookup, "resolve-addresses")
}

/// Defines a resource that no function ever returns, with its methods.
fn nothing(instance: &mut LinkerInstance<'_, Wasi>, name: &str, methods: &[&str]) -> Result<()> {
    instance.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
    for method in methods {
        instance.func_new(&alloc::format!("[method]{name}.{method}"), |_, _, _, _| {
            Err(Error::msg("wasi:sockets: a socket was used, but none can exist"))
        })?;
    }
    Ok(())
}

/// Defines a function that answers `access-denied`.
fn denied(instance: &mut LinkerInstance<'_, Wasi>, name: &str) -> Result<()> {
    instance.func_new(name, |_, _, _, results| {
        if let [result] = results {
            let code = Val::Enum(String::from("access-denied"));
            *result = Val::Result(Err(Some(Box::new(code))));
        }
        Ok(())
    })
}
