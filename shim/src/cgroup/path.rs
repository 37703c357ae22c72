//! `linux.cgroupsPath` of the OCI spec, in its two forms, as a path below the root of a hierarchy.
//!
//! The form of the cgroupfs driver is a path. The form of the systemd driver is
//! `slice:prefix:name`; the directory systemd would use for it follows from the names alone
//! (systemd.slice(5)): each dash in a slice's name is a level. A path with `..` is refused.

use std::path::{Component, Path, PathBuf};

/// A `cgroupsPath` that names no cgroup.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// It climbs.
    #[error("linux.cgroupsPath {0:?} contains \"..\"")]
    Climbs(String),
    /// The slice of the systemd form is malformed.
    #[error("linux.cgroupsPath {0:?}: {1:?} is not the name of a systemd slice")]
    Slice(String, String),
    /// It is the root of the hierarchy.
    #[error("linux.cgroupsPath {0:?} names no cgroup below the root")]
    Root(String),
}

/// Parses `cgroupsPath`; the result is relative and has no `..`.
///
/// # Errors
///
/// See [`PathError`].
pub fn parse(text: &str) -> Result<PathBuf, PathError> {
    let path = match text.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] if !text.contains('/') => systemd(text, slice, prefix, name)?,
        _ => PathBuf::from(text),
    };
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => relative.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(PathError::Climbs(text.to_owned()));
            }
        }
    }
    if relative == Path::new("") {
        return Err(PathError::Root(text.to_owned()));
    }
    Ok(relative)
}

fn systemd(text: &str, slice: &str, prefix: &str, name: &str) -> Result<PathBuf, PathError> {
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let bad = || PathError::Slice(text.to_owned(), slice.to_owned());
    let stem = slice.strip_suffix(".slice").ok_or_else(bad)?;
    let mut path = PathBuf::new();
    if stem != "-" {
        if stem.is_empty() || stem.split('-').any(str::is_empty) {
            return Err(bad());
        }
        for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            path.push(format!("{}.slice", &stem[..end]));
        }
    }
    path.push(match (name.ends_with(".slice"), prefix.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => format!("{name}.scope"),
        (false, false) => format!("{prefix}-{name}.scope"),
    });
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroupfs_path_is_taken_below_the_root() {
        assert_eq!(parse("/kubepods/pod1/abc"), Ok(PathBuf::from("kubepods/pod1/abc")));
    }

    #[test]
    fn a_relative_path_is_taken_below_the_root() {
        assert_eq!(parse("default/./x"), Ok(PathBuf::from("default/x")));
    }

    #[test]
    fn a_nested_slice_becomes_one_directory_per_dash() {
        assert_eq!(
            parse("kubepods-burstable-pod1_2.slice:cri-containerd:abc"),
            Ok(PathBuf::from(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/\
                 cri-containerd-abc.scope"
            ))
        );
    }

    #[test]
    fn an_empty_slice_is_the_system_slice() {
        assert_eq!(parse(":hl:abc"), Ok(PathBuf::from("system.slice/hl-abc.scope")));
    }

    #[test]
    fn the_root_slice_adds_no_directory() {
        assert_eq!(parse("-.slice:hl:abc"), Ok(PathBuf::from("hl-abc.scope")));
    }

    #[test]
    fn an_empty_prefix_leaves_no_dash() {
        assert_eq!(parse("a.slice::abc"), Ok(PathBuf::from("a.slice/abc.scope")));
    }

    #[test]
    fn a_name_that_is_a_slice_stays_a_slice() {
        assert_eq!(parse("a.slice:p:b.slice"), Ok(PathBuf::from("a.slice/b.slice")));
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        assert_eq!(parse("/a/../../b"), Err(PathError::Climbs("/a/../../b".to_owned())));
    }

    #[test]
    fn a_systemd_name_that_climbs_is_refused() {
        assert_eq!(parse("a.slice:p:..").map(|path| path.starts_with("a.slice")), Ok(true));
        assert_eq!(
            parse("..:p:x").map_err(|error| matches!(error, PathError::Slice(..))),
            Err(true)
        );
    }

    #[test]
    fn the_root_is_refused() {
        assert_eq!(parse("/"), Err(PathError::Root("/".to_owned())));
        assert_eq!(parse(""), Err(PathError::Root(String::new())));
    }

    #[test]
    fn a_malformed_slice_is_refused() {
        for text in ["a:b:c", "a--b.slice:p:n", "-a.slice:p:n", ".slice:p:n"] {
            assert!(matches!(parse(text), Err(PathError::Slice(..))), "{text}");
        }
    }
}
