use abi::Violation;
use abi::layout::ExceptionRecord;

use super::*;

fn workload() -> Workload {
    serde_json::from_value(serde_json::json!({
        "program": "/nonexistent", "program_name": "app.wasm", "args": ["app.wasm"], "env": [],
        "preopens": [], "memory": 1 << 20,
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

#[test]
fn a_report_is_read_back() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut writer = File::from(OwnedFd::from(writer));
    write_report(&mut writer, &Report::Ready).unwrap();
    write_report(&mut writer, &Report::Error("two\nlines".to_owned())).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let reports: Vec<_> = text.lines().map(parse_report).collect();
    assert_eq!(reports, [Some(Ok(())), Some(Err("two\nlines".to_owned()))]);
}

#[test]
fn what_is_no_report_is_none() {
    for line in ["", "ready", "{}", "\"set\"", "{\"error\":1}"] {
        assert_eq!(parse_report(line), None, "{line}");
    }
}

/// What a VMM process does with `json` as its work and `start` as what its start pipe gives.
fn serve_with(json: &[u8], start: &[u8]) -> (Result<u8, ChildError>, String) {
    let file = |fd: OwnedFd| File::from(fd);
    let (work, mut work_writer) = io::pipe().unwrap();
    let (mut report, report_writer) = io::pipe().unwrap();
    let (start_reader, mut start_writer) = io::pipe().unwrap();
    work_writer.write_all(json).unwrap();
    start_writer.write_all(start).unwrap();
    drop((work_writer, start_writer));
    let ended = serve(&file(work.into()), file(report_writer.into()), file(start_reader.into()));
    let mut text = String::new();
    report.read_to_string(&mut text).unwrap();
    (ended, text)
}

#[test]
fn a_workload_that_is_not_json_is_reported() {
    let (ended, report) = serve_with(b"{", &[START]);
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    let message = parse_report(&report).unwrap().unwrap_err();
    assert!(message.starts_with("parse the workload"), "{message}");
}

#[test]
fn a_program_that_does_not_exist_is_reported_by_its_path() {
    let json = serde_json::to_vec(&workload()).unwrap();
    let (ended, report) = serve_with(&json, &[START]);
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    let message = parse_report(&report).unwrap().unwrap_err();
    assert!(message.contains("/nonexistent"), "{message}");
}
