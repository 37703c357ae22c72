//! The wasm that an exec runs: a file that the container sees, in its root file system or in a mount.
//!
//! Rule: the first argument is a path, absolute or from the working directory; nothing is searched in `PATH`. It
//! is resolved within the mount it lies in, or within the root file system, and no symbolic link leads out of
//! that.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::{ArtifactError, file_name, wasm_in, wasm_in_rootfs};
use crate::aot::Wasm;
use crate::bundle::{Bind, Bundle};

/// What is said of a file that is not there.
pub const NOT_THERE: &str = "not in the root file system";

/// The wasm that the first argument of `bundle` names.
///
/// # Errors
///
/// See [`ArtifactError`].
pub fn command(bundle: &Bundle) -> Result<Wasm, ArtifactError> {
    let argument = bundle.program();
    let path = absolute(&bundle.cwd, argument);
    let found = match mount_of(&bundle.binds, &path) {
        None => wasm_in_rootfs(&bundle.rootfs, &path)?,
        Some((bind, rest)) if bind.source.is_dir() => {
            wasm_in_rootfs(&bind.source, &Path::new("/").join(rest))?
        }
        Some((bind, rest)) if rest.as_os_str().is_empty() => {
            let read = |source| ArtifactError::ReadFile { path: path.clone(), source };
            // Not blocking, for a FIFO.
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&bind.source);
            wasm_in(file.map_err(read)?).map_err(read)?
        }
        // Below a file.
        Some(_) => Err(NOT_THERE),
    };
    match found {
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

/// The mount that `path` lies in, and where in it: of several the innermost, of equal ones the last, which
/// lies over the others.
fn mount_of<'a, 'b>(binds: &'a [Bind], path: &'b Path) -> Option<(&'a Bind, &'b Path)> {
    let inside = binds.iter().filter_map(|bind| {
        path.strip_prefix(&bind.destination).ok().map(|rest| (bind, rest))
    });
    inside.max_by_key(|(bind, _)| bind.destination.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str, destination: &str) -> Bind {
        Bind { source: source.into(), destination: destination.into(), read_only: false }
    }

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

    #[test]
    fn of_mounts_the_innermost_and_last_counts() {
        let binds = [bind("/a", "/data"), bind("/b", "/data/in"), bind("/c", "/data")];
        let found = |path| {
            let (bind, rest) = mount_of(&binds, Path::new(path))?;
            Some((bind.source.to_str().unwrap(), rest.to_str().unwrap()))
        };

        assert_eq!(found("/data/x"), Some(("/c", "x")));
        assert_eq!(found("/data/in/x"), Some(("/b", "x")));
        assert_eq!(found("/data"), Some(("/c", "")));
        assert_eq!(found("/database"), None);
        assert_eq!(found("/etc/x"), None);
    }
}
