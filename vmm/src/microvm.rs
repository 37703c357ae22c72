//! The micro-VM: start, run, exit; and again.
//!
//! One thread alternates between the guest and the answer to its host calls. The machine answers what
//! concerns the machine itself (exit, abort, log, map, and how it is started); all else is the host's. A run
//! consumes the [`MicroVm`]; what is left of it is [`Idle`], from which another can be had: as it was in its
//! snapshot, or for another call in the same instance.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use abi::{Errno, Frame, Nr, Readiness, Request, layout};

use crate::boot::{boot_info, call_info};
use crate::exit::printable_line;
use crate::host::Host;
use crate::kvm::VmExit;
use crate::log_gate::LogGate;
use crate::machine::Machine;
use crate::memory::{faults_of_this_thread, private};
use crate::paging::Mapped;
use crate::shell::discard;
use crate::{
    BootParams, Config, Error, Exit, Fault, Image, Kick, Program, RunStats, Shell, Snapshot,
};

/// A micro-VM that can be run.
// Boxed, so that handing a micro-VM from run to run moves a pointer.
#[derive(Debug)]
pub struct MicroVm(Box<Running>);

#[derive(Debug)]
struct Running {
    machine: Box<Machine>,
    host: Host,
    kick: Kick,
    stats: RunStats,
    log_gate: LogGate,
    /// The boot information; empty while a snapshot is made.
    boot_info: Vec<u8>,
    /// The guest stands in a host call whose answer is the boot information.
    awaits_boot_info: bool,
}

/// A micro-VM whose run has ended.
#[derive(Debug)]
pub struct Idle {
    vm: MicroVm,
    /// The run ended by a status, so that the guest stands in a host call.
    has_status: bool,
}

/// A micro-VM in the state of its snapshot, which knows nothing of whom it will work for.
#[derive(Debug)]
pub struct Rewound {
    machine: Box<Machine>,
    /// What getting it there took.
    took: Duration,
}

/// Why the vCPU does not run on.
enum Pause {
    /// The guest has made [`Request::Ready`] and waits for the answer.
    Ready(Readiness),
    Ended(Exit),
}

impl MicroVm {
    /// Boots a micro-VM for `program` without a snapshot: the guest loads and links it first. `image` and
    /// `program` are shared with others that were booted from them, not copied.
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
        let machine = Box::new(Machine::fresh(Shell::new()?, *config, image, program)?);
        let boot_info = boot_info(params, &host, machine.vcpu.tsc_khz())?;
        Ok(Self::new(machine, host, boot_info, start.elapsed()))
    }

    /// Starts a micro-VM from `snapshot`, which was made of this image and program.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing; [`Error::MemoryTooSmall`] if the snapshot's guest uses more memory
    /// than `config` gives.
    pub fn start(
        shell: Shell,
        image: &Image,
        program: &Program,
        snapshot: &Snapshot,
        config: &Config,
        params: &BootParams,
        host: Host,
    ) -> Result<Self, Error> {
        Rewound::new(shell, image, program, snapshot, config)?.start(params, host)
    }

    /// A micro-VM that stops where its guest is ready, for a snapshot.
    pub(crate) fn unready(machine: Machine, host: Host) -> Self {
        Self::new(Box::new(machine), host, Vec::new(), Duration::ZERO)
    }

    fn new(machine: Box<Machine>, host: Host, boot_info: Vec<u8>, boot: Duration) -> Self {
        Self(Box::new(Running {
            machine,
            host,
            kick: Kick::default(),
            stats: RunStats::new(boot),
            log_gate: LogGate::default(),
            boot_info,
            awaits_boot_info: false,
        }))
    }

    /// What ends the run from another thread.
    #[must_use]
    pub fn kick(&self) -> Kick {
        self.0.kick.clone()
    }

    /// Runs the guest on this thread to its end. The process's `SIGRTMIN` is [`Kick`]'s.
    ///
    /// # Errors
    ///
    /// [`Error::Run`], [`Error::Signal`], [`Error::VcpuState`], [`Error::SetMemorySlot`]: failures of the
    /// host. What the guest does is an [`Exit`].
    pub fn run(self) -> Result<(Exit, RunStats), Error> {
        let (exit, stats, idle) = self.run_and_keep()?;
        discard(idle);
        Ok((exit, stats))
    }

    /// As [`run`](Self::run), and keeps the micro-VM.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_and_keep(mut self) -> Result<(Exit, RunStats, Idle), Error> {
        let vm = &mut *self.0;
        let start = Instant::now();
        let faults = vm.machine.heeds_faults().then(faults_before_run);
        let exit = loop {
            if std::mem::take(&mut vm.awaits_boot_info) {
                vm.answer_boot_info()?;
            }
            match vm.run_to_pause()? {
                Pause::Ready(_) => vm.awaits_boot_info = true,
                Pause::Ended(exit) => break exit,
            }
        };
        // Whoever waits for an answer waits no longer.
        vm.host.end_incoming();
        if let Some(before) = faults {
            let after = faults_of_this_thread();
            FAULTS.set(Some(after));
            if before != after {
                vm.machine.note_faults();
            }
        }
        vm.stats.run = start.elapsed();
        let has_status = matches!(exit, Exit::Status(_));
        let stats = std::mem::take(&mut vm.stats);
        Ok((exit, stats, Idle { vm: self, has_status }))
    }

    /// Runs the guest until it is ready, or has ended without that.
    pub(crate) fn run_to_ready(&mut self) -> Result<Result<Readiness, Exit>, Error> {
        Ok(match self.0.run_to_pause()? {
            Pause::Ready(readiness) => Ok(readiness),
            Pause::Ended(exit) => Err(exit),
        })
    }

    /// The machine, of a guest that is ready.
    pub(crate) const fn machine(&mut self) -> &mut Machine {
        &mut self.0.machine
    }

    /// Answers the host call that the guest stands in.
    pub(crate) fn answer(&mut self, result: Result<u64, Errno>) -> Result<(), Error> {
        self.0.answer(result)
    }
}

impl Running {
    /// Runs the guest until it waits for its boot information, or has ended.
    fn run_to_pause(&mut self) -> Result<Pause, Error> {
        let kick = self.kick.clone();
        let _entered = kick.enter()?;
        WINDOW.with_borrow_mut(|window| {
            loop {
                if kick.is_stopped() {
                    return Ok(Pause::Ended(Exit::Fault(Fault::Stopped)));
                }
                let fault = match self.machine.vcpu.run()? {
                    VmExit::Doorbell => {
                        self.stats.doorbell_exits += 1;
                        match self.take_call(window)? {
                            Some(pause) => return Ok(pause),
                            None => continue,
                        }
                    }
                    VmExit::Interrupted => {
                        self.stats.interrupted_exits += 1;
                        continue;
                    }
                    VmExit::Exception => {
                        let record = private(layout::EXCEPTION_RECORD);
                        Fault::Exception(self.machine.memory.read_obj(record)?)
                    }
                    VmExit::Shutdown => Fault::TripleFault,
                    VmExit::Other { reason, detail } => {
                        let rip = self.machine.vcpu.rip()?;
                        Fault::UnexpectedExit { reason, detail, rip }
                    }
                };
                return Ok(Pause::Ended(Exit::Fault(fault)));
            }
        })
    }

    /// Takes the host call in the window and answers it, unless it ends or interrupts the run.
    fn take_call(&mut self, window: &mut Window) -> Result<Option<Pause>, Error> {
        let memory = &mut self.machine.memory;
        let frame: Frame = memory.read_obj(private(layout::CALL_FRAME))?;
        let data = usize::try_from(frame.data_len).ok().and_then(|len| window.data.get_mut(..len));
        // Data beyond the window are a violation, which `decode` names.
        if let Some(data) = data {
            memory.read(private(layout::CALL_DATA), data)?;
        }
        let ended = |exit| Ok(Some(Pause::Ended(exit)));
        let request = match Request::decode(&frame, &window.data) {
            Ok(request) => request,
            Err(violation) => return ended(Exit::Fault(Fault::Violation(violation))),
        };
        if let Ok(nr) = Nr::try_from(frame.nr) {
            self.stats.count_call(nr);
        }
        match request {
            Request::Exit { status } => return ended(Exit::Status(status)),
            Request::Ready { readiness } => return Ok(Some(Pause::Ready(readiness))),
            Request::Abort { kind, message } => {
                let message = printable_line(message);
                return ended(Exit::Fault(Fault::Abort { kind, message }));
            }
            _ => {}
        }
        let asked = Instant::now();
        let result = match request {
            Request::Program => Ok(self.machine.program_bytes()),
            Request::BootInfo { offset } => self.write_boot_info(offset),
            Request::Log { level, message } => {
                self.log_gate.log(level, message, asked);
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
                    self.machine.memory.write(private(layout::CALL_DATA), reply)?;
                    Ok(answer.value)
                }
                Err(errno) => Err(errno),
            },
        };
        self.answer(result)?;
        self.stats.answering += asked.elapsed();
        Ok(None)
    }

    /// Answers the host call that the guest stands in.
    fn answer(&mut self, result: Result<u64, Errno>) -> Result<(), Error> {
        let ret = layout::CALL_FRAME + std::mem::offset_of!(Frame, ret) as u64;
        self.machine.memory.write_obj(private(ret), &Errno::to_ret(result))
    }

    /// Answers with the boot information; with none, the call is the last one again.
    fn answer_boot_info(&mut self) -> Result<(), Error> {
        self.write_boot_info(0).map_err(|_| Error::FrameAccounting)?;
        self.answer(Ok(self.boot_info.len() as u64))
    }

    /// Puts the boot information from `offset` on into the data area. Returns the bytes.
    fn write_boot_info(&mut self, offset: u64) -> Result<u64, Errno> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.boot_info.get(offset..));
        let rest = rest.unwrap_or_default();
        let part = rest.get(..layout::CALL_DATA_BYTES).unwrap_or(rest);
        self.machine.memory.write(private(layout::CALL_DATA), part).map_err(|_| Errno::Io)?;
        Ok(part.len() as u64)
    }
}

impl Rewound {
    /// Makes a micro-VM of `shell` that stands where `snapshot` was made of this image and program.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but those of parsing; [`Error::MemoryTooSmall`] if the snapshot's guest uses more memory
    /// than `config` gives.
    pub fn new(
        shell: Shell,
        image: &Image,
        program: &Program,
        snapshot: &Snapshot,
        config: &Config,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let machine = Machine::restored(shell, *config, image, program, snapshot)?;
        Ok(Self { machine: Box::new(machine), took: start.elapsed() })
    }

    /// Tells it whom it works for.
    ///
    /// # Errors
    ///
    /// [`Error::Entropy`], [`Error::BootInfoSize`].
    pub fn start(self, params: &BootParams, host: Host) -> Result<MicroVm, Error> {
        let start = Instant::now();
        let boot_info = boot_info(params, &host, self.machine.vcpu.tsc_khz())?;
        let boot = self.took + start.elapsed();
        let mut vm = MicroVm::new(self.machine, host, boot_info, boot);
        vm.0.awaits_boot_info = true;
        Ok(vm)
    }
}

impl Idle {
    /// A micro-VM for another run, in the state of its snapshot: [`rewind`](Self::rewind) and
    /// [`Rewound::start`].
    ///
    /// # Errors
    ///
    /// As those.
    pub fn reset(self, params: &BootParams, host: Host) -> Result<MicroVm, Error> {
        self.rewind()?.start(params, host)
    }

    /// The micro-VM in the state of its snapshot: nothing of the run is left in it, and what it was granted
    /// is closed. A guest that did not end by a status is not trusted with that: another machine takes the
    /// place of its own.
    ///
    /// # Errors
    ///
    /// [`Error::NoSnapshot`] if it was not started from one; else as [`MicroVm::start`].
    pub fn rewind(self) -> Result<Rewound, Error> {
        let start = Instant::now();
        let Self { vm: MicroVm(vm), has_status } = self;
        let mut machine = vm.machine;
        if has_status {
            machine.rewind()?;
        } else {
            *machine = machine.replace()?;
        }
        Ok(Rewound { machine, took: start.elapsed() })
    }

    /// What the micro-VM was granted, to grant it more before another call.
    pub const fn host(&mut self) -> &mut Host {
        &mut self.vm.0.host
    }

    /// A micro-VM for another call in the same instance, with everything that it left there. What it was
    /// granted stays open to it.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the run did not end by a status; [`Error::BootInfoSize`].
    pub fn call(mut self, params: &BootParams) -> Result<MicroVm, Error> {
        let start = Instant::now();
        let vm = &mut *self.vm.0;
        vm.boot_info = call_info(params, &vm.host, vm.machine.vcpu.tsc_khz())?;
        vm.stats.boot = start.elapsed();
        self.run_on()
    }

    /// As [`call`](Self::call) with what the last call was told, which neither side then says or reads again:
    /// the least that a call can cost. A request of HTTP is answered once: it is not for those.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] if the run did not end by a status.
    pub fn again(mut self) -> Result<MicroVm, Error> {
        self.vm.0.boot_info.clear();
        self.run_on()
    }

    /// The micro-VM, to run on from the host call in which it ended, with the boot information that it has.
    fn run_on(mut self) -> Result<MicroVm, Error> {
        if !self.has_status {
            return Err(Error::Ended);
        }
        let vm = &mut *self.vm.0;
        // To count them in each of many calls costs more than what is looked for once, if ever, in their end.
        vm.machine.note_faults();
        vm.kick.renew();
        vm.awaits_boot_info = true;
        Ok(self.vm)
    }

    /// The machine.
    pub(crate) const fn machine(&mut self) -> &mut Machine {
        &mut self.vm.0.machine
    }
}

thread_local! {
    /// Page faults of the thread after the last run for which they were counted.
    static FAULTS: Cell<Option<i64>> = const { Cell::new(None) };
    /// Shared by all runs of a thread: there is one at a time.
    static WINDOW: RefCell<Window> = RefCell::default();
}

/// Page faults of this thread before a run, or fewer: what has come since they were counted after another run
/// makes this one suspect of having written, which is looked for then, and saves asking the kernel twice.
fn faults_before_run() -> i64 {
    FAULTS.get().unwrap_or_else(faults_of_this_thread)
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
