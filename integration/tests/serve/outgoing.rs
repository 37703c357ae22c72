//! Requests that a handler makes while it answers one, and what it is told where it cannot.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use integration::scratch::Scratch;
use integration::{Node, oci, process, programs, require_kvm};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::net::{AddressFamily, SocketType};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::containers::free_port;
use crate::server::{Server, curl};

/// Somebody to ask, who answers every request with its first line.
struct Peer {
    addr: SocketAddr,
    /// The authority of its certificate, if it speaks TLS.
    authority: String,
}

impl Peer {
    fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || answer(stream.unwrap()));
            }
        });
        Self { addr, authority: String::new() }
    }

    /// One that speaks TLS and says that it is `name`.
    fn with_tls(name: &str) -> Self {
        Self::with_certificate(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    fn with_certificate(wanted: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.signed_by(&key, &issuer).unwrap();
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = StreamOwned::new(connection, stream.unwrap());
                std::thread::spawn(move || answer(stream));
            }
        });
        Self { addr, authority }
    }

    /// Where it is, under a name.
    fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.addr.port())
    }

    /// Its authority in a file of `dir`.
    fn bundle(&self, dir: &Path) -> PathBuf {
        let bundle = dir.join("authority.pem");
        fs::write(&bundle, &self.authority).unwrap();
        bundle
    }
}

/// Answers the requests of one connection. A client that does not trust this side goes.
fn answer(stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let line = head.lines().next().unwrap();
        let len = line.len();
        let answer = format!("HTTP/1.1 203 Any\r\ncontent-length: {len}\r\n\r\n{line}");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Takes the head of a request. What comes before it is no answer.
fn take_head(stream: &TcpStream) {
    let mut head = BufReader::new(stream).lines();
    while head.next().is_some_and(|line| !line.unwrap().is_empty()) {}
}

/// What the handler in C at `addr` says that came of a request: status and body, or an error code.
fn fetched(addr: &str, scheme: &str, authority: &str) -> String {
    fetched_with(addr, scheme, authority, &[])
}

fn fetched_with(addr: &str, scheme: &str, authority: &str, options: &[&str]) -> String {
    let (scheme, authority) = (format!("x-scheme: {scheme}"), format!("x-authority: {authority}"));
    let fields = ["-H", &scheme, "-H", &authority, "-H", "x-path: /p?q"];
    curl(&[&fields, options, &[&format!("http://{addr}/fetch")]].concat())
}

fn bare(options: &[&str], variables: &[(&str, &Path)]) -> Server {
    Server::start_in(&programs::handler("bare").unwrap(), options, variables)
}

const ANSWERED: &str = "203 GET /p?q HTTP/1.1";

#[test]
fn a_handler_makes_requests() {
    require_kvm!();
    let peer = Peer::plain();
    let server = bare(&[], &[]);
    // Connections are kept by the process, whatever becomes of its micro-VMs.
    for host in ["127.0.0.1", "localhost", "127.0.0.1"] {
        assert_eq!(fetched(&server.addr, "http", &peer.at(host)), ANSWERED, "{host}");
    }
}

#[test]
fn a_handler_in_javascript_makes_requests() {
    require_kvm!();
    let dir = Scratch::new().unwrap();
    let (plain, tls) = (Peer::plain(), Peer::with_tls("localhost"));
    let answers = programs::handler("answers").unwrap();
    let server = Server::start_in(&answers, &[], &[("SSL_CERT_FILE", &tls.bundle(&dir))]);
    for url in [format!("http://{}", plain.addr), format!("https://{}", tls.at("localhost"))] {
        let asked = curl(&[&server.url(&format!("/fetch?url={url}/p?q"))]);
        assert_eq!(asked, ANSWERED, "{url}");
    }
}

#[test]
fn a_server_is_trusted_by_the_bundle_that_the_environment_names() {
    require_kvm!();
    let dir = Scratch::new().unwrap();
    let peer = Peer::with_tls("localhost");
    let server = bare(&[], &[("SSL_CERT_FILE", &peer.bundle(&dir))]);
    for _ in 0..3 {
        assert_eq!(fetched(&server.addr, "https", &peer.at("localhost")), ANSWERED);
    }
}

#[test]
fn a_server_that_is_not_trusted_is_a_certificate_error() {
    require_kvm!();
    let dir = Scratch::new().unwrap();
    let (peer, stranger) = (Peer::with_tls("localhost"), Peer::with_tls("localhost"));
    let server = bare(&[], &[("SSL_CERT_FILE", &peer.bundle(&dir))]);
    let refused = "TLS-certificate-error";
    // Of an authority that nobody trusts; and under a name of which the certificate says nothing.
    assert_eq!(fetched(&server.addr, "https", &stranger.at("localhost")), refused);
    assert_eq!(fetched(&server.addr, "https", &peer.at("127.0.0.1")), refused);
    // One whose time is over.
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = Peer::with_certificate(params);
    let server = bare(&[], &[("SSL_CERT_FILE", &expired.bundle(&dir))]);
    assert_eq!(fetched(&server.addr, "https", &expired.at("localhost")), refused);
}

#[test]
fn what_keeps_a_request_from_being_made_is_told_by_its_code() {
    require_kvm!();
    let peer = Peer::plain();
    let server = bare(&[], &[]);
    // Bound and not listening: nobody else gets the port meanwhile.
    let bound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&bound, &std::net::SocketAddrV4::new([127, 0, 0, 1].into(), 0)).unwrap();
    let nobody = SocketAddr::try_from(rustix::net::getsockname(&bound).unwrap());
    let nobody = nobody.unwrap().to_string();
    for (scheme, authority, code) in [
        ("http", nobody.as_str(), "connection-refused"),
        // A name that there never is (RFC 6761, 6.4).
        ("http", "nobody.invalid", "DNS-error"),
        // It does not understand, and hangs up.
        ("https", &peer.at("127.0.0.1"), "connection-terminated"),
        ("http", "me@127.0.0.1", "HTTP-request-URI-invalid"),
    ] {
        assert_eq!(fetched(&server.addr, scheme, authority), code, "{scheme}://{authority}");
    }
}

#[test]
fn what_a_server_says_that_is_no_http_is_told_by_its_code() {
    require_kvm!();
    let server = bare(&[], &[]);
    for (said, code) in [
        ("SSH-2.0-OpenSSH\r\n\r\n", "HTTP-protocol-error"),
        ("HTTP/1.1 200 OK\r\nno field\r\n\r\n", "HTTP-protocol-error"),
        ("", "HTTP-response-incomplete"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let says = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            take_head(&stream);
            stream.write_all(said.as_bytes()).unwrap();
        });
        assert_eq!(fetched(&server.addr, "http", &authority), code, "{said:?}");
        says.join().unwrap();
    }
}

/// Somebody who takes a connection, says `text` to its request and then no more, until the test is over.
fn stalling(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        if !text.is_empty() {
            take_head(&stream);
        }
        stream.write_all(text.as_bytes()).unwrap();
        std::thread::park();
    });
    authority
}

#[test]
fn a_handler_waits_no_longer_than_it_says() {
    require_kvm!();
    let server = bare(&[], &[]);
    let begun = "HTTP/1.1 203 Any\r\ncontent-length: 9\r\n\r\nbegun";
    for (scheme, text, limit, said) in [
        ("https", "", "x-connect-ms: 50", "connection-timeout"),
        ("http", "", "x-first-byte-ms: 50", "HTTP-response-timeout"),
        ("http", begun, "x-between-bytes-ms: 50", "203 begun connection-read-timeout"),
    ] {
        let asked = fetched_with(&server.addr, scheme, &stalling(text), &["-H", limit]);
        assert_eq!(asked, said, "{limit}");
    }
}

#[test]
fn a_response_that_breaks_off_is_told_by_its_code() {
    require_kvm!();
    let server = bare(&[], &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        take_head(&stream);
        stream.write_all(b"HTTP/1.1 203 Any\r\ncontent-length: 9\r\n\r\nbegun").unwrap();
    });
    let said = fetched(&server.addr, "http", &authority);
    assert_eq!(said, "203 begun HTTP-response-incomplete");
    peer.join().unwrap();
}

#[test]
fn bodies_pass_through_one_micro_vm_to_another_and_back() {
    require_kvm!();
    let (front, behind) = (bare(&[], &[]), bare(&[], &[]));
    let dir = Scratch::new().unwrap();
    let (sent, got) = (dir.join("sent"), dir.join("got"));
    for lines in [0, 1, 300_000] {
        fs::write(&sent, "some text\n".repeat(lines)).unwrap();
        let data = format!("@{}", sent.display());
        let authority = format!("x-authority: {}", behind.addr);
        curl(&[
            "-H",
            &authority,
            "-H",
            "x-path: /upper",
            "--data-binary",
            &data,
            "-o",
            got.to_str().unwrap(),
            &front.url("/fetch"),
        ]);
        let wanted = format!("200 {}", "SOME TEXT\n".repeat(lines));
        assert!(fs::read(&got).unwrap() == wanted.as_bytes(), "{lines} lines");
    }
}

#[test]
fn without_a_network_a_request_is_denied() {
    require_kvm!();
    let peer = Peer::plain();
    let server = bare(&["--no-network"], &[]);
    for host in ["127.0.0.1", "localhost", "nobody.invalid"] {
        assert_eq!(fetched(&server.addr, "http", &peer.at(host)), "HTTP-request-denied", "{host}");
    }
}

#[test]
fn a_request_to_what_is_not_allowed_is_denied() {
    require_kvm!();
    let (allowed, other) = (Peer::plain(), Peer::plain());
    let server = bare(&["--allow", &allowed.addr.to_string()], &[]);
    assert_eq!(fetched(&server.addr, "http", &allowed.at("127.0.0.1")), ANSWERED);
    let denied = "HTTP-request-denied";
    assert_eq!(fetched(&server.addr, "http", &other.at("127.0.0.1")), denied);
    let server = bare(&["--allow", &format!("localhost:{}", allowed.addr.port())], &[]);
    assert_eq!(fetched(&server.addr, "http", &allowed.at("localhost")), ANSWERED);
    assert_eq!(fetched(&server.addr, "http", &allowed.at("127.0.0.1")), denied);
}

/// A container of the handler in C with these files in its root file system, while `ask` asks at its address.
fn in_a_container(files: &[(&str, &[u8])], options: &[&str], ask: impl FnOnce(&str)) {
    let node = Node::start().unwrap();
    let wasm = fs::read(programs::handler("bare").unwrap()).unwrap();
    let files = [files, &[("bare.wasm", &wasm)]].concat();
    let image = oci::rootfs(&files, "/bare.wasm").unwrap();
    let reference = node.pull("bare", &image).unwrap();
    let addr = format!("127.0.0.1:{}", free_port());
    let at = format!("io.hyperlight.http.addr={addr}");
    // With `--net-host` ctr mounts files of the host over those of the image.
    let network = format!("--with-ns=network:/proc/{}/ns/net", std::process::id());
    let options = [&[&network, "--annotation", &at], options].concat();
    let mut command = node.run_command(&reference, "bare", &options, &[]);
    let running = process::start(&mut command).unwrap();
    let is_open = || TcpStream::connect(&addr).is_ok();
    process::wait_until("the port is open", Duration::from_secs(120), is_open).unwrap();
    ask(&addr);
    node.ctr(["task", "kill", "-s", "TERM", "bare"]).unwrap().success().unwrap();
    let outcome = process::finish(running).unwrap();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
}

#[test]
fn a_container_knows_names_and_authorities_by_its_root_file_system() {
    require_kvm!();
    let (plain, tls, stranger) =
        (Peer::plain(), Peer::with_tls("peer.test"), Peer::with_tls("peer.test"));
    let files: [(&str, &[u8]); 2] = [
        ("etc/hosts", b"127.0.0.1 peer.test"),
        ("etc/ssl/certs/ca-certificates.crt", tls.authority.as_bytes()),
    ];
    in_a_container(&files, &[], |addr| {
        assert_eq!(fetched(addr, "http", &plain.at("127.0.0.1")), ANSWERED);
        assert_eq!(fetched(addr, "http", &plain.at("peer.test")), ANSWERED);
        assert_eq!(fetched(addr, "https", &tls.at("peer.test")), ANSWERED);
        let refused = "TLS-certificate-error";
        assert_eq!(fetched(addr, "https", &stranger.at("peer.test")), refused);
    });
}

#[test]
fn annotations_say_whom_a_container_may_ask() {
    require_kvm!();
    let (allowed, other) = (Peer::plain(), Peer::plain());
    let allow = format!("io.hyperlight.network.allow=10.0.0.0/8, {}", allowed.addr);
    in_a_container(&[], &["--annotation", &allow], |addr| {
        assert_eq!(fetched(addr, "http", &allowed.at("127.0.0.1")), ANSWERED);
        assert_eq!(fetched(addr, "http", &other.at("127.0.0.1")), "HTTP-request-denied");
    });
    let none = "io.hyperlight.network=none";
    in_a_container(&[], &["--annotation", none], |addr| {
        assert_eq!(fetched(addr, "http", &allowed.at("127.0.0.1")), "HTTP-request-denied");
    });
}
