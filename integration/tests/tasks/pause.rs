//! Pause and Resume.

use std::time::Duration;

use integration::process::{HANG_LIMIT, wait_until};
use integration::{Code, require_kvm};

use super::Fixture;

#[test]
fn a_paused_task_uses_no_cpu_until_it_is_resumed() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("p", &["--null-io"]);

    it.ctr(&["task", "pause", "p"]);
    assert_eq!(it.tasks.get("p", "").unwrap().0, "PAUSED");
    assert!(it.ctr(&["task", "ls"]).contains("PAUSED"));
    let before = it.cpu("p");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(it.cpu("p"), before);

    it.ctr(&["task", "resume", "p"]);
    assert_eq!(it.tasks.get("p", "").unwrap().0, "RUNNING");
    wait_until("CPU time to pass", HANG_LIMIT, || it.cpu("p") > before).unwrap();
    it.remove("p");
    it.events.expect("p", &["create", "start", "paused", "resumed", "exit", "delete"]).unwrap();
}

#[test]
fn sigkill_ends_a_paused_task() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("p", &["--null-io"]);
    it.tasks.pause("p").unwrap();

    it.tasks.kill("p", "", 9, false).unwrap();

    assert_eq!(it.tasks.wait("p", "").unwrap(), 137);
    it.remove("p");
    it.events.expect("p", &["create", "start", "paused", "exit", "delete"]).unwrap();
}

#[test]
fn another_signal_ends_a_paused_task_when_it_is_resumed() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("p", &["--null-io"]);
    it.tasks.pause("p").unwrap();

    it.tasks.kill("p", "", 15, false).unwrap();
    assert_eq!(it.tasks.get("p", "").unwrap().0, "PAUSED");
    it.tasks.resume("p").unwrap();

    assert_eq!(it.tasks.wait("p", "").unwrap(), 143);
    it.remove("p");
}

#[test]
fn what_is_paused_is_neither_deleted_nor_started_nor_paused_again() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("p", &["--null-io"]);
    assert_eq!(it.tasks.resume("p").unwrap_err().0, Code::FailedPrecondition);
    it.tasks.pause("p").unwrap();

    for refused in [
        it.tasks.pause("p"),
        it.tasks.start("p", "").map(drop),
        it.tasks.delete("p").map(drop),
        it.tasks.exec(integration::Exec::of("p", "e", &["/app.wasm"])),
    ] {
        let (code, message) = refused.unwrap_err();
        assert_eq!(code, Code::FailedPrecondition, "{message}");
    }

    assert_eq!(it.tasks.get("p", "").unwrap().0, "PAUSED");
    it.remove("p");
    assert_eq!(it.tasks.pause("p").unwrap_err().0, Code::NotFound);
}

#[test]
fn a_paused_task_whose_shim_was_killed_is_cleaned_up() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("p", &["--null-io"]);
    it.tasks.pause("p").unwrap();
    let shims = it.node.shims();
    let [shim] = shims.as_slice() else { panic!("not one shim: {shims:?}") };

    let kill = std::process::Command::new("kill").args(["-9", &shim.to_string()]).status();
    assert!(kill.unwrap().success());

    let gone = || it.tasks.get("p", "").is_err_and(|(code, _)| code == Code::NotFound);
    wait_until("the task to be gone", HANG_LIMIT, gone).unwrap();
    it.ctr(&["container", "rm", "p"]);
}
