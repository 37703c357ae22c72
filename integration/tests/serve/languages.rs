//! Handlers in other languages than JavaScript, each by the bindings of its toolchain.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use integration::scratch::Scratch;
use integration::{programs, require_kvm, skipped, workspace};

use crate::server::{LIMIT, Server, curl};

#[test]
fn a_handler_in_python_reads_a_body_as_it_comes() {
    require_kvm!();
    let server = Server::start(&programs::handler("sums").unwrap(), &[]);
    let answer = |arguments: &[&str]| curl(&[arguments, &["-w", " %{http_code}"]].concat());
    assert_eq!(answer(&[&server.url("/a?b")]), "/a?b 0 202");
    let dir = Scratch::new().unwrap();
    let file = dir.join("body");
    let body: Vec<u8> = (0..1 << 20).map(|i: u32| i.to_le_bytes()[0]).collect();
    std::fs::write(&file, &body).unwrap();
    let total: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let data = format!("@{}", file.display());
    for framing in ["x-any: thing", "transfer-encoding: chunked"] {
        let asked = answer(&["-H", framing, "--data-binary", &data, &server.url("/sum")]);
        assert_eq!(asked, format!("/sum {total} 202"), "{framing}");
    }
}

#[test]
fn a_handler_in_c_streams_both_ways() {
    require_kvm!();
    let server = Server::start(&programs::handler("bare").unwrap(), &[]);
    for _ in 0..3 {
        let mut client = TcpStream::connect(&server.addr).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let fields = "host: here\r\nte: trailers\r\ntransfer-encoding: chunked";
        write!(client, "POST /upper HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        for (sent, awaited) in [
            ("6\r\nfirst,\r\n", "\r\n6\r\nFIRST,\r\n"),
            // What came is answered before there is more.
            ("7\r\nsecond.\r\n", "\r\n7\r\nSECOND.\r\n"),
            ("0\r\n\r\n", "\r\n0\r\nx-bytes: 13\r\n\r\n"),
        ] {
            client.write_all(sent.as_bytes()).unwrap();
            let mut piece = [0; 1024];
            while !answer.ends_with(awaited.as_bytes()) {
                let len = client.read(&mut piece).unwrap();
                assert_ne!(len, 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..len]);
            }
        }
    }
}

#[test]
fn a_handler_in_c_passes_on_megabytes() {
    require_kvm!();
    let server = Server::start(&programs::handler("bare").unwrap(), &[]);
    let dir = Scratch::new().unwrap();
    let (sent, got) = (dir.join("sent"), dir.join("got"));
    std::fs::write(&sent, "some text\n".repeat(800_000)).unwrap();
    let data = format!("@{}", sent.display());
    curl(&["--data-binary", &data, "-o", got.to_str().unwrap(), &server.url("/upper")]);
    assert!(std::fs::read(&got).unwrap() == "SOME TEXT\n".repeat(800_000).as_bytes());
}

#[test]
fn a_handler_in_rust_by_wstd_answers() {
    require_kvm!();
    let beside = || workspace().join("../shared/corpus");
    let corpus = std::env::var_os("HYPERLIGHT_CORPUS").map_or_else(beside, PathBuf::from);
    let wasm = corpus.join("rs_http_wstd.wasm");
    if !wasm.exists() {
        skipped(&format!("no {}", wasm.display()));
        return;
    }
    for isolation in ["request", "instance", "none"] {
        let server = Server::start(&wasm, &["--isolation", isolation]);
        for _ in 0..2 {
            assert_eq!(curl(&[&server.url("/")]), "hello from wstd\n");
            assert_eq!(curl(&[&server.url("/wait")]), "slept true\n");
            assert_eq!(curl(&["--data", "ping", &server.url("/echo")]), "ping");
        }
    }
}
