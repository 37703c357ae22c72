//! Each process of a task is killed (`kill -9`) at each step of its life. Then containerd's view is right, what is
//! asked of the task next is answered, and nothing of it is left: no process, cgroup, mount or file.

use integration::process::{HANG_LIMIT, wait_until};
use integration::{Code, Events, Exec, Tasks, micro_vms, require_kvm};
use rustix::process::{Pid, Signal, kill_process};

use super::Fixture;

/// The task, and its exec.
const ID: &str = "f";
const EXEC: &str = "e";

/// How far the task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Its micro-VM waits for the start.
    Created,
    /// Its program runs.
    Running,
    /// Another program runs beside it.
    Executing,
    /// Both are kept from running.
    Paused,
    /// Both have been sent SIGTERM.
    Stopping,
    /// Both have ended, and wait to be deleted.
    Exited,
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Containerd,
    Shim,
    /// The process of the task's micro-VM.
    Vmm,
    /// The process of the exec's micro-VM.
    VmmOfExec,
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
    containerd_is_killed_after_the_creation: Created, Containerd;
    containerd_is_killed_after_the_start: Running, Containerd;
    containerd_is_killed_during_an_exec: Executing, Containerd;
    containerd_is_killed_during_a_pause: Paused, Containerd;
    containerd_is_killed_while_the_task_stops: Stopping, Containerd;
    containerd_is_killed_after_the_exit: Exited, Containerd;
    the_shim_is_killed_after_the_creation: Created, Shim;
    the_shim_is_killed_after_the_start: Running, Shim;
    the_shim_is_killed_during_an_exec: Executing, Shim;
    the_shim_is_killed_during_a_pause: Paused, Shim;
    the_shim_is_killed_while_the_task_stops: Stopping, Shim;
    the_shim_is_killed_after_the_exit: Exited, Shim;
    the_vmm_is_killed_after_the_creation: Created, Vmm;
    the_vmm_is_killed_after_the_start: Running, Vmm;
    the_vmm_is_killed_during_an_exec: Executing, Vmm;
    the_vmm_is_killed_during_a_pause: Paused, Vmm;
    the_vmm_is_killed_while_the_task_stops: Stopping, Vmm;
    the_vmm_of_an_exec_is_killed_after_its_start: Executing, VmmOfExec;
    the_vmm_of_an_exec_is_killed_during_a_pause: Paused, VmmOfExec;
    the_vmm_of_an_exec_is_killed_while_it_stops: Stopping, VmmOfExec;
}

fn row(step: Step, victim: Victim) {
    let mut it = Fixture::new("spin", &[]);
    it.container(ID, &[]);
    it.tasks.create(ID).unwrap();
    reach(&it, step);
    match victim {
        Victim::Containerd => containerd_is_killed(&mut it, step),
        Victim::Shim => the_shim_is_killed(&it),
        Victim::Vmm => the_vmm_is_killed(&it, step),
        Victim::VmmOfExec => the_vmm_of_the_exec_is_killed(&it),
    }
    // Dropping the node asserts that nothing is left.
    it.ctr(&["container", "rm", ID]);
}

/// Brings the task, which is created, as far as `step`.
fn reach(it: &Fixture, step: Step) {
    if step >= Step::Running {
        it.tasks.start(ID, "").unwrap();
    }
    if step >= Step::Executing {
        it.tasks.exec(Exec::of(ID, EXEC, &["/app.wasm"])).unwrap();
        it.tasks.start(ID, EXEC).unwrap();
    }
    match step {
        Step::Created | Step::Running | Step::Executing => {}
        Step::Paused => it.tasks.pause(ID).unwrap(),
        Step::Stopping => it.tasks.kill(ID, "", 15, true).unwrap(),
        Step::Exited => {
            it.tasks.kill(ID, "", 15, true).unwrap();
            it.wait_for(ID, "", "STOPPED");
        }
    }
}

/// The task lives on, and can be asked for everything.
fn containerd_is_killed(it: &mut Fixture, step: Step) {
    let before = it.tasks.pids(ID).unwrap();
    it.node.restart_containerd().unwrap();
    it.tasks = Tasks::connect(&it.node).unwrap();
    it.events = Events::listen(&it.node).unwrap();

    let (status, pid, _) = it.tasks.get(ID, "").unwrap();
    match step {
        Step::Created => {
            assert_eq!((status.as_str(), vec![pid]), ("CREATED", before));
            it.tasks.start(ID, "").unwrap();
        }
        Step::Running => assert_eq!((status.as_str(), vec![pid]), ("RUNNING", before)),
        Step::Executing => {
            assert_eq!((status.as_str(), it.tasks.pids(ID).unwrap()), ("RUNNING", before));
            assert_eq!(it.tasks.get(ID, EXEC).unwrap().0, "RUNNING");
            it.tasks.kill(ID, EXEC, 15, false).unwrap();
            assert_eq!(it.tasks.wait(ID, EXEC).unwrap(), 143);
            assert_eq!(it.tasks.delete_exec(ID, EXEC).unwrap(), 143);
        }
        Step::Paused => {
            assert_eq!((status.as_str(), it.tasks.pids(ID).unwrap()), ("PAUSED", before));
            it.tasks.resume(ID).unwrap();
        }
        Step::Stopping | Step::Exited => {}
    }
    if step < Step::Stopping {
        it.wait_for(ID, "", "RUNNING");
        it.tasks.kill(ID, "", 15, true).unwrap();
    }
    assert_eq!(it.tasks.wait(ID, "").unwrap(), 143);
    assert_eq!(it.tasks.delete(ID).unwrap(), 143);
}

/// The task is gone without anybody's doing, and told to have been killed.
fn the_shim_is_killed(it: &Fixture) {
    let shims = it.node.shims();
    let [shim] = shims.as_slice() else { panic!("not one shim: {shims:?}") };
    kill(*shim);

    let gone = || it.tasks.get(ID, "").is_err_and(|(code, _)| code == Code::NotFound);
    wait_until("the task to be gone", HANG_LIMIT, gone).unwrap();
    wait_until("every micro-VM to be gone", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
    let told = || it.events.of_task(ID).last().is_some_and(|it| it.topic == "/tasks/delete");
    wait_until("the deletion to be told", HANG_LIMIT, told).unwrap();
    let events = it.events.of_task(ID);
    let mut exits = events.iter().filter(|it| it.topic == "/tasks/exit");
    let last = exits.next_back().unwrap_or_else(|| panic!("no exit: {events:?}"));
    assert_eq!((&last.content["id"], &last.content["exit_status"]), (&ID.into(), &137.into()));
}

/// The task has ended, with its execs.
fn the_vmm_is_killed(it: &Fixture, step: Step) {
    let (_, pid, _) = it.tasks.get(ID, "").unwrap();
    // While it stops it may have ended.
    if pid != 0 {
        kill(i32::try_from(pid).unwrap());
    }
    // What stands still on cgroup v1 ends when it goes on; on v2 there may be nothing left to resume.
    if step == Step::Paused {
        drop(it.tasks.resume(ID));
    }

    it.wait_for(ID, "", "STOPPED");
    let status = it.tasks.wait(ID, "").unwrap();
    let signalled = step == Step::Stopping && status == 143;
    assert!(status == 137 || signalled, "{status}");
    if step >= Step::Executing {
        let status = it.tasks.wait(ID, EXEC).unwrap();
        assert!(status == 137 || (step == Step::Stopping && status == 143), "{status}");
        it.tasks.delete_exec(ID, EXEC).unwrap();
    }
    assert_eq!(it.tasks.start(ID, "").unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.delete(ID).unwrap(), status);
}

/// The exec has ended, and the task goes as it would have.
fn the_vmm_of_the_exec_is_killed(it: &Fixture) {
    let (_, pid, _) = it.tasks.get(ID, EXEC).unwrap();
    if pid != 0 {
        kill(i32::try_from(pid).unwrap());
    }
    drop(it.tasks.resume(ID));

    it.wait_for(ID, EXEC, "STOPPED");
    let status = it.tasks.delete_exec(ID, EXEC).unwrap();
    assert!([137, 143].contains(&status), "{status}");
    // It may have been sent SIGTERM before.
    if it.tasks.get(ID, "").unwrap().0 == "RUNNING" {
        drop(it.tasks.kill(ID, "", 15, true));
    }
    assert_eq!(it.tasks.wait(ID, "").unwrap(), 143);
    assert_eq!(it.tasks.delete(ID).unwrap(), 143);
}

/// `kill -9`; a process that has ended meanwhile is as good.
pub(crate) fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}
