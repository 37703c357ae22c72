//! From a configuration to a machine that stands at the guest's first instruction.
//!
//! Memory is mapped, page tables, descriptor tables and boot information are written, and the vCPU's
//! registers are set; the guest executes no code of ours before its own entry.

use std::sync::OnceLock;
use std::thread;

use abi::boot::{BootHeader, BootInfo, Preopen};
use abi::{Access, layout};

use crate::kvm::{Kvm, Vcpu, Vm, VmExit};
use crate::memory::{Backing, Gpa, GuestMemory, Region, to_usize};
use crate::paging::{AddressSpace, Mapped, Protection};
use crate::{Config, Error, Image, Program, descriptors};

/// What the program is told at start. Directories and terminals are the
/// [`Host`](crate::host::Host)'s to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParams {
    /// What messages call the program: the file's name.
    pub program_name: Vec<u8>,
    /// Where the program should think it is; empty if nobody said.
    pub cwd: Vec<u8>,
    /// What to call instead of the command's entry point, see [`BootInfo::invoke`]; empty for that.
    pub invoke: Vec<u8>,
    /// Arguments, argument 0 first.
    pub args: Vec<Vec<u8>>,
    /// Environment, each `KEY=VALUE`.
    pub env: Vec<Vec<u8>>,
}

/// Everything of one micro-VM but the host side. Fields are dropped in this order: the memory outlives
/// the virtual machine that uses it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) vcpu: Vcpu,
    vm: Vm,
    space: AddressSpace,
    pub(crate) memory: GuestMemory,
}

/// What the boot information says beside [`BootParams`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted<'a> {
    pub(crate) flags: u32,
    pub(crate) preopens: Vec<Preopen<'a>>,
    pub(crate) seed: [u8; 32],
}

/// What [`Machine::map`] did beside its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapCost {
    pub(crate) root_changed: bool,
    pub(crate) slots_changed: bool,
}

impl Machine {
    /// Boots a machine.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing.
    pub(crate) fn boot(
        config: Config,
        image: &Image,
        program: &Program,
        params: &BootParams,
        granted: &Granted<'_>,
    ) -> Result<Self, Error> {
        let kvm = Kvm::get()?;
        Self::with_task_type(kvm, config, image, program, params, granted, task_type(kvm)?)
    }

    fn with_task_type(
        kvm: &Kvm,
        config: Config,
        image: &Image,
        program: &Program,
        params: &BootParams,
        granted: &Granted<'_>,
        task_type: u8,
    ) -> Result<Self, Error> {
        let vm = kvm.create_vm()?;
        let mut memory = map_memory(config, image, program)?;
        vm.set_slots(&memory)?;
        let vcpu = vm.create_vcpu(kvm, task_type)?;
        descriptors::write(&mut memory, task_type)?;
        for (gpa, content) in image.data() {
            memory.write(*gpa, content)?;
        }
        let mut space = AddressSpace::new(&mut memory, config.memory_bytes())?;
        map_fixed(&mut space, &mut memory, image, program)?;
        let header = BootHeader {
            abi_version: abi::ABI_VERSION,
            flags: granted.flags,
            program_bytes: program.bytes(),
            tsc_khz: vcpu.tsc_khz(),
            seed: granted.seed,
            ..BootHeader::default()
        };
        place_boot_info(&mut space, &mut memory, config, params, &granted.preopens, header)?;
        if let Some(root) = space.take_new_root() {
            vcpu.start_at(image.entry(), layout::STACK.end, root)?;
        }
        Ok(Self { vcpu, vm, space, memory })
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
            self.vm.change_slots(&self.memory)?;
            self.space.slots_changed();
            cost.slots_changed = true;
        }
        let mapped = self.space.map(&mut self.memory, gva, len, access)?;
        if let Some(root) = self.space.take_new_root() {
            self.vcpu.set_root(root)?;
            cost.root_changed = true;
        }
        Ok((mapped, cost))
    }
}

impl Machine {
    /// Drops the machine on a thread of its own: KVM waits for grace periods of the kernel when a virtual
    /// machine goes, milliseconds that nobody has to wait for.
    pub(crate) fn discard(self) {
        // Where no thread can be had, it is dropped here, with the closure.
        let _ = thread::Builder::new().name("discard".to_owned()).spawn(move || drop(self));
    }
}

/// The memory of a machine, not yet written.
fn map_memory(config: Config, image: &Image, program: &Program) -> Result<GuestMemory, Error> {
    let mut memory = GuestMemory::default();
    let private = layout::PRIVATE.end - layout::PRIVATE.start;
    memory.add(Gpa(layout::PRIVATE.start), private, Backing::Own(Region::new(private)?));
    let shared = image.region().clone();
    memory.add(Gpa(layout::IMAGE.start), shared.bytes(), Backing::Shared(shared));
    let shared = program.region().clone();
    memory.add(Gpa(layout::PROGRAM.start), shared.bytes(), Backing::Shared(shared));
    let bytes = config.memory_bytes();
    memory.add(Gpa(layout::RAM_START), bytes, Backing::Own(Region::new(bytes)?));
    Ok(memory)
}

/// Maps everything below the map area but the boot information, as [`layout`] says.
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
        (page(layout::EXCEPTION_RECORD), Protection::Write, false),
        (page(layout::CALL_FRAME), Protection::Write, false),
        (data, Protection::Write, false),
        (layout::EXCEPTION_STACK, Protection::Write, false),
        (layout::GUEST_DATA, Protection::Write, false),
        (layout::STACK, Protection::Write, false),
        (image.text(), Protection::Execute, true),
        (image.rodata(), Protection::Read, true),
        (layout::PROGRAM.start..program_end, Protection::Execute, true),
    ];
    for (range, protection, large) in areas {
        let gpa = Gpa(range.start);
        space.map_fixed(memory, range, gpa, protection, large)?;
    }
    Ok(())
}

/// Writes the boot information into frames of RAM and maps them.
fn place_boot_info(
    space: &mut AddressSpace,
    memory: &mut GuestMemory,
    config: Config,
    params: &BootParams,
    preopens: &[Preopen<'_>],
    header: BootHeader,
) -> Result<(), Error> {
    let mut info = BootInfo {
        header,
        program_name: &params.program_name,
        cwd: &params.cwd,
        invoke: &params.invoke,
        args: params.args.iter().map(Vec::as_slice).collect(),
        env: params.env.iter().map(Vec::as_slice).collect(),
        preopens: preopens.to_vec(),
    };
    let boot_info_bytes = info.encode().len() as u64;
    if boot_info_bytes > layout::BOOT_INFO.end - layout::BOOT_INFO.start {
        return Err(Error::BootInfoSize { bytes: boot_info_bytes });
    }
    let pages = boot_info_bytes.div_ceil(layout::PAGE);
    let memory_bytes = config.memory_bytes();
    let too_small = Error::MemoryTooSmall { memory_bytes, boot_info_bytes };
    // Half of it may be used up before the program has begun.
    if pages * layout::PAGE > memory_bytes / 2 {
        return Err(too_small);
    }
    let frames = space.map_read_only(memory, layout::BOOT_INFO.start, pages)?;
    // Known only after its own frames are taken; the size stays the same.
    info.header.memory_bytes = space.available_bytes();
    let bytes = info.encode();
    for (gpa, page) in frames.into_iter().zip(bytes.chunks(to_usize(layout::PAGE))) {
        memory.write(gpa, page)?;
    }
    Ok(())
}

/// The type of the task register's segment with which ring 3 may use the doorbell.
///
/// VT-x wants a busy TSS, 11 (SDM vol. 3, 27.3.1.2); SVM takes any, and some implementations of it
/// check the I/O permission bitmap for an available one, 9, only. Asked of the machine itself, once per process.
fn task_type(kvm: &Kvm) -> Result<u8, Error> {
    static TASK_TYPE: OnceLock<u8> = OnceLock::new();
    if let Some(task_type) = TASK_TYPE.get() {
        return Ok(*task_type);
    }
    for candidate in [11, 9] {
        if doorbell_works(kvm, candidate)? {
            return Ok(*TASK_TYPE.get_or_init(|| candidate));
        }
    }
    Err(Error::NoDoorbell)
}

/// Runs a guest that does nothing but ring.
fn doorbell_works(kvm: &Kvm, task_type: u8) -> Result<bool, Error> {
    // out DOORBELL_PORT, al; jmp to the out
    const RING: [u8; 4] = [0xe6, abi::DOORBELL_PORT, 0xeb, 0xfc];
    let (image, program) = (Image::of_code(&RING)?, Program::from_bytes(&[0])?);
    let config = Config::new(crate::MEMORY_BYTES_MIN)?;
    let (params, granted) = (BootParams::default(), Granted::default());
    let mut machine =
        Machine::with_task_type(kvm, config, &image, &program, &params, &granted, task_type)?;
    loop {
        match machine.vcpu.run()? {
            VmExit::Interrupted => {}
            exit => {
                machine.discard();
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
        let (params, granted) = (BootParams::default(), Granted::default());
        let mut machine = Machine::boot(config, &image, &program, &params, &granted).unwrap();
        damage(&mut machine.memory);
        Some(machine.vcpu.run().unwrap())
    }

    #[test]
    fn an_exception_without_gates_is_a_triple_fault() {
        let no_gates = |memory: &mut GuestMemory| memory.zero(Gpa(layout::IDT), 4096).unwrap();
        let exit = first_exit(&[0x0f, 0x0b], no_gates);
        assert!(exit.is_none_or(|exit| exit == VmExit::Shutdown), "{exit:?}");
    }

    #[test]
    fn stubs_that_go_wild_end_the_machine() {
        let wild = |memory: &mut GuestMemory| memory.write(Gpa(layout::STUBS), &[0; 4096]).unwrap();
        let exit = first_exit(&[0x0f, 0x0b], wild);
        assert!(exit.is_none_or(|exit| exit != VmExit::Doorbell), "{exit:?}");
    }
}
