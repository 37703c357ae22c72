//! The program of a task: its wasm, found and compiled, and what a VMM process is given beside it.
//!
//! Rule: what this process opens here is all that the VMM process has of the node's cache.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::watch;

use super::steps::timed_async;
use super::{Environment, Sandbox};
use crate::aot::{AotCache, CompiledProgram, Origin, Wasm};
use crate::artifact;
use crate::bundle::Bundle;
use crate::compile::{CompileError, Entry as ProgramEntry};
use crate::containerd::{Containerd, content_dir};
use crate::counts::Origins;
use crate::error::Error;
use crate::snapshots;

impl Sandbox {
    /// The compiled program of a container, from the node's cache or compiled, and what it is
    /// called.
    pub(super) async fn program(
        &self,
        id: &str,
        bundle: &Bundle,
        is_mounted: watch::Receiver<bool>,
        find: &mut Duration,
        program: &mut Duration,
    ) -> Result<(CompiledProgram, Given, String), Error> {
        let wasm = timed_async(find, self.wasm(id, bundle, is_mounted)).await?;
        let environment = Arc::clone(&self.environment);
        let name = wasm.name().to_owned();
        let compile = tokio::task::spawn_blocking(move || {
            let program = compile(&environment.cache, &wasm, ProgramEntry::Task)
                .map_err(|source| Error::Compile { name: wasm.name().to_owned(), source })?;
            let given = Given::new(&environment, &program).map_err(Error::Descriptor)?;
            Ok((program, given))
        });
        let compiled = timed_async(program, compile).await;
        match compiled.map_err(|_panicked| Error::CutOff(id.to_owned()))? {
            Ok((program, given)) => Ok((program, given, name)),
            Err(error) => Err(error),
        }
    }

    async fn wasm(
        &self,
        id: &str,
        bundle: &Bundle,
        is_mounted: watch::Receiver<bool>,
    ) -> Result<Wasm, Error> {
        let Environment { containerd, namespace, .. } = &*self.environment;
        let containerd = Containerd::connect(containerd, namespace).await?;
        let containerd = match content_dir(&bundle.dir) {
            Some(dir) => containerd.with_content_dir(dir),
            None => containerd,
        };
        Ok(artifact::find(&containerd, id, bundle, is_mounted).await?)
    }
}

/// What a VMM process is given beside its program.
pub(super) struct Given {
    /// The guest image, or an empty file.
    pub(super) image: File,
    /// The program's snapshot, or an empty file.
    pub(super) snapshot: File,
    /// Whether that was in the cache.
    from_cache: bool,
}

impl Given {
    pub(super) fn new(environment: &Environment, program: &CompiledProgram) -> io::Result<Self> {
        let Environment { cache, vmm, .. } = environment;
        let image = snapshots::image(cache).map_or_else(empty_file, Ok)?;
        let found = snapshots::find_or_make(cache, program, &vmm.file);
        let from_cache = found.as_ref().is_some_and(|it| !it.is_new);
        let snapshot = found.map_or_else(empty_file, |it| Ok(it.file))?;
        Ok(Self { image, snapshot, from_cache })
    }

    /// What a start of `program` from this starts from.
    pub(super) fn origins(&self, program: &CompiledProgram) -> Origins {
        let compiled = !matches!(program.origin, Origin::Cached { .. });
        Origins { compiled, from_snapshot: self.from_cache }
    }
}

fn empty_file() -> io::Result<File> {
    Ok(File::from(memfd_create("none", MemfdFlags::CLOEXEC)?))
}

/// The compiled program of `wasm`, from the cache or compiled into it.
pub(super) fn compile(
    cache: &AotCache,
    wasm: &Wasm,
    entry: ProgramEntry,
) -> Result<CompiledProgram, CompileError> {
    let name = wasm.name();
    let waiting = || log::info!(program = name; "compiling");
    let program = cache.program(wasm, entry, &waiting)?;
    match &program.origin {
        Origin::Cached { path } => log::debug!(program = name; "cached at {}", path.display()),
        Origin::Compiled { path, cost } => {
            log::info!(program = name; "compiled in {cost} to {}", path.display());
        }
        Origin::Uncached { cause, cost } => log::warn!(
            program = name;
            "compiled in {cost}, not cached: {}", crate::error::line(cause)
        ),
    }
    Ok(program)
}
