//! Many lives of tasks with a process killed at a random moment of each; nothing may be left after any.
//!
//! `HYPERLIGHT_TEST_LIFECYCLES` says how many; a thousand take four minutes. `HYPERLIGHT_TEST_SEED` repeats what a
//! failure has printed.

use std::fs;
use std::time::Duration;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::random::{Random, number};
use integration::{Code, Exec, Node, RUNTIME, Tasks, micro_vms, require_kvm, say};

use super::Fixture;
use super::faults::kill;

/// A node that lives come and go on, without a listener to events, which would be a process that is left.
struct Lives {
    tasks: Tasks,
    reference: String,
    node: Node,
}

/// How many there are, unless `HYPERLIGHT_TEST_LIFECYCLES` says it.
const LIVES: u64 = 1000;

/// The longest time from the beginning of a life to the kill: that of an undisturbed one, about.
const LIFE: Duration = Duration::from_millis(250);

#[test]
fn nothing_is_left_of_lives_with_a_process_killed_at_any_moment() {
    require_kvm!();
    let count = number("HYPERLIGHT_TEST_LIFECYCLES").unwrap_or(LIVES);
    let mut random = Random::new(&format!("{count} lives with random kills"));
    let Fixture { tasks, reference, node, .. } = Fixture::new("spin", &[]);
    let mut it = Lives { tasks, reference, node };
    for life in 0..count {
        if life % 100 == 99 {
            say(&format!("life {} of {count}", life + 1));
        }
        live(&mut it, &mut random, life);
    }
}

fn live(it: &mut Lives, random: &mut Random, life: u64) {
    let told = format!("life {life} of {random}");
    let id = format!("life-{life}");
    let (containerd, shims) = (it.node.containerd(), it.node.shims());
    assert!(shims.is_empty(), "{told}: {shims:?}");
    let victim = random.below(8);
    let delay = Duration::from_micros(random.below(LIFE.as_micros().try_into().unwrap()));
    let mut choice = Random::from(random.below(u64::MAX));
    let (executes, pauses) = (random.below(2) == 0, random.below(2) == 0);
    let mut command = it.node.ctr_command(["container", "create", "--runtime", RUNTIME]);
    process::run(command.args([&it.reference, &id])).unwrap().success().unwrap();
    std::thread::scope(|scope| {
        let node = &it.node;
        scope.spawn(move || {
            std::thread::sleep(delay);
            match victim {
                0 => kill(containerd),
                // At once with its server, a shim's start action cannot but leave the socket: only one.
                1..4 => choice.pick(&node.shims()).into_iter().for_each(kill),
                _ => {
                    let vms: Vec<_> = micro_vms().into_iter().map(|vm| vm.pid).collect();
                    choice.pick(&vms).into_iter().for_each(kill);
                }
            }
        });
        // Each step may be refused from the kill on.
        steps(&it.tasks, &id, executes, pauses);
    });
    if victim == 0 {
        it.node.restart_containerd().unwrap();
        remove_hidden_bundles(&it.node);
        it.tasks = Tasks::connect(&it.node).unwrap();
    }
    wait_until(&format!("{told}: the task to be gone"), HANG_LIMIT, || is_removed(&it.tasks, &id))
        .unwrap();
    it.node.ctr(["container", "rm", &id]).unwrap().success().unwrap();
    it.node.nothing_left().unwrap_or_else(|left| {
        panic!("{told}, victim {victim} after {delay:?}: {left:#}\n{}", it.node.log())
    });
}

/// containerd hides a bundle before it removes it, and one that is killed in between looks for no hidden one when it
/// starts again (its core/runtime/v2/bundle.go, `atomicDelete`, and shim_load.go).
fn remove_hidden_bundles(node: &Node) {
    let bundles = format!("state/io.containerd.runtime.v2.task/{}", node.namespace());
    for entry in fs::read_dir(node.directory().join(bundles)).into_iter().flatten() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

fn steps(tasks: &Tasks, id: &str, executes: bool, pauses: bool) {
    drop(tasks.create(id));
    drop(tasks.start(id, ""));
    if executes {
        drop(tasks.exec(Exec::of(id, "e", &["/app.wasm"])));
        drop(tasks.start(id, "e"));
    }
    if pauses {
        drop(tasks.pause(id));
        drop(tasks.resume(id));
    }
    drop(tasks.kill(id, "", 15, true));
    drop(tasks.wait(id, ""));
    drop(tasks.delete(id));
}

/// Has what is left of the task removed, as a client would that knows nothing; tells whether it is gone.
pub(crate) fn is_removed(tasks: &Tasks, id: &str) -> bool {
    match tasks.get(id, "") {
        Err((code, _)) => code == Code::NotFound,
        Ok(_) => {
            drop(tasks.kill(id, "", 9, true));
            drop(tasks.resume(id));
            drop(tasks.delete(id));
            false
        }
    }
}
