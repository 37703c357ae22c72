//! A virtual machine with its vCPU, made before anybody knows what for.
//!
//! Making them is most of what a start costs, and nothing of it depends on the program. What goes, goes in the
//! background: KVM waits for grace periods of the kernel when a virtual machine ends, milliseconds that
//! nobody has to wait for.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::Error;
use crate::kvm::{Kvm, Vcpu, Vm};

/// A virtual machine without memory and its vCPU without registers.
#[derive(Debug)]
pub struct Shell {
    // Dropped first: it uses the other.
    pub(crate) vcpu: Vcpu,
    pub(crate) vm: Vm,
}

impl Shell {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// [`Error::OpenKvm`] and the others of the first use of KVM, [`Error::CreateVm`],
    /// [`Error::CreateVcpu`], [`Error::VcpuState`].
    pub fn new() -> Result<Self, Error> {
        let kvm = Kvm::get()?;
        let vm = kvm.create_vm()?;
        let vcpu = vm.create_vcpu(kvm)?;
        Ok(Self { vcpu, vm })
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
