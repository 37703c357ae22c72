//! Handlers in containers.

use std::time::Duration;

use integration::{Node, process, programs, require_kvm};

use crate::server::curl;

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_container_of_a_handler_listens_on_its_port_and_ends_with_0() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("answers", &programs::handler("answers").unwrap()).unwrap();
    let port = free_port();
    let variable = format!("PORT={port}");
    let options = ["--net-host", "--env", &variable];
    let mut command = node.run_command(&reference, "service", &options, &[]);
    let running = process::start(&mut command).unwrap();
    let url = format!("http://127.0.0.1:{port}/method");
    let is_open = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    process::wait_until("the port is open", Duration::from_secs(120), is_open).unwrap();
    assert_eq!(curl(&["-X", "POST", &url]), "POST ");
    node.ctr(["task", "kill", "-s", "TERM", "service"]).unwrap().success().unwrap();
    let outcome = process::finish(running).unwrap();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
}

#[test]
fn an_annotation_that_cannot_be_read_is_an_error_of_creation() {
    require_kvm!();
    let node = Node::start().unwrap();
    let reference = node.pull_component("answers", &programs::handler("answers").unwrap()).unwrap();
    let annotation = "io.hyperlight.http.isolation=full";
    let options = ["--annotation", annotation];
    let outcome = process::run(&mut node.run_command(&reference, "bad", &options, &[])).unwrap();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("io.hyperlight.http.isolation"), "{outcome:?}");
}

#[test]
fn a_handler_that_cannot_be_loaded_says_why_as_a_command_does() {
    require_kvm!();
    let wasm = programs::handler("wrong_import").unwrap();
    let says = |outcome: &process::Outcome| {
        assert_eq!(outcome.code(), 126, "{outcome:?}");
        let [line] = outcome.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{outcome:?}") };
        let why = line.split_once(".wasm: program cannot run: ").unwrap().1;
        assert!(line.starts_with("hyperlight: ") && why.contains("`get-random-u64`"), "{line}");
    };
    let mut by_hand = std::process::Command::new(integration::hyperlight().unwrap());
    says(&process::run(by_hand.arg("serve").arg(&wasm)).unwrap());
    let node = Node::start().unwrap();
    let reference = node.pull_component("wrong", &wasm).unwrap();
    says(&node.run(&reference, "wrong", &[]).unwrap());
}

#[test]
fn a_port_that_is_taken_is_an_error_of_creation() {
    require_kvm!();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let node = Node::start().unwrap();
    let reference = node.pull_component("bare", &programs::handler("bare").unwrap()).unwrap();
    let annotation = format!("io.hyperlight.http.addr={addr}");
    let options = ["--net-host", "--annotation", &annotation];
    let outcome = process::run(&mut node.run_command(&reference, "taken", &options, &[])).unwrap();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    for word in [format!("listen on {addr}").as_str(), "in use", "io.hyperlight.http.addr"] {
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}
