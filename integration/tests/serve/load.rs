//! Many requests, and many connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use integration::leaks::NOT_WATCHED;
use integration::{process, programs, require_kvm, skipped, tools, workspace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::{Server, curl};

/// A small handler in Rust, beside the tree; none, with a word about it, if it is not there.
fn wstd() -> Option<PathBuf> {
    let beside = || workspace().join("../shared/corpus");
    let corpus = std::env::var_os("HYPERLIGHT_CORPUS").map_or_else(beside, PathBuf::from);
    let wasm = corpus.join("rs_http_wstd.wasm");
    if wasm.is_file() {
        return Some(wasm);
    }
    skipped(&format!("no corpus at {}", corpus.display()));
    None
}

/// Asks by h2load, with `arguments`: what it prints.
fn h2load(arguments: &[&str]) -> String {
    let mut command = tools::tree("clients").unwrap().command("h2load").unwrap();
    command.env(NOT_WATCHED, "1");
    process::run(command.args(arguments)).unwrap().success().unwrap()
}

/// Makes `requests` over `connections`, all of which must succeed.
fn load(url: &str, requests: &str, connections: &str) {
    let said = h2load(&["--h1", "-n", requests, "-c", connections, "-t", "1", url]);
    let all = format!(
        "requests: {requests} total, {requests} started, {requests} done, \
        {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert!(said.contains(&all), "{said}");
}

#[test]
fn new_instances_do_not_use_a_micro_vm_up() {
    require_kvm!();
    let Some(wasm) = wstd() else { return };
    let server = Server::start(&wasm, &["--isolation", "instance", "--max-concurrency", "1"]);
    // Its addresses suffice for some 28 000 instances with one memory each.
    load(&server.url("/"), "30000", "4");
}

#[test]
fn a_hundred_thousand_requests_are_answered_in_memory_that_does_not_grow() {
    require_kvm!();
    let Some(wasm) = wstd() else { return };
    let server = Server::start(&wasm, &[]);
    let url = server.url("/");
    load(&url, "5000", "64");
    let before = server.status_kb("VmRSS");
    load(&url, "95000", "64");
    let after = server.status_kb("VmRSS");
    println!("resident: {before} kB after 5 000 requests, {after} kB after 100 000");
    assert!(after < before + 16 * 1024, "{before} kB became {after} kB");
}

#[test]
fn ten_thousand_idle_connections_are_held() {
    require_kvm!();
    let Some(wasm) = wstd() else { return };
    let wanted = Rlimit { current: Some(12_000), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let server = Server::start(&wasm, &[]);
    let before = server.status_kb("VmRSS");
    let mut connections = Vec::new();
    for n in 0..10_000 {
        let mut connection = TcpStream::connect(&server.addr)
            .unwrap_or_else(|error| panic!("connection {n}: {error}"));
        if n % 1000 == 0 {
            ask(&mut connection);
        }
        connections.push(connection);
    }
    let each = (server.status_kb("VmRSS") - before) * 1024 / 10_000;
    println!("{each} bytes for each idle connection");
    // Those that have been asked, the others, and a further one are served.
    for connection in connections.iter_mut().step_by(999) {
        ask(connection);
    }
    assert_eq!(curl(&[&server.url("/")]), "hello from wstd\n");
}

/// Makes a request and takes the whole answer.
fn ask(connection: &mut TcpStream) {
    connection.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"hello from wstd\n") {
        let len = connection.read(&mut piece).unwrap();
        assert_ne!(len, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..len]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn more_requests_than_micro_vms_wait_for_one_another() {
    require_kvm!();
    let options = ["--max-concurrency", "2"];
    let server = Server::start(&programs::handler("answers").unwrap(), &options);
    let url = server.url("/wait?ms=20");
    let said = h2load(&["--h1", "-n", "100", "-c", "20", "-t", "1", &url]);
    assert!(said.contains("100 succeeded, 0 failed"), "{said}");
}
