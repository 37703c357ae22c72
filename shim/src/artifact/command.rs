//! The wasm that an exec runs: a file that the container sees, in its root file system or in a mount.
//!
//! Rule: the first argument is a path, absolute or from the working directory; nothing is searched in `PATH`. It
//! is resolved in what the container's own process sees, and no symbolic link leads out of that.

use std::path::{Component, Path, PathBuf};

use super::{ArtifactError, file_name, wasm_in_rootfs};
use crate::aot::Wasm;
use crate::bundle::Bundle;

/// What is said of a file that is not there.
pub const NOT_THERE: &str = "not in the root file system";

/// The wasm that the first argument of `bundle` names, as the process `pid` of the container sees it.
///
/// # Errors
///
/// See [`ArtifactError`].
pub fn command(bundle: &Bundle, pid: u32) -> Result<Wasm, ArtifactError> {
    let argument = bundle.program();
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    match wasm_in_rootfs(&root, &absolute(&bundle.cwd, argument))? {
        Ok(file) => Ok(Wasm::from_file(file_name(argument), file)?),
        Err(file) => Err(ArtifactError::NoCommand { argument: argument.to_owned(), file }),
    }
}

/// `path` from the root, without dots: what is above the root is the root.
fn absolute(cwd: &Path, path: &str) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    for component in cwd.join(path).components() {
        match component {
            Component::Normal(name) => absolute.push(name),
            Component::ParentDir => {
                absolute.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_or_from_the_working_directory() {
        for (path, expected) in [
            ("/bin/x.wasm", "/bin/x.wasm"),
            ("x.wasm", "/srv/app/x.wasm"),
            ("./bin/../x.wasm", "/srv/app/x.wasm"),
            ("../../../../x", "/x"),
            ("/..", "/"),
        ] {
            assert_eq!(absolute(Path::new("/srv/app"), path), Path::new(expected), "{path}");
        }
    }
}
