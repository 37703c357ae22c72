//! `hyperlight run`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use integration::process::{self, HANG_LIMIT};
use integration::programs::program;
use integration::run::Run;
use integration::{hyperlight, leaks, require_kvm};

use crate::server::Server;

/// `hyperlight run OPTIONS PROGRAM ARGUMENTS`, of a program that is compiled.
fn run(options: &[&str], name: &str, arguments: &[&str]) -> Command {
    let (hyperlight, wasm) = (hyperlight().unwrap(), program(name).unwrap());
    let mut compile = Command::new(&hyperlight);
    process::run(compile.arg("compile").arg(&wasm)).unwrap().success().unwrap();
    let mut command = Command::new(hyperlight);
    command.arg("run").args(options).arg(wasm).args(arguments);
    command
}

/// Runs a program that needs no other, in a micro-VM and by the wasmtime command.
fn speaks_with_itself(name: &str) -> String {
    Run::of(name).unwrap().network().compared().unwrap().output()
}

#[test]
fn a_program_in_rust_speaks_tcp_with_itself_as_in_wasmtime() {
    require_kvm!();
    let output = speaks_with_itself("tcp_with_itself.rs_p2");
    assert_eq!(output.matches("8388608 bytes arrived in order").count(), 2, "{output}");
}

#[test]
fn a_program_in_rust_speaks_udp_with_itself_as_in_wasmtime() {
    require_kvm!();
    let output = speaks_with_itself("udp_with_itself.rs_p2");
    assert_eq!(output.matches("back comes \"back\"").count(), 2, "{output}");
}

#[test]
fn a_program_in_c_uses_sockets_as_in_wasmtime() {
    require_kvm!();
    let output = speaks_with_itself("sockets.c_p2");
    assert!(output.contains("TCP_KEEPIDLE: 77\n"), "{output}");
    assert!(output.ends_with("localhost: 0\n127.0.0.1 80\nnobody: 1\n"), "{output}");
}

#[test]
fn a_program_in_python_uses_sockets_as_in_wasmtime() {
    require_kvm!();
    let output = speaks_with_itself("sockets.py_p2");
    assert!(output.contains("the client reads b'answer'\n"), "{output}");
}

#[test]
fn names_and_addresses_are_looked_up_as_in_wasmtime() {
    require_kvm!();
    let run = Run::of("names.rs_p2").unwrap().network();
    let run = run.arguments(&["127.0.0.1", "::1", "192.0.2.7", "not a name"]);
    let output = run.compared().unwrap().output();
    assert!(output.contains("192.0.2.7: 192.0.2.7:80\n"), "{output}");
}

#[test]
fn a_tcp_server_serves_one_real_client_after_the_other() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let server = Server::start(&mut run(&[], "tcp_server.rs_p2", &[listen]));
        for _ in 0..3 {
            let client = TcpStream::connect(server.address).unwrap();
            client.set_read_timeout(Some(HANG_LIMIT)).unwrap();
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            for number in 0..10 {
                writeln!(&client, "line").unwrap();
                assert_eq!(lines.next().unwrap().unwrap(), format!("{number} line"));
            }
            client.shutdown(Shutdown::Write).unwrap();
            assert!(lines.next().is_none(), "the server has more to say");
        }
        let mut last = TcpStream::connect(server.address).unwrap();
        last.write_all(b"end\n").unwrap();
        assert_eq!(std::io::read_to_string(&last).unwrap(), "0 end\n");
        assert!(server.finish().success());
    }
}

#[test]
fn a_client_that_goes_away_ends_no_server() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let server = Server::start(&mut run(&[], "udp_echo.rs_p2", &["127.0.0.1:0"]));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    // Its answer reaches nobody.
    let gone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    gone.send_to(b"and away", server.address).unwrap();
    drop(gone);
    client.set_read_timeout(Some(HANG_LIMIT)).unwrap();
    let mut buffer = [0; 1500];
    for text in [&b"datagram"[..], &[7; 1400], b"", b"end"] {
        client.send_to(text, server.address).unwrap();
        let (read, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..read], from), (text, server.address));
    }
    assert!(server.finish().success());
}

#[test]
fn a_client_sends_and_receives_more_than_buffers_hold() {
    const BYTES: usize = 4 << 20;
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let text: Vec<u8> = (0..BYTES).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        peer.write_all(&received).unwrap();
        received
    });
    let mut client = run(&[], "tcp_client.rs_p2", &[&address]);
    let outcome = process::run_with_input(&mut client, &text).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(peer.join().unwrap() == text, "what was sent differs");
    assert!(outcome.stdout.as_bytes() == text, "what came back differs");
}

#[test]
fn without_a_network_a_program_is_told_that_access_is_denied() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = run(&["--no-network"], "tcp_client.rs_p2", &[&address]);
    let outcome = process::run(&mut client).unwrap();
    assert_eq!((outcome.stdout.as_str(), outcome.code()), ("PermissionDenied\n", 1));
}

#[test]
fn a_program_reaches_what_is_allowed_and_nothing_else() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let server = Server::start(&mut run(&[], "tcp_server.rs_p2", &["127.0.0.1:0"]));
    let address = server.address.to_string();
    for (allowed, printed, code) in
        [("127.0.0.2", "PermissionDenied\n", 1), (address.as_str(), "0 end\n", 0)]
    {
        let mut client = run(&["--allow", allowed], "tcp_client.rs_p2", &[&address]);
        let outcome = process::run_with_input(&mut client, b"end\n").unwrap();
        assert_eq!((outcome.stdout.as_str(), outcome.code()), (printed, code), "{outcome:?}");
    }
    assert!(server.finish().success());
}
