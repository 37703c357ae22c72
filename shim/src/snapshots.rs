//! Snapshots of loaded programs: found in the node's cache, or made and put there.
//!
//! The guest image is there too, so that all processes share its memory. Rule: a snapshot saves time and
//! nothing else. Whatever is wrong with one, with making or with keeping one is told once and the program
//! starts without it.

mod maker;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use vmm::{Config, Exit, Image, Made, Program, Snapshot};

use crate::aot::{AotCache, CompiledProgram, Origin};
use crate::error::line;
use crate::guest_image::{GUEST_IMAGE, GUEST_IMAGE_SHA256};

use self::maker::MakeError;

pub use self::maker::{SUBCOMMAND, child_main as maker_main, taken_over_main};

/// Memory of the micro-VM in which a snapshot is made. A limit: only what is touched is taken, but that from the node
/// and not from a container. A program that needs more to be instantiated is kept linked.
const MAKER_MEMORY_BYTES: u64 = 256 << 20;

/// This executable again.
pub const THIS_EXECUTABLE: &str = "/proc/self/exe";

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

/// The snapshot of a program.
#[derive(Debug)]
pub struct Found {
    /// Its file.
    pub file: File,
    /// Whether it was made for this start.
    pub is_new: bool,
}

/// The snapshot of `program`: from the cache, or else made by the executable at `maker`, which answers with
/// [`maker_main`], and put there. None if it cannot be made. Blocks.
#[must_use]
pub fn find_or_make(cache: &AotCache, program: &CompiledProgram, maker: &Path) -> Option<Found> {
    let identity = identity().ok()?;
    if let Some(file) = cache.snapshot(program, &identity) {
        return Some(Found { file, is_new: false });
    }
    let make = |file: &File| maker::make(maker, &program.file, file);
    let mut cannot_be_made = None;
    // Where the program could not be kept, that was told, and the next start makes both anew.
    if !matches!(program.origin, Origin::Uncached { .. }) {
        let write = |file: &File| {
            make(file).map_err(|error| {
                cannot_be_made = Some(error);
                io::ErrorKind::Other.into()
            })
        };
        match (cache.store_snapshot(program, &identity, write), &cannot_be_made) {
            (Ok(file), _) => return Some(Found { file, is_new: true }),
            (Err(error), None) => {
                log::warn!("each start loads the program anew: {}", line(&error));
            }
            (Err(_), Some(_)) => {}
        }
    }
    let made = match cannot_be_made {
        Some(error) => Err(error),
        None => in_memory(make),
    };
    match made {
        Ok(file) => Some(Found { file, is_new: true }),
        Err(MakeError::Ended) => None,
        Err(error) => {
            log::warn!("start without a snapshot: {}", line(&error));
            None
        }
    }
}

fn in_memory(make: impl FnOnce(&File) -> Result<(), MakeError>) -> Result<File, MakeError> {
    let file = memfd_create("snapshot", MemfdFlags::CLOEXEC)
        .map_err(|errno| MakeError::Memory(errno.into()))?;
    let file = File::from(file);
    make(&file)?;
    Ok(file)
}

/// The file from which the guest image is mapped, if the cache can have it.
#[must_use]
pub fn image(cache: &AotCache) -> Option<File> {
    let write = |file: &File| match Image::parse(GUEST_IMAGE) {
        Ok(image) => image.write_to(file),
        Err(error) => Err(io::Error::other(error)),
    };
    // Who cannot use the cache is told so for the program.
    cache.guest_image(GUEST_IMAGE_SHA256, write).ok()
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
    if Path::new("/dev/kvm").exists() {
        drop(find_or_make(cache, program, Path::new(THIS_EXECUTABLE)));
    }
}
