//! Bad input and bad surroundings, through the real binary: each ends in the error that POSIX and WASI
//! give, or in one clear line, and nothing is lost that was reported as written.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration::process::{self, HANG_LIMIT, Outcome, wait_until};
use integration::programs::program;
use integration::scratch::Scratch;
use integration::{hyperlight, leaks, micro_vms, require_kvm};

/// Nothing runs; exactly one line on standard error holds `words`.
fn refused(outcome: &Outcome, status: i32, words: &[&str]) {
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("hyperlight: "), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "no {word:?} in: {}", outcome.stderr);
    }
}

fn run_file(file: &Path) -> Outcome {
    process::run(Command::new(hyperlight().unwrap()).arg("run").arg(file)).unwrap()
}

/// `hyperlight run OPTIONS PROGRAM ARGUMENTS` for what was compiled before.
fn command(name: &str, options: &[&str], arguments: &[&str]) -> Command {
    let file = program(name).unwrap();
    let hyperlight = hyperlight().unwrap();
    process::run(Command::new(&hyperlight).arg("compile").arg(&file)).unwrap().success().unwrap();
    let mut command = Command::new(hyperlight);
    command.arg("run").args(options).arg(file).args(arguments);
    command
}

/// Gives a directory to the program at /data.
fn granted(directory: &Path) -> [String; 2] {
    ["--dir".to_owned(), format!("{}::/data", directory.display())]
}

#[test]
fn a_malformed_component_is_refused() {
    let _watch = leaks::watch().unwrap();
    let scratch = Scratch::new().unwrap();
    let whole = fs::read(program("hello").unwrap()).unwrap();
    let file = scratch.join("malformed.wasm");
    // A section of another kind, a length beyond the end, and a layer that does not exist.
    for (at, byte) in [(8, 0x7f), (9, 0xff), (6, 9)] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        fs::write(&file, bytes).unwrap();
        refused(&run_file(&file), 126, &["malformed.wasm"]);
    }
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let _watch = leaks::watch().unwrap();
    let scratch = Scratch::new().unwrap();
    let file = scratch.join("truncated.wasm");
    for name in ["hello", "files.rs_p1", "files.rs_p2"] {
        let whole = fs::read(program(name).unwrap()).unwrap();
        for part in [0, 4, 8, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..part]).unwrap();
            refused(&run_file(&file), 126, &["truncated.wasm"]);
        }
    }
}

#[test]
fn a_module_for_browsers_is_refused_by_its_imports() {
    let _watch = leaks::watch().unwrap();
    refused(&run_file(&program("browser").unwrap()), 126, &["wbg", "__wbindgen_throw"]);
    refused(&run_file(&program("emscripten").unwrap()), 126, &["env"]);
}

#[test]
fn a_file_that_is_a_directory_is_refused() {
    let _watch = leaks::watch().unwrap();
    let scratch = Scratch::new().unwrap();
    let outcome = run_file(&scratch);
    refused(&outcome, 126, &["directory"]);
}

#[test]
fn a_granted_directory_that_is_not_there_is_refused() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let outcome = process::run(&mut command("hello", &["--dir", "/nowhere"], &[])).unwrap();
    refused(&outcome, 125, &["/nowhere"]);
}

#[test]
fn circular_links_are_an_error_of_the_program() {
    require_kvm!();
    for name in ["print_file.rs_p1", "print_file.rs_p2"] {
        let _watch = leaks::watch().unwrap();
        let scratch = Scratch::new().unwrap();
        symlink("second", scratch.join("first")).unwrap();
        symlink("first", scratch.join("second")).unwrap();
        let [option, directory] = granted(&scratch);
        let outcome =
            process::run(&mut command(name, &[&option, &directory], &["/data/first"])).unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert!(outcome.stderr.contains("loop"), "{outcome:?}");
    }
}

/// A started program with its standard input and output.
fn start(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn line(output: &mut BufReader<std::process::ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line
}

/// Its status and what it said to standard error, within a limit.
fn end(mut child: Child) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt as _;
    wait_until("the end", HANG_LIMIT, || child.try_wait().unwrap().is_some()).unwrap();
    let status = child.wait().unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), text)
}

#[test]
fn a_directory_that_vanishes_is_an_error_of_the_program() {
    require_kvm!();
    for name in ["directory_vanishes.rs_p1", "directory_vanishes.rs_p2"] {
        let _watch = leaks::watch().unwrap();
        let scratch = Scratch::new().unwrap();
        fs::write(scratch.join("file"), "kept open").unwrap();
        let [option, directory] = granted(&scratch);
        let (mut child, mut output) = start(&mut command(name, &[&option, &directory], &[]));
        assert_eq!(line(&mut output), "opened\n");
        fs::remove_dir_all(&*scratch).unwrap();
        writeln!(child.stdin.take().unwrap(), "gone").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let (status, said) = end(child);
        // What was open is; nothing else is there, and nothing can be made.
        let expected =
            "read: kept open\nopen: entity not found\ncreate: entity not found\nlist: 0\n";
        assert_eq!((status, rest.as_str(), said.as_str()), (0, expected, ""));
    }
}

/// A file system of 1 MiB in memory, for as long as it is used.
struct SmallDisk(Scratch);

impl SmallDisk {
    fn mount() -> Self {
        let scratch = Scratch::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&*scratch);
        process::run(&mut mount).unwrap().success().unwrap();
        Self(scratch)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = process::run(Command::new("umount").arg(&*self.0));
        assert!(unmount.is_ok_and(|it| it.status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_disk_that_fills_up_is_an_error_of_the_program_and_keeps_what_was_written() {
    require_kvm!();
    for name in ["fill_disk.rs_p1", "fill_disk.rs_p2", "fill_disk.c_p1", "fill_disk.c_p2"] {
        let _watch = leaks::watch().unwrap();
        let disk = SmallDisk::mount();
        let [option, directory] = granted(&disk.0);
        let outcome = process::run(&mut command(name, &[&option, &directory], &[])).unwrap();
        let text = fs::read(disk.0.join("file")).unwrap();
        drop(disk);
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        let (written, error) = outcome.stdout.trim_end().split_once(": ").unwrap();
        // wasi-libc makes EIO of every failure of a stream of WASI 0.2.
        let told = if name.ends_with("p2") {
            ["uncategorized error", "I/O error"]
        } else {
            ["no storage space", "No space left on device"]
        };
        assert!(told.contains(&error), "{name}: {outcome:?}");
        // Every byte that a write has counted, and none that it has not, except that a stream of WASI
        // 0.2 cannot tell how much of a write had succeeded before the failure.
        let written: usize = written.parse().unwrap();
        assert!(written <= text.len(), "{name}: {written} of {}", text.len());
        assert!(
            name.ends_with("p2") || written == text.len(),
            "{name}: {written} of {}",
            text.len()
        );
        assert!((1 << 19..=1 << 20).contains(&text.len()), "{name}: {}", text.len());
        assert!(
            text.iter().zip((0..251).cycle()).all(|(byte, expected)| byte == &expected),
            "{name}"
        );
    }
}

#[test]
fn a_closed_standard_output_is_an_error_of_the_program() {
    require_kvm!();
    for name in ["write_until_error.rs_p1", "write_until_error.rs_p2", "write_until_error.go_p1"] {
        let _watch = leaks::watch().unwrap();
        let inner = command(name, &[], &["1000"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" >&-", "sh"]).arg(inner.get_program()).args(inner.get_args());
        let outcome = process::run(&mut shell).unwrap();
        // Rust takes a standard stream that is not there as one that swallows.
        assert!([0, 1, 3].contains(&outcome.code()), "{name}: {outcome:?}");
        assert!(!outcome.stderr.contains("hyperlight: "), "{name}: {outcome:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_an_error_of_the_program() {
    require_kvm!();
    for name in ["write_until_error.rs_p1", "write_until_error.rs_p2", "write_until_error.go_p1"] {
        let _watch = leaks::watch().unwrap();
        let (child, mut output) = start(&mut command(name, &[], &[]));
        assert_eq!(line(&mut output), "0000000\n");
        drop(output);
        let (status, said) = end(child);
        assert_eq!(status, if name.ends_with("_p2") { 1 } else { 3 }, "{name}: {said}");
        assert!(said.contains("pipe"), "{name}: {said}");
    }
}

/// A program that writes into a pipe that nobody reads, once the pipe is full.
fn stuck(options: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let (child, mut output) = start(&mut command("write_until_error.rs_p2", options, &[]));
    assert_eq!(line(&mut output), "0000000\n");
    // It sleeps in a write: its CPU time does not grow.
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let fields: Vec<_> =
            stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect();
        fields.get(11..13).map(<[_]>::to_vec)
    };
    wait_until("the pipe to be full", HANG_LIMIT, || {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(300));
        ticks() == before
    })
    .unwrap();
    (child, output)
}

#[test]
fn a_program_stuck_in_a_full_pipe_is_ended_by_signals() {
    require_kvm!();
    for (signal, status) in [("TERM", 143), ("INT", 130), ("KILL", 137)] {
        let _watch = leaks::watch().unwrap();
        let (child, output) = stuck(&[]);
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let (code, _) = end(child);
        assert_eq!(code, status, "{signal}");
        drop(output);
        wait_until("the micro-VM's end", HANG_LIMIT, || micro_vms().is_empty()).unwrap();
    }
}

#[test]
fn a_program_stuck_in_a_full_pipe_is_ended_by_its_timeout() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let (child, output) = stuck(&["--timeout", "10s"]);
    let (code, said) = end(child);
    assert_eq!((code, said.lines().count()), (124, 1), "{said}");
    drop(output);
}

#[test]
fn what_was_written_before_a_trap_is_not_lost() {
    require_kvm!();
    for name in ["write_then_trap.rs_p1", "write_then_trap.rs_p2"] {
        let _watch = leaks::watch().unwrap();
        let scratch = Scratch::new().unwrap();
        let [option, directory] = granted(&scratch);
        let outcome = process::run(&mut command(name, &[&option, &directory], &[])).unwrap();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, "to the stream\n"));
        assert_eq!(fs::read_to_string(scratch.join("file")).unwrap(), "to the file\n");
    }
}

#[test]
fn input_that_is_no_stream_is_read_as_what_it_is() {
    require_kvm!();
    let _watch = leaks::watch().unwrap();
    let scratch = Scratch::new().unwrap();
    let path: PathBuf = scratch.join("input");
    fs::write(&path, "from a file").unwrap();
    for name in ["cat.c_p1", "cat.rs_p2"] {
        let output = |input: Stdio| {
            let output = command(name, &[], &[]).stdin(input).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert_eq!(output(File::open(&path).unwrap().into()), (Some(0), "from a file".to_owned()));
        assert_eq!(output(Stdio::null()), (Some(0), String::new()));
        // A directory cannot be read: an error of the program, not a hang.
        let (status, text) = output(File::open(&*scratch).unwrap().into());
        assert_eq!((status, text.as_str()), (Some(1), ""), "{name}");
    }
}
