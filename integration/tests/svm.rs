//! On an ordinary KVM, with AMD's SVM emulated by QEMU: the micro-VM's own tests, components and modules.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::path::PathBuf;
use std::process::Command;

use integration::process::Outcome;
use integration::programs::program;
use integration::svm::Job;
use integration::{hyperlight, process, say, workspace};

/// The test binaries of the package `vmm` that run micro-VMs, by name, as the build of this test has
/// left them. The unit tests of its library need no KVM.
fn vmm_tests() -> Vec<(String, PathBuf)> {
    // The whole workspace, as `make test` builds it: another selection has other features and would
    // be built again.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json",
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let messages = process::run(&mut cargo).unwrap().success().unwrap();
    let binaries = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let of_vmm = message["package_id"].as_str()?.contains("/vmm#");
        let is_test = message["target"]["kind"][0] == "test";
        let name = message["target"]["name"].as_str()?.to_owned();
        (of_vmm && is_test).then_some((name, PathBuf::from(message["executable"].as_str()?)))
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
    let tests = vmm_tests();
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
