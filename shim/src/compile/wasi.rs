//! What guests provide: the interfaces of WASI 0.2, and the functions of WASI 0.1 ("preview 1").
//!
//! Rule: these tables say what the guest has, no more. Whatever else a program imports is refused by
//! name before anything is compiled.
//!
//! Source: the WIT packages of WASI 0.2.12; `wasi_snapshot_preview1.witx`.

use wasmtime::wasmparser::{FuncType, ValType};

/// Last patch release of WASI 0.2 whose interfaces the guest has. An import of a later one may name a
/// function that is not there.
pub(super) const PATCH_MAX: u32 = 12;

/// The module from which a core module imports WASI.
pub(super) const P1_MODULE: &str = "wasi_snapshot_preview1";

/// The module name of the snapshot before that, which nothing has emitted since 2020.
pub(super) const P0_MODULE: &str = "wasi_unstable";

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
    ("wasi:clocks", &["monotonic-clock", "timezone", "wall-clock"]),
    ("wasi:filesystem", &["preopens", "types"]),
    ("wasi:http", &["outgoing-handler", "types"]),
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

/// Whether the guest has the interface that a component imports by this name.
pub(super) fn is_provided(import: &str) -> bool {
    let interface = interface_0_2(import).and_then(|interface| interface.split_once('/'));
    interface.is_some_and(|(package, interface)| {
        PROVIDED
            .iter()
            .any(|(name, interfaces)| *name == package && interfaces.contains(&interface))
    })
}

/// `wasi:package/interface` of a name that ends in a version that the guest has.
pub(super) fn interface_0_2(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    let patch = version.strip_prefix("0.2.")?;
    let patch: u32 = patch.parse().ok().filter(|number: &u32| number.to_string() == patch)?;
    (patch <= PATCH_MAX).then_some(interface)
}

/// What to do about an import that is not provided.
pub(super) fn advice(import: &str) -> String {
    let version = import.split_once('@').map_or("", |(_, version)| version);
    if import.starts_with("wasi:") && version.starts_with("0.3.") {
        "it is of WASI 0.3; build for WASI 0.2".to_owned()
    } else if import.starts_with("wasi:") && version.contains("-rc") {
        "it is of a draft; build with a toolchain of WASI 0.2.0 or later".to_owned()
    } else {
        let packages: Vec<_> = PROVIDED.iter().map(|(package, _)| *package).collect();
        format!(
            "provided is WASI 0.2.0 to 0.2.{PATCH_MAX} ({}); build without it, or compose in a \
             component that exports it (`wac plug`)",
            packages.join(", ")
        )
    }
}

/// The functions of WASI 0.1 with their core types: each parameter `i` (i32) or `I` (i64). Each has one
/// result, i32, but for `proc_exit`, which has none.
const P1_FUNCTIONS: [(&str, &str); 46] = [
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
    ("sched_yield", ""),
    ("random_get", "ii"),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// The core type of a function of WASI 0.1.
pub(super) fn p1_function(name: &str) -> Option<FuncType> {
    let (_, params) = P1_FUNCTIONS.iter().find(|(function, _)| *function == name)?;
    let params = params.chars().map(|c| if c == 'I' { ValType::I64 } else { ValType::I32 });
    let result = (name != "proc_exit").then_some(ValType::I32);
    Some(FuncType::new(params, result))
}

#[cfg(test)]
mod tests {
    use super::super::outline::{CoreType, Outline};
    use super::*;

    #[test]
    fn the_functions_of_preview_1_are_those_of_wasmtimes_adapter() {
        let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
        assert_eq!(adapter, P1_MODULE);
        let wasm = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
        let outline = Outline::of(wasm).unwrap();
        for (name, _) in P1_FUNCTIONS {
            let export = outline.core_exports.iter().find(|it| it.name == name);
            let Some(CoreType::Func(ty)) = export.map(|it| &it.ty) else { panic!("{name}") };
            assert_eq!(Some(&**ty), p1_function(name).as_ref(), "{name}");
        }
    }

    #[test]
    fn advice_depends_on_what_is_missing() {
        assert!(advice("wasi:cli/stdin@0.3.0").contains("WASI 0.2"));
        assert!(advice("wasi:cli/stdin@0.2.0-rc-2023-12-05").contains("draft"));
        let other = advice("my:own/thing");
        let packages =
            "wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:io, wasi:random, wasi:sockets";
        assert!(other.contains("compose") && other.contains(packages), "{other}");
    }
}
