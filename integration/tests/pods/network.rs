//! What reaches a pod: its own address, and a port that is forwarded.

use std::net::TcpStream;
use std::process::Command;

use integration::cri::container;
use integration::process::{self, HANG_LIMIT, wait_until};
use integration::{programs, require_kvm, tools};

use super::{address, ask, pull, remove, start, wait_for_line};

fn curl(arguments: &[&str]) -> String {
    let mut curl: Command = tools::tree("clients").unwrap().command("curl").unwrap();
    curl.args(["--silent", "--show-error", "--max-time", "60"]).args(arguments);
    process::run(&mut curl).unwrap().success().unwrap()
}

#[test]
fn a_service_is_reached_at_the_address_of_its_pod_and_by_port_forward() {
    require_kvm!();
    let cri = start();
    let service = cri.pull_wasm("bare", &programs::handler("bare").unwrap()).unwrap();
    let sandbox = cri.run_pod(&cri.pod("service")).unwrap();
    cri.run(&sandbox, &container("service", &service, &[])).unwrap();
    let at_pod = address(&cri, &sandbox, 8080);
    wait_until("the service to listen", HANG_LIMIT, || TcpStream::connect(at_pod).is_ok()).unwrap();
    assert_eq!(curl(&["--data", "text", &format!("http://{at_pod}/upper")]), "TEXT");

    let forward = cri.forward(&sandbox, 8080).unwrap();
    let forwarded = format!("http://{}/upper", forward.address);
    assert_eq!(curl(&["--data", "forwarded", &forwarded]), "FORWARDED");
    drop(forward);
    remove(&cri, &sandbox);
}

#[test]
fn pods_reach_each_other_and_have_ports_of_their_own() {
    require_kvm!();
    let cri = start();
    let server = pull(&cri, "tcp_server.rs_p2");
    let busybox = cri.pull_busybox().unwrap();
    let pods = ["left", "right"].map(|name| {
        let sandbox = cri.run_pod(&cri.pod(name)).unwrap();
        let arguments = ["server", "0.0.0.0:80"];
        cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
        wait_for_line(&cri, &sandbox, "server", "listening on 0.0.0.0:80");
        sandbox
    });
    let addresses = pods.each_ref().map(|pod| address(&cri, pod, 80));
    assert_ne!(addresses[0], addresses[1]);
    for address in addresses {
        assert_eq!(ask(address, "hello"), "0 hello\n");
    }
    let client = format!("echo hello | nc {} 80", addresses[1].ip());
    cri.run(&pods[0], &super::script("client", &busybox, &client)).unwrap();
    wait_for_line(&cri, &pods[0], "client", "0 hello");
    assert_eq!(cri.node().shims().len(), 2, "a shim for each pod");
    pods.iter().for_each(|pod| remove(&cri, pod));
}

#[test]
fn a_pod_of_the_hosts_network_listens_on_the_hosts_loopback() {
    require_kvm!();
    let cri = start();
    let server = pull(&cri, "tcp_server.rs_p2");
    let mut pod = cri.pod("host");
    pod.config["linux"]["security_context"]["namespace_options"]["network"] =
        integration::cri::NODE.into();
    let sandbox = cri.run_pod(&pod).unwrap();
    cri.run(&sandbox, &container("server", &server, &["server", "127.0.0.1:0"])).unwrap();
    let mut at = None;
    wait_until("the server to listen", HANG_LIMIT, || {
        let line = super::lines(&sandbox, "server").into_iter().next();
        at = line.and_then(|it| it.strip_prefix("listening on ")?.parse().ok());
        at.is_some()
    })
    .unwrap();
    assert_eq!(ask(at.unwrap(), "hello"), "0 hello\n");
    remove(&cri, &sandbox);
}
