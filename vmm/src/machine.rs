//! Everything of one micro-VM but the host side: virtual machine, vCPU, memory and page tables.
//!
//! A machine begins in one of two ways. [`Machine::fresh`] stands at the guest's first instruction: memory is
//! mapped, page tables and descriptor tables are written, the registers are set; the guest executes no code
//! of ours before its own entry. [`Machine::restored`] stands where a snapshot was taken, with the
//! snapshot's pages mapped privately; [`Machine::rewind`] brings it back there.

use std::ops::Range;
use std::sync::OnceLock;

use abi::{Access, layout};

use crate::kvm::{Vcpu, Vm, VmExit};
use crate::memory::{Gpa, GuestMemory, RAM_OFFSET, Region, Slot, private};
use crate::paging::{AddressSpace, Mapped, Protection};
use crate::shell::discard;
use crate::snapshot::Snapshot;
use crate::{Config, Error, Image, Program, Shell, descriptors};

/// Pages that a rewinding machine keeps as its own, at most: 1 MiB. A run that wrote more gives the others
/// back, so that neither memory nor what a rewind costs grows with the largest run there ever was.
const OWN_PAGES_MAX: u64 = 256;

/// RAM beyond the snapshot's that a rewinding machine keeps, at most.
const EXTRA_RAM_MAX: u64 = 16 << 20;

/// Fields are dropped in this order: the memory outlives the virtual machine that uses it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vcpu: Vcpu,
    vm: Vm,
    space: AddressSpace,
    pub(crate) memory: GuestMemory,
    task_type: u8,
    config: Config,
    image: Image,
    program: Program,
    /// Where it came from, if that is a snapshot.
    origin: Option<Origin>,
}

/// The snapshot that a machine was restored from.
#[derive(Debug)]
struct Origin {
    snapshot: Snapshot,
    /// Its page tables, in RAM of the machine's size.
    space: AddressSpace,
    /// Pages of its file that were written, as far as is known.
    written: Vec<Range<u64>>,
    /// Whether there may be more of them.
    has_faulted: bool,
}

/// What [`Machine::map`] did beside its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapCost {
    pub(crate) root_changed: bool,
    pub(crate) slots_changed: bool,
}

impl Machine {
    /// A machine at the first instruction of `image`.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing.
    pub(crate) fn fresh(
        shell: Shell,
        config: Config,
        image: &Image,
        program: &Program,
    ) -> Result<Self, Error> {
        Self::with_task_type(shell, config, image, program, task_type()?)
    }

    fn with_task_type(
        shell: Shell,
        config: Config,
        image: &Image,
        program: &Program,
        task_type: u8,
    ) -> Result<Self, Error> {
        let (mut vcpu, mut vm) = shell.open(image, program)?;
        let ram_bytes = config.memory_bytes();
        let own = Region::new(GuestMemory::own_bytes(ram_bytes))?;
        let mut memory = guest_memory(own, config, image, program);
        descriptors::write(&mut memory, task_type)?;
        for (gpa, content) in image.data() {
            memory.write(*gpa, content)?;
        }
        let mut space = AddressSpace::new(&mut memory, ram_bytes)?;
        map_fixed(&mut space, &mut memory, image, program)?;
        vm.set_slots(&memory, space.used_bytes())?;
        if let Some(root) = space.take_new_root() {
            let registers = Vcpu::registers_at(image.entry(), layout::STACK.end);
            vcpu.set_registers(&registers, root, task_type);
        }
        let (image, program) = (image.clone(), program.clone());
        Ok(Self { vcpu, vm, space, memory, task_type, config, image, program, origin: None })
    }

    /// A machine in the state of `snapshot`, which was taken of this image and program.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryTooSmall`] if the state does not fit; [`Error::MapMemory`], [`Error::MapFile`],
    /// [`Error::SetMemorySlot`].
    pub(crate) fn restored(
        shell: Shell,
        config: Config,
        image: &Image,
        program: &Program,
        snapshot: &Snapshot,
    ) -> Result<Self, Error> {
        let (mut vcpu, mut vm) = shell.open(image, program)?;
        let ram_bytes = config.memory_bytes();
        let space = snapshot.space(ram_bytes).ok_or(Error::MemoryTooSmall {
            memory_bytes: ram_bytes,
            needed_bytes: snapshot.ram_bytes(),
        })?;
        let mut own = Region::new(GuestMemory::own_bytes(ram_bytes).max(snapshot.bytes()))?;
        snapshot.fill(&mut own)?;
        let memory = guest_memory(own, config, image, program);
        vm.set_slots(&memory, space.used_bytes())?;
        let task_type = snapshot.task_type();
        vcpu.set_registers(snapshot.registers(), snapshot.root(), task_type);
        let origin = Origin {
            snapshot: snapshot.clone(),
            space: space.clone(),
            written: snapshot.usual_pages().to_vec(),
            has_faulted: false,
        };
        let (image, program, origin) = (image.clone(), program.clone(), Some(origin));
        Ok(Self { vcpu, vm, space, memory, task_type, config, image, program, origin })
    }

    /// Goes back to the state of the snapshot that this machine was restored from.
    ///
    /// # Errors
    ///
    /// [`Error::NoSnapshot`]; [`Error::Pagemap`], [`Error::MapMemory`], [`Error::SetMemorySlot`].
    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        let origin = self.origin.as_mut().ok_or(Error::NoSnapshot)?;
        let (snapshot, own) = (&origin.snapshot, self.memory.own());
        if std::mem::take(&mut origin.has_faulted) {
            origin.written = snapshot.written_pages(own)?;
        }
        let pages: u64 = origin.written.iter().map(|range| range.end - range.start).sum();
        if pages > OWN_PAGES_MAX {
            snapshot.revert(own, &origin.written)?;
            origin.written = snapshot.usual_pages().to_vec();
        }
        snapshot.copy_back(own, &origin.written)?;
        let (used, kept) = (self.space.used_bytes(), snapshot.ram_bytes() + EXTRA_RAM_MAX);
        if used > kept {
            own.revert(RAM_OFFSET + kept, used - kept)?;
        }
        let (_, must_change_slots) = self.space.rewind(&origin.space);
        self.vcpu.set_registers(snapshot.registers(), snapshot.root(), self.task_type);
        if must_change_slots {
            self.change_slots()?;
        }
        Ok(())
    }

    /// Whether it makes a difference if the thread that runs the vCPU has page faults.
    pub(crate) fn heeds_faults(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| !origin.has_faulted)
    }

    /// Says that the thread that ran the vCPU has had page faults, or may have: pages may have been written that
    /// were not before.
    pub(crate) const fn note_faults(&mut self) {
        if let Some(origin) = &mut self.origin {
            origin.has_faulted = true;
        }
    }

    /// The pages of the snapshot's file that were written.
    ///
    /// # Errors
    ///
    /// [`Error::NoSnapshot`], [`Error::Pagemap`].
    pub(crate) fn written_pages(&mut self) -> Result<Vec<Range<u64>>, Error> {
        let origin = self.origin.as_ref().ok_or(Error::NoSnapshot)?;
        origin.snapshot.written_pages(self.memory.own())
    }

    /// The page tables, for a snapshot.
    pub(crate) fn root(&self) -> Gpa {
        self.space.root()
    }

    /// Bytes of RAM beyond which nothing was ever used.
    pub(crate) const fn used_ram_bytes(&self) -> u64 {
        self.space.used_bytes()
    }

    /// The type of the task register's segment.
    pub(crate) const fn task_type(&self) -> u8 {
        self.task_type
    }

    /// Another machine in the state of the snapshot; this one goes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSnapshot`], and those of [`restored`](Self::restored).
    pub(crate) fn replace(self) -> Result<Self, Error> {
        let origin = self.origin.as_ref().ok_or(Error::NoSnapshot)?;
        let (image, program) = (&self.image, &self.program);
        let fresh = Self::restored(Shell::new()?, self.config, image, program, &origin.snapshot)?;
        discard(self);
        Ok(fresh)
    }

    /// Bytes of the compiled program.
    pub(crate) const fn program_bytes(&self) -> u64 {
        self.program.bytes()
    }

    /// Carries [`abi::Request::Map`] out.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`], [`Error::VcpuState`], and bugs of ours.
    pub(crate) fn map(
        &mut self,
        gva: u64,
        len: u64,
        access: Access,
    ) -> Result<(Mapped, MapCost), Error> {
        let mut cost = MapCost::default();
        if self.space.wants_slot_change(gva, len, access) {
            self.change_slots()?;
            cost.slots_changed = true;
        }
        let mapped = self.space.map(&mut self.memory, gva, len, access)?;
        self.vm.give_ram(&self.memory, self.space.used_bytes())?;
        if let Some(root) = self.space.take_new_root() {
            self.vcpu.set_root(root, self.task_type);
            cost.root_changed = true;
        }
        Ok((mapped, cost))
    }

    fn change_slots(&mut self) -> Result<(), Error> {
        self.vm.change_slots(&self.memory)?;
        self.space.slots_changed();
        Ok(())
    }
}

/// All memory of a machine, of which `own` is its own.
fn guest_memory(own: Region, config: Config, image: &Image, program: &Program) -> GuestMemory {
    let mut memory = GuestMemory::new(own, config.memory_bytes());
    shared_slots(image, program).into_iter().for_each(|slot| memory.share(slot));
    memory
}

/// The slots of what every machine of a program shares.
pub(crate) fn shared_slots(image: &Image, program: &Program) -> [Slot; 2] {
    [
        Slot::shared(Gpa(layout::IMAGE.start), image.region().clone()),
        Slot::shared(Gpa(layout::PROGRAM.start), program.region().clone()),
    ]
}

/// Maps everything below the map area, as [`layout`] says.
fn map_fixed(
    space: &mut AddressSpace,
    memory: &mut GuestMemory,
    image: &Image,
    program: &Program,
) -> Result<(), Error> {
    let page = |gva: u64| gva..gva + layout::PAGE;
    let data = layout::CALL_DATA..layout::CALL_DATA + layout::CALL_DATA_BYTES as u64;
    let program_end = layout::PROGRAM.start + program.region().bytes();
    let areas = [
        (page(layout::GDT), Protection::SystemRead, false),
        (page(layout::IDT), Protection::SystemRead, false),
        (page(layout::STUBS), Protection::SystemExecute, false),
        (layout::RING0_STACK, Protection::SystemWrite, false),
        (layout::EXCEPTION_STACK, Protection::Write, false),
        (layout::STACK, Protection::Write, false),
        (layout::RUN_HEAP, Protection::Write, false),
        (page(layout::EXCEPTION_RECORD), Protection::Write, false),
        (page(layout::CALL_FRAME), Protection::Write, false),
        (layout::GUEST_DATA, Protection::Write, false),
        (data, Protection::Write, false),
        (image.text(), Protection::Execute, true),
        (image.rodata(), Protection::Read, true),
        (layout::PROGRAM.start..program_end, Protection::Execute, true),
    ];
    for (range, protection, large) in areas {
        let is_private = layout::PRIVATE.contains(&range.start);
        let gpa = if is_private { private(range.start) } else { Gpa(range.start) };
        space.map_fixed(memory, range, gpa, protection, large)?;
    }
    Ok(())
}

/// The type of the task register's segment with which ring 3 may use the doorbell.
///
/// VT-x wants a busy TSS, 11 (SDM vol. 3, 27.3.1.2); SVM takes any, and some implementations of it
/// check the I/O permission bitmap for an available one, 9, only. Asked of the machine itself, once per process.
fn task_type() -> Result<u8, Error> {
    static TASK_TYPE: OnceLock<u8> = OnceLock::new();
    if let Some(task_type) = TASK_TYPE.get() {
        return Ok(*task_type);
    }
    for candidate in [11, 9] {
        if doorbell_works(candidate)? {
            return Ok(*TASK_TYPE.get_or_init(|| candidate));
        }
    }
    Err(Error::NoDoorbell)
}

/// Runs a guest that does nothing but ring.
fn doorbell_works(task_type: u8) -> Result<bool, Error> {
    // out DOORBELL_PORT, al; jmp to the out
    const RING: [u8; 4] = [0xe6, abi::DOORBELL_PORT, 0xeb, 0xfc];
    let (image, program) = (Image::of_code(&RING)?, Program::from_bytes(&[0])?);
    let config = Config::new(crate::MEMORY_BYTES_MIN)?;
    let shell = Shell::new()?;
    let mut machine = Machine::with_task_type(shell, config, &image, &program, task_type)?;
    loop {
        match machine.vcpu.run()? {
            VmExit::Interrupted => {}
            exit => {
                discard(machine);
                return Ok(exit == VmExit::Doorbell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boots a guest of `code`, lets `damage` change its memory, and runs it to its first exit.
    fn first_exit(code: &[u8], damage: impl FnOnce(&mut GuestMemory)) -> Option<VmExit> {
        if !std::path::Path::new("/dev/kvm").exists() {
            assert!(std::env::var_os("REQUIRE_KVM").is_none_or(|v| v != "1"), "no /dev/kvm");
            println!("skipped: no /dev/kvm");
            return None;
        }
        let config = Config::new(crate::MEMORY_BYTES_MIN).unwrap();
        let image = Image::of_code(code).unwrap();
        let program = Program::from_bytes(&[0]).unwrap();
        let shell = Shell::new().unwrap();
        let mut machine = Machine::fresh(shell, config, &image, &program).unwrap();
        damage(&mut machine.memory);
        Some(machine.vcpu.run().unwrap())
    }

    #[test]
    fn an_exception_without_gates_is_a_triple_fault() {
        let no_gates = |memory: &mut GuestMemory| memory.zero(private(layout::IDT), 4096).unwrap();
        let exit = first_exit(&[0x0f, 0x0b], no_gates);
        assert!(exit.is_none_or(|exit| exit == VmExit::Shutdown), "{exit:?}");
    }

    #[test]
    fn stubs_that_go_wild_end_the_machine() {
        let wild =
            |memory: &mut GuestMemory| memory.write(private(layout::STUBS), &[0; 4096]).unwrap();
        let exit = first_exit(&[0x0f, 0x0b], wild);
        assert!(exit.is_none_or(|exit| exit != VmExit::Doorbell), "{exit:?}");
    }
}
