//! Snapshots of loaded programs: found in the node's cache, or made and put there.
//!
//! The guest image is there too, so that all processes share its memory. Rule: a snapshot saves time and
//! nothing else. Whatever is wrong with one, with making or with keeping one is told once and the program
//! starts without it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{SeekFrom, seek};
use vmm::{Config, Exit, Image, Made, Program, Snapshot};

use crate::aot::{AotCache, CompiledProgram, Origin};
use crate::error::line;
use crate::guest_image::{GUEST_IMAGE, GUEST_IMAGE_SHA256};

/// Memory of the micro-VM in which a snapshot is made. A limit: only what is touched is taken. A program
/// that needs more to be instantiated is kept linked.
const MAKER_MEMORY_BYTES: u64 = 1 << 30;

/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 256 << 10;

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

/// Puts a snapshot into the cache, for the next start.
pub fn keep(cache: &AotCache, program: &CompiledProgram, snapshot: &Snapshot) {
    store(cache, program, |file| snapshot.write_to(file));
}

/// Puts the snapshot that a VMM process wrote into `made` into the cache. It is copied as it is: whoever
/// starts from it looks at it as at anything that a guest wrote. Nothing is done if the process wrote none.
pub fn keep_file(cache: &AotCache, program: &CompiledProgram, made: &File) {
    if made.metadata().is_ok_and(|it| it.len() > 0) {
        store(cache, program, |file| copy(made, file));
    }
}

fn store(cache: &AotCache, program: &CompiledProgram, write: impl FnOnce(&File) -> io::Result<()>) {
    // Where the program could not be kept, that was told, and the next start makes both anew.
    if matches!(program.origin, Origin::Uncached { .. }) {
        return;
    }
    let Ok(identity) = identity() else { return };
    if let Err(error) = cache.store_snapshot(program, &identity, write) {
        log::warn!("each start loads the program anew: {}", line(&error));
    }
}

/// Copies a file, and leaves its holes out.
fn copy(from: &File, to: &File) -> io::Result<()> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut position = 0;
    loop {
        // Nobody else moves the position.
        position = match seek(from, SeekFrom::Data(position)) {
            Ok(position) => position,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(position))?.min(len);
        while position < end {
            let want = usize::try_from(end - position).map_or(CHUNK_BYTES, |n| n.min(CHUNK_BYTES));
            let chunk = chunk.get_mut(..want).unwrap_or_default();
            from.read_exact_at(chunk, position)?;
            to.write_all_at(chunk, position)?;
            position += want as u64;
        }
        if position >= len {
            return Ok(());
        }
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
