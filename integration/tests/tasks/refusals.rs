//! Calls that make no sense: the code that clients decide by, a sentence for people, and the task as it was.

use integration::{Code, require_kvm};

use super::Fixture;

#[test]
fn a_second_start_is_refused_and_the_task_goes_on() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("r", &["--null-io"]);
    let (_, pid, _) = it.tasks.get("r", "").unwrap();

    let (code, message) = it.tasks.start("r", "").unwrap_err();

    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("task r has been started already"), "{message}");
    assert_eq!(it.tasks.get("r", "").unwrap(), ("RUNNING".to_owned(), pid, 0));
    it.remove("r");
}

#[test]
fn a_task_that_runs_is_not_deleted() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("r", &["--null-io"]);

    let (code, message) = it.tasks.delete("r").unwrap_err();

    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("kill it first"), "{message}");
    assert_eq!(it.tasks.get("r", "").unwrap().0, "RUNNING");
    it.remove("r");
}

#[test]
fn a_task_that_has_ended_answers_what_clients_expect() {
    require_kvm!();
    let it = Fixture::new("hello", &[]);
    it.run("r", &["--null-io"]);
    assert_eq!(it.tasks.wait("r", "").unwrap(), 0);

    // As CRI does after an exit: a signal to one is an error, one to all is fine.
    assert_eq!(it.tasks.kill("r", "", 15, false).unwrap_err().0, Code::NotFound);
    it.tasks.kill("r", "", 9, true).unwrap();
    assert_eq!(it.tasks.start("r", "").unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.pause("r").unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.get("r", "").unwrap().0, "STOPPED");
    assert_eq!(it.tasks.delete("r").unwrap(), 0);
    for gone in [
        it.tasks.delete("r").map(drop),
        it.tasks.kill("r", "", 9, true),
        it.tasks.start("r", "").map(drop),
        it.tasks.wait("r", "").map(drop),
    ] {
        assert_eq!(gone.unwrap_err().0, Code::NotFound);
    }
    it.ctr(&["container", "rm", "r"]);
}

#[test]
fn signals_have_numbers_from_1_to_64() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("r", &["--null-io"]);
    for signal in [65, 1000, u32::MAX] {
        let (code, message) = it.tasks.kill("r", "", signal, false).unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
    }

    it.tasks.kill("r", "", 64, false).unwrap();

    assert_eq!(it.tasks.wait("r", "").unwrap(), 128 + 64);
    it.remove("r");
}

#[test]
fn a_checkpoint_is_refused_and_the_task_goes_on() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("r", &["--null-io"]);

    let (code, message) = it.tasks.checkpoint("r").unwrap_err();
    assert_eq!(code, Code::Unimplemented, "{message}");
    assert!(message.contains("checkpoint"), "{message}");
    let shown = it.node.ctr(["container", "checkpoint", "--task", "r", "check/point:1"]).unwrap();
    assert_ne!(shown.code(), 0);
    assert!(shown.stderr.contains("is not supported by the hyperlight runtime"), "{shown:?}");

    // containerd pauses a task for its checkpoint, and lets it go on.
    it.wait_for("r", "", "RUNNING");
    it.remove("r");
}

#[test]
fn a_task_that_is_killed_before_its_start_has_ended() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.container("r", &[]);
    it.tasks.create("r").unwrap();
    assert_eq!(it.tasks.create("r").unwrap_err().0, Code::AlreadyExists);

    it.tasks.kill("r", "", 9, false).unwrap();

    assert_eq!(it.tasks.wait("r", "").unwrap(), 137);
    assert_eq!(it.tasks.start("r", "").unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.delete("r").unwrap(), 137);
    it.events.expect("r", &["create", "exit", "delete"]).unwrap();
    it.ctr(&["container", "rm", "r"]);
}

#[test]
fn options_of_another_runtime_change_nothing() {
    require_kvm!();
    let it = Fixture::new("hello", &[]);
    let options = ["--runtime-config-path", "/nonexistent/config"];

    let mut command = it.node.run_command(&it.reference, "r", &options, &[]);
    let outcome = integration::process::run(&mut command).unwrap();

    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
}
