//! Snapshots in the cache: made by the first start, used by the next, and whatever is wrong with one costs
//! time, not the start.
#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use integration::process::{self, Outcome};
use integration::scratch::Scratch;
use integration::{hyperlight, programs, require_kvm, workspace};

/// A cache of its own, and a program.
struct Fixture {
    cache: Scratch,
    wasm: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let source = workspace().join("integration/programs/hello.wat");
        Self { cache: Scratch::new().unwrap(), wasm: programs::assemble(&source).unwrap() }
    }

    fn run(&self, options: &[&str]) -> Outcome {
        let mut command = Command::new(hyperlight().unwrap());
        command.args(["run", "--cache-dir"]).arg(&*self.cache).args(options).arg(&self.wasm);
        process::run(&mut command).unwrap()
    }

    /// Runs, and wants the greeting and nothing else on standard output; returns standard error.
    fn greet(&self) -> String {
        let outcome = self.run(&[]);
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
        outcome.stderr
    }

    fn file(&self, extension: &str) -> Option<PathBuf> {
        let files = fs::read_dir(&*self.cache).unwrap().map(|entry| entry.unwrap().path());
        let mut found = files.filter(|path| path.extension().is_some_and(|it| it == extension));
        found.next()
    }

    /// Whether the next start takes the snapshot as it is and says nothing.
    fn is_sound_again(&self) {
        let before = fs::metadata(self.file("snapshot").unwrap()).unwrap();
        assert_eq!(self.greet(), "");
        let after = fs::metadata(self.file("snapshot").unwrap()).unwrap();
        assert_eq!(before.ino(), after.ino());
    }
}

#[test]
fn the_first_start_leaves_a_snapshot_and_the_image_for_the_next() {
    require_kvm!();
    let fixture = Fixture::new();
    assert_eq!(fixture.greet(), "");
    assert!(fixture.file("snapshot").is_some() && fixture.file("image").is_some());
    fixture.is_sound_again();
}

#[test]
fn compiling_leaves_a_snapshot() {
    require_kvm!();
    let fixture = Fixture::new();
    let mut command = Command::new(hyperlight().unwrap());
    command.args(["compile", "--cache-dir"]).arg(&*fixture.cache).arg(&fixture.wasm);
    process::run(&mut command).unwrap().success().unwrap();
    assert!(fixture.file("snapshot").is_some());
    fixture.is_sound_again();
}

#[test]
fn a_damaged_file_is_told_once_and_replaced() {
    require_kvm!();
    for extension in ["snapshot", "image", "cwasm"] {
        let fixture = Fixture::new();
        fixture.greet();
        let path = fixture.file(extension).unwrap();
        let (before, file) = (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap());
        // In the middle of what is not zero, without going by the name; and cut off.
        let used: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0).collect();
        let middle = used[used.len() / 2];
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let open = File::options().write(true).open(&path).unwrap();
        open.write_all_at(&[!file[middle]], middle as u64).unwrap();
        let said = fixture.greet();
        assert!(said.lines().count() <= 1, "{extension}: {said}");
        let path = fixture.file(extension).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "{extension}: not replaced");
        fixture.is_sound_again();

        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
        let said = fixture.greet();
        assert!(said.lines().count() <= 1, "{extension}: {said}");
        fixture.is_sound_again();
    }
}

#[test]
fn a_snapshot_that_others_can_write_is_not_used() {
    require_kvm!();
    let fixture = Fixture::new();
    fixture.greet();
    let path = fixture.file("snapshot").unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o622)).unwrap();
    let said = fixture.greet();
    assert!(said.contains("another user"), "{said}");
    assert_ne!(fs::metadata(fixture.file("snapshot").unwrap()).unwrap().ino(), before);
}

#[test]
fn a_micro_vm_with_less_memory_than_the_snapshot_loads_the_program_itself() {
    require_kvm!();
    let fixture = Fixture::new();
    fixture.greet();
    let outcome = fixture.run(&["--memory", "1MiB"]);
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "hello, world\n"), "{outcome:?}");
}
