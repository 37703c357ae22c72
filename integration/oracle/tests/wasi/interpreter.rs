//! The program that makes calls for the tests: `interpreter.wat` with the functions of one version of
//! WASI, each by its number in a list.
//!
//! Core functions are called with plain numbers, so that a test can pass what no compiler would. For
//! 0.2 the list is made from the text of the interfaces, for preview 1 it is [`P1`].

use std::fmt::Write;

use super::world::World;
use oracle::Program;

/// Pages of the program's memory.
pub(super) const PAGES: u32 = 128;
/// Where a handler of requests puts the handles that it is given, of 4 bytes each.
pub(super) const GIVEN: u32 = 512;
/// Where a function of 0.2 writes a result that takes more than one number.
pub(super) const RETURNED: u32 = 1024;
/// Bytes there.
pub(super) const RETURNED_BYTES: u32 = 256;
/// Where the commands of a frame arrive.
pub(super) const COMMANDS: u32 = 1 << 16;
/// Where the answer is written.
const ANSWER: u32 = 2 << 20;
/// Memory for the tests' own use, up to [`HEAP`].
pub(super) const SCRATCH: u32 = 4 << 20;
/// Where memory is given to what calls return, up to the end.
pub(super) const HEAP: u32 = 6 << 20;

/// A function as a core module imports it.
#[derive(Clone, Debug)]
pub(super) struct Core {
    pub(super) module: String,
    pub(super) field: String,
    /// What the tests call it.
    pub(super) name: String,
    /// `i` for i32, `I` for i64.
    pub(super) params: String,
    pub(super) result: Option<char>,
}

/// The functions of preview 1 with their parameters: name, then `i` for i32 and `I` for i64
/// (`wasi_snapshot_preview1.witx`). All but `proc_exit` give an i32.
pub(super) const P1: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// An interpreter with its functions.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) program: Program,
    pub(super) functions: Vec<Core>,
}

impl Interpreter {
    /// For preview 1: a core module.
    pub(super) fn p1() -> Self {
        let functions: Vec<Core> = P1
            .iter()
            .map(|(name, params)| Core {
                module: "wasi_snapshot_preview1".to_owned(),
                field: (*name).to_owned(),
                name: (*name).to_owned(),
                params: (*params).to_owned(),
                result: (*name != "proc_exit").then_some('i'),
            })
            .collect();
        let transport = include_str!("transport_p1.wat");
        let entry = Entry { name: "_start", ty: "", begin: "", end: "(return)" };
        let module = assemble(&functions, transport, &entry);
        let program = Program::compile("interpreter.p1", &module).expect("compile for preview 1");
        Self { program, functions }
    }

    /// For the interfaces that `world` imports: a component.
    pub(super) fn p2(world: &World) -> Self {
        let functions = world.core_functions();
        let transport = include_str!("transport_p2.wat");
        let entry = Entry {
            name: "wasi:cli/run@0.2.12#run",
            ty: "(result i32)",
            begin: "",
            end: "(return (i32.const 0))",
        };
        let component = world.componentize(assemble(&functions, transport, &entry));
        let program = Program::compile("interpreter.p2", &component).expect("compile for 0.2");
        Self { program, functions }
    }

    /// For the interfaces that `world` imports: a component that answers requests. The handles that it is
    /// given are at [`GIVEN`].
    pub(super) fn handler(world: &World) -> Self {
        let functions = world.core_functions();
        let transport = include_str!("transport_p2.wat");
        let entry = Entry {
            name: "wasi:http/incoming-handler@0.2.12#handle",
            ty: "(param $request i32) (param $outparam i32)",
            begin: "(i32.store (i32.const {given}) (local.get $request))
                (i32.store offset=4 (i32.const {given}) (local.get $outparam))",
            end: "(return)",
        };
        let component = world.componentize(assemble(&functions, transport, &entry));
        let program = Program::compile("interpreter", &component).expect("compile for HTTP");
        Self { program, functions }
    }

    /// The number of a function.
    pub(super) fn number(&self, name: &str) -> u32 {
        let place = self.functions.iter().position(|function| function.name == name);
        u32::try_from(place.unwrap_or_else(|| panic!("no function {name}"))).expect("a few")
    }
}

/// How the program begins and ends.
struct Entry<'a> {
    name: &'a str,
    /// Its parameters and result.
    ty: &'a str,
    /// What it does first.
    begin: &'a str,
    end: &'a str,
}

/// The binary module.
fn assemble(functions: &[Core], transport: &str, entry: &Entry<'_>) -> Vec<u8> {
    let text = include_str!("interpreter.wat")
        .replace("{imports}", &imports(functions))
        .replace("{transport}", transport)
        .replace("{dispatch}", &dispatch(functions))
        .replace("{entry}", entry.name)
        .replace("{entry_type}", entry.ty)
        .replace("{begin}", entry.begin)
        .replace("{end}", entry.end);
    let numbers = [
        ("{pages}", PAGES),
        ("{heap}", HEAP),
        ("{answer}", ANSWER),
        ("{commands}", COMMANDS),
        ("{result}", RETURNED - 8),
        ("{given}", GIVEN),
    ];
    let text = numbers.iter().fold(text, |text, (name, n)| text.replace(name, &n.to_string()));
    wat::parse_str(text).expect("assemble the interpreter")
}

fn core_type(letter: char) -> &'static str {
    if letter == 'I' { "i64" } else { "i32" }
}

fn imports(functions: &[Core]) -> String {
    let mut text = String::new();
    for Core { module, field, name, params, result } in functions {
        let params: Vec<_> = params.chars().map(core_type).collect();
        let result = result.map_or_else(String::new, |it| format!("(result {})", core_type(it)));
        let params = params.join(" ");
        writeln!(
            text,
            "(import \"{module}\" \"{field}\" (func ${name} (param {params}) {result}))"
        )
        .expect("write to a string");
    }
    text
}

/// A table of branches to one call each.
fn dispatch(functions: &[Core]) -> String {
    let mut text = String::from("(block $none\n");
    let numbers = 0..functions.len();
    for number in numbers.clone().rev() {
        writeln!(text, "(block $f{number}").expect("write to a string");
    }
    let labels: Vec<String> = numbers.map(|number| format!("$f{number}")).collect();
    writeln!(text, "(br_table {} $none (local.get $function))", labels.join(" "))
        .expect("write to a string");
    for function in functions {
        let arguments: String = function.params.chars().enumerate().map(argument).collect();
        let call = format!("(call ${} {arguments})", function.name);
        let call = match function.result {
            Some('I') => format!("(return {call})"),
            Some(_) => format!("(return (i64.extend_i32_u {call}))"),
            None => format!("{call} (return (i64.const 0))"),
        };
        writeln!(text, ") {call}").expect("write to a string");
    }
    text + ") unreachable"
}

fn argument((index, letter): (usize, char)) -> String {
    let load = format!("({}.load offset={} (global.get $arguments))", core_type(letter), 8 * index);
    load + " "
}
