//! Programs that take without end: each meets a bound, and is told or ended.

use std::fs;

use integration::run::Run;

crate::behaviours! {
    files_opened_without_end_are_refused: files_without_end [c_p1 c_p2];
    streams_opened_without_end_are_refused: streams_without_end [c_p2];
    subscriptions_made_without_end_are_ended: subscriptions_without_end [c_p2];
    waiting_for_too_much_at_once_is_refused: poll_without_end [c_p1];
}

fn with_a_file(name: &str) -> Run {
    Run::of(name).unwrap().directory(|directory| {
        fs::write(directory.join("file"), "text")?;
        Ok(())
    })
}

fn files_opened_without_end_are_refused(name: &str) {
    let text = with_a_file(name).in_micro_vm().unwrap().output();
    let lines: Vec<_> = text.lines().collect();
    // EMFILE; wasi:filesystem has no such code, and its nearest is ENOMEM.
    let told =
        if name.ends_with("_p1") { "No file descriptors available" } else { "Out of memory" };
    assert_eq!(lines[0], told, "{text}");
    assert_eq!(lines[1..], ["enough"], "{text}");
}

fn streams_opened_without_end_are_refused(name: &str) {
    let outcome = with_a_file(name).in_micro_vm().unwrap().outcome;
    // insufficient-memory of wasi:filesystem's error codes.
    assert_eq!(
        (outcome.code(), outcome.stdout.as_str()),
        (0, "error code 22\nenough\n"),
        "{outcome:?}"
    );
}

fn subscriptions_made_without_end_are_ended(name: &str) {
    let outcome = Run::of(name).unwrap().in_micro_vm().unwrap().outcome;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (134, "enough\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("handle limit"), "{outcome:?}");
}

fn waiting_for_too_much_at_once_is_refused(name: &str) {
    let text = Run::of(name).unwrap().in_micro_vm().unwrap().output();
    assert_eq!(text, "many: refused\nnone: refused\ntwo: 1, first 1\n");
}
