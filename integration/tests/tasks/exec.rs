//! Execs: a command of the container's files, beside its own process.

use std::fs;

use integration::process::{self, HANG_LIMIT, wait_until};
use integration::programs::program;
use integration::{Code, Exec, micro_vms, require_kvm};
use serde_json::json;

use super::Fixture;

const OTHERS: &[(&str, &str)] = &[
    ("bin/args.wasm", "arguments_and_environment.rs_p2"),
    ("bin/cat.wasm", "cat.rs_p1"),
    ("bin/exit.wasm", "exit_with_code"),
    ("bin/print.wasm", "print_file.rs_p1"),
    ("bin/trap.wasm", "unreachable"),
];

fn fixture() -> Fixture {
    let it = Fixture::new("spin", OTHERS);
    it.run("c", &["--null-io", "--env", "OF=container"]);
    it
}

#[test]
fn an_exec_runs_a_command_with_arguments_environment_and_streams_of_its_own() {
    require_kvm!();
    let it = fixture();

    let run = |args: &[&str]| {
        let mut command = it.node.ctr_command(["task", "exec", "--exec-id", "e", "c"]);
        process::run(command.args(args)).unwrap()
    };
    let outcome = run(&["/bin/args.wasm", "one", "-two"]);
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    for line in ["argument one", "argument -two", "environment OF=container"] {
        assert!(outcome.stdout.lines().any(|told| told == line), "no {line:?}: {outcome:?}");
    }
    // The same name again, once it is deleted.
    assert_eq!(run(&["bin/exit.wasm", "42"]).code(), 42);
    let trapped = run(&["/bin/trap.wasm"]);
    assert_eq!(
        (trapped.code(), trapped.stderr.contains("unreachable")),
        (134, true),
        "{trapped:?}"
    );

    let events = it.events.expect(
        "c",
        &[
            "create",
            "start",
            "exec-added",
            "exec-started",
            "exit",
            "exec-added",
            "exec-started",
            "exit",
            "exec-added",
            "exec-started",
            "exit",
        ],
    );
    let events = events.unwrap();
    assert_eq!(
        (&events[3].content["exec_id"], &events[4].content["id"]),
        (&json!("e"), &json!("e"))
    );
    assert_eq!(events[3].content["pid"], events[4].content["pid"]);
    assert_eq!(events[7].content["exit_status"], 42);
    assert_eq!(it.tasks.get("c", "").unwrap().0, "RUNNING");
    it.remove("c");
}

#[test]
fn an_exec_reads_its_standard_input_to_its_end() {
    require_kvm!();
    let it = fixture();
    let input: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    let mut command = it.node.ctr_command(["task", "exec", "--exec-id", "e", "c", "/bin/cat.wasm"]);

    let outcome = process::run_with_input(&mut command, input.as_bytes()).unwrap();

    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout == input, "the copy differs");
    it.remove("c");
}

#[test]
fn an_exec_goes_from_created_to_running_to_stopped() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("c", &["--null-io"]);
    it.tasks.exec(Exec::of("c", "e", &["app.wasm"])).unwrap();
    assert_eq!(it.tasks.get("c", "e").unwrap(), ("CREATED".to_owned(), 0, 0));
    assert_eq!(it.tasks.kill("c", "e", 9, false).unwrap_err().0, Code::FailedPrecondition);

    let pid = it.tasks.start("c", "e").unwrap();

    assert_eq!(it.tasks.get("c", "e").unwrap(), ("RUNNING".to_owned(), pid, 0));
    let (_, own, _) = it.tasks.get("c", "").unwrap();
    assert_eq!(it.tasks.pids("c").unwrap(), [own, pid]);
    assert!(it.ctr(&["task", "ps", "c"]).contains("exec_id"), "{}", it.ctr(&["task", "ps", "c"]));
    // A micro-VM each, in the same control group and namespaces.
    assert_eq!(micro_vms().len(), 2);
    let place = |pid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(place(pid, "cgroup"), place(own, "cgroup"));
    for kind in ["net", "ipc", "uts"] {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(namespace(pid), namespace(own), "{kind}");
    }
    assert_eq!(it.tasks.start("c", "e").unwrap_err().0, Code::FailedPrecondition);
    assert_eq!(it.tasks.delete_exec("c", "e").unwrap_err().0, Code::FailedPrecondition);

    it.tasks.kill("c", "e", 15, false).unwrap();

    assert_eq!(it.tasks.wait("c", "e").unwrap(), 143);
    assert_eq!(it.tasks.get("c", "e").unwrap(), ("STOPPED".to_owned(), pid, 143));
    assert_eq!(it.tasks.kill("c", "e", 15, false).unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.pids("c").unwrap(), [own]);
    assert_eq!(it.tasks.delete_exec("c", "e").unwrap(), 143);
    assert_eq!(it.tasks.delete_exec("c", "e").unwrap_err().0, Code::NotFound);
    assert_eq!(it.tasks.get("c", "").unwrap().0, "RUNNING");
    it.remove("c");
}

#[test]
fn what_is_no_wasm_is_refused_by_its_start_with_the_status_of_a_shell() {
    require_kvm!();
    let it = fixture();
    let cases = [
        ("/bin/sh", 127, "not in the root file system"),
        ("nothing.wasm", 127, "not in the root file system"),
        ("../../../../../../bin/sh", 127, "not in the root file system"),
        ("/etc/script", 126, "not a wasm binary"),
        ("/bin", 126, "not a file"),
    ];
    for (path, status, reason) in cases {
        it.tasks.exec(Exec::of("c", "e", &[path])).unwrap();
        let (code, message) = it.tasks.start("c", "e").unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        for word in [path, reason, "has no shell"] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        assert_eq!(it.tasks.wait("c", "e").unwrap(), status, "{path}");
        assert_eq!(it.tasks.delete_exec("c", "e").unwrap(), status, "{path}");
    }
    let shown = it.node.ctr(["task", "exec", "--exec-id", "e", "c", "/bin/sh"]).unwrap();
    assert_ne!(shown.code(), 0);
    assert!(shown.stderr.contains("a wasm container has no shell"), "{shown:?}");
    assert_eq!(it.tasks.get("c", "").unwrap().0, "RUNNING");
    it.remove("c");
}

#[test]
fn an_exec_that_makes_no_sense_is_refused() {
    require_kvm!();
    let it = fixture();
    let mut no_arguments = Exec::of("c", "e", &[]);
    no_arguments.process["args"] = json!([]);
    it.tasks.exec(no_arguments).unwrap();
    assert_eq!(it.tasks.start("c", "e").unwrap_err().0, Code::InvalidArgument);
    it.tasks.delete_exec("c", "e").unwrap();
    let mut nonsense = Exec::of("c", "e", &["x"]);
    nonsense.process = json!({"args": 3});
    assert_eq!(it.tasks.exec(nonsense).unwrap_err().0, Code::InvalidArgument);
    it.tasks.exec(Exec::of("c", "e", &["/bin/exit.wasm", "0"])).unwrap();
    assert_eq!(it.tasks.exec(Exec::of("c", "e", &["x"])).unwrap_err().0, Code::AlreadyExists);
    for unknown in [
        it.tasks.start("c", "other").map(drop),
        it.tasks.wait("c", "other").map(drop),
        it.tasks.kill("c", "other", 9, false),
        it.tasks.delete_exec("c", "other").map(drop),
        it.tasks.close_stdin("c", "other"),
        it.tasks.resize("c", "other", 1, 1),
    ] {
        assert_eq!(unknown.unwrap_err().0, Code::NotFound);
    }
    it.remove("c");
}

#[test]
fn an_exec_runs_from_a_mount_and_sees_the_files_of_the_container() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    let tools = it.node.directory().join("tmp/tools");
    fs::create_dir_all(tools.join("deep")).unwrap();
    fs::copy(program("print_file.rs_p1").unwrap(), tools.join("deep/print.wasm")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", tools.join("out.wasm")).unwrap();
    std::os::unix::fs::symlink("deep/print.wasm", tools.join("in.wasm")).unwrap();
    let mount = format!("type=bind,src={},dst=/tools,options=rbind:ro", tools.display());
    it.run("c", &["--null-io", "--mount", &mount]);
    let run = |args: &[&str]| {
        let mut command = it.node.ctr_command(["task", "exec", "--exec-id", "e", "c"]);
        process::run(command.args(args)).unwrap()
    };

    for path in ["/tools/deep/print.wasm", "/tools/in.wasm"] {
        let outcome = run(&[path, "/etc/script"]);
        assert_eq!((outcome.code(), outcome.stdout.trim_end()), (0, "#!/bin/sh"), "{outcome:?}");
    }
    // A link of the mount leads nowhere outside of it.
    let outcome = run(&["/tools/out.wasm"]);
    assert!(outcome.stderr.contains("not in the root file system"), "{outcome:?}");
    it.remove("c");
    fs::remove_dir_all(tools).unwrap();
}

#[test]
fn execs_die_with_the_container_and_are_told_before_it() {
    require_kvm!();
    let it = fixture();
    for exec in ["e1", "e2"] {
        it.tasks.exec(Exec::of("c", exec, &["/app.wasm"])).unwrap();
        it.tasks.start("c", exec).unwrap();
    }
    assert_eq!(micro_vms().len(), 3);

    it.tasks.kill("c", "", 15, false).unwrap();

    assert_eq!(it.tasks.wait("c", "").unwrap(), 143);
    wait_until("every micro-VM's end", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
    assert_eq!(it.tasks.get("c", "e1").unwrap().2, 137);
    assert_eq!(it.tasks.delete_exec("c", "e2").unwrap(), 137);
    let topics = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exec-added",
        "exec-started",
        "exit",
        "exit",
        "exit",
    ];
    let events = it.events.expect("c", &topics).unwrap();
    assert_eq!(events[8].content["id"], "c");
    it.remove("c");
}

#[test]
fn a_signal_to_all_ends_a_task_with_its_execs() {
    require_kvm!();
    let it = fixture();
    it.tasks.exec(Exec::of("c", "e", &["/app.wasm"])).unwrap();
    it.tasks.start("c", "e").unwrap();

    it.tasks.kill("c", "", 12, true).unwrap();

    assert_eq!(it.tasks.wait("c", "").unwrap(), 128 + 12);
    // By the signal, or by the end of the container.
    let status = it.tasks.wait("c", "e").unwrap();
    assert!([128 + 12, 137].contains(&status), "{status}");
    it.remove("c");
}

#[test]
fn a_task_that_is_paused_is_paused_with_its_execs_and_killed_with_them() {
    require_kvm!();
    let it = Fixture::new("spin", &[]);
    it.run("c", &["--null-io"]);
    it.tasks.exec(Exec::of("c", "e", &["/app.wasm"])).unwrap();
    it.tasks.start("c", "e").unwrap();
    it.tasks.pause("c").unwrap();

    it.tasks.kill("c", "", 9, false).unwrap();

    assert_eq!(it.tasks.wait("c", "").unwrap(), 137);
    assert_eq!(it.tasks.wait("c", "e").unwrap(), 137);
    it.remove("c");
}
