//! A program to which no network is granted, and one that asks for too much.

use oracle::{Grants, Wasi};

use super::{FAMILIES, P2, V4, error, program, text};

#[test]
fn without_a_network_there_are_no_sockets_and_no_names() {
    let mut program = P2::start_with_sockets(Wasi::Ours, &Grants::default());
    let denied = error("access-denied");
    for family in FAMILIES {
        for name in ["tcp-create-socket/create-tcp-socket", "udp-create-socket/create-udp-socket"] {
            assert_eq!(program.gives(name, &[family.val()]), denied, "{name}");
        }
    }
    let network = program.network();
    for name in ["localhost", "127.0.0.1"] {
        let looked_up =
            program.gives("ip-name-lookup/resolve-addresses", &[network.clone(), text(name)]);
        assert_eq!(looked_up, denied, "{name}");
    }
    program.gives_nothing("network/drop-network", &[network]);
}

#[test]
fn sockets_without_end_are_an_error_and_leave_room_for_others() {
    let mut program = program(Wasi::Ours);
    let create = "tcp-create-socket/create-tcp-socket";
    let mut sockets = Vec::new();
    let refused = loop {
        match program.gives(create, &[V4.val()]) {
            wasmtime::component::Val::Result(Ok(Some(socket))) => sockets.push(*socket),
            refused => break refused,
        }
        assert!(sockets.len() < 100_000, "there is no limit");
    };
    assert_eq!(refused, error("new-socket-limit"));
    let last = sockets.pop().expect("one at least");
    program.gives_nothing("tcp/drop-tcp-socket", &[last]);
    program.done(create, &[V4.val()]);
}
