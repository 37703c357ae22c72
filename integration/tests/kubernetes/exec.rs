//! `kubectl exec`, `kubectl attach` and `kubectl port-forward`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use integration::kubernetes::{Cluster, Space, linux, pod, wasm};
use integration::process;
use serde_json::json;

use crate::{Test, ending, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    a_command_of_the_image_is_executed,
    the_exit_code_of_a_command_is_that_of_kubectl,
    a_command_reads_what_kubectl_is_given,
    there_is_no_shell_and_that_is_told,
    a_command_is_executed_in_a_linux_sidecar,
    a_program_reads_what_is_attached_to_it,
    a_port_is_forwarded,
];

fn with_server<'a>(cluster: &'a Cluster, name: &str) -> Space<'a> {
    let space = cluster.space(name).unwrap();
    space.create_object(&pod("server", &[serving(cluster)])).unwrap();
    space.ready("server").unwrap();
    space.logged("server", "listening").unwrap();
    space
}

fn a_command_of_the_image_is_executed(cluster: &Cluster) {
    let space = with_server(cluster, "exec");
    let said = space.text(&["exec", "server", "--", "/bin/args.wasm", "one", "two words"]).unwrap();
    for line in ["argument one", "argument two words", "environment KUBERNETES_SERVICE_PORT=443"] {
        assert!(said.lines().any(|it| it == line), "no {line:?}: {said}");
    }
}

fn the_exit_code_of_a_command_is_that_of_kubectl(cluster: &Cluster) {
    let space = with_server(cluster, "exit");
    for code in [0, 42] {
        let command = ["exec", "server", "--", "/bin/exit.wasm", &code.to_string()];
        let outcome = space.kubectl(&command).unwrap();
        assert_eq!(outcome.code(), code, "{outcome:?}");
    }
}

fn a_command_reads_what_kubectl_is_given(cluster: &Cluster) {
    let space = with_server(cluster, "stdin");
    let input: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    let mut command = space.command(&["exec", "--stdin", "server", "--", "/bin/cat.wasm"]);
    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout == input, "the copy differs");
}

fn there_is_no_shell_and_that_is_told(cluster: &Cluster) {
    let space = with_server(cluster, "shell");
    let outcome = space.kubectl(&["exec", "server", "--", "/bin/sh", "-c", "true"]).unwrap();
    assert_ne!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stderr.contains("/bin/sh"), "{outcome:?}");
}

fn a_command_is_executed_in_a_linux_sidecar(cluster: &Cluster) {
    let space = cluster.space("sidecar").unwrap();
    let busybox = cluster.busybox().unwrap();
    let sidecar = linux("sidecar", &busybox, "exec /bin/busybox sleep 100000");
    let mut pod = pod("mixed", &[serving(cluster), sidecar]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
    space.create_object(&pod).unwrap();
    space.ready("mixed").unwrap();
    let script = "until echo over localhost | /bin/busybox nc 127.0.0.1 9000; do /bin/busybox sleep 0.1; done";
    let command = ["exec", "mixed", "-c", "sidecar", "--", "/bin/busybox", "sh", "-c", script];
    let said = space.text(&command).unwrap();
    assert!(said.contains("0 over localhost"), "{said}");
}

fn a_program_reads_what_is_attached_to_it(cluster: &Cluster) {
    let space = cluster.space("attach").unwrap();
    let cat = cluster.program("cat.rs_p1").unwrap();
    let mut container = wasm("cat", &cat, &[]);
    container["stdin"] = json!(true);
    container["stdinOnce"] = json!(true);
    space.create_object(&pod("cat", &[container])).unwrap();
    space.ready("cat").unwrap();
    let mut command = space.command(&["attach", "--stdin", "--quiet", "cat"]);
    let outcome = process::run_with_input(&mut command, b"a line\nanother\n").unwrap();
    assert_eq!(outcome.stdout, "a line\nanother\n", "{outcome:?}");
    assert_eq!(ending(&space.ended("cat").unwrap(), "cat"), (0, "Completed".to_owned()));
}

fn a_port_is_forwarded(cluster: &Cluster) {
    let space = with_server(cluster, "forward");
    let mut command = space.command(&["port-forward", "pod/server", ":9000"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    // "Forwarding from 127.0.0.1:40000 -> 9000"
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let address = line.split(' ').nth(2).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"from afar\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer, "0 from afar\n");
}
