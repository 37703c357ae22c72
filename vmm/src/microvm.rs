//! The micro-VM: boot, run, exit.
//!
//! One thread alternates between the guest and the answer to its host calls. The machine answers what
//! concerns the machine itself (exit, abort, log, map); all else is the host's. A run consumes the
//! micro-VM, so there is none that has already run.

use std::time::Instant;

use abi::{Errno, Frame, Nr, Request, layout};

use crate::boot::{Granted, Machine};
use crate::exit::printable_line;
use crate::host::Host;
use crate::kvm::VmExit;
use crate::log_gate::LogGate;
use crate::memory::Gpa;
use crate::paging::Mapped;
use crate::{BootParams, Config, Error, Exit, Fault, Image, Kick, Program, RunStats};

/// A booted micro-VM, at the first instruction of its guest.
#[derive(Debug)]
pub struct MicroVm {
    machine: Machine,
    host: Host,
    kick: Kick,
    stats: RunStats,
    log_gate: LogGate,
}

impl MicroVm {
    /// Boots a micro-VM for `program`. `image` and `program` are shared with others that were booted
    /// from them, not copied.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing; each says what to do.
    pub fn boot(
        config: &Config,
        image: &Image,
        program: &Program,
        params: &BootParams,
        host: Host,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let preopens = host.preopens().collect();
        let granted = Granted { flags: host.terminal_flags(), preopens, seed: seed()? };
        let machine = Machine::boot(*config, image, program, params, &granted)?;
        let now = Instant::now();
        Ok(Self {
            machine,
            host,
            kick: Kick::default(),
            stats: RunStats::new(now.duration_since(start)),
            log_gate: LogGate::new(now),
        })
    }

    /// What ends the run from another thread.
    #[must_use]
    pub fn kick(&self) -> Kick {
        self.kick.clone()
    }

    /// Runs the guest on this thread to its end. The process's `SIGRTMIN` is [`Kick`]'s.
    ///
    /// # Errors
    ///
    /// [`Error::Run`], [`Error::Signal`], [`Error::VcpuState`], [`Error::SetMemorySlot`]: failures of the
    /// host. What the guest does is an [`Exit`].
    pub fn run(mut self) -> Result<(Exit, RunStats), Error> {
        let start = Instant::now();
        let kick = self.kick.clone();
        let _entered = kick.enter()?;
        let mut window = Window::default();
        let exit = loop {
            if kick.is_stopped() {
                break Exit::Fault(Fault::Stopped);
            }
            match self.machine.vcpu.run()? {
                VmExit::Doorbell => {
                    let rung = Instant::now();
                    let ended = self.answer(&mut window)?;
                    self.stats.doorbell_exits += 1;
                    self.stats.answering += rung.elapsed();
                    if let Some(exit) = ended {
                        break exit;
                    }
                }
                VmExit::Interrupted => self.stats.interrupted_exits += 1,
                VmExit::Exception => {
                    let record = self.machine.memory.read_obj(Gpa(layout::EXCEPTION_RECORD))?;
                    break Exit::Fault(Fault::Exception(record));
                }
                VmExit::Shutdown => break Exit::Fault(Fault::TripleFault),
                VmExit::Other { reason, detail } => {
                    let rip = self.machine.vcpu.rip()?;
                    break Exit::Fault(Fault::UnexpectedExit { reason, detail, rip });
                }
            }
        };
        self.stats.run = start.elapsed();
        self.machine.discard();
        Ok((exit, self.stats))
    }

    /// Answers the host call in the window; `Some` if it ends the run.
    fn answer(&mut self, window: &mut Window) -> Result<Option<Exit>, Error> {
        let memory = &mut self.machine.memory;
        let mut frame: Frame = memory.read_obj(Gpa(layout::CALL_FRAME))?;
        let data = usize::try_from(frame.data_len).ok().and_then(|len| window.data.get_mut(..len));
        // Data beyond the window are a violation, which `decode` names.
        if let Some(data) = data {
            memory.read(Gpa(layout::CALL_DATA), data)?;
        }
        let request = match Request::decode(&frame, &window.data) {
            Ok(request) => request,
            Err(violation) => return Ok(Some(Exit::Fault(Fault::Violation(violation)))),
        };
        if let Ok(nr) = Nr::try_from(frame.nr) {
            self.stats.count_call(nr);
        }
        let result = match request {
            Request::Exit { status } => return Ok(Some(Exit::Status(status))),
            Request::Abort { kind, message } => {
                let message = printable_line(message);
                return Ok(Some(Exit::Fault(Fault::Abort { kind, message })));
            }
            Request::Log { level, message } => {
                self.log_gate.log(level, message, Instant::now());
                Ok(0)
            }
            Request::Map { gva, len, access } => {
                let (mapped, cost) = self.machine.map(gva, len, access)?;
                self.stats.root_changes += u64::from(cost.root_changed);
                self.stats.slot_changes += u64::from(cost.slots_changed);
                match mapped {
                    Mapped::Done => Ok(0),
                    Mapped::NoMemory => Err(Errno::NoMemory),
                }
            }
            request => match self.host.call(request, &mut window.reply) {
                Ok(answer) => {
                    let reply = window.reply.get(..answer.data_bytes).unwrap_or(&window.reply);
                    self.machine.memory.write(Gpa(layout::CALL_DATA), reply)?;
                    Ok(answer.value)
                }
                Err(errno) => Err(errno),
            },
        };
        frame.ret = Errno::to_ret(result);
        let ret = layout::CALL_FRAME + std::mem::offset_of!(Frame, ret) as u64;
        self.machine.memory.write_obj(Gpa(ret), &frame.ret)?;
        Ok(None)
    }
}

/// The host's copies of the call window's data area: what came, and what goes back.
struct Window {
    data: Vec<u8>,
    reply: Vec<u8>,
}

impl Default for Window {
    fn default() -> Self {
        let area = || vec![0; layout::CALL_DATA_BYTES];
        Self { data: area(), reply: area() }
    }
}

/// Entropy for one guest, from the kernel.
fn seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(source) => return Err(Error::Entropy(source.into())),
        }
    }
    Ok(seed)
}
