//! Pods with a process killed at a random moment of their lives; nothing may be left after any.

use std::time::Duration;

use integration::cri::{Pod, container};
use integration::process::{HANG_LIMIT, wait_until};
use integration::random::Random;
use integration::{Cri, micro_vms, require_kvm};
use serde_json::json;

use super::faults::kill;
use super::{pull, script, start};

/// How many there are.
const LIVES: usize = 30;

/// The longest time from the beginning of a life, or from its shim's, to the kill: that of an undisturbed one, about.
const LIFE: Duration = Duration::from_millis(450);

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Containerd,
    Shim,
    Vmm,
    /// Any process that is there for pods, a client of the CRI among them.
    Any,
}

#[test]
fn nothing_is_left_of_pods_with_a_process_killed_at_any_moment() {
    require_kvm!();
    let mut random = Random::new(&format!("{LIVES} pods with random kills"));
    let mut cri = start();
    let (spin, busybox) = (pull(&cri, "spin"), cri.pull_busybox().unwrap());
    let victims = [Victim::Containerd, Victim::Shim, Victim::Vmm, Victim::Any];
    for life in 0..LIVES {
        let victim = random.pick(&victims).unwrap();
        let delay = Duration::from_micros(random.below(LIFE.as_micros().try_into().unwrap()));
        let choice = Random::from(random.below(u64::MAX));
        let pod = cri.pod(&format!("life-{life}"));
        std::thread::scope(|scope| {
            let node = cri.node();
            scope.spawn(move || {
                if matches!(victim, Victim::Containerd) {
                    // What it leaves before is its own alone, as the namespace of a network that it has not stored.
                    wait_until("a shim", HANG_LIMIT, || !node.shims().is_empty()).unwrap();
                }
                std::thread::sleep(delay);
                let pids = match victim {
                    Victim::Containerd => vec![node.containerd()],
                    Victim::Shim => node.shims(),
                    Victim::Vmm => micro_vms().into_iter().map(|vm| vm.pid).collect(),
                    Victim::Any => node.processes(),
                };
                let mut choice = choice;
                choice.pick(&pids).into_iter().for_each(kill);
            });
            live(&cri, &pod, [&spin, &busybox]);
        });
        if matches!(victim, Victim::Containerd) {
            cri.restart_containerd().unwrap();
        }
        let is_removed = || {
            drop(cri.crictl(&["rmp", "--force", "--all"]).unwrap());
            cri.json(&["pods"]).is_ok_and(|pods| pods["items"] == json!([]))
        };
        let mut left = wait_until("the pod to be removed", HANG_LIMIT, is_removed)
            .and_then(|()| pod.remove_cgroup())
            .and_then(|()| cri.node().nothing_left_but_files());
        if matches!(victim, Victim::Shim | Victim::Any) {
            // containerd takes no note of the end of a shim that a container was not the first of (`loadShim` in
            // core/runtime/v2/shim_manager.go), and the CRI does not ask for the deletion of one whose start such an
            // end cuts off: then the bundle stays until containerd starts again.
            left = left.and_then(|()| cri.restart_containerd());
        }
        let left = left.and_then(|()| cri.node().nothing_left());
        left.unwrap_or_else(|left| {
            panic!("life {life} of {random}, {victim:?} after {delay:?}: {left:#}")
        });
    }
}

/// A life of a pod with a component and a Linux container, of which each step may be refused from the kill on.
fn live(cri: &Cri, pod: &Pod, [spin, busybox]: [&str; 2]) {
    let Ok(sandbox) = cri.run_pod(pod) else { return };
    let sidecar = script("sidecar", busybox, "exec sleep 1234567");
    for config in [container("component", spin, &["spin"]), sidecar] {
        drop(cri.run(&sandbox, &config));
    }
    drop(cri.stop_pod(&sandbox));
}
