//! The programs of others that the tests run, unpacked from packages by `tools.sh`.
//!
//! Each [`Tree`] is a directory with one set of packages in it. Programs of Debian's packages find
//! their libraries through [`Tree::command`]; those that need more have a script at the root of their
//! tree ([`Tree::script`]). Nothing else of the process's environment changes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};

use crate::leaks::NOT_WATCHED;

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

    /// A command at the root of the tree, which knows by itself where everything is.
    ///
    /// # Errors
    ///
    /// It is not in the tree.
    pub fn script(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(self.file(&[name])?);
        command.env(NOT_WATCHED, "1");
        Ok(command)
    }

    /// What the tree is made of: packages with their versions, for comparing.
    ///
    /// # Errors
    ///
    /// `tools.sh` has left no word about it.
    pub fn contents(&self) -> Result<String> {
        let read = |name| fs::read_to_string(self.root.join(name));
        let wanted = read(".complete").with_context(|| format!("read about {self:?}"))?;
        // Only Debian's packages are listed: those of the other registries are pinned.
        Ok(wanted + &read(".packages").unwrap_or_default())
    }
}

/// Brings one set of packages; its names are at the head of `tools.sh`. Quick when it is there, and
/// looked at once in a process.
///
/// # Errors
///
/// `tools.sh` failed; it said why on stderr.
pub fn tree(set: &str) -> Result<Tree> {
    static TREES: Mutex<Option<HashMap<String, Tree>>> = Mutex::new(None);
    // Held while it is brought, which is for one at a time.
    let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
    let trees = trees.get_or_insert_default();
    if let Some(tree) = trees.get(set) {
        return Ok(tree.clone());
    }
    let tree = bring(set)?;
    trees.insert(set.to_owned(), tree.clone());
    Ok(tree)
}

fn bring(set: &str) -> Result<Tree> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools.sh");
    let output = Command::new(script)
        .arg(set)
        .env(NOT_WATCHED, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {script}"))?;
    ensure!(output.status.success(), "{script} {set}: {}", output.status);
    let root = String::from_utf8(output.stdout).context("tools.sh printed no text")?;
    Ok(Tree { root: PathBuf::from(root.trim_end()) })
}
