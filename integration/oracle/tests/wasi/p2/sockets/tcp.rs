//! TCP: states, addresses, options.

use wasmtime::component::Val;

use super::{BOTH, FAMILIES, Family, V4, V6, compare, error, from_ref, port_of, program};
use crate::p2::functions::Script;

/// `tcp-socket`'s methods that need no more than the socket.
const PLAIN: [&str; 10] = [
    "finish-bind",
    "finish-connect",
    "finish-listen",
    "accept",
    "remote-address",
    "is-listening",
    "address-family",
    "start-listen",
    "keep-alive-enabled",
    "hop-limit",
];

/// Calls what a state allows or forbids.
fn look(script: &mut Script, socket: &Val, names: &[&str]) {
    for name in names {
        script.call(&format!("tcp/tcp-socket.{name}"), &[socket]);
    }
}

fn shut(script: &mut Script, socket: &Val) {
    for how in ["receive", "send", "both"] {
        script.call("tcp/tcp-socket.shutdown", &[socket, &Val::Enum(how.to_owned())]);
    }
}

/// Through all states of a socket that listens and of two that connect.
pub(super) fn states(script: &mut Script, family: Family) {
    let network = script.some("instance-network/instance-network", &[]);
    let create = "tcp-create-socket/create-tcp-socket";
    let (bind, connect) = ("tcp/tcp-socket.start-bind", "tcp/tcp-socket.start-connect");
    let backlog = "tcp/tcp-socket.set-listen-backlog-size";

    // Not bound.
    let socket = script.some(create, &[&family.val()]);
    look(script, &socket, &PLAIN);
    look(script, &socket, &["local-address"]);
    shut(script, &socket);
    for address in family.foreign().iter().chain(&family.groups()) {
        script.call(bind, &[&socket, &network, address]);
    }
    script.call(bind, &[&socket, &network, &family.nobodys(0)]);
    for value in [0, 1, u64::MAX] {
        script.call(backlog, &[&socket, &Val::U64(value)]);
    }

    // Being bound, then bound.
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    script.call(connect, &[&socket, &network, &family.loopback(9)]);
    look(script, &socket, &["start-listen", "finish-listen", "finish-connect", "accept"]);
    look(script, &socket, &["finish-bind"]);
    let address = script.some("tcp/tcp-socket.local-address", &[&socket]);
    let port = port_of(&address);
    script.name(format!("U16({port})"), "the listener's port");
    look(script, &socket, &["local-address", "finish-bind", "accept", "remote-address"]);
    shut(script, &socket);
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    let other = script.some(create, &[&family.val()]);

    // Going to listen, then listening.
    look(script, &socket, &["start-listen", "start-listen", "finish-bind"]);
    script.call(connect, &[&socket, &network, &family.loopback(9)]);
    look(script, &socket, &["finish-listen", "is-listening", "local-address", "remote-address"]);
    look(script, &socket, &["finish-listen", "start-listen", "accept"]);
    shut(script, &socket);
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    script.call(connect, &[&socket, &network, &family.loopback(port)]);
    script.call(backlog, &[&socket, &Val::U64(5)]);
    script.call(backlog, &[&socket, &Val::U64(0)]);
    script.call(bind, &[&other, &network, &family.loopback(port)]);

    // Connecting, then connected.
    let wrong = [family.unspecified(port), family.loopback(0), family.unspecified(0)];
    for address in wrong.iter().chain(&family.foreign()).chain(&family.groups()) {
        script.call(connect, &[&other, &network, address]);
    }
    script.call(connect, &[&other, &network, &family.loopback(port)]);
    script.call(connect, &[&other, &network, &family.loopback(port)]);
    script.call(bind, &[&other, &network, &family.loopback(0)]);
    script.call(backlog, &[&other, &Val::U64(5)]);
    look(script, &other, &["start-listen", "finish-listen", "remote-address", "accept"]);
    let pollable = script.some("tcp/tcp-socket.subscribe", &[&other]);
    script.call("poll/pollable.block", &[&pollable]);
    let streams = script.some("tcp/tcp-socket.finish-connect", &[&other]);
    assert!(matches!(streams, Val::Tuple(_)), "{streams:?}");
    let address = script.some("tcp/tcp-socket.local-address", &[&other]);
    script.name(format!("U16({})", port_of(&address)), "the client's port");
    look(script, &other, &["local-address", "remote-address", "finish-connect", "start-listen"]);
    look(script, &other, &["is-listening", "address-family", "accept"]);
    script.call(bind, &[&other, &network, &family.loopback(0)]);
    script.call(connect, &[&other, &network, &family.loopback(port)]);
    script.call(backlog, &[&other, &Val::U64(5)]);
    script.call("poll/pollable.ready", &[&pollable]);

    // Accepting.
    let listening = script.some("tcp/tcp-socket.subscribe", &[&socket]);
    script.call("poll/pollable.block", &[&listening]);
    let Val::Tuple(accepted) = script.some("tcp/tcp-socket.accept", &[&socket]) else {
        panic!("nothing was accepted")
    };
    look(script, &accepted[0], &["local-address", "remote-address", "address-family"]);
    look(script, &accepted[0], &["is-listening", "start-listen", "finish-connect", "accept"]);
    script.call("poll/pollable.ready", &[&listening]);
    look(script, &socket, &["accept"]);

    // Refused.
    let refused = script.some(create, &[&family.val()]);
    let nobody = std::net::TcpListener::bind((if family == V4 { "127.0.0.1" } else { "::1" }, 0));
    let nobody = nobody.expect("bind").local_addr().expect("an address").port();
    script.call(connect, &[&refused, &network, &family.loopback(nobody)]);
    let refusal = script.some("tcp/tcp-socket.subscribe", &[&refused]);
    script.call("poll/pollable.block", &[&refusal]);
    look(script, &refused, &["finish-connect", "finish-connect", "local-address", "hop-limit"]);
    look(script, &refused, &["remote-address", "start-listen", "is-listening", "accept"]);
    script.call(bind, &[&refused, &network, &family.loopback(0)]);
    script.call(connect, &[&refused, &network, &family.loopback(port)]);
    script.call("poll/pollable.ready", &[&refusal]);

    // A connection goes from its own address.
    let bound = script.some(create, &[&family.val()]);
    script.call(bind, &[&bound, &network, &family.unspecified(0)]);
    look(script, &bound, &["finish-bind"]);
    let address = script.some("tcp/tcp-socket.local-address", &[&bound]);
    script.name(format!("U16({})", port_of(&address)), "a bound client's port");
    script.call(connect, &[&bound, &network, &family.loopback(port)]);
    let connected = script.some("tcp/tcp-socket.subscribe", &[&bound]);
    script.call("poll/pollable.block", &[&connected]);
    let streams = script.some("tcp/tcp-socket.finish-connect", &[&bound]);
    look(script, &bound, &["local-address"]);

    for pollable in [pollable, listening, refusal, connected] {
        script.call("poll/drop-pollable", &[&pollable]);
    }
    let Val::Tuple(streams) = streams else { panic!("{streams:?}") };
    for (name, resource) in [
        ("streams/drop-input-stream", &streams[0]),
        ("streams/drop-output-stream", &streams[1]),
        ("tcp/drop-tcp-socket", &bound),
        ("tcp/drop-tcp-socket", &socket),
        ("network/drop-network", &network),
    ] {
        script.call(name, &[resource]);
    }
}

/// Options whose values are of this type, each with the values to set.
fn values() -> Vec<(&'static str, Vec<Val>)> {
    const SECOND: u64 = 1_000_000_000;
    let times = || {
        [0, 1, SECOND, SECOND + 1, 90 * SECOND, 32_767 * SECOND, 32_768 * SECOND, u64::MAX]
            .map(Val::U64)
            .to_vec()
    };
    let sizes = || [0, 1, 10_000, 1 << 20, 1 << 31, u64::MAX].map(Val::U64).to_vec();
    vec![
        ("keep-alive-enabled", [true, false, true].map(Val::Bool).to_vec()),
        ("keep-alive-idle-time", times()),
        ("keep-alive-interval", times()),
        ("keep-alive-count", [0, 1, 5, 127, 128, u32::MAX].map(Val::U32).to_vec()),
        ("hop-limit", [0, 1, 42, 255].map(Val::U8).to_vec()),
        ("receive-buffer-size", sizes()),
        ("send-buffer-size", sizes()),
    ]
}

/// Sets and reads every option, of a socket that does nothing and of one that was accepted from it.
pub(super) fn options(script: &mut Script, family: Family) {
    let (listener, port) = script.program.listener(family);
    for (name, values) in values() {
        script.call(&format!("tcp/tcp-socket.{name}"), &[&listener]);
        for value in values {
            script.call(&format!("tcp/tcp-socket.set-{name}"), &[&listener, &value]);
            script.call(&format!("tcp/tcp-socket.{name}"), &[&listener]);
        }
    }
    let client = script.program.connected(family, &family.loopback(port));
    let accepted = script.program.accepted(&listener);
    for (name, _) in values() {
        script.call(&format!("tcp/tcp-socket.{name}"), &[&accepted[0]]);
        script.call(&format!("tcp/tcp-socket.{name}"), &[&client[0]]);
    }
}

#[test]
fn a_socket_goes_through_its_states_as_in_wasmtime() {
    for family in FAMILIES {
        compare(&[], |script| states(script, family));
    }
}

#[test]
fn options_of_tcp_are_those_of_wasmtime() {
    for family in FAMILIES {
        compare(&[], |script| options(script, family));
    }
}

#[test]
fn a_socket_is_in_a_state_only_when_its_start_is_finished() {
    let mut program = program(oracle::Wasi::Ours);
    let network = program.network();
    let socket = program.done("tcp-create-socket/create-tcp-socket", &[V4.val()]);
    let bind = [socket.clone(), network, V4.loopback(0)];
    program.done("tcp/tcp-socket.start-bind", &bind);
    let local = program.gives("tcp/tcp-socket.local-address", from_ref(&socket));
    assert_eq!(local, error("invalid-state"));
    program.done("tcp/tcp-socket.finish-bind", from_ref(&socket));
    program.done("tcp/tcp-socket.start-listen", from_ref(&socket));
    let listening = program.gives("tcp/tcp-socket.is-listening", from_ref(&socket));
    assert_eq!(listening, Val::Bool(false));
    let accepted = program.gives("tcp/tcp-socket.accept", from_ref(&socket));
    assert_eq!(accepted, error("invalid-state"));
}

#[test]
fn an_address_of_another_scope_is_told_as_it_is() {
    // The flow information and scope of an address of this machine mean nothing; that they come back says
    // that each field crosses in its place.
    for wasi in BOTH {
        let mut program = program(wasi);
        let (socket, _) = program.listener(V6);
        let address = program.done("tcp/tcp-socket.local-address", from_ref(&socket));
        assert_eq!(address, V6.loopback(port_of(&address)), "{wasi:?}");
    }
}
