//! Each process of a pod is killed (`kill -9`) at each step of its life. Then the pod can still be stopped and
//! removed, and nothing of it is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use integration::cri::{Sandbox, container};
use integration::process::{self, HANG_LIMIT, wait_until};
use integration::{Cri, micro_vms, require_kvm, tools};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{address, ask, lines, pull, remove, script, start, wait_for_line};

#[test]
fn pods_outlive_a_containerd_that_is_killed() {
    require_kvm!();
    let mut cri = start();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("living")).unwrap();
    let arguments = ["server", "0.0.0.0:9000"];
    let serving = cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
    // Says what comes to it.
    let sidecar = "while true; do nc -l -p 9001; done";
    let sidecar = cri.run(&sandbox, &script("sidecar", &busybox, sidecar)).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 0.0.0.0:9000");
    let (at, shims) = (address(&cri, &sandbox, 9000), cri.node().shims());
    assert_eq!(shims.len(), 1);

    cri.restart_containerd().unwrap();

    assert_eq!(cri.node().shims(), shims);
    assert_eq!(cri.pod_status(&sandbox).unwrap()["state"], "SANDBOX_READY");
    for id in [&serving, &sidecar] {
        assert_eq!(cri.status(id).unwrap()["state"], "CONTAINER_RUNNING");
    }
    assert_eq!(ask(at, "still there"), "0 still there\n");
    // What it says goes to the log again. Its `nc` has nothing to send and says so at once, upon which that of the
    // client may end before it has read what it is to send: so it goes on.
    let client = "while true; do echo said afterwards | nc 127.0.0.1 9001; sleep 0.1; done";
    let client = cri.run(&sandbox, &script("client", &busybox, client)).unwrap();
    wait_for_line(&cri, &sandbox, "sidecar", "said afterwards");
    cri.stop_container(&client, &[]).unwrap();
    cri.stop_container(&serving, &["--timeout", "30"]).unwrap();
    assert_eq!(cri.status(&serving).unwrap()["exitCode"], 143);
    remove(&cri, &sandbox);
}

#[test]
fn a_pod_whose_shim_is_killed_is_not_ready_and_can_be_removed() {
    require_kvm!();
    let cri = start();
    let (server, busybox) = (pull(&cri, "tcp_server.rs_p2"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("killed")).unwrap();
    let arguments = ["server", "0.0.0.0:9000"];
    let serving = cri.run(&sandbox, &container("server", &server, &arguments)).unwrap();
    let sidecar = cri.run(&sandbox, &script("sidecar", &busybox, "sleep 1234567")).unwrap();
    wait_for_line(&cri, &sandbox, "server", "listening on 0.0.0.0:9000");

    for shim in cri.node().shims() {
        kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    }

    // Its wait broke off with the shim: the CRI takes the status for unknown, which is 255.
    for id in [&serving, &sidecar] {
        assert_eq!(cri.wait(id).unwrap()["exitCode"], json!(255));
    }
    wait_until("the pod to be not ready", HANG_LIMIT, || {
        cri.pod_status(&sandbox).is_ok_and(|status| status["state"] == "SANDBOX_NOTREADY")
    })
    .unwrap();
    remove_at_last(&cri, &sandbox);
}

/// Stops and removes a pod as the kubelet does: until it succeeds, as containerd may still be cleaning up.
fn remove_at_last(cri: &Cri, sandbox: &Sandbox) {
    let stopped = || cri.stop_pod(sandbox).is_ok();
    wait_until("the pod to be stopped", HANG_LIMIT, stopped).unwrap();
    let removed = || cri.text(&["rmp", &sandbox.id]).is_ok();
    wait_until("the pod to be removed", HANG_LIMIT, removed).unwrap();
    cri.remove_cgroup(sandbox).unwrap();
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// It has its namespaces, and no container.
    Ready,
    /// Its containers are made.
    Created,
    /// A component and a Linux container run.
    Running,
    /// A program runs beside that of the Linux container.
    Executing,
    /// Its containers have ended.
    Exited,
    /// It is stopped.
    Stopped,
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Containerd,
    Shim,
    /// The process that the pod's namespaces belong to.
    Holder,
    /// The process of the component's micro-VM.
    Vmm,
    /// The process of the Linux container.
    Sidecar,
}

/// A test for each row: its name, the step and the victim.
macro_rules! rows {
    ($($name:ident: $step:ident, $victim:ident;)*) => {
        $(#[test]
        fn $name() {
            require_kvm!();
            row(Step::$step, Victim::$victim);
        })*
    };
}

rows! {
    containerd_is_killed_when_the_pod_is_ready: Ready, Containerd;
    containerd_is_killed_when_the_containers_are_made: Created, Containerd;
    containerd_is_killed_during_an_exec: Executing, Containerd;
    containerd_is_killed_when_the_containers_have_ended: Exited, Containerd;
    containerd_is_killed_when_the_pod_is_stopped: Stopped, Containerd;
    the_shim_is_killed_when_the_pod_is_ready: Ready, Shim;
    the_shim_is_killed_when_the_containers_are_made: Created, Shim;
    the_shim_is_killed_when_the_containers_run: Running, Shim;
    the_shim_is_killed_when_the_containers_have_ended: Exited, Shim;
    the_holder_is_killed_when_the_pod_is_ready: Ready, Holder;
    the_holder_is_killed_when_the_containers_are_made: Created, Holder;
    the_holder_is_killed_when_the_containers_run: Running, Holder;
    the_holder_is_killed_during_an_exec: Executing, Holder;
    the_holder_is_killed_when_the_containers_have_ended: Exited, Holder;
    the_vmm_is_killed_when_the_containers_run: Running, Vmm;
    the_vmm_is_killed_during_an_exec: Executing, Vmm;
    the_sidecar_is_killed_when_the_containers_run: Running, Sidecar;
    the_sidecar_is_killed_during_an_exec: Executing, Sidecar;
}

/// It would go on with a root file system that is taken away.
#[test]
fn a_shim_that_is_killed_takes_the_oci_runtime_with_it() {
    require_kvm!();
    let mut cri = start();
    let busybox = cri.pull_busybox().unwrap();
    let sandbox = cri.run_pod(&cri.pod("cut-off")).unwrap();
    let sidecar = cri.create(&sandbox, &script("sidecar", &busybox, "exec sleep 1234567")).unwrap();
    let gone_on = runc_directory(&cri).join("gone-on");
    before_runc(&cri, "create", &format!("sleep 2; echo >{}", gone_on.display()));

    let client = process::start(&mut cri.command(&["start", &sidecar])).unwrap();
    let armed = runc_directory(&cri).join("armed");
    wait_until("runc to be called", HANG_LIMIT, || !armed.exists()).unwrap();
    cri.node().shims().into_iter().for_each(kill);

    let started = process::finish(client).unwrap();
    assert_ne!(started.code(), 0, "{started:?}");
    remove_at_last(&cri, &sandbox);
    let ended = || cri.node().processes().is_empty();
    wait_until("the program before runc to end", HANG_LIMIT, ended).unwrap();
    assert!(!gone_on.exists(), "it has outlived the shim");
    // With the bundle that containerd keeps until then.
    cri.restart_containerd().unwrap();
}

fn row(step: Step, victim: Victim) {
    let mut cri = start();
    let (spin, busybox) = (pull(&cri, "spin"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("faulty")).unwrap();
    let containers = reach(&cri, &sandbox, step, [&spin, &busybox]);
    match victim {
        Victim::Containerd => cri.restart_containerd().unwrap(),
        Victim::Shim => cri.node().shims().into_iter().for_each(kill),
        Victim::Holder => kill(pid_of(&cri, &["inspectp", &sandbox.id])),
        Victim::Vmm => kill(pid_of(&cri, &["inspect", &containers[0]])),
        Victim::Sidecar => kill(pid_of(&cri, &["inspect", &containers[1]])),
    }

    // Of what has died the CRI knows, and of what lives that it lives.
    let state = |id: &str| cri.status(id).unwrap()["state"].clone();
    let becomes = |id: &str, wanted: &str| {
        let is_it = || cri.status(id).is_ok_and(|status| status["state"] == wanted);
        wait_until(&format!("{id} to be {wanted}"), HANG_LIMIT, is_it).unwrap();
    };
    let runs = (Step::Running..=Step::Executing).contains(&step);
    match victim {
        Victim::Containerd if step < Step::Stopped => {
            assert_eq!(cri.pod_status(&sandbox).unwrap()["state"], "SANDBOX_READY");
            for id in &containers {
                let expected = match step {
                    Step::Created => "CONTAINER_CREATED",
                    Step::Exited => "CONTAINER_EXITED",
                    _ => "CONTAINER_RUNNING",
                };
                assert_eq!(state(id), expected);
            }
        }
        Victim::Containerd => {
            assert_eq!(cri.pod_status(&sandbox).unwrap()["state"], "SANDBOX_NOTREADY");
        }
        Victim::Shim | Victim::Holder => {
            let not_ready =
                || cri.pod_status(&sandbox).is_ok_and(|it| it["state"] == "SANDBOX_NOTREADY");
            wait_until("the pod to be not ready", HANG_LIMIT, not_ready).unwrap();
            if matches!(victim, Victim::Shim) && runs {
                containers.iter().for_each(|id| becomes(id, "CONTAINER_EXITED"));
            }
        }
        Victim::Vmm | Victim::Sidecar => {
            let [ended, other] = match victim {
                Victim::Vmm => [&containers[0], &containers[1]],
                _ => [&containers[1], &containers[0]],
            };
            becomes(ended, "CONTAINER_EXITED");
            assert_eq!(cri.status(ended).unwrap()["exitCode"], 137);
            assert_eq!(state(other), "CONTAINER_RUNNING");
        }
    }
    // Dropping the node asserts that nothing is left.
    remove_at_last(&cri, &sandbox);
    wait_until("every micro-VM to be gone", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
}

/// Brings a pod that is ready as far as `step`; returns the ids of its containers.
fn reach(cri: &Cri, sandbox: &Sandbox, step: Step, [spin, busybox]: [&str; 2]) -> Vec<String> {
    if step == Step::Ready {
        return Vec::new();
    }
    let configs = [
        container("component", spin, &["spin"]),
        script("sidecar", busybox, "echo ready; exec sleep 1234567"),
    ];
    let ids: Vec<_> = configs.iter().map(|it| cri.create(sandbox, it).unwrap()).collect();
    if step == Step::Created {
        return ids;
    }
    ids.iter().for_each(|id| drop(cri.text(&["start", id]).unwrap()));
    wait_for_line(cri, sandbox, "sidecar", "ready");
    match step {
        Step::Executing => {
            let exec = "echo executing >/proc/1/fd/1; exec sleep 1234567";
            let mut command = cri.command(&["exec", &ids[1], "/bin/busybox", "sh", "-c", exec]);
            let mut client = command.spawn().unwrap();
            wait_for_line(cri, sandbox, "sidecar", "executing");
            // The program runs on without its client.
            client.kill().unwrap();
            client.wait().unwrap();
        }
        Step::Exited | Step::Stopped => {
            for id in &ids {
                cri.stop_container(id, &["--timeout", "0"]).unwrap();
            }
            if step == Step::Stopped {
                cri.stop_pod(sandbox).unwrap();
            }
        }
        Step::Ready | Step::Created | Step::Running => {}
    }
    ids
}

/// The process that `crictl` tells for a pod or a container.
fn pid_of(cri: &Cri, arguments: &[&str]) -> i32 {
    let told = cri.json(arguments).unwrap();
    i32::try_from(told["info"]["pid"].as_i64().unwrap()).unwrap()
}

pub(crate) fn kill(pid: i32) {
    // One that has ended meanwhile is as good.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Puts a program before runc: at its next `action` it is killed after `delay`, a number of seconds.
fn kill_runc(cri: &Cri, action: &str, delay: &str) {
    let kill = format!("{{ sleep {delay}; kill -9 $$; }} </dev/null >/dev/null 2>&1 &");
    before_runc(cri, action, &kill);
}

/// Puts a program before runc, which at its next `action` runs some `shell` first. Where it begins,
/// the file `armed` beside it goes.
fn before_runc(cri: &Cri, action: &str, shell: &str) {
    let runc = tools::tree("runc").unwrap().file(&["runc"]).unwrap();
    let bin = runc_directory(cri);
    fs::create_dir_all(&bin).unwrap();
    let armed = bin.join("armed");
    let program = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' {action} '*)\n\
             if rm {armed} 2>/dev/null; then {shell}\n fi;;\n\
         esac\n\
         exec {runc} \"$@\"\n",
        armed = armed.display(),
        runc = runc.display(),
    );
    fs::write(&armed, "").unwrap();
    // The shim may be running it: it is replaced, not changed.
    let (partial, whole) = (bin.join("runc.partial"), bin.join("runc"));
    fs::write(&partial, program).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(partial, whole).unwrap();
}

/// The directory of that program, which is the first of the shim's `PATH`.
fn runc_directory(cri: &Cri) -> PathBuf {
    cri.node().directory().join("bin")
}

/// Moments at which runc has done nothing, something, and most of what it does, in seconds.
const DELAYS: [&str; 4] = ["0.001", "0.02", "0.05", "0.1"];

#[test]
fn a_sidecar_whose_runc_is_killed_during_an_exec_or_its_removal_goes_all_the_same() {
    require_kvm!();
    let cri = start();
    let busybox = cri.pull_busybox().unwrap();
    for (number, (action, delay)) in
        ["exec", "delete"].into_iter().flat_map(|it| DELAYS.map(|delay| (it, delay))).enumerate()
    {
        let sandbox = cri.run_pod(&cri.pod(&format!("pod-{number}"))).unwrap();
        let config = script("sidecar", &busybox, "echo ready; exec sleep 1234567");
        let id = cri.run(&sandbox, &config).unwrap();
        wait_for_line(&cri, &sandbox, "sidecar", "ready");
        kill_runc(&cri, action, delay);

        // The one may fail, the other is tried again.
        drop(cri.crictl(&["exec", &id, "/bin/busybox", "true"]).unwrap());

        assert_eq!(lines(&sandbox, "sidecar"), ["ready"]);
        assert_eq!(cri.status(&id).unwrap()["state"], "CONTAINER_RUNNING");
        remove_at_last(&cri, &sandbox);
        cri.node().nothing_left().unwrap();
    }
    fs::remove_dir_all(cri.node().directory().join("bin")).unwrap();
}

#[test]
fn a_sidecar_whose_runc_is_killed_as_it_is_made_or_started_leaves_nothing() {
    require_kvm!();
    let cri = start();
    let busybox = cri.pull_busybox().unwrap();
    for (number, (action, delay)) in
        ["create", "start"].into_iter().flat_map(|it| DELAYS.map(|delay| (it, delay))).enumerate()
    {
        let sandbox = cri.run_pod(&cri.pod(&format!("pod-{number}"))).unwrap();
        let config = script("sidecar", &busybox, "exec sleep 1234567");
        kill_runc(&cri, action, delay);

        // It may fail, and may be too late to.
        drop(cri.run(&sandbox, &config));

        remove_at_last(&cri, &sandbox);
        cri.node().nothing_left().unwrap_or_else(|left| panic!("{action} {delay}: {left:#}"));
    }
    fs::remove_dir_all(cri.node().directory().join("bin")).unwrap();
}
