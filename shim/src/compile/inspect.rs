//! What a file is, and whether a guest can run it, before it is compiled.
//!
//! Rule: everything that Wasmtime would discover only inside the micro-VM (a core module, nothing to
//! run, an import that nobody provides) is refused here, by name. Whether the bytes are valid wasm is
//! left to the compiler.

use wasmtime::wasmparser::{Encoding, Parser, Payload, WasmFeatures};

use super::Refusal;
use super::refusal::one_line;

/// Last patch release of WASI 0.2 whose interfaces the guest has. An import of a later one may name a
/// function that is not there.
pub(super) const WASI_PATCH_MAX: u32 = 12;

/// The interfaces of WASI 0.2 that the guest has, by package.
const PROVIDED: &[(&str, &[&str])] = &[
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["preopens", "types"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["insecure", "insecure-seed", "random"]),
    (
        "wasi:sockets",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

/// The packages of [`PROVIDED`], for a message.
pub(super) fn provided_packages() -> String {
    PROVIDED.iter().map(|(package, _)| *package).collect::<Vec<_>>().join(", ")
}

/// Most exports that a message lists.
const EXPORTS_LISTED_MAX: usize = 10;

/// Checks that `wasm` is a component that is a command and imports nothing but what guests have.
pub(super) fn inspect(wasm: &[u8]) -> Result<(), Refusal> {
    check_header(wasm)?;
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut depth = 0_u32;
    let mut core = None;
    let mut exports = Vec::new();
    let mut runs = false;
    for payload in parser.parse_all(wasm) {
        match payload.map_err(|error| Refusal::invalid(&error))? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                core = Some(Refusal::CoreLibrary);
            }
            Payload::ExportSection(section)
                if depth == 0
                    && section.clone().into_iter().flatten().any(|it| it.name == "_start") =>
            {
                core = Some(Refusal::CoreCommand);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import.map_err(|error| Refusal::invalid(&error))?.name.name;
                    if !is_provided(name) {
                        return Err(Refusal::UnknownImport { name: one_line(&name) });
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let name = export.map_err(|error| Refusal::invalid(&error))?.name.name;
                    runs |= wasi_0_2_interface(name) == Some("wasi:cli/run");
                    if exports.len() < EXPORTS_LISTED_MAX {
                        exports.push(one_line(&name));
                    }
                }
            }
            _ => {}
        }
    }
    match core {
        Some(refusal) => Err(refusal),
        None if runs => Ok(()),
        None => Err(Refusal::NoRun { exports }),
    }
}

/// Tells wasm from everything else by its first eight bytes: magic number, version, layer.
fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    let hex = |bytes: &[u8]| {
        bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    };
    if wasm.is_empty() {
        return Err(Refusal::Empty);
    }
    let Some(rest) = wasm.strip_prefix(b"\0asm") else {
        let text = wasm.trim_ascii_start();
        if text.starts_with(b"(module") || text.starts_with(b"(component") {
            return Err(Refusal::Text);
        }
        return Err(Refusal::NotWasm { first_bytes: hex(wasm) });
    };
    match rest.first_chunk::<4>() {
        Some([1, 0, 0, 0] | [0x0d, 0, 1, 0]) => Ok(()),
        _ => Err(Refusal::UnknownVersion { bytes: hex(rest.get(..4).unwrap_or(rest)) }),
    }
}

fn is_provided(import: &str) -> bool {
    let interface = wasi_0_2_interface(import).and_then(|interface| interface.split_once('/'));
    interface.is_some_and(|(package, interface)| {
        PROVIDED
            .iter()
            .any(|(name, interfaces)| *name == package && interfaces.contains(&interface))
    })
}

/// `wasi:package/interface` of a name that ends in a version that the guest has.
fn wasi_0_2_interface(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    let patch = version.strip_prefix("0.2.")?;
    let patch: u32 = patch.parse().ok().filter(|number: &u32| number.to_string() == patch)?;
    (patch <= WASI_PATCH_MAX).then_some(interface)
}
