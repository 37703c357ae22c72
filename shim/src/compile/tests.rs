use super::refusal::one_line;
use super::*;

/// A component that is a command and does nothing.
const COMMAND: &str = r#"
    (component
        (import "wasi:io/error@0.2.6" (instance (export "error" (type (sub resource)))))
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.6" (instance $cli)))"#;

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn compiled(wasm: &[u8]) -> Result<Compiled, Refusal> {
    compile(wasm, Entry::Command, Withheld::default())
}

fn refusal(wasm: &[u8]) -> Refusal {
    compiled(wasm).unwrap_err()
}

fn module_refusal(body: &str) -> Refusal {
    refusal(&binary(&format!("(module {body} (func (export \"_start\")))")))
}

fn with_import(name: &str) -> Vec<u8> {
    binary(&COMMAND.replace("wasi:io/error@0.2.6", name))
}

#[test]
fn a_command_component_is_compiled() {
    let Compiled { program, entry_points } = compiled(&binary(COMMAND)).unwrap();
    let kind = Engine::detect_precompiled(&program);
    assert_eq!((kind, entry_points.command), (Some(wasmtime::Precompiled::Component), true));
}

#[test]
fn a_command_module_is_compiled() {
    let wasm = binary(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "wasi_snapshot_preview1" "fd_seek"
                (func (param i32 i64 i32 i32) (result i32)))
            (memory (export "memory") 1) (func (export "_start")))"#,
    );
    let Compiled { program, entry_points } = compiled(&wasm).unwrap();
    let kind = Engine::detect_precompiled(&program);
    assert_eq!((kind, entry_points.command), (Some(wasmtime::Precompiled::Module), true));
}

#[test]
fn a_library_is_compiled_for_who_calls_its_functions() {
    let reactor = r#"(module (func (export "_initialize")) (func (export "add")))"#;
    let component = COMMAND.replace("wasi:cli/run@0.2.6", "my:own/runner");
    for library in [reactor, &component] {
        let library = compile(&binary(library), Entry::Any, Withheld::default()).unwrap();
        assert_eq!(library.entry_points, EntryPoints::default());
    }
}

#[test]
fn every_patch_release_that_the_guest_has_may_be_imported() {
    for patch in 0..=wasi::PATCH_MAX {
        compiled(&with_import(&format!("wasi:io/error@0.2.{patch}"))).unwrap();
    }
}

#[test]
fn what_guests_do_not_have_is_refused_by_name() {
    let names = [
        "wasi:http/types@0.2.13",
        "wasi:io/error@0.2.13",
        "wasi:io/error@0.3.0",
        "wasi:io/error@0.2.00",
        "wasi:io/error",
        "wasi:io/unheard-of@0.2.0",
        "my:own/thing@0.2.0",
    ];
    for name in names {
        match wat::parse_str(COMMAND.replace("wasi:io/error@0.2.6", name)) {
            Ok(wasm) => {
                let refusal = refusal(&wasm);
                assert_eq!(refusal, Refusal::UnknownImport { name: name.to_owned() });
                assert!(refusal.to_string().contains(name), "{refusal}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn an_import_of_a_nested_component_is_nobodys_business() {
    let nested = COMMAND.replacen(
        "(core module",
        r#"(component (import "my:own/thing" (instance))) (core module"#,
        1,
    );
    compiled(&binary(&nested)).unwrap();
}

#[test]
fn a_component_without_run_is_told_what_it_exports() {
    let other = COMMAND.replace("wasi:cli/run@0.2.6", "my:own/runner");
    let refusal = refusal(&binary(&other));
    assert_eq!(
        refusal,
        Refusal::NoRun { exports: vec!["my:own/runner".to_owned()], is_handler: false }
    );
    assert!(refusal.to_string().contains("it exports my:own/runner"), "{refusal}");
    let nothing = compiled(b"\0asm\x0d\0\x01\0").unwrap_err().to_string();
    assert!(nothing.contains("exports nothing"), "{nothing}");
}

#[test]
fn a_module_without_start_is_told_what_it_exports() {
    let library = refusal(&binary(
        r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "add")))"#,
    ));
    let functions = vec!["_initialize".to_owned(), "add".to_owned()];
    assert_eq!(library, Refusal::NoStart { functions });
    assert!(library.to_string().contains("--invoke"), "{library}");
}

#[test]
fn a_start_that_cannot_be_called_is_told_by_its_type() {
    let refusal = refusal(&binary(r#"(module (func (export "_start") (param i32)))"#));
    assert!(refusal.to_string().contains("(func (param i32))"), "{refusal}");
}

#[test]
fn an_import_that_is_no_function_of_preview_1_is_refused_by_name_and_kind() {
    let cases = [
        (r#"(import "env" "f" (func))"#, "function `env.f`"),
        (r#"(import "env" "memory" (memory 1))"#, "memory `env.memory`"),
        (r#"(import "env" "t" (table 1 funcref))"#, "table `env.t`"),
        (r#"(import "env" "g" (global i32))"#, "global `env.g`"),
        (r#"(import "wasi_snapshot_preview1" "fd_open" (func))"#, "preview1.fd_open`"),
        (r#"(import "wasi_snapshot_preview1" "fd_read" (memory 1))"#, "memory `wasi_snapshot"),
        (r#"(import "wasi_snapshot_preview2" "fd_read" (func))"#, "preview2.fd_read`"),
        (r#"(import "" "\0a" (func))"#, "function `."),
    ];
    for (import, named) in cases {
        let refusal = module_refusal(import);
        assert!(matches!(refusal, Refusal::UnknownCoreImport { .. }), "{import}: {refusal:?}");
        let text = refusal.to_string();
        assert!(text.contains(named) && !text.contains('\n'), "{import}: {text}");
    }
}

#[test]
fn a_function_of_preview_1_with_another_type_is_refused_with_both() {
    let refusal = module_refusal(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64 i64 i64 i64) (result i32)))"#,
    );
    let text = refusal.to_string();
    assert!(text.contains("(func (param i64 i64 i64 i64) (result i32))"), "{text}");
    assert!(text.contains("(func (param i32 i32 i32 i32) (result i32))"), "{text}");
}

#[test]
fn preview_0_is_refused_by_name() {
    let refusal = module_refusal(
        r#"(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
    );
    assert!(refusal.to_string().contains("`wasi_unstable.fd_write`"), "{refusal}");
}

#[test]
fn threads_are_named_whatever_else_is_imported() {
    let imports = [
        r#"(import "env" "memory" (memory 1 1 shared))"#,
        r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#,
        r#"(import "env" "f" (func)) (import "env" "memory" (memory 1 1 shared))"#,
    ];
    for import in imports {
        let refusal = module_refusal(import).to_string();
        assert!(refusal.contains("threads") && refusal.contains("-pthread"), "{refusal}");
    }
}

#[test]
fn a_component_that_handles_requests_is_a_task_and_no_command() {
    let handler =
        binary(&COMMAND.replace("wasi:cli/run@0.2.6", "wasi:http/incoming-handler@0.2.0"));
    let refusal = refusal(&handler).to_string();
    assert!(refusal.contains("not a command") && refusal.contains("hyperlight serve"), "{refusal}");
    for entry in [Entry::Handler, Entry::Task, Entry::Any] {
        let compiled = compile(&handler, entry, Withheld::default()).unwrap();
        assert_eq!(compiled.entry_points, EntryPoints { command: false, handler: true });
    }
}

#[test]
fn a_command_handles_no_requests_and_is_told_so() {
    let refused = compile(&binary(COMMAND), Entry::Handler, Withheld::default()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("handles no requests") && text.contains("hyperlight run"), "{text}");
}

#[test]
fn what_is_not_wasm_is_told_by_its_first_bytes() {
    let elf = refusal(b"\x7fELF\x02\x01\x01\0\0\0").to_string();
    assert!(elf.contains("7f 45 4c 46"), "{elf}");
    assert_eq!(refusal(b""), Refusal::Empty);
    for text in [&b"  (component)"[..], b";; a comment\n(module)", b"(; another ;) (module)"] {
        assert_eq!(refusal(text), Refusal::Text);
    }
    assert!(matches!(refusal(b"\0asm"), Refusal::UnknownVersion { .. }));
    assert!(matches!(refusal(b"\0asm\x02\0\0\0"), Refusal::UnknownVersion { .. }));
}

#[test]
fn a_component_cut_off_within_a_section_is_refused_with_a_place() {
    let whole = binary(COMMAND);
    let mut sound = Vec::new();
    for len in 8..whole.len() {
        match compiled(&whole[..len]) {
            Err(Refusal::Invalid { offset, .. }) => assert!(offset <= len as u64, "first {len}"),
            // Cut between two sections it is a whole, smaller component: one without its export,
            // or one without its names.
            Err(Refusal::NoRun { .. }) => {}
            Ok(_) => sound.push(len),
            Err(other) => panic!("first {len} bytes: {other:?}"),
        }
    }
    assert!(sound.len() <= 1, "{sound:?}");
}

#[test]
fn a_component_with_any_bit_changed_is_compiled_or_refused_in_one_line() {
    let whole = binary(COMMAND);
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Err(refusal) = compiled(&damaged) {
            let text = refusal.to_string();
            assert!(
                !text.chars().any(char::is_control) && text.len() < 1000,
                "bit {bit}: {text:?}"
            );
        }
    }
}

#[test]
fn a_file_with_any_bit_changed_is_inspected_or_refused() {
    let module = r#"(module (import "m" "f" (func)) (memory 1) (export "memory" (memory 0)))"#;
    for whole in [binary(COMMAND), binary(module)] {
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(inspection) = Inspection::of(&damaged) {
                let runs = compiled(&damaged).err();
                let only_compiling_tells = matches!(runs, Some(Refusal::Uncompilable { .. }));
                assert!(inspection.refusal == runs || only_compiling_tells, "bit {bit}: {runs:?}");
            }
        }
    }
}

#[test]
fn each_proposal_that_is_off_is_named_with_what_to_do() {
    let bodies = [
        ("(memory 1 1 shared)", "threads"),
        ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", "threads"),
        ("(func try catch_all end)", "legacy exception-handling"),
        ("(type $f (func)) (type (cont $f))", "stack-switching"),
        (
            "(func (param i64 i64 i64 i64) (result i64 i64) \
              (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
            "wide-arithmetic",
        ),
        ("(memory 1 (pagesize 1))", "custom-page-sizes"),
        ("(memory 1) (func (memory.discard (i32.const 0) (i32.const 0)))", "memory-control"),
    ];
    for (body, name) in bodies {
        let module = format!("(core module $m {body}");
        let component = refusal(&binary(&COMMAND.replace("(core module $m", &module)));
        let Refusal::Proposal { name: named, .. } = &component else {
            panic!("{body}: {component:?}")
        };
        assert!(named.starts_with(name), "{body}: {component}");
        assert!(component.to_string().contains("build "), "{component}");
    }
}

#[test]
fn each_part_of_the_component_model_that_is_off_is_named() {
    let bodies = [
        ("(core func (canon task.cancel))", "component-model async"),
        ("(type (stream u8))", "component-model async"),
        ("(type (list u8 4))", "component-model fixed-length lists"),
        ("(type (map string u8))", "component-model maps"),
    ];
    for (body, name) in bodies {
        let text = COMMAND.replace("(core module $m", &format!("{body} (core module $m"));
        let component = refusal(&binary(&text));
        let Refusal::Proposal { name: named, .. } = &component else {
            panic!("{body}: {component:?}")
        };
        assert!(named.starts_with(name), "{body}: {component}");
    }
}

#[test]
fn what_guests_can_run_is_compiled() {
    let bodies = [
        "(memory 1) (memory 1)",
        "(memory i64 1)",
        "(func $t return_call $t)",
        "(func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.relaxed_swizzle)",
        "(memory 1) (func i32.const 0 i32.const 0 i32.const 0 memory.copy)",
        "(tag $t) (func (block $b (try_table (catch_all $b) (throw $t))))",
        "(type $s (struct (field (mut i32)))) (func (drop (struct.new $s (i32.const 1))))",
        "(type $f (func)) (func $g) (elem declare func $g) (func (call_ref $f (ref.func $g)))",
        "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        "(table 1 externref) (func (param externref) (table.set 0 (i32.const 0) (local.get 0)))",
    ];
    for body in bodies {
        compiled(&binary(&COMMAND.replace("(core module $m", &format!("(core module $m {body}"))))
            .unwrap();
        compiled(&binary(&format!("(module {body} (func (export \"_start\")))"))).unwrap();
    }
}

#[test]
fn the_settings_tell_one_engine_from_another() {
    let of = |config: &Config| {
        Engine::new(config).unwrap().precompile_component(b"\0asm\x0d\0\x01\0").unwrap()
    };
    assert_eq!(of(&config(Withheld::default())), settings(Withheld::default()).unwrap());
    let mut guarded = config(Withheld::default());
    guarded.memory_guard_size(1 << 16);
    assert_ne!(of(&guarded), settings(Withheld::default()).unwrap());
    // A target that is named is one without the features of this CPU.
    let mut other_cpu = config(Withheld::default());
    other_cpu.target("x86_64-unknown-linux-gnu").unwrap();
    assert_ne!(of(&other_cpu), settings(Withheld::default()).unwrap());
}

#[test]
fn a_refusal_survives_its_json() {
    let refusals = [
        Refusal::NoStart { functions: Vec::new() },
        Refusal::Invalid { reason: "r".to_owned(), offset: 7 },
        Refusal::NoRun { exports: vec!["a".to_owned()], is_handler: true },
        Refusal::NoHandler { exports: vec!["a".to_owned()], is_command: true },
    ];
    for refusal in refusals {
        let json = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), refusal);
    }
}

#[test]
fn text_from_a_file_cannot_break_out_of_its_line() {
    assert_eq!(one_line(&"a\nb\x1b[2J"), "a; b\\u{1b}[2J");
    assert_eq!(one_line(&"x".repeat(5000)).len(), 400);
}
