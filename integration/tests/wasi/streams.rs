//! Standard streams.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::programs::program;
use integration::run::Run;
use integration::{hyperlight, leaks, process};

crate::behaviours! {
    standard_input_is_copied_whole: cat [c_p1 c_p2 c_adapted rs_p1 rs_p2 go_p1 js_p2 py_p2];
    standard_output_and_standard_error_are_kept_apart:
        standard_error [c_p1 c_p2 c_adapted rs_p1 rs_p2 go_p1];
    large_output_arrives_whole_and_in_order: large_output [c_p1 c_p2 c_adapted rs_p1 rs_p2 go_p1];
    input_is_awaited_with_a_timeout: poll_stdin [c_p1 c_p2 go_p1];
    every_method_of_a_stream_does_what_it_says: stream_calls [c_p2];
}

fn standard_input_is_copied_whole(name: &str) {
    let mut input: Vec<u8> =
        (0..20_000).flat_map(|line| format!("{line}\n").into_bytes()).collect();
    assert_eq!(Run::of(name).unwrap().compared().unwrap().output(), "");
    input.extend((0..=127).cycle().take(1 << 20));
    let run = Run::of(name).unwrap().input(input.clone());
    assert!(run.compared().unwrap().output().into_bytes() == input, "the copy differs");
}

fn standard_output_and_standard_error_are_kept_apart(name: &str) {
    let outcome = Run::of(name).unwrap().compared().unwrap().outcome;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stdout, "to standard output\n");
    assert_eq!(outcome.stderr, "to standard error\n");
}

fn large_output_arrives_whole_and_in_order(name: &str) {
    let expected: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
    let text = Run::of(name).unwrap().compared().unwrap().output();
    assert!(text == expected, "some of 100000 lines are wrong");
}

fn every_method_of_a_stream_does_what_it_says(name: &str) {
    let run = Run::of(name).unwrap().input("through\n").directory(|directory| {
        std::fs::write(directory.join("from"), "0123456789")?;
        Ok(())
    });
    let ended = run.compared().unwrap();
    let left: Vec<_> = ended.files.iter().filter(|line| line.starts_with("to ")).collect();
    // One byte that was never written, a word, five zeroes and what was spliced.
    let digest = integration::oci::digest(&[b"\0word".as_slice(), &[0; 5], b"789"].concat());
    assert!(left.len() == 1 && left[0].contains(&digest), "{left:?}");
    assert_eq!(ended.output(), "through\n");
}

fn input_is_awaited_with_a_timeout(name: &str) {
    let wasm = program(name).unwrap();
    let hyperlight = hyperlight().unwrap();
    let _watch = leaks::watch().unwrap();
    process::run(Command::new(&hyperlight).arg("compile").arg(&wasm)).unwrap().success().unwrap();
    let mut command = Command::new(&hyperlight);
    command.arg("run").arg(&wasm).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(Result::unwrap);
    assert_eq!(next().as_deref(), Some("nothing: 0 after its time"));
    for word in ["one", "two"] {
        std::thread::sleep(Duration::from_millis(100));
        writeln!(input, "{word}").unwrap();
        assert_eq!(next(), Some(format!("read: {word}")));
    }
    drop(input);
    assert_eq!(next().as_deref(), Some("the end"));
    assert_eq!(next(), None);
    assert!(child.wait().unwrap().success());
}
