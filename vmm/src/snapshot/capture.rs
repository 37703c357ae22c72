//! Making a snapshot: a guest is booted for it, up to the call in which it says that it is ready.
//!
//! The guest is asked to go as far as it can without any grant: a state in which the program is linked is
//! kept first, and one in which it is instantiated replaces it. Whatever happens in between (a start function
//! that calls the host, traps or does not end) leaves the first. Then a rehearsal tells which pages a run
//! writes: the program is run once from the snapshot with nothing granted and its output discarded.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use abi::{Readiness, layout};
use rustix::fs::{MemfdFlags, memfd_create};
use zerocopy::IntoBytes;

use super::file::{Header, PAGES_OFFSET, SnapshotError, write_head};
use super::{Content, Snapshot, bytes_of};
use crate::ahead;
use crate::host::{Host, Stdio};
use crate::kvm::Registers;
use crate::machine::Machine;
use crate::memory::{self, Gpa, OWN_START, RAM_OFFSET, to_usize};
use crate::microvm::MicroVm;
use crate::paging::{AddressSpace, TableEntries};
use crate::shell::discard;
use crate::{BootParams, Config, Error, Exit, Image, Kick, Program, Shell};

/// Longest rehearsal: a small program ends long before, and of a large one the start is what counts.
const REHEARSAL_MAX: Duration = Duration::from_millis(100);

/// Most pages that a rehearsal may call usual: 1 MiB. Beyond that they are copied when they are needed.
const USUAL_PAGES_MAX: u64 = 256;

/// What came of making a snapshot.
#[derive(Debug)]
pub enum Made {
    /// It.
    Snapshot(Snapshot),
    /// The guest ended before it was ready: the program cannot be loaded or linked.
    Ended(Exit),
}

impl Snapshot {
    /// Boots `image` with `program` in a machine of `config` and takes a snapshot when it is ready, in
    /// memory. The program may take `limit` to be instantiated; if it takes longer, it is only linked.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing.
    pub fn make(
        config: &Config,
        image: &Image,
        program: &Program,
        limit: Duration,
    ) -> Result<Made, Error> {
        let machine = Machine::fresh(Shell::new()?, *config, image, program)?;
        let mut vm = MicroVm::unready(machine, silent_host()?);
        let linked = match vm.run_to_ready()? {
            Ok(_) => capture(vm.machine(), Readiness::Linked)?,
            Err(exit) => return Ok(Made::Ended(exit)),
        };
        vm.answer(Ok(0))?;
        let instantiated = within(limit, &vm.kick(), || vm.run_to_ready())?;
        let captured = match instantiated {
            Ok(Readiness::Instantiated) => capture(vm.machine(), Readiness::Instantiated)?,
            Ok(Readiness::Linked) | Err(_) => linked,
        };
        drop(vm);
        let snapshot = captured.finish(&[])?;
        let usual = snapshot.rehearse(config, image, program)?;
        captured.finish(&usual).map(Made::Snapshot)
    }

    /// Writes the snapshot to another file, which is empty.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        let content = &*self.0;
        let root = self.root();
        let Content { readiness, task_type, ram_bytes, registers, .. } = *content;
        file.set_len(PAGES_OFFSET + self.bytes())?;
        let header = Header::new(readiness, task_type, ram_bytes, root, registers);
        write_head(file, header, &content.content, &content.usual)?;
        let mut chunk = Vec::new();
        for range in &content.content {
            let (offset, len) = bytes_of(range);
            chunk.resize(to_usize(len), 0);
            let read = content.pages.read(offset, &mut chunk);
            read.ok_or_else(|| io::Error::other("a run of pages outside the snapshot"))?;
            file.write_all_at(&chunk, PAGES_OFFSET + offset)?;
        }
        Ok(())
    }

    /// The pages that a run with nothing granted writes.
    fn rehearse(
        &self,
        config: &Config,
        image: &Image,
        program: &Program,
    ) -> Result<Vec<Range<u64>>, Error> {
        let (shell, params) = (Shell::new()?, BootParams::default());
        let vm = MicroVm::start(shell, image, program, self, config, &params, silent_host()?)?;
        let (_, _, mut idle) = within(REHEARSAL_MAX, &vm.kick(), || vm.run_and_keep())?;
        let mut room = USUAL_PAGES_MAX;
        let mut written = idle.machine().written_pages()?;
        for range in &mut written {
            range.end = range.end.min(range.start + room);
            room -= range.end - range.start;
        }
        written.retain(|range| !range.is_empty());
        discard(idle);
        Ok(written)
    }
}

/// Runs `run`, and stops it after `limit`.
fn within<T>(limit: Duration, kick: &Kick, run: impl FnOnce() -> T) -> T {
    let (done, watch) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                kick.stop();
            }
        });
        let result = run();
        drop(done);
        result
    })
}

/// The pages of a guest, in a file without head.
struct Captured {
    file: File,
    readiness: Readiness,
    task_type: u8,
    ram_bytes: u64,
    root: Gpa,
    registers: Registers,
    content: Vec<Range<u64>>,
}

impl Captured {
    /// The snapshot with these usual pages.
    fn finish(&self, usual: &[Range<u64>]) -> Result<Snapshot, Error> {
        let Self { readiness, task_type, ram_bytes, root, registers, .. } = *self;
        let header = Header::new(readiness, task_type, ram_bytes, root, registers);
        write_head(&self.file, header, &self.content, usual).map_err(Error::SnapshotFile)?;
        Snapshot::from_file(self.file.try_clone().map_err(Error::SnapshotFile)?)
    }
}

/// Copies a machine that stands in a host call.
fn capture(machine: &mut Machine, readiness: Readiness) -> Result<Captured, Error> {
    let registers = machine.vcpu.registers()?;
    let (root, ram_bytes) = (machine.root(), machine.used_ram_bytes());
    let table = |gpa: Gpa| {
        let mut entries: Box<TableEntries> = Box::new([0; 512]);
        machine.memory.read(gpa, entries.as_mut_bytes()).ok()?;
        Some(entries)
    };
    let space = AddressSpace::load(root, ram_bytes, table).map_err(SnapshotError::from)?;
    let file = File::from(memfd_create("snapshot", MemfdFlags::CLOEXEC).map_err(file_error)?);
    file.set_len(PAGES_OFFSET + RAM_OFFSET + ram_bytes).map_err(Error::SnapshotFile)?;
    let private = (OWN_START..layout::RAM_START).step_by(to_usize(layout::PAGE));
    let mut pages = Vec::new();
    for gpa in private.map(Gpa).chain(space.frames_in_use()) {
        let content: [u8; to_usize(layout::PAGE)] = machine.memory.read_obj(gpa)?;
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        let offset = gpa.0 - OWN_START;
        file.write_all_at(&content, PAGES_OFFSET + offset).map_err(Error::SnapshotFile)?;
        pages.push(offset / layout::PAGE);
    }
    let (content, task_type) = (memory::ranges(pages), machine.task_type());
    Ok(Captured { file, readiness, task_type, ram_bytes, root, registers, content })
}

/// A host that grants nothing.
fn silent_host() -> Result<Host, Error> {
    let null = || ahead::null().and_then(File::try_clone).map(OwnedFd::from);
    let stdio = (|| Ok(Stdio { stdin: null()?, stdout: null()?, stderr: null()? }))();
    let host = stdio.map_err(Error::SnapshotFile).map(Host::new)?;
    host.map_err(|error| Error::SnapshotFile(io::Error::other(error)))
}

fn file_error(errno: rustix::io::Errno) -> Error {
    Error::SnapshotFile(errno.into())
}
