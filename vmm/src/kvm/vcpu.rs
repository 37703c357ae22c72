//! The vCPU: its registers, entering the guest, and why it came out.
//!
//! The vCPU starts in 64-bit mode at CPL3; there is no boot code. Whatever makes KVM_RUN return is one of
//! [`VmExit`]; only a failure that no guest can cause is an error.
#![expect(unsafe_code, reason = "details of an exit are in a C union")]
// UNSAFETY: `kvm_run` holds a union whose valid member follows from `exit_reason`.

use abi::layout;
use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_MMIO, kvm_dtable, kvm_regs,
    kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};

use super::{Features, Kvm, io_error};
use crate::Error;
use crate::descriptors::{self, selector};
use crate::memory::Gpa;

/// The only vCPU of a machine.
///
/// Registers go to KVM with the next KVM_RUN (KVM_CAP_SYNC_REGS; KVM API, 5), so that setting them costs no
/// system call.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
    features: Features,
    /// System registers of a vCPU that nobody has set.
    reset: kvm_sregs,
    tsc_khz: u64,
}

/// Why the vCPU left the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmExit {
    /// The guest rang: a host call lies in the window.
    Doorbell,
    /// A stub reported an exception.
    Exception,
    /// A signal came.
    Interrupted,
    /// Triple fault.
    Shutdown,
    /// Anything else.
    Other {
        /// `exit_reason`.
        reason: u32,
        /// Port, guest-physical address or suberror.
        detail: u64,
    },
}

// Bits of CR0 (SDM vol. 3, 2.5) and EFER (APM vol. 2, 3.1.7).
const CR0: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1; // PG WP NE ET MP PE
const EFER: u64 = 1 << 11 | 1 << 10 | 1 << 8; // NXE LMA LME

/// The registers that ring 3 has beside the vector and floating-point ones, in the order of KVM's own.
pub(crate) type Registers = [u64; 18];

impl Vcpu {
    pub(super) fn new(fd: VcpuFd, kvm: &Kvm) -> Result<Self, Error> {
        fd.set_cpuid2(kvm.cpuid()).map_err(failed("set the vCPU's CPUID"))?;
        let features = kvm.features();
        if let Some(value) = features.xcr0 {
            let mut xcrs = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
            xcrs.xcrs[0] = kvm_xcr { xcr: 0, value, ..Default::default() };
            fd.set_xcrs(&xcrs).map_err(failed("set the vCPU's XCR0"))?;
        }
        let known = kvm.vcpu_constants(|| {
            let reset = fd.get_sregs().map_err(failed("get the vCPU's system registers"))?;
            let khz = fd.get_tsc_khz().ok().filter(|_| features.tsc_is_invariant);
            Ok((reset, khz.map_or(0, u64::from)))
        })?;
        Ok(Self { fd, features, reset: known.0, tsc_khz: known.1 })
    }

    /// TSC ticks per millisecond; 0 if they are not known or not constant.
    pub(crate) const fn tsc_khz(&self) -> u64 {
        self.tsc_khz
    }

    /// Registers for the start of a guest at `entry` on `stack`.
    pub(crate) fn registers_at(entry: u64, stack: u64) -> Registers {
        // Of the flags only the bit that is always 1.
        let regs = kvm_regs { rip: entry, rsp: stack, rflags: 2, ..Default::default() };
        pack(&regs)
    }

    /// Sets every register but the vector and floating-point ones, for ring 3 with page tables at `root` and
    /// a task register's segment of this type.
    pub(crate) fn set_registers(&mut self, registers: &Registers, root: Gpa, task_type: u8) {
        let sregs = self.system_registers(root, task_type);
        let sync = self.fd.sync_regs_mut();
        sync.sregs = sregs;
        sync.regs = unpack(registers);
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
        self.fd.set_sync_dirty_reg(SyncReg::Register);
    }

    /// Loads other page tables. The bases of FS and GS begin anew with it: the guest uses neither.
    pub(crate) fn set_root(&mut self, root: Gpa, task_type: u8) {
        self.fd.sync_regs_mut().sregs = self.system_registers(root, task_type);
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// The registers, after the instruction that made the last exit has come to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Run`], [`Error::VcpuState`].
    pub(crate) fn registers(&mut self) -> Result<Registers, Error> {
        // KVM completes an `out` when it is entered the next time (KVM API, 5).
        self.fd.set_kvm_immediate_exit(1);
        let entered = self.fd.run().map(drop);
        self.fd.set_kvm_immediate_exit(0);
        match entered {
            Err(e) if e.errno() == libc::EINTR => {}
            Ok(()) => {}
            Err(e) => return Err(Error::Run(io_error(e))),
        }
        self.fd.get_regs().map(|regs| pack(&regs)).map_err(failed("get the vCPU's registers"))
    }

    fn system_registers(&self, root: Gpa, task_type: u8) -> kvm_sregs {
        let mut sregs = self.reset;
        let code = kvm_segment {
            limit: u32::MAX,
            selector: selector::RING3_CODE,
            type_: 0b1011, // execute, read, accessed
            present: 1,
            dpl: 3,
            s: 1,
            l: 1,
            g: 1,
            ..Default::default()
        };
        let data = kvm_segment {
            selector: selector::RING3_DATA,
            type_: 0b0011, // write, accessed
            db: 1,
            l: 0,
            ..code
        };
        sregs.cs = code;
        [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] = [data; 5];
        sregs.tr = kvm_segment {
            base: layout::TSS,
            limit: u32::from(descriptors::TSS_LIMIT),
            selector: selector::TASK,
            type_: task_type,
            present: 1,
            ..Default::default()
        };
        let table = |base, limit| kvm_dtable { base, limit, padding: [0; 3] };
        sregs.gdt = table(layout::GDT, descriptors::GDT_LIMIT);
        sregs.idt = table(layout::IDT, descriptors::IDT_LIMIT);
        sregs.cr0 = CR0;
        sregs.cr3 = root.0;
        sregs.cr4 = self.features.cr4;
        sregs.efer = EFER;
        sregs
    }

    /// Where the guest is.
    ///
    /// # Errors
    ///
    /// [`Error::VcpuState`].
    pub(crate) fn rip(&self) -> Result<u64, Error> {
        let regs = self.fd.get_regs().map_err(failed("get the vCPU's registers"))?;
        Ok(regs.rip)
    }

    /// Runs the guest until it comes out.
    ///
    /// # Errors
    ///
    /// [`Error::Run`].
    pub(crate) fn run(&mut self) -> Result<VmExit, Error> {
        const DOORBELL: u16 = abi::DOORBELL_PORT as u16;
        const EXCEPTION: u16 = abi::EXCEPTION_PORT as u16;
        let exit = match self.fd.run() {
            Ok(VcpuExit::IoOut(DOORBELL, [_])) => VmExit::Doorbell,
            Ok(VcpuExit::IoOut(EXCEPTION, [_])) => VmExit::Exception,
            Ok(VcpuExit::Shutdown) => VmExit::Shutdown,
            Ok(VcpuExit::Intr) => VmExit::Interrupted,
            Ok(_) => self.other(),
            Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => VmExit::Interrupted,
            Err(e) => return Err(Error::Run(io_error(e))),
        };
        Ok(exit)
    }

    /// Names an exit that no guest of ours has a reason for.
    fn other(&mut self) -> VmExit {
        let run = self.fd.get_kvm_run();
        let union = &run.__bindgen_anon_1;
        // SAFETY: `exit_reason`, which KVM wrote with it, says which member is valid; all are plain integers.
        let detail = unsafe {
            match run.exit_reason {
                KVM_EXIT_IO => u64::from(union.io.port),
                KVM_EXIT_MMIO => union.mmio.phys_addr,
                KVM_EXIT_INTERNAL_ERROR => u64::from(union.internal.suberror),
                KVM_EXIT_FAIL_ENTRY => union.fail_entry.hardware_entry_failure_reason,
                _ => 0,
            }
        };
        VmExit::Other { reason: run.exit_reason, detail }
    }
}

/// Makes the error of an ioctl.
fn failed(ioctl: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |e| Error::VcpuState { ioctl, source: io_error(e) }
}

const fn pack(regs: &kvm_regs) -> Registers {
    let kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    } = *regs;
    [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags]
}

const fn unpack(registers: &Registers) -> kvm_regs {
    let [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags] =
        *registers;
    kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip,
        rflags,
    }
}
