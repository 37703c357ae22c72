//! UDP: states, options, datagrams.

use std::net::UdpSocket;

use oracle::{TRAPPED, Wasi};
use wasmtime::component::Val;

use super::{
    BOTH, FAMILIES, Family, V4, bytes, bytes_of, compare, error, from_ref, port_of, program, some,
};
use crate::p2::functions::Script;

const CHECK: &str = "udp/outgoing-datagram-stream.check-send";
const SEND: &str = "udp/outgoing-datagram-stream.send";
const RECEIVE: &str = "udp/incoming-datagram-stream.receive";

/// A datagram to send.
fn datagram(data: &[u8], to: Option<Val>) -> Val {
    let fields = vec![
        ("data".to_owned(), bytes(data)),
        ("remote-address".to_owned(), Val::Option(to.map(Box::new))),
    ];
    Val::Record(fields)
}

/// The bytes and sources of received datagrams.
fn received(list: &Val) -> Vec<(Vec<u8>, Val)> {
    let Val::List(datagrams) = list else { panic!("{list:?}") };
    let fields = |datagram: &Val| match datagram {
        Val::Record(fields) => (bytes_of(&fields[0].1), fields[1].1.clone()),
        other => panic!("{other:?}"),
    };
    datagrams.iter().map(fields).collect()
}

/// Through all states of a socket, with its options and the addresses that it does not take.
pub(super) fn states(script: &mut Script, family: Family) {
    let network = script.some("instance-network/instance-network", &[]);
    let (bind, stream) = ("udp/udp-socket.start-bind", "udp/udp-socket.stream");
    let none = Val::Option(None);
    let socket = script.some("udp-create-socket/create-udp-socket", &[&family.val()]);
    let look = |script: &mut Script, names: &[&str]| {
        for name in names {
            script.call(&format!("udp/udp-socket.{name}"), &[&socket]);
        }
    };
    let pollable = script.some("udp/udp-socket.subscribe", &[&socket]);
    script.call("poll/pollable.ready", &[&pollable]);
    look(script, &["local-address", "remote-address", "address-family", "finish-bind"]);
    script.call(stream, &[&socket, &none]);
    script.call(stream, &[&socket, &some(family.loopback(9))]);
    for address in &family.foreign() {
        script.call(bind, &[&socket, &network, address]);
    }
    script.call(bind, &[&socket, &network, &family.nobodys(0)]);
    let sizes = || [0, 1, 10_000, 1 << 20, 1 << 31, u64::MAX].map(Val::U64).to_vec();
    for (name, values) in [
        ("unicast-hop-limit", [0, 1, 42, 255].map(Val::U8).to_vec()),
        ("receive-buffer-size", sizes()),
        ("send-buffer-size", sizes()),
    ] {
        look(script, &[name]);
        for value in values {
            script.call(&format!("udp/udp-socket.set-{name}"), &[&socket, &value]);
            look(script, &[name]);
        }
    }

    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    look(script, &["finish-bind", "finish-bind", "remote-address"]);
    let address = script.some("udp/udp-socket.local-address", &[&socket]);
    let port = port_of(&address);
    script.name(format!("U16({port})"), "the socket's port");
    look(script, &["local-address"]);
    script.call(bind, &[&socket, &network, &family.loopback(0)]);
    let other = script.some("udp-create-socket/create-udp-socket", &[&family.val()]);
    script.call(bind, &[&other, &network, &family.loopback(port)]);

    let wrong = [family.unspecified(9), family.loopback(0)];
    for address in wrong.iter().chain(&family.foreign()) {
        script.call(stream, &[&socket, &some(address.clone())]);
    }
    for remote in [some(family.loopback(port)), some(family.loopback(7)), none.clone(), none] {
        let streams = script.some(stream, &[&socket, &remote]);
        look(script, &["local-address", "remote-address"]);
        let Val::Tuple(streams) = streams else { panic!("{streams:?}") };
        script.call("udp/drop-incoming-datagram-stream", &[&streams[0]]);
        script.call("udp/drop-outgoing-datagram-stream", &[&streams[1]]);
    }
    script.call("poll/drop-pollable", &[&pollable]);
    script.call("udp/drop-udp-socket", &[&other]);
}

/// Datagrams between two sockets of the program, connected and not.
pub(super) fn exchange(script: &mut Script, family: Family) {
    let (left, left_port) = script.program.udp(family);
    let (right, right_port) = script.program.udp(family);
    script.name(format!("U16({left_port})"), "the left port");
    script.name(format!("U16({right_port})"), "the right port");
    let (to_left, to_right) = (family.loopback(left_port), family.loopback(right_port));
    let [incoming, outgoing] = script.program.streams(&left, None);
    let [from_left, to_the_left] = script.program.streams(&right, Some(to_left.clone()));
    let send = |script: &mut Script, stream: &Val, datagrams: Vec<Val>| {
        script.some(CHECK, &[stream]);
        script.call(SEND, &[stream, &Val::List(datagrams)]);
    };
    let arrives = |script: &mut Script, stream: &Val| {
        let pollable = script.some("udp/incoming-datagram-stream.subscribe", &[stream]);
        script.call("poll/pollable.block", &[&pollable]);
        script.call("poll/drop-pollable", &[&pollable]);
    };
    let ready = script.some("udp/outgoing-datagram-stream.subscribe", &[&outgoing]);
    script.call("poll/pollable.block", &[&ready]);
    let waiting = script.some("udp/incoming-datagram-stream.subscribe", &[&incoming]);
    script.call("poll/pollable.ready", &[&waiting]);
    for max in [0, 1, u64::MAX] {
        script.call(RECEIVE, &[&incoming, &Val::U64(max)]);
    }

    // Not connected: where to, each says.
    send(script, &outgoing, vec![]);
    send(script, &outgoing, vec![datagram(b"to nobody", None)]);
    for address in family.foreign().into_iter().chain([family.unspecified(9), family.loopback(0)]) {
        send(script, &outgoing, vec![datagram(b"astray", Some(address))]);
    }
    let three = [&b"one"[..], b"", b"three"];
    let three = three.map(|data| datagram(data, Some(to_right.clone())));
    send(script, &outgoing, three.to_vec());
    arrives(script, &from_left);
    script.call(RECEIVE, &[&from_left, &Val::U64(0)]);
    script.call(RECEIVE, &[&from_left, &Val::U64(2)]);
    script.call(RECEIVE, &[&from_left, &Val::U64(10)]);
    // The first error ends it, and is an error if nothing was sent before.
    let mixed = vec![datagram(b"sent", Some(to_right.clone())), datagram(b"not", None)];
    send(script, &outgoing, mixed);
    arrives(script, &from_left);
    script.call(RECEIVE, &[&from_left, &Val::U64(10)]);
    let too_long = vec![0; 65_508];
    send(script, &outgoing, vec![datagram(&too_long, Some(to_right.clone()))]);

    // Connected: to the peer, or not at all.
    send(script, &to_the_left, vec![datagram(b"plain", None)]);
    arrives(script, &incoming);
    script.call(RECEIVE, &[&incoming, &Val::U64(10)]);
    send(script, &to_the_left, vec![datagram(b"named", Some(to_left.clone()))]);
    arrives(script, &incoming);
    script.call(RECEIVE, &[&incoming, &Val::U64(10)]);
    send(script, &to_the_left, vec![datagram(b"elsewhere", Some(to_right))]);
    send(script, &to_the_left, vec![datagram(b"wrong", Some(family.other().loopback(9)))]);
    for pollable in [ready, waiting] {
        script.call("poll/drop-pollable", &[&pollable]);
    }
}

/// What differs as it is meant to: function, ours, theirs, and why.
const MEANT: [(&str, &str, &str, &str); 2] = [
    (
        "udp/udp-socket.local-address",
        r#"Ok(Some(Result(Ok(Some(Variant("ipv4", Some(Record([("port", the socket's port), ("address", Tuple([U8(127), U8(0), U8(0), U8(1)]))]))))))))"#,
        r#"Ok(Some(Result(Ok(Some(Variant("ipv4", Some(Record([("port", U16(0)), ("address", Tuple([U8(127), U8(0), U8(0), U8(1)]))]))))))))"#,
        KEPT,
    ),
    (
        "udp/udp-socket.local-address",
        r#"Ok(Some(Result(Ok(Some(Variant("ipv6", Some(Record([("port", the socket's port), ("flow-info", U32(0)), ("address", Tuple([U16(0), U16(0), U16(0), U16(0), U16(0), U16(0), U16(0), U16(1)])), ("scope-id", U32(0))]))))))))"#,
        r#"Ok(Some(Result(Ok(Some(Variant("ipv6", Some(Record([("port", U16(0)), ("flow-info", U32(0)), ("address", Tuple([U16(0), U16(0), U16(0), U16(0), U16(0), U16(0), U16(0), U16(1)])), ("scope-id", U32(0))]))))))))"#,
        KEPT,
    ),
];
const KEPT: &str =
    "a socket that is connected no more is still bound; Linux gives up a port it chose";

#[test]
fn a_socket_goes_through_its_states_as_in_wasmtime() {
    for family in FAMILIES {
        compare(&MEANT, |script| states(script, family));
    }
}

#[test]
fn datagrams_are_sent_and_received_as_in_wasmtime() {
    for family in FAMILIES {
        compare(&[], |script| exchange(script, family));
    }
}

#[test]
fn nobody_at_the_peers_port_is_an_error_of_the_next_call() {
    for wasi in BOTH {
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut program = program(wasi);
        let (socket, _) = program.udp(V4);
        let [incoming, outgoing] = program.streams(&socket, Some(V4.loopback(nobody)));
        program.done(CHECK, from_ref(&outgoing));
        let sent = program.gives(SEND, &[outgoing, Val::List(vec![datagram(b"?", None)])]);
        assert_eq!(sent, Val::Result(Ok(Some(Box::new(Val::U64(1))))), "{wasi:?}");
        program.wait_for("udp/incoming-datagram-stream.subscribe", &incoming);
        let refused = program.gives(RECEIVE, &[incoming, Val::U64(1)]);
        assert_eq!(refused, error("connection-refused"), "{wasi:?}");
    }
}

#[test]
fn what_arrived_before_a_socket_was_connected_is_not_the_peers() {
    for wasi in BOTH {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut program = program(wasi);
        let (socket, port) = program.udp(V4);
        stranger.send_to(b"from a stranger", ("127.0.0.1", port)).unwrap();
        let from = V4.loopback(peer.local_addr().unwrap().port());
        let [incoming, _outgoing] = program.streams(&socket, Some(from.clone()));
        peer.send_to(b"from the peer", ("127.0.0.1", port)).unwrap();
        program.wait_for("udp/incoming-datagram-stream.subscribe", &incoming);
        let datagrams = received(&program.done(RECEIVE, &[incoming, Val::U64(10)]));
        assert_eq!(datagrams, [(b"from the peer".to_vec(), from)], "{wasi:?}");
    }
}

#[test]
fn more_datagrams_than_check_send_permits_are_a_trap() {
    for permit_first in [false, true] {
        let mut program = program(Wasi::Ours);
        let (socket, port) = program.udp(V4);
        let [_incoming, outgoing] = program.streams(&socket, None);
        let permitted = match permit_first {
            true => program.done(CHECK, from_ref(&outgoing)),
            false => Val::U64(0),
        };
        let Val::U64(permitted) = permitted else { panic!("{permitted:?}") };
        let one = datagram(b"x", Some(V4.loopback(port)));
        let many = vec![one; usize::try_from(permitted).unwrap() + 1];
        let ended = program.call(SEND, &[outgoing, Val::List(many)]).unwrap_err();
        assert_eq!(ended.status, TRAPPED);
        assert!(ended.report.contains("check-send"), "{}", ended.report);
    }
}

#[test]
fn streams_that_were_not_dropped_are_a_trap() {
    for wasi in BOTH {
        let mut program = program(wasi);
        let (socket, _) = program.udp(V4);
        let [_incoming, _outgoing] = program.streams(&socket, None);
        let again = [socket, Val::Option(None)];
        let ended = program.call("udp/udp-socket.stream", &again).unwrap_err();
        assert_eq!(ended.status, TRAPPED, "{wasi:?}");
    }
}

#[test]
fn a_batch_of_datagrams_is_one_host_call() {
    use abi::Nr;
    let mut program = program(Wasi::Ours);
    let (left, _) = program.udp(V4);
    let (right, port) = program.udp(V4);
    let [_, outgoing] = program.streams(&left, None);
    let [incoming, _] = program.streams(&right, None);
    program.session.calls();
    program.done(CHECK, from_ref(&outgoing));
    let one = datagram(b"x", Some(V4.loopback(port)));
    let sent = program.done(SEND, &[outgoing, Val::List(vec![one; 8])]);
    assert_eq!(sent, Val::U64(8));
    let datagrams = program.done(RECEIVE, &[incoming, Val::U64(20)]);
    assert_eq!(received(&datagrams).len(), 8);
    assert_eq!(program.session.calls(), [Nr::Send, Nr::Receive]);
}

#[test]
fn the_largest_datagrams_are_sent_and_received_whole() {
    const LARGEST: usize = 65_507;
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut program = program(Wasi::Ours);
    let (socket, port) = program.udp(V4);
    program.done("udp/udp-socket.set-receive-buffer-size", &[socket.clone(), Val::U64(1 << 20)]);
    let to = V4.loopback(peer.local_addr().unwrap().port());
    let [incoming, outgoing] = program.streams(&socket, Some(to));
    // The test's program has room for one of them in a call.
    let all = vec![7; LARGEST];
    program.done(CHECK, from_ref(&outgoing));
    let list = Val::List(vec![datagram(&all, None)]);
    assert_eq!(program.done(SEND, &[outgoing, list]), Val::U64(1));
    let mut buffer = vec![0; 1 << 16];
    assert_eq!(peer.recv(&mut buffer).unwrap(), LARGEST);
    assert_eq!(peer.send_to(&all, ("127.0.0.1", port)).unwrap(), LARGEST);
    program.wait_for("udp/incoming-datagram-stream.subscribe", &incoming);
    let datagrams = received(&program.done(RECEIVE, &[incoming, Val::U64(1)]));
    assert_eq!(datagrams[0].0, all);
}

#[test]
fn a_full_socket_permits_nothing_and_polls_as_it_permits() {
    let mut program = program(Wasi::Ours);
    let (socket, _) = program.udp(V4);
    program.done("udp/udp-socket.set-send-buffer-size", &[socket.clone(), Val::U64(1)]);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = V4.loopback(peer.local_addr().unwrap().port());
    let [_incoming, outgoing] = program.streams(&socket, Some(to));
    // On loopback what is sent is received at once: the socket polls as ready, and permits.
    let one = Val::List(vec![datagram(&[1; 1000], None)]);
    for _ in 0..100 {
        let permit = program.done(CHECK, from_ref(&outgoing));
        let ready = program.is_ready("udp/outgoing-datagram-stream.subscribe", &outgoing);
        assert!(permit == Val::U64(0) || ready, "{permit:?}");
        if permit != Val::U64(0) {
            program.done(SEND, &[outgoing.clone(), one.clone()]);
        }
    }
}
