//! Handlers in containers.

use std::time::Duration;

use integration::{Node, process, programs, require_kvm};

use crate::server::curl;

/// A port that was free a moment ago.
fn free_port() -> u16 {
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
