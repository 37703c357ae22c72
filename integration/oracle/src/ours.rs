//! The library OS in this process: host calls as a micro-VM makes them, without one.
//!
//! Rule: a call crosses as it does from a guest. The request is encoded into a frame and a data area,
//! decoded from them again, answered by the [`Host`], and the answer is read from the area.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]
// UNSAFETY: RDTSC has no safe form.

use std::fs::File;
use std::io;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use abi::boot::{BootHeader, BootInfo, Preopen};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Nr, Request};
use libos::{Calls, HostCall};
use vmm::host::{DirAccess, Host, Stdio};
use wasmtime::{Error, Result};

use crate::calls::{Call, CallLog};
use crate::program::{Program, engine};
use crate::{Directory, Grants, Streams};

/// How long the TSC is compared with the system's clock.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Runs `program` over the library OS.
pub(crate) fn run(
    program: &Program,
    grants: &Grants,
    streams: Streams,
    log: &CallLog,
) -> Result<i32> {
    let Grants { args, env, cwd, directories } = grants;
    let Streams { stdin, stdout, stderr } = streams;
    let mut host = Host::new(Stdio { stdin, stdout, stderr })?;
    for Directory { host: path, guest, writable } in directories {
        let access = if *writable { DirAccess::ReadWrite } else { DirAccess::ReadOnly };
        host.preopen(File::open(path)?.into(), guest.as_str(), access)?;
    }
    let preopens: Vec<(Handle, bool, Vec<u8>)> = host
        .preopens()
        .map(|preopen| (preopen.handle, preopen.writable, preopen.guest_path.to_vec()))
        .collect();
    let entries: Vec<String> = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let header = BootHeader {
        abi_version: abi::ABI_VERSION,
        flags: host.terminal_flags(),
        tsc_khz: tsc_khz(),
        seed: seed()?,
        ..BootHeader::default()
    };
    let boot = BootInfo {
        header,
        program_name: program.name.as_bytes(),
        cwd: cwd.as_deref().unwrap_or_default().as_bytes(),
        invoke: b"",
        args: args.iter().map(String::as_bytes).collect(),
        env: entries.iter().map(String::as_bytes).collect(),
        preopens: preopens
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
    let window = Window { host, area: vec![0; CALL_DATA_BYTES], reply: vec![0; CALL_DATA_BYTES] };
    let calls = Calls::new(InProcess { window: Mutex::new(window), log: log.clone() });
    libos::run(engine()?, &program.compiled, &boot, calls)
}

/// Host calls by function call.
struct InProcess {
    window: Mutex<Window>,
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
            // The library OS ends by returning; whoever uses it exits, and maps memory.
            Request::Exit { .. } | Request::Abort { .. } | Request::Map { .. } => {
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
