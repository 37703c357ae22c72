//! A virtual machine: its memory slots and its vCPU.
#![expect(unsafe_code, reason = "a memory slot is set by host address")]
// UNSAFETY: KVM_SET_USER_MEMORY_REGION takes a host address that the kernel and the guest then use.

use abi::layout;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use super::{Kvm, Vcpu, io_error};
use crate::Error;
use crate::memory::{GuestMemory, Slot};

/// A virtual machine. Its memory must outlive it: see [`set_slots`](Self::set_slots).
#[derive(Debug)]
pub(crate) struct Vm {
    fd: VmFd,
}

impl Vm {
    pub(super) const fn new(fd: VmFd) -> Self {
        Self { fd }
    }

    /// Gives the guest all slots of `memory`, shared ones read-only. The caller keeps `memory` until
    /// the virtual machine is gone; [`crate::boot::Machine`] is the only one.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn set_slots(&self, memory: &GuestMemory) -> Result<(), Error> {
        for (number, slot) in (0..).zip(memory.slots()) {
            let flags = if slot.is_writable() { 0 } else { KVM_MEM_READONLY };
            self.set_slot(number, flags, slot.gpa().0, slot.bytes(), slot)?;
        }
        Ok(())
    }

    /// Changes the memory slots and changes them back, after which KVM has forgotten every shadow of a
    /// page table (KVM API, 4.35: deleting a slot zaps all).
    ///
    /// The slot lies below the private slot, where no page table points.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn change_slots(&self, memory: &GuestMemory) -> Result<(), Error> {
        const SPARE_GPA: u64 = layout::PAGE;
        const { assert!(SPARE_GPA + layout::PAGE <= layout::PRIVATE.start) };
        let slots = memory.slots();
        let number = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let Some(slot) = slots.first() else {
            return Ok(());
        };
        self.set_slot(number, KVM_MEM_READONLY, SPARE_GPA, layout::PAGE, slot)?;
        self.set_slot(number, 0, SPARE_GPA, 0, slot)
    }

    fn set_slot(
        &self,
        number: u32,
        flags: u32,
        gpa: u64,
        bytes: u64,
        backing: &Slot,
    ) -> Result<(), Error> {
        let region = kvm_userspace_memory_region {
            slot: number,
            flags,
            guest_phys_addr: gpa,
            memory_size: bytes,
            userspace_addr: backing.host_address(),
        };
        // SAFETY: `bytes` are at most the slot's own (one page of at least one in `change_slots`), which
        // lie in a live mapping of `backing`; numbers and addresses differ, so slots do not overlap; the
        // caller of `set_slots` keeps the memory until this virtual machine is gone.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(|e| Error::SetMemorySlot {
            slot: number,
            gpa,
            bytes,
            source: io_error(e),
        })
    }

    /// Makes the only vCPU, whose task register's segment has this type.
    ///
    /// # Errors
    ///
    /// [`Error::CreateVcpu`], [`Error::VcpuState`].
    pub(crate) fn create_vcpu(&self, kvm: &Kvm, task_type: u8) -> Result<Vcpu, Error> {
        let fd = self.fd.create_vcpu(0).map_err(|e| Error::CreateVcpu(io_error(e)))?;
        Vcpu::new(fd, kvm, task_type)
    }
}
