//! The programs of others that the tests run, unpacked from Debian packages by `tools.sh`.
//!
//! Each [`Tree`] is a directory like `/` with one set of packages in it. Its programs find their
//! libraries through [`Tree::command`]; nothing else of the process's environment changes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// An unpacked set of packages.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the tree, given its place in an installed system without the leading slash.
    ///
    /// # Errors
    ///
    /// None of `places` exists in the tree.
    pub fn file(&self, places: &[&str]) -> Result<PathBuf> {
        for place in places {
            let path = self.root.join(place);
            if path.exists() {
                return Ok(path);
            }
        }
        bail!(
            "none of {places:?} in {}: remove that directory to have it made again",
            self.root.display()
        )
    }

    /// A command of the tree that finds its libraries and its sister programs there.
    ///
    /// # Errors
    ///
    /// The program is not in the tree.
    pub fn command(&self, program: &str) -> Result<Command> {
        let places = ["usr/bin", "usr/sbin", "bin"].map(|dir| format!("{dir}/{program}"));
        let program = self.file(&places.each_ref().map(String::as_str))?;
        let mut command = Command::new(program);
        let mut libraries = OsString::from(self.root.join("usr/lib/x86_64-linux-gnu"));
        libraries.push(":");
        libraries.push(self.root.join("lib/x86_64-linux-gnu"));
        command.env("LD_LIBRARY_PATH", libraries);
        let mut path = OsString::from(self.root.join("usr/bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        Ok(command)
    }
}

/// Brings one set of packages; its names are at the head of `tools.sh`. Quick when it is there.
///
/// # Errors
///
/// `tools.sh` failed; it said why on stderr.
pub fn tree(set: &str) -> Result<Tree> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools.sh");
    let output = Command::new(script)
        .arg(set)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {script}"))?;
    ensure!(output.status.success(), "{script} {set}: {}", output.status);
    let root = String::from_utf8(output.stdout).context("tools.sh printed no text")?;
    Ok(Tree { root: PathBuf::from(root.trim_end()) })
}
