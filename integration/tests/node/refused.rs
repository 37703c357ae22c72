//! Nodes that cannot be what they are to be, and what is said of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use integration::host::Host;
use integration::{require_kvm, tools};

use super::{CONFIG_FILE, host};

#[test]
fn a_node_without_kvm_is_left_alone() {
    let host = Host::new().unwrap();
    let before = host.contents().unwrap();
    let cover = ["--", "-t", "tmpfs", "none", "/dev"];
    integration::process::run(host.command("mount").args(&cover[1..])).unwrap().success().unwrap();

    let said = host.node(&["install"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("the node has no /dev/kvm"), "{said:?}");
    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn a_containerd_before_2_0_is_left_alone() {
    require_kvm!();
    let old = tools::tree("containerd-old").unwrap().file(&["usr/bin/containerd"]).unwrap();
    let host = Host::with(&old).unwrap();
    let before = host.contents().unwrap();

    let said = host.node(&["install"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("is too old: this runtime needs 2.0 or newer"), "{said:?}");
    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn a_containerd_before_2_3_is_left_alone_if_pods_are_to_be_the_shims() {
    require_kvm!();
    let host = host().unwrap();
    let before = host.contents().unwrap();

    let said = host.node(&["install", "--sandboxer", "shim"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("which needs 2.3 or newer"), "{said:?}");
    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn a_configuration_that_is_rejected_as_it_is_stays() {
    require_kvm!();
    let host = host().unwrap();
    host.write(CONFIG_FILE, "version = = 3\n").unwrap();

    let said = host.node(&["install"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("rejects its configuration as it is"), "{said:?}");
    assert_eq!(host.read(CONFIG_FILE).unwrap(), "version = = 3\n");
    assert_eq!(host.asked_of_systemd(), [""; 0]);
}

#[test]
fn a_configuration_that_is_rejected_with_the_runtime_is_put_back() {
    require_kvm!();
    let host = host().unwrap();
    // Before the real one in PATH: one that knows no runtime_path.
    let picky = "#!/bin/sh\n\
        if [ \"$*\" != --version ] && grep -rqs runtime_path /etc/containerd; then\n\
        \techo 'unknown key runtime_path' >&2\n\
        \texit 1\n\
        fi\n\
        exec /opt/containerd/bin/containerd \"$@\"\n";
    host.write("etc/picky", picky).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(host.path("etc/picky"), mode).unwrap();
    let before = host.contents().unwrap();

    let said = host.node(&["install", "--containerd", "/etc/picky"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("it was put back: unknown key runtime_path"), "{said:?}");
    assert_eq!(host.asked_of_systemd(), [""; 0]);
    host.node(&["uninstall"]).unwrap().success().unwrap();
    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn a_containerd_that_does_not_come_up_gets_its_configuration_back() {
    require_kvm!();
    let host = host().unwrap();
    // containerd dumps it, but its CRI does not come up with it.
    let bad = "version = 3\n\
        [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.hyperlight]\n\
        runtime_type = 'io.containerd.hyperlight.v1'\n\
        sandboxer = 'none such'\n\
        privileged_without_host_devices_all_devices_allowed = true\n";
    host.write(CONFIG_FILE, bad).unwrap();

    let said = host.node(&["install", "--serves-within", "5s"]).unwrap();

    assert_eq!(said.code(), 125);
    assert!(said.stderr.contains("containerd does not serve with this runtime"), "{said:?}");
    assert_eq!(host.read(CONFIG_FILE).unwrap(), bad);
    assert!(!Path::new(&host.path(super::DROP_IN)).exists());
}

#[test]
fn a_host_without_its_distributions_unit_is_told_of_the_other_ways() {
    require_kvm!();
    let host = host().unwrap();
    let socket = ["--containerd-socket", "/run/containerd/containerd.sock"];
    let config = ["--containerd-config", "/etc/containerd/config.toml"];
    let program = ["--containerd", "containerd"];
    let distribution = ["install", "--distribution", "microk8s"];
    let drop_in = ["--drop-in", "/etc/containerd/hyperlight.toml"];
    let arguments = [&distribution[..], &socket, &config, &program, &drop_in].concat();

    let said = host.node(&arguments).unwrap();

    assert!(said.stderr.contains("--restart-command or --no-restart"), "{said:?}");
    let restart = ["--restart-command", "systemctl restart containerd.service"];
    host.node(&[&arguments[..], &restart].concat()).unwrap().success().unwrap();
}
