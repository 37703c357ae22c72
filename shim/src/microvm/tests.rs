use abi::Violation;
use abi::layout::ExceptionRecord;

use super::source::boot_params;
use super::*;
use crate::workload::Text;

fn workload() -> Workload {
    serde_json::from_value(serde_json::json!({
        "program_name": "app.wasm", "args": ["app.wasm"], "env": [], "preopens": [],
        "memory": 1 << 20,
    }))
    .unwrap()
}

fn abort(kind: AbortKind) -> Exit {
    Exit::Fault(Fault::Abort { kind, message: "why".to_owned() })
}

#[test]
fn the_program_is_told_what_the_workload_says_and_nothing_else() {
    let text = |text: &str| Some(Text::try_from(text.to_owned()).unwrap());
    let silent = boot_params(&workload());
    let told = boot_params(&Workload { cwd: text("/srv"), invoke: text("f()"), ..workload() });
    assert_eq!((silent.cwd.as_slice(), silent.invoke.as_slice()), (&b""[..], &b""[..]));
    assert_eq!((told.cwd.as_slice(), told.invoke.as_slice()), (&b"/srv"[..], &b"f()"[..]));
    assert_eq!((silent.program_name, silent.args), (told.program_name, told.args));
}

#[test]
fn the_status_of_the_program_is_passed_on() {
    for (status_of_program, expected) in [(0, 0), (1, 1), (42, 42), (255, 255), (256, 0), (-1, 255)]
    {
        assert_eq!(status(&Exit::Status(status_of_program)), expected);
    }
}

#[test]
fn each_way_to_end_has_the_status_of_the_table() {
    let table = [
        (Exit::Fault(Fault::Stopped), 124),
        (abort(AbortKind::BadProgram), 126),
        (abort(AbortKind::OutOfMemory), 137),
        (abort(AbortKind::Panic), 134),
        (abort(AbortKind::Exception), 134),
        (Exit::Fault(Fault::Violation(Violation::UnknownCall(9))), 134),
        (Exit::Fault(Fault::Exception(ExceptionRecord::default())), 134),
        (Exit::Fault(Fault::TripleFault), 134),
        (Exit::Fault(Fault::UnexpectedExit { reason: 6, detail: 0, rip: 0 }), 134),
    ];
    for (exit, expected) in table {
        assert_eq!(status(&exit), expected, "{exit:?}");
    }
}

#[test]
fn a_program_that_ended_by_itself_needs_no_message() {
    assert_eq!(message(&workload(), &Exit::Status(134)), None);
}

#[test]
fn a_message_names_the_program_and_is_one_line() {
    let text = message(&workload(), &abort(AbortKind::BadProgram)).unwrap();
    assert_eq!(text, "hyperlight: app.wasm: program cannot run: why");
}

#[test]
fn too_little_memory_is_told_with_a_size_that_helps() {
    let text = message(&workload(), &abort(AbortKind::OutOfMemory)).unwrap();
    assert!(text.contains("the micro-VM has 1.0 MiB: try 256.0 MiB (`--memory`"), "{text}");
}
