//! The files that a locked process may open, by Landlock (landlock(7)).
//!
//! Rule: what is not listed cannot be opened, whatever its permissions; nothing can be executed, and
//! nothing made but files, directories and links. Where sockets are not granted, no TCP port can be had
//! either, and no other process be reached by an abstract socket or a signal.
//!
//! It takes what the kernel has from Linux 5.19 on. Older ones cannot say that renaming from one directory
//! to another is allowed, and forbid it.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The first version with which everything works.
const OLDEST: ABI = ABI::V2;
/// The newest that these rules were written for.
const NEWEST: ABI = ABI::V6;

/// A directory or file that may be opened, and everything beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether it may only be read.
    pub(super) read_only: bool,
}

/// Restricts this thread, and those that it makes, to `opened`. Paths that do not exist are left out. Tells
/// whether the kernel has all of the rules.
///
/// # Errors
///
/// The kernel has no Landlock, or one that is too old.
pub(super) fn restrict(
    opened: &[Opened],
    has_network: bool,
) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    if !has_network {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut ruleset = ruleset.create()?;
    for Opened { path, read_only } in opened {
        // What is not there cannot be opened.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = access(*read_only, path.is_dir());
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
    }
    ruleset.restrict_self().map(|status| status.ruleset)
}

/// What is read to look up names and to trust servers: the configuration of the system, where its
/// `resolv.conf` really is, and roots of TLS.
pub(super) fn of_network() -> Vec<Opened> {
    let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok();
    let resolv_conf = resolv_conf.and_then(|path| path.parent().map(Path::to_owned));
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    let fixed = ["/etc", "/usr/share", "/usr/local/share", "/usr/lib/ssl"];
    let paths = fixed.into_iter().map(PathBuf::from).chain(resolv_conf);
    let paths = paths.chain(named.map(PathBuf::from));
    paths.map(|path| Opened { path, read_only: true }).collect()
}

fn access(read_only: bool, is_dir: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::MakeSym
        | AccessFs::Refer;
    let access = if read_only { read } else { read | write };
    if is_dir { access } else { access & AccessFs::from_file(NEWEST) }
}

#[cfg(test)]
mod tests;
