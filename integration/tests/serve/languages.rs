//! Handlers in other languages than JavaScript, each by the bindings of its toolchain.

use std::path::PathBuf;

use integration::scratch::Scratch;
use integration::{programs, require_kvm, skipped, workspace};

use crate::server::{Server, curl};

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
