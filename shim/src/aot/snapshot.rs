//! Snapshots in the cache: the memory of a guest that has loaded a program, before any tenant's data.
//!
//! Rule: a snapshot lies beside its program, under the same key and by the same rules (owner, trailer,
//! checksum, rename, lock), and is given out only to who asks with the identity that it was stored
//! with. What is in it is the micro-VM's business; here it is bytes, most of them holes.

use std::fs::File;
use std::io;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::entry::{self, Kind, Stored};
use super::key::Key;
use super::lock::Lock;
use super::store::{self, About};
use super::{AotCache, CacheError, CompiledProgram};
use crate::compile::EntryPoints;

/// How long to wait for another process that makes the same snapshot, or stores the program: booting a
/// guest takes milliseconds, and whoever waited in vain makes one for itself.
const WAIT_MAX: Duration = Duration::from_secs(10);

impl AotCache {
    /// The snapshot of `program`, if there is a sound one that was stored with `identity`: all that it
    /// depends on beside the program (the guest image, the machine), in any form.
    ///
    /// The file has bytes of ours behind what was stored. It is in use, and not removed to make room, as
    /// long as it is open.
    #[must_use]
    pub fn snapshot(&self, program: &CompiledProgram, identity: &[u8]) -> Option<File> {
        let dir = self.open_dir().ok()?;
        match stored(&dir, program, &Sha256::digest(identity).into()) {
            Ok(stored) => Some(stored?.file),
            Err(error) => {
                log::warn!("make {} again: {error}", program.key.name(Kind::Snapshot));
                None
            }
        }
    }

    /// Stores a snapshot of `program`, in place of one that is damaged or has another identity, and opens
    /// it for reading. `write` fills an empty file from offset 0; parts that it leaves out stay holes. If
    /// another process has stored the same meanwhile, `write` is not called and that one is opened.
    ///
    /// # Errors
    ///
    /// [`CacheError`]: it is not stored. The caller uses the snapshot that it has in memory.
    pub fn store_snapshot(
        &self,
        program: &CompiledProgram,
        identity: &[u8],
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<File, CacheError> {
        let identity = Sha256::digest(identity).into();
        let dir = self.open_dir()?;
        let lock = Lock::take(&dir, &program.key, WAIT_MAX, &|| {})?;
        if let Ok(Some(stored)) = stored(&dir, program, &identity) {
            return Ok(stored.file);
        }
        let name = program.name.as_str();
        let about = About { origin: identity, entry_points: program.entry_points, name };
        let fill = |file: &File| write(file).and_then(|()| Ok(file.metadata()?.len()));
        let stored = store::write(&dir, &program.key, Kind::Snapshot, about, fill)?;
        drop(lock);
        self.make_room(&dir);
        Ok(stored.file)
    }
}

impl AotCache {
    /// Text and read-only data of the guest image with this digest, which `write` puts into an empty file
    /// if they are not in the cache: mapped from there, they are shared by all processes of the node. The
    /// file has bytes of ours behind them.
    ///
    /// # Errors
    ///
    /// [`CacheError`]: each process loads its own.
    pub fn guest_image(
        &self,
        digest: &str,
        write: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<File, CacheError> {
        let (dir, key) = (self.open_dir()?, Key::of_image(digest));
        if let Ok(Some(stored)) = entry::read(&dir, &key, Kind::GuestImage) {
            return Ok(stored.file);
        }
        let _lock = Lock::take(&dir, &key, WAIT_MAX, &|| {})?;
        if let Ok(Some(stored)) = entry::read(&dir, &key, Kind::GuestImage) {
            return Ok(stored.file);
        }
        let about =
            About { origin: [0; 32], entry_points: EntryPoints::default(), name: "guest image" };
        let fill = |file: &File| write(file).and_then(|()| Ok(file.metadata()?.len()));
        Ok(store::write(&dir, &key, Kind::GuestImage, about, fill)?.file)
    }
}

/// The sound snapshot with `identity`.
fn stored(
    dir: &File,
    program: &CompiledProgram,
    identity: &[u8; 32],
) -> io::Result<Option<Stored>> {
    let stored = entry::read(dir, &program.key, Kind::Snapshot)?;
    Ok(stored.filter(|stored| stored.trailer.origin == *identity))
}
