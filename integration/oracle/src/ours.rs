//! The library OS in this process: host calls as a micro-VM makes them, without one.
//!
//! Rule: a call crosses as it does from a guest. The request is encoded into a frame and a data area,
//! decoded from them again, answered by the [`Host`], and the answer is read from the area.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]
// UNSAFETY: RDTSC has no safe form.

use std::fs::File;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use abi::boot::{BootHeader, BootInfo, Preopen, boot_flags};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Nr, Request};
use libos::{Calls, HostCall};
use vmm::host::http::{Incoming, Outgoing};
use vmm::host::{DirAccess, Host, LookupError, LookupRequest, Network, Policy, Stdio};
use wasmtime::{Error, Result};

use crate::calls::{Call, CallLog};
use crate::program::{Program, engine};
use crate::{Directory, Grants, Streams};

/// How long the TSC is compared with the system's clock.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Runs `program` over the library OS, as a micro-VM that starts from a snapshot does.
pub(crate) fn run(
    program: &Program,
    grants: &Grants,
    streams: Streams,
    log: &CallLog,
) -> Result<i32> {
    let mut prepared = Prepared::link(program)?;
    prepared.instantiate();
    prepared.call(&World::new(grants, streams, log)?, grants, "")
}

/// A program over the library OS, of which nobody knows yet for whom it is.
#[derive(Debug)]
pub struct Prepared {
    prepared: libos::Prepared,
    name: String,
}

impl Prepared {
    /// Links `program`.
    ///
    /// # Errors
    ///
    /// An import is not provided.
    pub fn link(program: &Program) -> Result<Self> {
        let prepared = libos::Prepared::link(engine()?, &program.compiled)?;
        Ok(Self { prepared, name: program.name.clone() })
    }

    /// Instantiates it if that goes without a host call. Returns whether it did.
    pub fn instantiate(&mut self) -> bool {
        self.prepared.instantiate()
    }

    /// Calls the entry point, or what `invoke` says, and returns the exit status. Each call is given fresh
    /// entropy; all calls of a program are made in one world.
    ///
    /// # Errors
    ///
    /// There is nothing to call.
    pub fn call(&mut self, world: &World, grants: &Grants, invoke: &str) -> Result<i32> {
        self.enter(world, grants, invoke, &[], 0)
    }

    /// Has the program answer a request that `world` has [admitted](World::admit), and returns the exit
    /// status; in a new instance if it was called before and `new_instance`.
    ///
    /// # Errors
    ///
    /// It answers no requests.
    pub fn serve(
        &mut self,
        world: &World,
        grants: &Grants,
        request: &[u8],
        new_instance: bool,
    ) -> Result<i32> {
        let flags = if new_instance { boot_flags::NEW_INSTANCE } else { 0 };
        let status = self.enter(world, grants, "", request, flags);
        world.host(Host::end_incoming);
        status
    }

    fn enter(
        &mut self,
        world: &World,
        grants: &Grants,
        invoke: &str,
        request: &[u8],
        flags: u32,
    ) -> Result<i32> {
        let Grants { args, env, cwd, .. } = grants;
        let entries: Vec<String> =
            env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let header = BootHeader {
            flags: world.terminals | flags,
            tsc_khz: tsc_khz(),
            seed: seed()?,
            ..BootHeader::default()
        };
        let boot = BootInfo {
            header,
            program_name: self.name.as_bytes(),
            cwd: cwd.as_deref().unwrap_or_default().as_bytes(),
            invoke: invoke.as_bytes(),
            request,
            args: args.iter().map(String::as_bytes).collect(),
            env: entries.iter().map(String::as_bytes).collect(),
            preopens: world
                .preopens
                .iter()
                .map(|(handle, writable, guest_path)| Preopen {
                    handle: *handle,
                    writable: *writable,
                    guest_path,
                })
                .collect(),
        };
        // The boot information crosses as bytes, too.
        let encoded = boot.encode();
        let boot =
            BootInfo::decode(&encoded).ok_or_else(|| Error::msg("malformed boot information"))?;
        world.arrives(&encoded);
        self.prepared.call(&boot, &world.calls)
    }
}

/// What a program's host calls reach: standard streams and directories.
pub struct World {
    calls: Calls,
    window: Arc<Mutex<Window>>,
    terminals: u32,
    preopens: Vec<(Handle, bool, Vec<u8>)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("preopens", &self.preopens).finish_non_exhaustive()
    }
}

impl World {
    /// A world of `streams` and the directories of `grants`. The host calls are told to `log`.
    ///
    /// # Errors
    ///
    /// A directory cannot be opened.
    pub fn new(grants: &Grants, streams: Streams, log: &CallLog) -> Result<Self> {
        let Streams { stdin, stdout, stderr } = streams;
        let mut host = Host::new(Stdio { stdin, stdout, stderr })?;
        for Directory { host: path, guest, writable } in &grants.directories {
            let access = if *writable { DirAccess::ReadWrite } else { DirAccess::ReadOnly };
            host.preopen(File::open(path)?.into(), guest.as_str(), access)?;
        }
        if grants.network {
            host.grant_network(Network::new(Arc::new(Policy::everything()), Arc::new(look_up)));
        }
        let preopens = host
            .preopens()
            .map(|preopen| (preopen.handle, preopen.writable, preopen.guest_path.to_vec()))
            .collect();
        let terminals = host.terminal_flags();
        let (area, reply) = (vec![0; CALL_DATA_BYTES], vec![0; CALL_DATA_BYTES]);
        let window = Arc::new(Mutex::new(Window { host, area, reply }));
        let calls = Calls::new(InProcess { window: Arc::clone(&window), log: log.clone() });
        Ok(Self { calls, window, terminals, preopens })
    }

    /// Takes a request for the program to [answer](Prepared::serve).
    ///
    /// # Errors
    ///
    /// As [`Host::admit`].
    pub fn admit(&self, incoming: Incoming) -> Result<Vec<u8>, vmm::host::Error> {
        self.host(|host| host.admit(incoming))
    }

    /// Lets the program make requests.
    pub fn grant_http(&self, client: Arc<dyn Fn(Outgoing) + Send + Sync>) {
        self.host(|host| host.grant_http(client));
    }

    fn host<T>(&self, with: impl FnOnce(&mut Host) -> T) -> T {
        with(&mut self.window.lock().unwrap_or_else(PoisonError::into_inner).host)
    }

    /// Puts boot information where it arrives: over what the last host call left.
    fn arrives(&self, boot: &[u8]) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        for (to, from) in window.area.iter_mut().zip(boot) {
            *to = *from;
        }
    }
}

/// Host calls by function call.
struct InProcess {
    window: Arc<Mutex<Window>>,
    log: CallLog,
}

/// The host and what lies between it and the guest.
struct Window {
    host: Host,
    /// The data area of the guest.
    area: Vec<u8>,
    reply: Vec<u8>,
}

impl HostCall for InProcess {
    /// # Panics
    ///
    /// The library OS broke the contract: a malformed call, or one made while another is answered.
    fn call(&self, request: &Request<'_>, read: &mut dyn FnMut(u64, &[u8])) -> Result<(), Errno> {
        let Ok(mut window) = self.window.try_lock() else {
            panic!("a host call was made while another was answered: {request:?}");
        };
        let Window { host, area, reply } = &mut *window;
        let frame = request.encode(area)?;
        let decoded = match Request::decode(&frame, area) {
            Ok(decoded) => decoded,
            Err(violation) => panic!("the library OS broke the contract: {violation}"),
        };
        assert_eq!(decoded, *request, "a request changed on its way");
        if let Ok(nr) = Nr::try_from(frame.nr) {
            self.log.push(Call::of(nr, &decoded));
        }
        let answer = match decoded {
            // The library OS ends by returning; whoever uses it has the program, exits, and maps memory.
            Request::Exit { .. }
            | Request::Abort { .. }
            | Request::Map { .. }
            | Request::Program
            | Request::Ready { .. }
            | Request::BootInfo { .. } => {
                panic!("the library OS made a call of its machine: {decoded:?}")
            }
            Request::Log { level, message } => {
                eprintln!("{level:?}: {}", String::from_utf8_lossy(message));
                Ok(0)
            }
            decoded => host.call(decoded, reply).map(|answer| {
                let data = reply.get(..answer.data_bytes).unwrap_or_default();
                if let Some(area) = area.get_mut(..data.len()) {
                    area.copy_from_slice(data);
                }
                answer.value
            }),
        };
        let value = Errno::result_of(Errno::to_ret(answer))?;
        read(value, area);
        Ok(())
    }

    /// # Panics
    ///
    /// As [`call`](HostCall::call).
    fn data(&self, read: &mut dyn FnMut(&[u8])) {
        let Ok(window) = self.window.try_lock() else {
            panic!("the data area was asked for while a host call was answered");
        };
        read(&window.area);
    }
}

/// Looks a name up as the system does, on a thread of its own.
fn look_up(request: LookupRequest) {
    std::thread::spawn(move || {
        let found = (request.name(), 0).to_socket_addrs();
        let found = found.map(|addresses| addresses.map(|address| address.ip()).collect());
        request.answer(found.map_err(|_| LookupError::NotFound));
    });
}

fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut seed)?;
    Ok(seed)
}

/// Ticks of the time-stamp counter per millisecond, measured once.
fn tsc_khz() -> u64 {
    static TSC_KHZ: OnceLock<u64> = OnceLock::new();
    *TSC_KHZ.get_or_init(|| {
        let (from, start) = (tsc(), Instant::now());
        std::thread::sleep(CALIBRATION);
        let (ticks, ns) = (u128::from(tsc() - from), start.elapsed().as_nanos());
        u64::try_from(ticks * 1_000_000 / ns).unwrap_or(0)
    })
}

fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it, and Linux lets processes use it (SDM vol. 2, RDTSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}
