//! Whether a guest can run a file, decided before it is compiled.
//!
//! Rule: everything that the engine would discover only inside the micro-VM (an import that nobody
//! provides, nothing to run) is refused here, by name. Of several reasons the one is given that tells
//! most about how the file was built.

use super::outline::{CoreImport, CoreType, Kind, Outline};
use super::proposal;
use super::refusal::one_line;
use super::wasi::{P0_MODULE, P1_MODULE, interface_0_2, is_provided, p1_function};
use super::{Entry, EntryPoints, Refusal};

/// Most exports that a message lists.
const EXPORTS_LISTED_MAX: usize = 10;

/// Tells wasm from everything else by its first eight bytes: magic number, version, layer.
pub(super) fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    let hex = |bytes: &[u8]| {
        bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    if wasm.is_empty() {
        return Err(Refusal::Empty);
    }
    let Some(rest) = wasm.strip_prefix(b"\0asm") else {
        return Err(match is_text(wasm) {
            true => Refusal::Text,
            false => Refusal::NotWasm { first_bytes: hex(wasm) },
        });
    };
    match rest.first_chunk::<4>() {
        Some([1, 0, 0, 0] | [0x0d, 0, 1, 0]) => Ok(()),
        _ => Err(Refusal::UnknownVersion { bytes: hex(rest.get(..4).unwrap_or(rest)) }),
    }
}

/// Whether `bytes` begin as the text format does: a parenthesis and a word, behind comments.
fn is_text(bytes: &[u8]) -> bool {
    let mut text = bytes.trim_ascii_start();
    while let Some(comment) = text.strip_prefix(b";;") {
        let end = comment.iter().position(|byte| *byte == b'\n').unwrap_or(comment.len());
        text = comment.get(end..).unwrap_or_default().trim_ascii_start();
    }
    [&b"(module"[..], b"(component", b"(;", b"(assert_"].iter().any(|word| text.starts_with(word))
}

/// Whether guests have all that the file imports.
pub(super) fn admit(outline: &Outline<'_>) -> Result<(), Refusal> {
    if outline.core_imports.iter().any(wants_threads) {
        return Err(Refusal::proposal(&proposal::THREADS));
    }
    for import in &outline.imports {
        if !is_provided(import) {
            return Err(Refusal::UnknownImport { name: one_line(import) });
        }
    }
    outline.core_imports.iter().try_for_each(admit_core)
}

/// Whether this is what a toolchain imports for threads.
fn wants_threads(import: &CoreImport<'_>) -> bool {
    import.ty == CoreType::Memory { shared: true }
        || (import.module, import.name) == ("wasi", "thread-spawn")
}

fn admit_core(import: &CoreImport<'_>) -> Result<(), Refusal> {
    let expected = match import.module {
        P0_MODULE => return Err(Refusal::Preview0 { name: one_line(&import.name) }),
        P1_MODULE => p1_function(import.name),
        _ => None,
    };
    let unknown = || Refusal::UnknownCoreImport {
        name: one_line(&format_args!("{}.{}", import.module, import.name)),
        kind: import.ty.kind().to_owned(),
    };
    match (&import.ty, expected) {
        (CoreType::Func(found), Some(expected)) if **found != expected => Err(Refusal::Signature {
            name: one_line(&import.name),
            found: one_line(found),
            expected: expected.to_string(),
        }),
        // The validator has a better word for a function without a type.
        (CoreType::Func(_) | CoreType::Unknown, Some(_)) => Ok(()),
        _ => Err(unknown()),
    }
}

/// Where the program can begin.
pub(super) fn entry_points(outline: &Outline<'_>) -> EntryPoints {
    EntryPoints { command: not_a_command(outline).is_none(), handler: is_handler(outline) }
}

/// Why the file is not what is asked for; `None` if it is.
pub(super) fn refuse_entry(outline: &Outline<'_>, entry: Entry) -> Option<Refusal> {
    if entry.admits(entry_points(outline)) {
        return None;
    }
    match entry {
        Entry::Handler => Some(Refusal::NoHandler {
            exports: shown(outline.exports.iter().copied()),
            is_command: not_a_command(outline).is_none(),
        }),
        Entry::Command | Entry::Task | Entry::Any => not_a_command(outline),
    }
}

fn is_handler(outline: &Outline<'_>) -> bool {
    outline.kind == Kind::Component && exports(outline, "wasi:http/incoming-handler")
}

fn exports(outline: &Outline<'_>, interface: &str) -> bool {
    outline.exports.iter().any(|name| interface_0_2(name) == Some(interface))
}

/// Why the file is no command; `None` if it is one. A file that has no entry point is a library: what it
/// exports can be called.
fn not_a_command(outline: &Outline<'_>) -> Option<Refusal> {
    match outline.kind {
        Kind::Component if exports(outline, "wasi:cli/run") => None,
        Kind::Component => Some(Refusal::NoRun {
            exports: shown(outline.exports.iter().copied()),
            is_handler: is_handler(outline),
        }),
        Kind::Module => match start(outline) {
            Some(CoreType::Func(ty)) if ty.params().is_empty() && ty.results().is_empty() => None,
            Some(CoreType::Func(ty)) => Some(Refusal::StartSignature { found: one_line(ty) }),
            _ => {
                let functions = outline.core_exports.iter();
                let functions = functions.filter(|export| matches!(export.ty, CoreType::Func(_)));
                let functions = shown(functions.map(|export| export.name));
                Some(Refusal::NoStart { functions })
            }
        },
    }
}

fn shown<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(EXPORTS_LISTED_MAX).map(|name| one_line(&name)).collect()
}

fn start<'a>(outline: &'a Outline<'_>) -> Option<&'a CoreType> {
    outline.core_exports.iter().find(|export| export.name == "_start").map(|export| &export.ty)
}
