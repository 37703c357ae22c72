//! `ctr run`, in network namespaces: a container sees its own and no other.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::programs::program;
use integration::{Node, require_kvm, tools};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::server::Server;

/// A network namespace with its loopback up; deleted when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("hyperlight-test-{}-{count}", std::process::id()));
        ip(&["netns", "add", &namespace.0]);
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
        namespace
    }

    /// As `ctr run` takes it.
    fn option(&self) -> String {
        format!("--with-ns=network:/run/netns/{}", self.0)
    }

    /// Does something in the namespace.
    fn inside<T: Send>(&self, something: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        // The thread ends with it, and nothing of it is used again.
        let enter = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            something()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) {
    process::run(Command::new("ip").args(arguments)).unwrap().success().unwrap();
}

/// A node with programs pulled.
fn node_with<const N: usize>(names: [&str; N]) -> (Node, [String; N]) {
    let node = Node::start().unwrap();
    let pull = |name: &str| node.pull_component(name, &program(name).unwrap()).unwrap();
    let references = names.map(pull);
    (node, references)
}

/// What a client in a container prints that connects to `address` and says `text`.
fn client(node: &Node, reference: &str, network: &Namespace, address: &str, text: &str) -> String {
    let option = network.option();
    let arguments = ["client", address];
    let mut command = node.run_command(reference, "client", &[&option], &arguments);
    process::run_with_input(&mut command, text.as_bytes()).unwrap().stdout
}

#[test]
fn a_udp_server_in_a_container_answers_in_its_own_network_namespace() {
    require_kvm!();
    let (node, [reference]) = node_with(["udp_echo.rs_p2"]);
    let (own, other) = (Namespace::new(), Namespace::new());
    let option = own.option();
    let arguments = ["udp-echo", "127.0.0.1:0"];
    let server = Server::start(&mut node.run_command(&reference, "echo", &[&option], &arguments));
    let address = server.address;
    let ask = move |text: &[u8]| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client.set_read_timeout(Some(HANG_LIMIT)).unwrap();
        client.send(text).unwrap();
        let mut buffer = [0; 1500];
        client.recv(&mut buffer).map(|read| buffer[..read].to_vec())
    };
    assert_eq!(own.inside(|| ask(b"question")).unwrap(), b"question");
    let elsewhere = other.inside(|| ask(b"question")).unwrap_err();
    assert_eq!(elsewhere.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(own.inside(|| ask(b"end")).unwrap(), b"end");
    assert!(server.finish().success());
}

/// What OpenBSD's netcat prints that is given `text`.
fn nc(arguments: &[&str], address: SocketAddr, text: &str) -> String {
    let mut command = tools::tree("clients").unwrap().command("nc.openbsd").unwrap();
    command.args(arguments).args([address.ip().to_string(), address.port().to_string()]);
    process::run_with_input(&mut command, text.as_bytes()).unwrap().success().unwrap()
}

#[test]
fn servers_in_containers_answer_netcat() {
    require_kvm!();
    let (node, [udp, tcp]) = node_with(["udp_echo.rs_p2", "tcp_server.rs_p2"]);
    for (family, own) in [("127.0.0.1:0", Namespace::new()), ("[::1]:0", Namespace::new())] {
        let option = own.option();
        let start = |reference, id| {
            let mut command = node.run_command(reference, id, &[&option], &[id, family]);
            Server::start(&mut command)
        };
        let (echo, lines) = (start(&udp, "echo"), start(&tcp, "lines"));
        let (echoed, answered) = (echo.address, lines.address);
        own.inside(move || {
            // It ends with the first datagram that comes back.
            for text in ["question", "end"] {
                assert_eq!(nc(&["-u", "-W", "1"], echoed, text), text);
            }
            assert_eq!(nc(&["-N"], answered, "one\ntwo\n"), "0 one\n1 two\n");
            assert_eq!(nc(&["-N"], answered, "end\n"), "0 end\n");
        });
        assert!(echo.finish().success() && lines.finish().success());
    }
}

#[test]
fn annotations_say_whom_a_container_reaches() {
    require_kvm!();
    let (node, [server, reaching]) = node_with(["tcp_server.rs_p2", "tcp_client.rs_p2"]);
    let network = Namespace::new();
    let option = network.option();
    let start = ["server", "127.0.0.1:9000"];
    let server = Server::start(&mut node.run_command(&server, "server", &[&option], &start));
    let reach = |annotation: &str, address| {
        let options = ["--annotation", annotation, &option];
        let mut command = node.run_command(&reaching, "client", &options, &["client", address]);
        process::run_with_input(&mut command, b"line\n").unwrap()
    };
    let (address, name) = ("127.0.0.1:9000", "localhost:9000");
    for (annotation, address, printed) in [
        ("io.hyperlight.network=none", address, "PermissionDenied\n"),
        ("io.hyperlight.network.allow=", address, "PermissionDenied\n"),
        ("io.hyperlight.network.allow=10.0.0.0/8, 127.0.0.1:9001", address, "PermissionDenied\n"),
        ("io.hyperlight.network.allow=localhost:9000", address, "PermissionDenied\n"),
        ("io.hyperlight.network.allow=localhost:9000", name, "0 line\n"),
        ("io.hyperlight.network.allow=10.0.0.0/8, 127.0.0.0/8", address, "0 line\n"),
    ] {
        let outcome = reach(annotation, address);
        assert_eq!(outcome.stdout, printed, "{annotation}, {address}: {outcome:?}");
    }
    for annotation in ["io.hyperlight.network=some", "io.hyperlight.network.allow=10.0.0.0/33"] {
        let outcome = reach(annotation, address);
        let (name, value) = annotation.split_once('=').unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert!(outcome.stderr.contains(name) && outcome.stderr.contains(value), "{outcome:?}");
    }
    assert_eq!(client(&node, &reaching, &network, address, "end\n"), "0 end\n");
    assert!(server.finish().success());
}

#[test]
fn containers_in_two_network_namespaces_do_not_see_each_others_listeners() {
    require_kvm!();
    let (node, [server, reaching]) = node_with(["tcp_server.rs_p2", "tcp_client.rs_p2"]);
    let (own, other) = (Namespace::new(), Namespace::new());
    let option = own.option();
    let arguments = ["server", "0.0.0.0:9000"];
    let server = Server::start(&mut node.run_command(&server, "server", &[&option], &arguments));
    let reach = |network, text| client(&node, &reaching, network, "127.0.0.1:9000", text);
    assert_eq!(reach(&other, "hello\n"), "ConnectionRefused\n");
    assert_eq!(reach(&own, "hello\n"), "0 hello\n");
    assert_eq!(reach(&own, "end\n"), "0 end\n");
    assert!(server.finish().success());
}

#[test]
fn a_container_is_reached_from_the_other_side_of_a_veth() {
    require_kvm!();
    let (node, [server, reaching]) = node_with(["tcp_server.rs_p2", "tcp_client.rs_p2"]);
    let (left, right) = (Namespace::new(), Namespace::new());
    let pair = ["type", "veth", "peer", "name", "veth0", "netns"];
    ip(&[&["-n", &left.0, "link", "add", "veth0"], &pair[..], &[&right.0]].concat());
    // Addresses for tests between networks (RFC 2544).
    for (namespace, address) in [(&left, "198.18.0.1/24"), (&right, "198.18.0.2/24")] {
        ip(&["-n", &namespace.0, "address", "add", address, "dev", "veth0"]);
        ip(&["-n", &namespace.0, "link", "set", "veth0", "up"]);
    }
    let option = left.option();
    let arguments = ["server", "198.18.0.1:9000"];
    let server = Server::start(&mut node.run_command(&server, "server", &[&option], &arguments));

    // From a container on the other side.
    let answer = client(&node, &reaching, &right, "198.18.0.1:9000", "from a container\n");
    assert_eq!(answer, "0 from a container\n");
    // From a process there.
    let address: SocketAddr = server.address;
    let said = right.inside(|| {
        let mut stream = None;
        wait_until("the link to be up", HANG_LIMIT, || {
            stream = TcpStream::connect(address).ok();
            stream.is_some()
        })
        .unwrap();
        let mut stream = stream.unwrap();
        stream.write_all(b"from a process\nend\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    });
    assert_eq!(said, "0 from a process\n1 end\n");
    assert!(server.finish().success());
}
