//! containerd's configuration: what is added to it, and what containerd makes of it.
//!
//! Rule: a file that is not ours is changed by one import at most, with everything else in it as it was, byte
//! by byte. What containerd then makes of all its files, containerd says itself (`config dump`): no rule of its
//! for imports and versions is repeated here.

use std::path::Path;

use clap::ValueEnum;
use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

/// The handler that a RuntimeClass names.
pub const HANDLER: &str = "hyperlight";

/// Names of the CRI's plugin that has the runtimes, by version of the configuration. containerd 2.0 reads the first two
/// of them, 2.3 all (docs/cri/config.md).
const PLUGINS: [(i64, &str); 3] = [
    (2, "io.containerd.grpc.v1.cri"),
    (3, "io.containerd.cri.v1.runtime"),
    (4, "io.containerd.cri.v1.runtime"),
];

/// Who makes the pods of the runtime, as containerd names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sandboxer {
    /// containerd, around a pause container that the shim stands in for
    #[default]
    Podsandbox,
    /// The shim, by containerd's Sandbox API; needs containerd 2.3 or newer
    Shim,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no TOML.
    #[error("it is not TOML")]
    Toml(#[from] toml_edit::TomlError),
    /// It is of a version that containerd 2.x does not read, or that is not known.
    #[error(
        "its version is {0}, and 2 to 4 are known: `containerd config migrate` writes one of them"
    )]
    Version(i64),
    /// Its imports are no list.
    #[error("`imports` is not a list")]
    Imports,
}

/// The version that `text` says; a file that is not there is as one of the newest.
///
/// # Errors
///
/// It is no TOML, or of a version that is not known.
pub(super) fn version(text: Option<&str>) -> Result<i64, ConfigError> {
    let Some(text) = text else { return Ok(3) };
    let document: DocumentMut = text.parse()?;
    // containerd's default since its first release (version 1, gone in 2.0).
    let version = document.get("version").and_then(Item::as_integer).unwrap_or(1);
    match PLUGINS.iter().any(|(known, _)| *known == version) {
        true => Ok(version),
        false => Err(ConfigError::Version(version)),
    }
}

/// The drop-in: the runtime, whose program is `shim`, in a file of that version, with pods by `sandboxer`.
#[must_use]
pub(super) fn drop_in(version: i64, shim: &Path, sandboxer: Sandboxer) -> String {
    let plugin = PLUGINS.iter().find(|(known, _)| *known == version).unwrap_or(&PLUGINS[1]).1;
    let pods = match sandboxer {
        // containerd's default.
        Sandboxer::Podsandbox => "",
        Sandboxer::Shim => "  sandboxer = 'shim'\n",
    };
    let runtime = crate::serve::RUNTIME;
    // As a literal string of TOML, which has no escapes; a path with a quote in it was refused before.
    let shim = shim.display();
    format!(
        "# Written by `hyperlight node install`; `hyperlight node uninstall` removes it.\n\
         version = {version}\n\
         \n\
         [plugins.'{plugin}'.containerd.runtimes.{HANDLER}]\n  \
         runtime_type = '{runtime}'\n  \
         runtime_path = '{shim}'\n  \
         # What a pod may ask for: isolation, network, and how HTTP is served.\n  \
         pod_annotations = ['io.hyperlight.*']\n\
         {pods}"
    )
}

/// `text` with an import of `drop_in`; a file that is not there gets a version too.
///
/// # Errors
///
/// It is no TOML, or has imports that are no list.
pub(super) fn with_import(text: Option<&str>, drop_in: &Path) -> Result<String, ConfigError> {
    let drop_in = drop_in.to_string_lossy();
    let mut document: DocumentMut = text.unwrap_or("version = 3\n").parse()?;
    let imports = document.entry("imports").or_insert_with(|| Value::from(Array::new()).into());
    let imports = imports.as_array_mut().ok_or(ConfigError::Imports)?;
    if !imports.iter().any(|import| import.as_str() == Some(&drop_in)) {
        imports.push(drop_in.as_ref());
    }
    Ok(document.to_string())
}

/// `text` without the import of `drop_in`: for one that was changed by others since.
///
/// # Errors
///
/// It is no TOML.
pub(super) fn without_import(text: &str, drop_in: &Path) -> Result<String, ConfigError> {
    let drop_in = drop_in.to_string_lossy();
    let mut document: DocumentMut = text.parse()?;
    if let Some(imports) = document.get_mut("imports").and_then(Item::as_array_mut) {
        imports.retain(|import| import.as_str() != Some(&drop_in));
    }
    Ok(document.to_string())
}

/// Whether what containerd dumps has the runtime with `shim` as its program.
///
/// # Errors
///
/// It is no TOML.
pub(super) fn has_runtime(dump: &str, shim: &Path) -> Result<bool, ConfigError> {
    let document: DocumentMut = dump.parse()?;
    let runtime = |plugin| {
        ["plugins", plugin, "containerd", "runtimes", HANDLER]
            .iter()
            .try_fold(document.as_table() as &dyn TableLike, |table, key| {
                table.get(key)?.as_table_like()
            })
    };
    let path = |table: &dyn TableLike| {
        table.get("runtime_path").and_then(Item::as_str).map(Path::new) == Some(shim)
    };
    Ok(PLUGINS.iter().filter_map(|(_, plugin)| runtime(plugin)).any(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: &str = "/opt/hyperlight/bin/containerd-shim-hyperlight-v1";
    const DROP_IN: &str = "/etc/containerd/conf.d/hyperlight.toml";
    const CONFIG: &str =
        "# ours\nversion=3 # three\nroot = '/x'\n\n[grpc] # here\n  address = \"/y\"\n";

    #[test]
    fn the_drop_in_of_each_version_has_the_runtime() {
        for version in [2, 3, 4] {
            let text = drop_in(version, SHIM.as_ref(), Sandboxer::Shim);
            assert!(has_runtime(&text, SHIM.as_ref()).unwrap(), "{text}");
            assert!(text.contains("\n  sandboxer = 'shim'\n"), "{text}");
            assert_eq!(super::version(Some(&text)).unwrap(), version);
        }
    }

    #[test]
    fn another_shim_is_not_ours() {
        assert!(
            !has_runtime(&drop_in(3, "/x".as_ref(), Sandboxer::Podsandbox), SHIM.as_ref()).unwrap()
        );
        assert!(!has_runtime("version = 3\n", SHIM.as_ref()).unwrap());
    }

    #[test]
    fn an_import_changes_nothing_else() {
        let edited = with_import(Some(CONFIG), DROP_IN.as_ref()).unwrap();
        let line = format!("imports = [\"{DROP_IN}\"]\n");
        assert!(edited.contains(&line), "{edited}");
        assert_eq!(edited.replace(&line, ""), CONFIG);
    }

    #[test]
    fn imports_that_are_there_stay() {
        let edited = with_import(Some("version = 3\nimports = ['/a/*.toml']\n"), DROP_IN.as_ref());
        assert_eq!(
            edited.unwrap(),
            format!("version = 3\nimports = ['/a/*.toml', \"{DROP_IN}\"]\n")
        );
    }

    #[test]
    fn a_second_import_changes_nothing() {
        let once = with_import(Some(CONFIG), DROP_IN.as_ref()).unwrap();
        assert_eq!(with_import(Some(&once), DROP_IN.as_ref()).unwrap(), once);
    }

    #[test]
    fn a_file_that_is_not_there_gets_a_version() {
        let text = with_import(None, DROP_IN.as_ref()).unwrap();
        assert_eq!(text, format!("version = 3\nimports = [\"{DROP_IN}\"]\n"));
        assert_eq!(version(None).unwrap(), 3);
    }

    #[test]
    fn an_import_is_taken_out_of_what_others_have_changed() {
        let text = format!("version = 3\nimports = ['/a', '{DROP_IN}', '/b']\nroot = '/r'\n");
        let without = without_import(&text, DROP_IN.as_ref()).unwrap();
        assert_eq!(without, "version = 3\nimports = ['/a', '/b']\nroot = '/r'\n");
    }

    #[test]
    fn what_containerd_2_does_not_read_is_refused() {
        assert!(matches!(version(Some("root = '/x'\n")), Err(ConfigError::Version(1))));
        assert!(matches!(version(Some("version = 5\n")), Err(ConfigError::Version(5))));
        assert!(matches!(version(Some("version = = 3")), Err(ConfigError::Toml(_))));
        assert!(matches!(
            with_import(Some("version = 3\nimports = 'x'\n"), DROP_IN.as_ref()),
            Err(ConfigError::Imports)
        ));
    }
}
