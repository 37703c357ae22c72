//! On an ordinary KVM, with AMD's SVM emulated by QEMU: the micro-VM's own tests, components and modules;
//! and, as that machine has control groups of version 2 alone, tasks of a containerd there.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::sync::LazyLock;

use integration::process::Outcome;
use integration::programs::{self, program};
use integration::svm::Job;
use integration::{binaries, cargo, hyperlight, process, say, target_directory, tools, workspace};

/// The test binaries of `package` without those of its library, by name, as the build of this test has
/// left them; only what cargo's options `selection` say.
fn tests_of(package: &str, selection: &[&str]) -> Vec<(String, PathBuf)> {
    // The whole workspace, as `make test` builds it: another selection has other features and would
    // be built again.
    let mut cargo = cargo();
    cargo.current_dir(workspace()).args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json",
    ]);
    cargo.args(selection);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let messages = process::run(&mut cargo).unwrap().success().unwrap();
    let binaries = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_of = message["package_id"].as_str()?.contains(&format!("/{package}#"));
        let is_test = message["target"]["kind"][0] == "test";
        let name = message["target"]["name"].as_str()?.to_owned();
        (is_of && is_test).then_some((name, PathBuf::from(message["executable"].as_str()?)))
    });
    binaries.collect()
}

fn boot(job: &Job) -> Outcome {
    say("booting an emulated AMD host");
    let outcome = job.run().unwrap();
    say(&format!("the emulated AMD host ran for {} s", outcome.elapsed.as_secs()));
    outcome
}

#[test]
fn the_tests_of_the_micro_vm_pass() {
    let tests = tests_of("vmm", &[]);
    assert!(tests.len() > 1, "{tests:?}");
    let names: Vec<_> = tests.iter().map(|(name, _)| name.as_str()).collect();
    let mut job = Job::new(&format!(
        "export REQUIRE_KVM=1\n\
         failed=0\n\
         for test in {}; do /tests/$test --test-threads=1 || failed=1; done\n\
         exit $failed",
        names.join(" ")
    ));
    for (name, path) in &tests {
        job.program(path, &format!("/tests/{name}")).unwrap();
    }
    let outcome = boot(&job);
    // Indented: these results are not those of this machine.
    outcome.stdout.lines().chain(outcome.stderr.lines()).for_each(|line| println!("    {line}"));
    assert_eq!(outcome.code(), 0, "a test has failed on the emulated host");
    let results = outcome.stdout.lines().filter(|line| line.starts_with("test result: ok. "));
    assert_eq!(results.clone().count(), tests.len(), "a test binary has no result");
    assert!(
        !results.into_iter().any(|line| line.contains(" 0 passed")),
        "a test binary ran nothing"
    );
    assert!(!outcome.stdout.contains("skipped: "), "a test was skipped on the emulated host");
}

#[test]
fn components_and_modules_run_and_a_trap_in_one_is_a_trap() {
    let mut job = Job::new(
        "mkdir -p /var/cache\n\
         hyperlight run /hello.wasm; echo status $?\n\
         hyperlight run /exceptions.wasm; echo status $?\n\
         hyperlight run /collects.wasm; echo status $?\n\
         hyperlight run /trap.wasm; echo status $?",
    );
    job.program(&hyperlight().unwrap(), "/bin/hyperlight").unwrap();
    job.file(&program("hello").unwrap(), "/hello.wasm").unwrap();
    job.file(&program("exceptions").unwrap(), "/exceptions.wasm").unwrap();
    job.file(&program("garbage_collection").unwrap(), "/collects.wasm").unwrap();
    job.file(&program("unreachable").unwrap(), "/trap.wasm").unwrap();
    let outcome = boot(&job);
    let expected = "hello, world\nstatus 0\nok\nstatus 0\nok\nstatus 0\nstatus 134\n";
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
    assert!(outcome.stderr.contains("give_up"), "{outcome:?}");
}

/// Where the virtual machine has what this one has in cargo's target directory, and the trees of tools.
const TARGET: &str = "/target";
const TOOLS: &str = "/tools";

/// Test programs that the tests of [`CGROUP_V2`] run; each is assembled from its text.
const PROGRAMS: &[&str] = &["spin", "hello", "fill_memory", "exit_with_code", "unreachable"];

/// What those tests print: a line `test NAME ... ok` for each that has passed.
static CGROUP_V2: LazyLock<Outcome> = LazyLock::new(|| {
    let mut job = Job::new(&format!(
        "mkdir -p /var/cache /run/containerd/s\n\
         cd {workspace}\n\
         export REQUIRE_KVM=1 CARGO_TARGET_DIR={TARGET} RUST_BACKTRACE=1\n\
         /tests/tasks --test-threads=1 --exact {names}",
        workspace = workspace().join("integration").display(),
        names = NAMES.join(" ")
    ))
    .module("overlay");
    let tests = tests_of("integration", &["--test", "tasks"]);
    let [(_, tasks)] = &tests[..] else { panic!("not one: {tests:?}") };
    job.program(tasks, "/tests/tasks").unwrap();
    for name in ["hyperlight", "containerd-shim-hyperlight-v1"] {
        job.program(&binaries().join(name), &format!("{TARGET}/release/{name}")).unwrap();
    }
    for (set, programs) in [
        ("containerd", &["usr/bin/containerd", "usr/bin/ctr"][..]),
        ("registry", &["usr/bin/docker-registry"]),
    ] {
        let tree = tools::tree(set).unwrap();
        for program in programs {
            let file = tree.file(&[program]).unwrap();
            job.program(&file, &format!("{TOOLS}/{set}/{program}")).unwrap();
        }
    }
    // What is packed is there: that is all that the machine has of tools.
    let bring = format!("#!/bin/sh\necho {TOOLS}/$1\n");
    job.script(&bring, &workspace().join("integration/tools.sh").display().to_string());
    for name in PROGRAMS {
        let wasm = program(name).unwrap();
        let below = wasm.strip_prefix(target_directory()).unwrap();
        job.file(&wasm, &format!("{TARGET}/{}", below.display())).unwrap();
        let source = programs::directory().join(name).with_extension("wat");
        job.file(&source, &source.display().to_string()).unwrap();
    }
    boot(&job)
});

/// Asserts that the test `name` of `tasks` has passed on the emulated host, with control groups of version 2.
fn passes_with_cgroup_v2(name: &str) {
    let Outcome { stdout, stderr, .. } = &*CGROUP_V2;
    let passed = stdout.lines().any(|line| line == format!("test {name} ... ok"));
    assert!(passed, "{name}:\n{stdout}\n{stderr}");
    assert!(!stderr.contains("skipped: "), "{stderr}");
}

/// A test for each of those tests of `tasks`, under the same name, and the list of them.
macro_rules! with_cgroup_v2 {
    ($($module:ident: $($name:ident)*;)*) => {
        const NAMES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name))),*),*];

        mod with_cgroup_v2 {
            $(mod $module {
                $(#[test]
                fn $name() {
                    let name = concat!(stringify!($module), "::", stringify!($name));
                    crate::passes_with_cgroup_v2(name);
                })*
            })*
        }
    };
}

with_cgroup_v2! {
    pause:
        a_paused_task_uses_no_cpu_until_it_is_resumed
        sigkill_ends_a_paused_task
        another_signal_ends_a_paused_task_when_it_is_resumed;
    update:
        limits_are_changed_and_what_is_not_mentioned_stays
        a_quota_and_its_period_can_both_go_up_and_down
        the_cpus_are_changed
        an_update_that_is_refused_changes_nothing
        metrics_are_what_the_control_group_counts;
    memory:
        a_task_that_the_kernel_kills_for_want_of_memory_is_told_as_such
        an_exec_that_the_kernel_kills_for_want_of_memory_is_told_as_such;
    exec:
        an_exec_goes_from_created_to_running_to_stopped
        a_task_that_is_paused_is_paused_with_its_execs_and_killed_with_them;
    refusals:
        a_task_that_has_ended_answers_what_clients_expect;
}
