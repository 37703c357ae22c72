//! Standard streams: input that ends, log files and logging programs, readers that go away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::require_kvm;

use super::Fixture;

#[test]
fn piped_input_reaches_a_container_and_ends() {
    require_kvm!();
    let it = Fixture::new("cat.rs_p1", &[]);
    // Again and again: the client's end comes before the task is there, or after.
    for _ in 0..10 {
        let mut command = it.node.run_command(&it.reference, "s", &[], &[]);
        let outcome = process::run_with_input(&mut command, b"hi\n").unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hi\n"), "{outcome:?}");
    }
}

#[test]
fn a_log_file_is_made_with_its_directories_and_appended_to() {
    require_kvm!();
    let it = Fixture::new("standard_error.rs_p1", &[]);
    let log = it.node.directory().join("tmp/logs/of/task.log");
    let uri = format!("file://{}", log.display());
    for id in ["one", "two"] {
        it.run(id, &["--log-uri", &uri]);
        assert_eq!(it.tasks.wait(id, "").unwrap(), 0);
        it.remove(id);
    }

    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("to standard output\n").count(), 2, "{text}");
    assert_eq!(text.matches("to standard error\n").count(), 2, "{text}");
    fs::remove_dir_all(it.node.directory().join("tmp/logs")).unwrap();
}

/// A logging program in `/bin/sh`, and where it logs.
fn logger(it: &Fixture, script: &str) -> (String, std::path::PathBuf) {
    let dir = it.node.directory().join("tmp/logger");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("program");
    fs::write(&file, format!("#!/bin/sh\ncd {}\n{script}", dir.display())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    (format!("binary://{}", file.display()), dir)
}

#[test]
fn a_logging_program_gets_the_streams_and_is_gone_with_the_task() {
    require_kvm!();
    let it = Fixture::new("standard_error.rs_p1", &[]);
    let script = r#"
        echo "$CONTAINER_ID $CONTAINER_NAMESPACE $HOME $*" > told
        ls /proc/self/fd > fds
        exec 5>&-
        cat <&3 > out
        cat <&4 > err
        echo done >> told
    "#;
    let (uri, dir) = logger(&it, script);
    it.run("b", &["--log-uri", &format!("{uri}?tag=a+b&quiet")]);
    assert_eq!(it.tasks.wait("b", "").unwrap(), 0);
    it.remove("b");

    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    assert_eq!(read("out"), "to standard output\n");
    assert_eq!(read("err"), "to standard error\n");
    assert_eq!(read("told"), format!("b {}  tag a b quiet \ndone\n", it.node.namespace()));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_logging_program_that_does_not_end_is_ended() {
    require_kvm!();
    let it = Fixture::new("hello", &[]);
    let (uri, dir) = logger(&it, "exec 5>&-\ntrap '' TERM\nwhile :; do sleep 1; done\n");
    it.run("b", &["--log-uri", &uri]);
    assert_eq!(it.tasks.wait("b", "").unwrap(), 0);

    it.remove("b");

    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_logging_program_that_cannot_log_is_refused() {
    require_kvm!();
    let it = Fixture::new("hello", &[]);
    let (uri, dir) = logger(&it, "exit 3\n");
    for (uri, words) in [
        (uri.as_str(), "has ended (exit status: 3)"),
        ("binary:///nonexistent/logger", "start the logging program /nonexistent/logger"),
        ("binary://relative/logger", "it names no absolute path"),
        ("npipe:///x", "npipe"),
    ] {
        let mut command = it.node.ctr_command(["run", "--detach", "--runtime"]);
        command.args([integration::RUNTIME, "--log-uri", uri, &it.reference, "b"]);
        let outcome = process::run(&mut command).unwrap();
        assert_ne!(outcome.code(), 0, "{uri}");
        assert!(outcome.stderr.contains(words), "{uri}: {outcome:?}");
        drop(it.node.ctr(["container", "rm", "b"]));
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_container() {
    require_kvm!();
    let it = Fixture::new("write_until_error.rs_p1", &[]);
    let mut command = it.node.run_command(&it.reference, "s", &[], &[]);
    let ctr = process::start(&mut command).unwrap();
    it.wait_for_task("s", "RUNNING");
    let kill = std::process::Command::new("kill").args(["-9", &ctr.id().to_string()]).status();
    assert!(kill.unwrap().success());
    drop(process::finish(ctr));

    // It writes until the FIFO is full, and waits.
    let mut cpu = it.cpu("s");
    wait_until("the container to wait", HANG_LIMIT, || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let before = std::mem::replace(&mut cpu, it.cpu("s"));
        before == cpu
    })
    .unwrap();
    assert_eq!(it.tasks.get("s", "").unwrap().0, "RUNNING");

    it.remove("s");
    // What the client would have removed.
    let fifos = it.node.directory().join("fifo");
    fs::remove_dir_all(&fifos).unwrap();
    fs::create_dir(fifos).unwrap();
}
