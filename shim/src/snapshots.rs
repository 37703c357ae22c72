//! Snapshots of loaded programs: found in the node's cache, or made and put there.
//!
//! Rule: a snapshot saves time and nothing else. Whatever is wrong with one, with making or with keeping
//! one is told once and the program starts without it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use vmm::{Config, Exit, Image, Made, Program, Snapshot};

use crate::aot::{AotCache, CompiledProgram, Origin};
use crate::error::line;
use crate::guest_image::{GUEST_IMAGE, GUEST_IMAGE_SHA256};

/// Memory of the micro-VM in which a snapshot is made. A limit: only what is touched is taken. A program
/// that needs more to be instantiated is kept linked.
const MAKER_MEMORY_BYTES: u64 = 1 << 30;

/// How long a program may take to be instantiated for a snapshot: its start functions run, and copy
/// its data. One that takes longer is kept linked.
const INSTANTIATE_MAX: Duration = Duration::from_secs(2);

/// All that a snapshot depends on beside its program: this guest image, and the machine.
///
/// # Errors
///
/// KVM cannot be used.
pub fn identity() -> Result<Vec<u8>, vmm::Error> {
    let mut identity = GUEST_IMAGE_SHA256.as_bytes().to_vec();
    identity.extend(vmm::machine_identity()?);
    Ok(identity)
}

/// The file of a program's snapshot, if the cache has it.
#[must_use]
pub fn find(cache: &AotCache, program: &CompiledProgram) -> Option<File> {
    cache.snapshot(program, &identity().ok()?)
}

/// Puts a snapshot into the cache, for the next start.
pub fn keep(cache: &AotCache, program: &CompiledProgram, snapshot: &Snapshot) {
    // Where the program could not be kept, that was told, and the next start makes both anew.
    if matches!(program.origin, Origin::Uncached { .. }) {
        return;
    }
    let Ok(identity) = identity() else { return };
    let write = |file: &File| snapshot.write_to(file);
    if let Err(error) = cache.store_snapshot(program, &identity, write) {
        log::warn!("each start loads the program anew: {}", line(&error));
    }
}

/// Makes a snapshot of `program`, unless the guest says that it cannot run here.
///
/// # Errors
///
/// KVM or memory fails.
pub fn make(image: &Image, program: &Program) -> Result<Result<Snapshot, Exit>, vmm::Error> {
    let config = Config::new(MAKER_MEMORY_BYTES)?;
    Ok(match Snapshot::make(&config, image, program, INSTANTIATE_MAX)? {
        Made::Snapshot(snapshot) => Ok(snapshot),
        Made::Ended(exit) => Err(exit),
    })
}

/// Makes and keeps the snapshot of a program that has none, so that its first start need not.
///
/// A machine without KVM compiles for others; a program that cannot be loaded says so when it is run.
pub fn prepare(cache: &AotCache, program: &CompiledProgram) {
    if !Path::new("/dev/kvm").exists() || find(cache, program).is_some() {
        return;
    }
    let made = Image::parse(GUEST_IMAGE)
        .and_then(|image| make(&image, &Program::from_file(&program.file)?));
    match made {
        Ok(Ok(snapshot)) => keep(cache, program, &snapshot),
        Ok(Err(_)) => {}
        Err(error) => log::warn!("the first start loads the program anew: {}", line(&error)),
    }
}
