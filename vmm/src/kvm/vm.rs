//! A virtual machine: its memory slots and its vCPU.
#![expect(unsafe_code, reason = "a memory slot is set by host address")]
// UNSAFETY: KVM_SET_USER_MEMORY_REGION takes a host address that the kernel and the guest then use.

use std::ops::Range;

use abi::layout;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

use super::{Kvm, Vcpu, io_error};
use crate::Error;
use crate::memory::{Gpa, GuestMemory, RAM_OFFSET, Slot};

/// Slot that only [`Vm::change_slots`] uses.
const SPARE_SLOT: u32 = 0;
/// First slot of what the guest may write: it is given in pieces, each fifteen times as large as those before it
/// together, 5 at most. KVM waits for a grace period of the kernel at each change of the slots, so there are few.
const OWN_SLOT: u32 = 1;
/// First slot of what is shared.
const SHARED_SLOT: u32 = 28;

/// Memory beyond what is in use that a guest is given at first. KVM keeps 8 bytes and more per page of a slot
/// where it shadows page tables, so slots are no larger than they need be.
const SPARE_BYTES: u64 = 8 << 20;

/// A virtual machine. Its memory must outlive it: see [`set_slots`](Self::set_slots).
#[derive(Debug)]
pub(crate) struct Vm {
    fd: VmFd,
    /// Bytes that the guest has been given of what it may write.
    own_bytes: u64,
    own_slots: u32,
    /// Where the shared memory is that the guest has been given.
    shared: Vec<Gpa>,
}

impl Vm {
    pub(super) const fn new(fd: VmFd) -> Self {
        Self { fd, own_bytes: 0, own_slots: 0, shared: Vec::new() }
    }

    /// Gives the guest what it may write of `memory`, with the first `ram_used` bytes of RAM and more, and the
    /// shared slots that it does not have yet, read-only. The caller keeps `memory` until the virtual machine
    /// is gone; [`crate::machine::Machine`] is the only one.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn set_slots(&mut self, memory: &GuestMemory, ram_used: u64) -> Result<(), Error> {
        for slot in memory.slots().iter().filter(|slot| !slot.is_writable()) {
            self.share(slot)?;
        }
        self.give_ram(memory, ram_used)
    }

    /// Gives the guest shared memory unless it has it. The caller keeps the memory as in
    /// [`set_slots`](Self::set_slots); [`crate::Shell`] is the only other one.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn share(&mut self, slot: &Slot) -> Result<(), Error> {
        if self.shared.contains(&slot.gpa()) {
            return Ok(());
        }
        let number = SHARED_SLOT + u32::try_from(self.shared.len()).unwrap_or(u32::MAX);
        self.set_slot(number, KVM_MEM_READONLY, slot.gpa().0, 0..slot.bytes(), slot)?;
        self.shared.push(slot.gpa());
        Ok(())
    }

    /// Gives the guest more RAM if it does not have the first `used` bytes of it.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn give_ram(&mut self, memory: &GuestMemory, used: u64) -> Result<(), Error> {
        let Some(own) = memory.slots().iter().find(|slot| slot.is_writable()) else {
            return Ok(());
        };
        let (start, needed) = (self.own_bytes, (RAM_OFFSET + used).min(own.bytes()));
        if start >= needed {
            return Ok(());
        }
        let end = (needed + SPARE_BYTES).max(16 * start).min(own.bytes());
        self.set_slot(OWN_SLOT + self.own_slots, 0, own.gpa().0 + start, start..end, own)?;
        self.own_slots += 1;
        self.own_bytes = end;
        Ok(())
    }

    /// Changes the memory slots and changes them back, after which KVM has forgotten every shadow of a
    /// page table (KVM API, 4.35: deleting a slot zaps all).
    ///
    /// The slot lies where no page table points.
    ///
    /// # Errors
    ///
    /// [`Error::SetMemorySlot`].
    pub(crate) fn change_slots(&self, memory: &GuestMemory) -> Result<(), Error> {
        const SPARE_GPA: u64 = layout::PAGE;
        const { assert!(SPARE_GPA + layout::PAGE <= layout::IMAGE.start) };
        let Some(slot) = memory.slots().first() else {
            return Ok(());
        };
        self.set_slot(SPARE_SLOT, KVM_MEM_READONLY, SPARE_GPA, 0..layout::PAGE, slot)?;
        self.set_slot(SPARE_SLOT, 0, SPARE_GPA, 0..0, slot)
    }

    /// Gives the guest the part `range` of `backing` at `gpa`; nothing where it is empty.
    fn set_slot(
        &self,
        number: u32,
        flags: u32,
        gpa: u64,
        range: Range<u64>,
        backing: &Slot,
    ) -> Result<(), Error> {
        let bytes = range.end - range.start;
        let region = kvm_userspace_memory_region {
            slot: number,
            flags,
            guest_phys_addr: gpa,
            memory_size: bytes,
            userspace_addr: backing.host_address() + range.start,
        };
        // SAFETY: `range` lies in the slot's own bytes, which lie in a live mapping of `backing`; numbers and
        // addresses differ, so slots do not overlap; the caller of `set_slots` keeps the memory until this
        // virtual machine is gone.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(|e| Error::SetMemorySlot {
            slot: number,
            gpa,
            bytes,
            source: io_error(e),
        })
    }

    /// Makes the only vCPU.
    ///
    /// # Errors
    ///
    /// [`Error::CreateVcpu`], [`Error::VcpuState`].
    pub(crate) fn create_vcpu(&self, kvm: &Kvm) -> Result<Vcpu, Error> {
        let fd = self.fd.create_vcpu(0).map_err(|e| Error::CreateVcpu(io_error(e)))?;
        Vcpu::new(fd, kvm)
    }
}
