//! The KVM floor: what any VMM must do to reach a guest's first VM exit, and nothing else.
//!
//! A virtual machine, one memory slot of eight pages, a vCPU with the CPUID that KVM supports, its registers;
//! then a guest of two instructions that leaves by `out` for ever. It is 64-bit code at CPL3, as the code
//! in a micro-VM is: a KVM may emulate ring 0. Nothing is kept from one machine to the next but the open
//! device and its CPUID. What a micro-VM takes is divided by this, measured in the same run.
#![expect(unsafe_code, reason = "a memory slot is set by host address")]
// UNSAFETY: KVM_SET_USER_MEMORY_REGION takes a host address that the kernel and the guest then use.

use anyhow::{Context as _, Result, bail};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

/// The port that the guest writes to.
const PORT: u8 = 0x10;

/// `out PORT, al; jmp` to it.
const CODE: [u8; 4] = [0xe6, PORT, 0xeb, 0xfc];

// Guest-physical addresses, one page each; the lowest stays empty.
const TEXT: u64 = 0x1000;
const GDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
const PML4: u64 = 0x4000;
const PDPT: u64 = 0x5000;
const PD: u64 = 0x6000;

/// Last byte of the TSS, whose I/O permission bitmap is behind its fixed part (SDM vol. 1, 19.5.2).
const TSS_LIMIT: u32 = 0xff;
const IO_BITMAP: u16 = 0x68;

/// Types of the task register's segment: VT-x wants it busy, QEMU's SVM available (SDM vol. 3, 3.5).
const TASK_TYPES: [u8; 2] = [0b1011, 0b1001];

/// KVM, open, with what its machines have in common.
#[derive(Debug)]
pub struct Floor {
    kvm: kvm_ioctls::Kvm,
    cpuid: CpuId,
    task_type: u8,
}

/// A machine. Fields are dropped in this order: the memory outlives the virtual machine.
#[derive(Debug)]
pub struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Box<[Page; 8]>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

impl Floor {
    /// Opens KVM and finds out which task type it takes.
    ///
    /// # Errors
    ///
    /// No KVM, or none of the types lets the guest out.
    pub fn open() -> Result<Self> {
        let kvm = kvm_ioctls::Kvm::new().context("open /dev/kvm")?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("get the CPUID")?;
        let mut floor = Self { kvm, cpuid, task_type: 0 };
        for task_type in TASK_TYPES {
            floor.task_type = task_type;
            if floor.create().and_then(|mut machine| machine.exit()).is_ok() {
                return Ok(floor);
            }
        }
        bail!("the guest of two instructions does not leave by its port")
    }

    /// Makes a machine that stands before its first instruction.
    ///
    /// # Errors
    ///
    /// An ioctl fails.
    pub fn create(&self) -> Result<Machine> {
        let mut memory = Box::new([Page([0; 4096]); 8]);
        let mut put = |gpa: u64, bytes: &[u8]| {
            let page = usize::try_from(gpa >> 12).ok().and_then(|index| memory.get_mut(index));
            let offset = usize::try_from(gpa & 0xfff).unwrap_or_default();
            let place = page.and_then(|page| page.0.get_mut(offset..offset + bytes.len()));
            place.context("a write beyond the floor's memory").map(|it| it.copy_from_slice(bytes))
        };
        put(TEXT, &CODE)?;
        let task = u64::from(TSS_LIMIT) | TSS << 16 | u64::from(self.task_type) << 40 | 1 << 47;
        put(GDT + 6 * 8, &task.to_le_bytes())?;
        put(TSS + 0x66, &IO_BITMAP.to_le_bytes())?;
        put(TSS + u64::from(TSS_LIMIT), &[0xff])?;
        // Present, writable, user, accessed, dirty; the last level is a large page (SDM vol. 3, 4.5).
        for (table, entry) in [(PML4, PDPT | 0x27), (PDPT, PD | 0x27), (PD, 0xe7)] {
            put(table, &entry.to_le_bytes())?;
        }

        let vm = self.kvm.create_vm().context("KVM_CREATE_VM")?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: size_of_val(&*memory) as u64,
            userspace_addr: memory.as_ptr() as u64,
        };
        // SAFETY: the region is the whole allocation of `memory`, which nothing here reads or writes any more
        // and which `Machine` drops after the virtual machine.
        unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;
        let vcpu = vm.create_vcpu(0).context("KVM_CREATE_VCPU")?;
        vcpu.set_cpuid2(&self.cpuid).context("KVM_SET_CPUID2")?;
        self.set_registers(&vcpu)?;
        Ok(Machine { vcpu, _vm: vm, _memory: memory })
    }

    fn set_registers(&self, vcpu: &VcpuFd) -> Result<()> {
        let mut sregs = vcpu.get_sregs().context("KVM_GET_SREGS")?;
        let code = kvm_segment {
            limit: u32::MAX,
            selector: 5 << 3 | 3,
            type_: 0b1011,
            present: 1,
            dpl: 3,
            s: 1,
            l: 1,
            g: 1,
            ..Default::default()
        };
        let data = kvm_segment { selector: 4 << 3 | 3, type_: 0b0011, db: 1, l: 0, ..code };
        sregs.cs = code;
        [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
        sregs.tr = kvm_segment {
            base: TSS,
            limit: TSS_LIMIT,
            selector: 6 << 3,
            type_: self.task_type,
            present: 1,
            ..Default::default()
        };
        sregs.gdt = kvm_dtable { base: GDT, limit: 8 * 8 - 1, padding: [0; 3] };
        sregs.cr0 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1; // PG WP NE ET MP PE
        sregs.cr3 = PML4;
        sregs.cr4 = 1 << 5 | 1 << 9 | 1 << 10; // PAE OSFXSR OSXMMEXCPT
        sregs.efer = 1 << 11 | 1 << 10 | 1 << 8; // NXE LMA LME
        vcpu.set_sregs(&sregs).context("KVM_SET_SREGS")?;
        let regs = kvm_regs { rip: TEXT, rflags: 2, ..Default::default() };
        vcpu.set_regs(&regs).context("KVM_SET_REGS")
    }
}

impl Machine {
    /// Enters the guest and comes out with its next write to the port.
    ///
    /// # Errors
    ///
    /// KVM_RUN fails or returns for another reason.
    pub fn exit(&mut self) -> Result<()> {
        match self.vcpu.run().context("KVM_RUN")? {
            VcpuExit::IoOut(port, _) if port == u16::from(PORT) => Ok(()),
            other => bail!("the guest left by {other:?}"),
        }
    }
}
