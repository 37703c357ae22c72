//! TCP: what connections carry, and how they end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use oracle::Wasi;
use wasmtime::component::Val;

use super::{FAMILIES, Family, P2, V4, bytes, bytes_of, compare, error, from_ref, program};
use crate::p2::functions::Script;

const READ: &str = "streams/input-stream.read";
const WRITE: &str = "streams/output-stream.write";
const CHECK: &str = "streams/output-stream.check-write";

fn how(direction: &str) -> Val {
    Val::Enum(direction.to_owned())
}

/// Bytes both ways over a connection of the program with itself, and its end direction by direction.
pub(super) fn exchange(script: &mut Script, family: Family) {
    let (listener, port) = script.program.listener(family);
    let [client, from_server, to_server] = script.program.connected(family, &family.loopback(port));
    let [server, from_client, to_client] = script.program.accepted(&listener);
    let many = Val::U64(1000);

    script.call(READ, &[&from_client, &many]);
    let readable = script.some("streams/input-stream.subscribe", &[&from_client]);
    script.call("poll/pollable.ready", &[&readable]);
    script.some(CHECK, &[&to_server]);
    script.call(WRITE, &[&to_server, &bytes(b"question")]);
    script.call("streams/output-stream.blocking-flush", &[&to_server]);
    script.call("poll/pollable.block", &[&readable]);
    script.call(READ, &[&from_client, &Val::U64(0)]);
    script.call(READ, &[&from_client, &Val::U64(3)]);
    script.call("streams/input-stream.blocking-read", &[&from_client, &many]);
    let reply = bytes(b"answer");
    script.call("streams/output-stream.blocking-write-and-flush", &[&to_client, &reply]);
    script.call("streams/input-stream.blocking-read", &[&from_server, &many]);
    let writable = script.some("streams/output-stream.subscribe", &[&to_server]);
    script.call("poll/pollable.block", &[&writable]);

    // The client says that this was all; the server may go on.
    for _ in 0..2 {
        script.call("tcp/tcp-socket.shutdown", &[&client, &how("send")]);
    }
    script.call(CHECK, &[&to_server]);
    script.call("poll/pollable.ready", &[&writable]);
    script.call("poll/pollable.block", &[&readable]);
    script.call(READ, &[&from_client, &many]);
    script.call(READ, &[&from_client, &many]);
    script.call("streams/output-stream.blocking-write-and-flush", &[&to_client, &reply]);
    script.call("streams/input-stream.blocking-read", &[&from_server, &many]);

    // The client does not want any more, then neither does.
    script.call("streams/output-stream.blocking-write-and-flush", &[&to_client, &reply]);
    for _ in 0..2 {
        script.call("tcp/tcp-socket.shutdown", &[&client, &how("receive")]);
    }
    script.call(READ, &[&from_server, &many]);
    script.call("tcp/tcp-socket.shutdown", &[&server, &how("both")]);
    script.call("tcp/tcp-socket.shutdown", &[&server, &how("both")]);
    script.call(CHECK, &[&to_client]);
    script.call(READ, &[&from_client, &many]);
    for pollable in [readable, writable] {
        script.call("poll/drop-pollable", &[&pollable]);
    }
    for stream in [from_client, from_server] {
        script.call("streams/drop-input-stream", &[&stream]);
    }
    for stream in [to_client, to_server] {
        script.call("streams/drop-output-stream", &[&stream]);
    }
    script.call("tcp/drop-tcp-socket", &[&client]);
    script.call("tcp/drop-tcp-socket", &[&server]);
}

/// What a stream tells of a connection that its peer has reset.
pub(super) fn reset(script: &mut Script, family: Family) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let [_socket, input, _output] = script.program.connected(family, &family.loopback(port));
    let (peer, _) = listener.accept().expect("accept");
    rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO))
        .expect("set SO_LINGER");
    drop(peer);
    script.program.wait_for("streams/input-stream.subscribe", &input);
    let failed = script.some(READ, &[&input, &Val::U64(10)]);
    let Val::Result(Err(Some(failed))) = failed else { panic!("{failed:?}") };
    let Val::Variant(name, Some(error)) = *failed else { panic!("{failed:?}") };
    assert_eq!(name, "last-operation-failed");
    script.some("network/network-error-code", &[&error]);
}

#[test]
fn bytes_and_ends_are_as_in_wasmtime() {
    for family in FAMILIES {
        compare(&[], |script| exchange(script, family));
    }
}

#[test]
fn a_connection_that_was_reset_says_so() {
    let mut script = Script::new(program(Wasi::Ours));
    reset(&mut script, V4);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut program = program(Wasi::Ours);
    let [_socket, input, output] = program.connected(V4, &V4.loopback(port));
    let (peer, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
    drop(peer);
    program.wait_for("streams/input-stream.subscribe", &input);
    let failed = program.gives(READ, &[input, Val::U64(10)]);
    let Val::Result(Err(Some(failed))) = failed else { panic!("{failed:?}") };
    let Val::Variant(_, Some(cause)) = *failed else { panic!("{failed:?}") };
    let code = program.gives("network/network-error-code", from_ref(&cause));
    assert_eq!(code, super::some(Val::Enum("connection-reset".to_owned())));
    let written = program.gives(WRITE, &[output, bytes(b"too late")]);
    assert!(matches!(written, Val::Result(Err(_))), "{written:?}");
}

/// Makes a stream's output pend: writes until its connection has no room. Returns the bytes written.
fn fill(program: &mut P2, output: &Val) -> usize {
    let mut written = 0;
    loop {
        let permit = match program.done(CHECK, from_ref(output)) {
            Val::U64(permit) => usize::try_from(permit).unwrap(),
            other => panic!("{other:?}"),
        };
        if permit == 0 {
            return written;
        }
        program.done(WRITE, &[output.clone(), bytes(&vec![b'x'; permit])]);
        written += permit;
    }
}

/// A program that is connected to the test.
fn connected() -> (P2, [Val; 3], TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut program = program(Wasi::Ours);
    let connection = program.connected(V4, &V4.loopback(port));
    let (peer, _) = listener.accept().unwrap();
    (program, connection, peer)
}

/// Reads to the end, and returns how much that was.
fn drain(mut peer: TcpStream) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).unwrap())
}

#[test]
fn pending_output_is_sent_before_the_end_that_follows_it() {
    let (mut program, [socket, _input, output], peer) = connected();
    let written = fill(&mut program, &output);
    program.done("tcp/tcp-socket.shutdown", &[socket, how("send")]);
    let read = drain(peer);
    program.wait_for("streams/output-stream.subscribe", &output);
    assert_eq!(program.gives(CHECK, from_ref(&output)), closed());
    assert_eq!(read.join().unwrap(), written);
}

#[test]
fn output_that_was_dropped_with_its_socket_is_sent_while_the_program_waits() {
    let (mut program, [socket, input, output], peer) = connected();
    let written = fill(&mut program, &output);
    program.gives_nothing("streams/drop-output-stream", &[output]);
    program.gives_nothing("streams/drop-input-stream", &[input]);
    program.gives_nothing("tcp/drop-tcp-socket", &[socket]);
    let read = drain(peer);
    // The program waits for commands, and for somebody who never comes.
    let (listener, port) = program.listener(V4);
    let knock = std::thread::spawn(move || {
        let read = read.join().unwrap();
        (read, TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
    });
    program.wait_for("tcp/tcp-socket.subscribe", &listener);
    assert_eq!(knock.join().unwrap().0, written);
}

#[test]
fn an_answer_is_read_though_the_question_was_never_flushed() {
    let (mut program, [_socket, input, output], mut peer) = connected();
    let written = fill(&mut program, &output);
    let answering = std::thread::spawn(move || {
        peer.read_exact(&mut vec![0; written]).unwrap();
        peer.write_all(b"answer").unwrap();
        peer
    });
    let read = program.done("streams/input-stream.blocking-read", &[input, Val::U64(100)]);
    assert_eq!(bytes_of(&read), b"answer");
    drop(answering.join().unwrap());
}

#[test]
fn a_stream_is_told_what_its_pending_output_failed_with() {
    let (mut program, [_socket, _input, output], peer) = connected();
    fill(&mut program, &output);
    rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO)).unwrap();
    drop(peer);
    program.wait_for("streams/output-stream.subscribe", &output);
    let failed = program.gives(CHECK, from_ref(&output));
    assert!(matches!(failed, Val::Result(Err(_))), "{failed:?}");
}

#[test]
fn what_was_received_is_nobodys_after_the_end_of_receiving() {
    let (mut program, [socket, input, _output], mut peer) = connected();
    peer.write_all(b"unread").unwrap();
    program.wait_for("streams/input-stream.subscribe", &input);
    program.done("tcp/tcp-socket.shutdown", &[socket, how("receive")]);
    assert!(program.is_ready("streams/input-stream.subscribe", &input));
    assert_eq!(program.gives(READ, &[input, Val::U64(100)]), closed());
}

#[test]
fn a_program_ends_when_its_pending_output_is_sent() {
    let (mut program, [_socket, _input, output], peer) = connected();
    let written = fill(&mut program, &output);
    let read = drain(peer);
    assert_eq!(program.session.finish().status, 0);
    assert_eq!(read.join().unwrap(), written);
}

#[test]
fn a_program_ends_though_a_peer_takes_nothing() {
    let (mut program, [_socket, _input, output], peer) = connected();
    let written = fill(&mut program, &output);
    assert_eq!(program.session.finish().status, 0);
    // What the kernel had is there; what it had no room for is lost.
    assert!(drain(peer).join().unwrap() < written);
}

#[test]
fn an_operation_of_a_socket_makes_one_host_call() {
    use abi::Nr;
    let mut program = program(Wasi::Ours);
    let network = program.network();
    let socket = program.done("tcp-create-socket/create-tcp-socket", &[V4.val()]);
    program.session.calls();
    let bind = [socket.clone(), network, V4.loopback(0)];
    program.done("tcp/tcp-socket.start-bind", &bind);
    program.done("tcp/tcp-socket.finish-bind", from_ref(&socket));
    program.done("tcp/tcp-socket.start-listen", from_ref(&socket));
    program.done("tcp/tcp-socket.finish-listen", from_ref(&socket));
    assert_eq!(program.gives("tcp/tcp-socket.accept", from_ref(&socket)), error("would-block"));
    program.gives_nothing("tcp/drop-tcp-socket", &[socket]);
    assert_eq!(program.session.calls(), [Nr::Bind, Nr::Listen, Nr::Accept, Nr::Close]);
}

fn closed() -> Val {
    Val::Result(Err(Some(Box::new(Val::Variant("closed".to_owned(), None)))))
}
