//! A virtual machine with its vCPU, made before anybody knows what for.
//!
//! Making them is most of what a start costs, and nothing of it depends on the program. What goes, goes in the
//! background: KVM waits for grace periods of the kernel when a virtual machine ends, milliseconds that
//! nobody has to wait for.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::kvm::{Kvm, Vcpu, Vm};
use crate::machine::shared_slots;
use crate::{Error, Image, Program};

/// A virtual machine without memory of its own and its vCPU without registers.
#[derive(Debug)]
pub struct Shell {
    // Fields are dropped in this order: each uses the next.
    vcpu: Vcpu,
    vm: Vm,
    made_for: Option<(Image, Program)>,
}

impl Shell {
    /// Makes one for whatever will run in it.
    ///
    /// # Errors
    ///
    /// [`Error::OpenKvm`] and the others of the first use of KVM, [`Error::CreateVm`],
    /// [`Error::CreateVcpu`], [`Error::VcpuState`].
    pub fn new() -> Result<Self, Error> {
        let kvm = Kvm::get()?;
        let vm = kvm.create_vm()?;
        let vcpu = vm.create_vcpu(kvm)?;
        Ok(Self { vcpu, vm, made_for: None })
    }

    /// Makes one that has the memory of `image` and `program` already, and takes no others.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::SetMemorySlot`].
    pub fn with(image: &Image, program: &Program) -> Result<Self, Error> {
        let mut shell = Self { made_for: Some((image.clone(), program.clone())), ..Self::new()? };
        for slot in shared_slots(image, program) {
            shell.vm.share(&slot)?;
        }
        Ok(shell)
    }

    /// The vCPU and the virtual machine, for `image` and `program`. One that was made for others goes.
    pub(crate) fn open(self, image: &Image, program: &Program) -> Result<(Vcpu, Vm), Error> {
        let Self { vcpu, vm, made_for } = self;
        match made_for {
            Some((i, p)) if !(i.is_same(image) && p.is_same(program)) => {
                discard((vcpu, vm, i, p));
                let Self { vcpu, vm, .. } = Self::new()?;
                Ok((vcpu, vm))
            }
            _ => Ok((vcpu, vm)),
        }
    }
}

/// Drops `machine` on a thread that does nothing else.
pub(crate) fn discard(machine: impl Send + 'static) {
    type Sender = mpsc::Sender<Box<dyn Send>>;
    static SENDER: Mutex<Option<Sender>> = Mutex::new(None);
    let mut sender = SENDER.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = sender.get_or_insert_with(|| {
        let (sender, receiver) = mpsc::channel::<Box<dyn Send>>();
        // Where no thread can be had, the receiver is gone and what is sent is dropped here.
        let _ = thread::Builder::new()
            .name("discard".to_owned())
            .spawn(move || receiver.into_iter().for_each(drop));
        sender
    });
    let _ = sender.send(Box::new(machine));
}
