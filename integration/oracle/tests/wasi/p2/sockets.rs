//! Sockets and names, beside Wasmtime's and on their own.
//!
//! Everything happens on the loopback addresses of the machine that the tests run on. The other end of a
//! connection is the same program, or the test.

use std::slice::from_ref;

use oracle::{Grants, Wasi};
use wasmtime::component::Val;

use super::functions::{Script, assert_same};
use super::{P2, SOCKETS, bytes, bytes_of, text};

mod denied;
mod names;
mod tcp;
mod tcp_data;
mod udp;

const BOTH: [Wasi; 2] = [Wasi::Ours, Wasi::Theirs];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

use Family::{V4, V6};

impl Family {
    fn val(self) -> Val {
        Val::Enum(if self == V4 { "ipv4" } else { "ipv6" }.to_owned())
    }

    fn other(self) -> Self {
        if self == V4 { V6 } else { V4 }
    }

    fn loopback(self, port: u16) -> Val {
        match self {
            V4 => v4([127, 0, 0, 1], port),
            V6 => v6([0, 0, 0, 0, 0, 0, 0, 1], port),
        }
    }

    fn unspecified(self, port: u16) -> Val {
        if self == V4 { v4([0; 4], port) } else { v6([0; 8], port) }
    }

    /// An address that no machine has (RFC 5737, RFC 3849).
    fn nobodys(self, port: u16) -> Val {
        match self {
            V4 => v4([192, 0, 2, 1], port),
            V6 => v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port),
        }
    }

    /// Addresses of more than one receiver, with a port.
    fn groups(self) -> Vec<Val> {
        match self {
            V4 => vec![v4([224, 0, 0, 1], 9), v4([255; 4], 9)],
            V6 => vec![v6([0xff02, 0, 0, 0, 0, 0, 0, 1], 9)],
        }
    }

    /// Addresses that a socket of this family does not take, with a port.
    fn foreign(self) -> Vec<Val> {
        let mut foreign = vec![self.other().loopback(9)];
        if self == V6 {
            foreign.push(v6([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], 9));
            foreign.push(v6([0, 0, 0, 0, 0, 0, 0x7f00, 1], 9));
        }
        foreign
    }
}

fn v4(ip: [u8; 4], port: u16) -> Val {
    let fields = vec![
        ("port".to_owned(), Val::U16(port)),
        ("address".to_owned(), Val::Tuple(ip.map(Val::U8).to_vec())),
    ];
    Val::Variant("ipv4".to_owned(), Some(Box::new(Val::Record(fields))))
}

fn v6(ip: [u16; 8], port: u16) -> Val {
    let fields = vec![
        ("port".to_owned(), Val::U16(port)),
        ("flow-info".to_owned(), Val::U32(0)),
        ("address".to_owned(), Val::Tuple(ip.map(Val::U16).to_vec())),
        ("scope-id".to_owned(), Val::U32(0)),
    ];
    Val::Variant("ipv6".to_owned(), Some(Box::new(Val::Record(fields))))
}

/// The port of a socket's address.
fn port_of(address: &Val) -> u16 {
    if let Val::Variant(_, Some(record)) = address
        && let Val::Record(fields) = &**record
        && let Some((_, Val::U16(port))) = fields.first()
    {
        return *port;
    }
    panic!("{address:?} is no address of a socket")
}

fn error(code: &str) -> Val {
    Val::Result(Err(Some(Box::new(Val::Enum(code.to_owned())))))
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

fn tuple(value: Val) -> Vec<Val> {
    match value {
        Val::Tuple(values) => values,
        other => panic!("{other:?} is no tuple"),
    }
}

fn granted() -> Grants {
    Grants { network: true, ..Grants::default() }
}

/// A program that was granted the network.
fn program(wasi: Wasi) -> P2 {
    P2::start_with_sockets(wasi, &granted())
}

impl P2 {
    fn network(&mut self) -> Val {
        self.gives("instance-network/instance-network", &[])
    }

    /// Waits until a resource is ready, by way of its function `subscribe`.
    fn wait_for(&mut self, subscribe: &str, resource: &Val) {
        let pollable = self.gives(subscribe, from_ref(resource));
        self.gives_nothing("poll/pollable.block", from_ref(&pollable));
        self.gives_nothing("poll/drop-pollable", &[pollable]);
    }

    /// Whether a resource is ready.
    fn is_ready(&mut self, subscribe: &str, resource: &Val) -> bool {
        let pollable = self.gives(subscribe, from_ref(resource));
        let ready = self.gives("poll/pollable.ready", from_ref(&pollable));
        self.gives_nothing("poll/drop-pollable", &[pollable]);
        ready == Val::Bool(true)
    }

    /// A TCP socket that listens at a loopback address, and its port.
    fn listener(&mut self, family: Family) -> (Val, u16) {
        let network = self.network();
        let socket = self.done("tcp-create-socket/create-tcp-socket", &[family.val()]);
        let bind = [socket.clone(), network, family.loopback(0)];
        self.done("tcp/tcp-socket.start-bind", &bind);
        self.done("tcp/tcp-socket.finish-bind", from_ref(&socket));
        self.done("tcp/tcp-socket.start-listen", from_ref(&socket));
        self.done("tcp/tcp-socket.finish-listen", from_ref(&socket));
        let address = self.done("tcp/tcp-socket.local-address", from_ref(&socket));
        (socket, port_of(&address))
    }

    /// A TCP socket that is connected to `to`, and its streams.
    fn connected(&mut self, family: Family, to: &Val) -> [Val; 3] {
        let network = self.network();
        let socket = self.done("tcp-create-socket/create-tcp-socket", &[family.val()]);
        let connect = [socket.clone(), network, to.clone()];
        self.done("tcp/tcp-socket.start-connect", &connect);
        self.wait_for("tcp/tcp-socket.subscribe", &socket);
        let streams = tuple(self.done("tcp/tcp-socket.finish-connect", from_ref(&socket)));
        let [input, output] = streams.try_into().expect("two streams");
        [socket, input, output]
    }

    /// A connection that `listener` takes, when there is one.
    fn accepted(&mut self, listener: &Val) -> [Val; 3] {
        self.wait_for("tcp/tcp-socket.subscribe", listener);
        let accepted = tuple(self.done("tcp/tcp-socket.accept", from_ref(listener)));
        accepted.try_into().expect("a socket and two streams")
    }

    /// A UDP socket that is bound to a loopback address, and its port.
    fn udp(&mut self, family: Family) -> (Val, u16) {
        let network = self.network();
        let socket = self.done("udp-create-socket/create-udp-socket", &[family.val()]);
        let bind = [socket.clone(), network, family.loopback(0)];
        self.done("udp/udp-socket.start-bind", &bind);
        self.done("udp/udp-socket.finish-bind", from_ref(&socket));
        let address = self.done("udp/udp-socket.local-address", from_ref(&socket));
        (socket, port_of(&address))
    }

    /// The streams of a UDP socket.
    fn streams(&mut self, socket: &Val, remote: Option<Val>) -> [Val; 2] {
        let remote = Val::Option(remote.map(Box::new));
        let streams = self.done("udp/udp-socket.stream", &[socket.clone(), remote]);
        tuple(streams).try_into().expect("two streams")
    }
}

/// Runs a script on both sides, and compares.
fn compare(meant: &[(&str, &str, &str, &str)], script: impl Fn(&mut Script)) {
    let given = BOTH.map(|wasi| {
        let mut made = Script::new(program(wasi));
        script(&mut made);
        made.given()
    });
    assert_same(&given, meant);
}

/// Functions of the other interfaces, which their own tests call.
const ELSEWHERE: [&str; 16] = [
    "monotonic-clock/now",
    "monotonic-clock/resolution",
    "monotonic-clock/subscribe-duration",
    "monotonic-clock/subscribe-instant",
    "error/error.to-debug-string",
    "poll/poll",
    "stderr/get-stderr",
    "stdin/get-stdin",
    "streams/input-stream.blocking-skip",
    "streams/input-stream.skip",
    "streams/output-stream.blocking-splice",
    "streams/output-stream.blocking-write-zeroes-and-flush",
    "streams/output-stream.flush",
    "streams/output-stream.splice",
    "streams/output-stream.write-zeroes",
    "error/drop-error",
];

#[test]
fn every_function_of_sockets_is_compared() {
    let mut script = Script::new(program(Wasi::Ours));
    for family in FAMILIES {
        tcp::states(&mut script, family);
        tcp::options(&mut script, family);
        tcp_data::exchange(&mut script, family);
        udp::states(&mut script, family);
        udp::exchange(&mut script, family);
    }
    tcp_data::reset(&mut script, V4);
    names::literals(&mut script);
    let (_, interpreter) = &*SOCKETS;
    assert_eq!(script.not_called(interpreter, &ELSEWHERE), [""; 0], "functions not called");
}
