//! `hyperlight inspect`, and what it makes of files that were made to harm it.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use shim::digest::Digest;

const HYPERLIGHT: &str = env!("CARGO_BIN_EXE_hyperlight");

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func (param i32 i32) (result i32)))
    (memory (export "memory") 1 4) (table 3 funcref) (data (i32.const 0) "data")
    (func (param i32) (result i32) (i32.extend8_s (local.get 0)))
    (func (export "_start")))"#;

const LIBRARY: &str = r#"(component
    (import "wasi:io/error@0.2.6" (instance (export "error" (type (sub resource)))))
    (import "wasi:filesystem/preopens@0.2.3" (instance))
    (core module $m (func (export "add") (param i32 i32) (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add")))
    (instance $sums (export "add" (func $add)))
    (export "add" (func $add))
    (export "my:own/sums" (instance $sums)))"#;

/// Inspects `wasm` as `app.wasm`, with a cache of its own.
fn inspect(wasm: &[u8], options: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, wasm).unwrap();
    hyperlight("inspect", options, dir.path(), &file)
}

fn hyperlight(subcommand: &str, options: &[&str], dir: &Path, file: &Path) -> Output {
    let mut command = Command::new(HYPERLIGHT);
    command.arg(subcommand).args(options).arg("--cache-dir").arg(dir.join("cache")).arg(file);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&text(output)).unwrap()
}

fn digest(wasm: &[u8]) -> String {
    Digest::of(wasm).hex().to_owned()
}

#[test]
fn a_command_module_is_shown_on_one_screen() {
    let wasm = wat::parse_str(COMMAND).unwrap();
    let expected = format!(
        "\
app.wasm: core module, command, WASI preview 1

  runs       yes
  size       {bytes} B ({bytes} bytes)
  digest     sha256:{digest}
  compiled   not in the cache
  memory     64.0 KiB at start, at most 256.0 KiB; tables of 3 elements; 4 B of data
  proposals  sign-extension-ops
  granted    arguments, standard streams
  on request environment variables, with --env
  not here   open sockets

imports
  wasi_snapshot_preview1
    args_get, environ_get, fd_write, sock_shutdown

exports
  memory: memory
  _start: (func)
",
        bytes = wasm.len(),
        digest = digest(&wasm)
    );
    assert_eq!(text(&inspect(&wasm, &[])), expected);
}

#[test]
fn a_library_component_is_shown_with_the_functions_that_can_be_called() {
    let wasm = wat::parse_str(LIBRARY).unwrap();
    let shown = text(&inspect(&wasm, &[]));
    let expected = "\
imports
  wasi:io/error@0.2.6
  wasi:filesystem/preopens@0.2.3

exports
  add: func(a: s32, b: s32) -> s32
  my:own/sums
    add: func(a: s32, b: s32) -> s32
";
    assert!(shown.ends_with(expected), "{shown}");
    assert!(shown.starts_with("app.wasm: component, library, WASI 0.2.3 and 0.2.6\n"), "{shown}");
    assert!(
        shown.contains("\n  runs       with --invoke only: exports no wasi:cli/run"),
        "{shown}"
    );
    assert!(shown.contains("\n  on request directories, with --dir\n"), "{shown}");
}

#[test]
fn json_has_the_same_and_more() {
    let wasm = wat::parse_str(COMMAND).unwrap();
    let mut answer = json(&inspect(&wasm, &["--json"]));
    assert!(answer["file"].take().as_str().unwrap().ends_with("/app.wasm"));
    let function = |name: &str, ty: &str| serde_json::json!({"name": name, "ty": ty});
    let two = "(func (param i32 i32) (result i32))";
    let expected = serde_json::json!({
        "file": null,
        "digest": format!("sha256:{}", digest(&wasm)),
        "wasm_bytes": wasm.len(),
        "kind": "module",
        "world": "command",
        "wasi": ["preview 1"],
        "runs": true,
        "serves": false,
        "refusal": null,
        "invokes": true,
        "invoke_refusal": null,
        "imports": [{
            "name": "wasi_snapshot_preview1",
            "kind": "interface",
            "functions": [
                function("args_get", two),
                function("environ_get", two),
                function("fd_write", "(func (param i32 i32 i32 i32) (result i32))"),
                function("sock_shutdown", two),
            ],
        }],
        "exports": [
            {"name": "memory", "kind": "memory", "functions": []},
            {"name": "_start", "kind": "function", "functions": [function("_start", "(func)")]},
        ],
        "proposals": ["sign-extension-ops"],
        "granted": ["arguments", "standard streams"],
        "granted_by_options": {"--env": "environment variables"},
        "not_granted": ["open sockets"],
        "memory": {
            "memories": [{"min": 65536, "max": 262_144}],
            "tables": [{"min": 3, "max": null}],
            "data_bytes": 4,
        },
        "program": null,
        "program_bytes": null,
    });
    assert_eq!(answer, expected);
}

#[test]
fn the_compiled_program_is_shown_when_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, wat::parse_str(COMMAND).unwrap()).unwrap();
    let compiled = json(&hyperlight("compile", &["--json"], dir.path(), &file));
    let inspected = json(&hyperlight("inspect", &["--json"], dir.path(), &file));
    assert_eq!(inspected["program"], compiled["program"]);
    assert_eq!(inspected["program_bytes"], compiled["program_bytes"]);
}

#[test]
fn looking_makes_no_cache() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, wat::parse_str(COMMAND).unwrap()).unwrap();
    text(&hyperlight("inspect", &[], dir.path(), &file));
    assert!(!dir.path().join("cache").exists());
}

#[test]
fn compiling_tells_time_and_memory_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, wat::parse_str(COMMAND).unwrap()).unwrap();
    let first = json(&hyperlight("compile", &["--json"], dir.path(), &file));
    assert!(first["compile_ms"].is_u64(), "{first}");
    assert!(first["compile_peak_bytes"].as_u64().unwrap() > 1 << 20, "{first}");
    let second = json(&hyperlight("compile", &["--json"], dir.path(), &file));
    assert!(second["compile_ms"].is_null() && second["compile_peak_bytes"].is_null(), "{second}");
    fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let line = text(&hyperlight("compile", &[], dir.path(), &file));
    assert!(line.contains(" of memory (") && line.lines().count() == 1, "{line}");
}

#[test]
fn the_reason_is_that_of_a_run() {
    let files = [
        COMMAND.replace("fd_write", "fd_open"),
        COMMAND.replace("_start", "main"),
        COMMAND.replace("(memory ", "(memory 1 1 shared) (memory "),
        LIBRARY.replace("wasi:io/error@0.2.6", "wasi:keyvalue/store@0.2.6"),
        LIBRARY.to_owned(),
    ];
    for wat in files {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.wasm");
        fs::write(&file, wat::parse_str(&wat).unwrap()).unwrap();
        let inspected = json(&hyperlight("inspect", &["--json"], dir.path(), &file));
        let run = hyperlight("run", &[], dir.path(), &file);
        let said = String::from_utf8(run.stderr).unwrap();
        let said: Vec<_> = said
            .lines()
            .filter(|line| !line.starts_with("compiling ") && !line.starts_with("compiled "))
            .collect();
        assert_eq!((run.status.code(), inspected["runs"].as_bool()), (Some(126), Some(false)));
        let reason = inspected["refusal"].as_str().unwrap();
        assert_eq!(said.join("\n"), format!("hyperlight: app.wasm: {reason}"));
    }
}

#[test]
fn a_library_that_was_compiled_is_still_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.wasm");
    fs::write(&file, wat::parse_str(LIBRARY).unwrap()).unwrap();
    let compiled = json(&hyperlight("compile", &["--json"], dir.path(), &file));
    assert_eq!(compiled["is_command"], false);
    let run = hyperlight("run", &[], dir.path(), &file);
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(126), "{said}");
    assert!(said.contains("exports no wasi:cli/run") && said.contains("--invoke"), "{said}");
}

#[test]
fn a_name_cannot_reach_the_terminal() {
    let wat = COMMAND.replace("\"fd_write\"", r#""\1b[2J\0d\0aroot# ""#);
    let wat = wat.replace("\"memory\"", r#""\1b]0;title\07""#);
    let shown = text(&inspect(&wat::parse_str(&wat).unwrap(), &[]));
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.contains(r"\u{1b}[2J"), "{shown}");
}

/// LEB128, as wasm has its numbers.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], &leb128(content.len())[..], content].concat()
}

#[test]
fn files_made_to_harm_are_refused_in_one_line() {
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let endless = b"\xff\xff\xff\xff\x0f";
    // A function type of a thousand parameters, and many imports of it.
    let long_type = [&[1, 0x60][..], &leb128(1000), &[0x7f; 1000], &[0]].concat();
    let imports = [leb128(900_000), vec![0; 4 * 900_000]].concat();
    let mut nested = COMPONENT.to_vec();
    for _ in 0..200 {
        nested = [COMPONENT, &section(4, &nested)].concat();
    }
    let whole = wat::parse_str(LIBRARY).unwrap();
    let files: [(&str, Vec<u8>); 9] = [
        ("endless types", [MODULE, &section(1, endless)].concat()),
        ("endless imports", [MODULE, &section(2, endless)].concat()),
        ("endless exports of a component", [COMPONENT, &section(11, endless)].concat()),
        ("a section longer than the file", [MODULE, &[1], endless].concat()),
        ("long types", [MODULE, &section(1, &long_type), &section(2, &imports)].concat()),
        ("components in components", [COMPONENT, &section(4, &nested)].concat()),
        ("the first half", whole[..whole.len() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("zeros", [MODULE, &[0; 1000]].concat()),
    ];
    for (name, file) in files {
        let output = inspect(&file, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(126), "{name}: {said}");
        let said: Vec<_> = said.lines().filter(|line| !line.starts_with("inspecting ")).collect();
        let [line] = said[..] else { panic!("{name}: {said:?}") };
        assert!(line.starts_with("hyperlight: app.wasm: "), "{name}: {line}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}
