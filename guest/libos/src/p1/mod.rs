//! WASI preview 1 for core modules: its 46 functions over the objects of the library OS.
//!
//! Each function is written as its witx names it, with the program's memory beside its arguments; what
//! it returns besides an error number it writes where the program pointed. Flags, structures and
//! numbers are those of `wasi_snapshot_preview1.witx`.

mod errno;
mod fds;
mod files;
mod memory;
mod paths;
mod poll;
mod surroundings;

use wasmtime::{Caller, Error, Extern, Linker, Result};

use self::errno::{Answer, Failure};
use self::fds::Fds;
use self::memory::Memory;
use crate::process::{Exited, Granted, NotGranted, Process};

/// Name of the module that programs import from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// What a core module sees of WASI: the data of its store.
pub struct Wasi {
    pub(crate) process: Granted,
    /// None as long as the process is not granted.
    fds: Option<Fds>,
    /// The memory that the program exports, once it is known.
    memory: Option<wasmtime::Memory>,
}

impl Wasi {
    pub(crate) fn new(process: Granted) -> Self {
        Self { process, fds: None, memory: None }
    }

    /// What the functions work on.
    fn granted(&mut self) -> Result<View<'_>, NotGranted> {
        let process = self.process.get()?;
        let fds = self.fds.get_or_insert_with(|| Fds::new(process));
        Ok(View { process, fds })
    }
}

/// A granted process and its file descriptors, for one call.
struct View<'a> {
    process: &'a mut Process,
    fds: &'a mut Fds,
}

/// Defines functions that take the program's memory and answer with an error number.
macro_rules! functions {
    ($linker:ident: $($place:ident::$name:ident($($arg:ident: $type:ty),*);)*) => {
        $($linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, Wasi>, $($arg: $type),*| {
                let memory = memory(&mut caller)?;
                let (bytes, wasi) = memory.data_and_store_mut(&mut caller);
                number($place::$name(&mut wasi.granted()?, &mut Memory::new(bytes), $($arg),*))
            },
        )?;)*
    };
}

/// Adds the functions.
pub(crate) fn add_to_linker(linker: &mut Linker<Wasi>) -> Result<()> {
    functions! { linker:
        surroundings::args_get(argv: u32, text: u32);
        surroundings::args_sizes_get(count: u32, bytes: u32);
        surroundings::environ_get(environ: u32, text: u32);
        surroundings::environ_sizes_get(count: u32, bytes: u32);
        surroundings::clock_res_get(id: u32, resolution: u32);
        surroundings::clock_time_get(id: u32, precision: u64, time: u32);
        surroundings::proc_raise(signal: u32);
        surroundings::sched_yield();
        surroundings::random_get(at: u32, len: u32);
        surroundings::sock_accept(fd: u32, flags: u32, accepted: u32);
        surroundings::sock_recv(
            fd: u32, buffers: u32, count: u32, flags: u32, received: u32, flags_out: u32
        );
        surroundings::sock_send(fd: u32, buffers: u32, count: u32, flags: u32, sent: u32);
        surroundings::sock_shutdown(fd: u32, how: u32);
        files::fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
        files::fd_allocate(fd: u32, offset: u64, len: u64);
        files::fd_close(fd: u32);
        files::fd_datasync(fd: u32);
        files::fd_fdstat_get(fd: u32, at: u32);
        files::fd_fdstat_set_flags(fd: u32, flags: u32);
        files::fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        files::fd_filestat_get(fd: u32, at: u32);
        files::fd_filestat_set_size(fd: u32, size: u64);
        files::fd_filestat_set_times(fd: u32, atime: u64, mtime: u64, flags: u32);
        files::fd_pread(fd: u32, buffers: u32, count: u32, offset: u64, read: u32);
        files::fd_prestat_get(fd: u32, at: u32);
        files::fd_prestat_dir_name(fd: u32, path: u32, len: u32);
        files::fd_pwrite(fd: u32, buffers: u32, count: u32, offset: u64, written: u32);
        files::fd_read(fd: u32, buffers: u32, count: u32, read: u32);
        files::fd_renumber(from: u32, to: u32);
        files::fd_seek(fd: u32, offset: i64, whence: u32, position: u32);
        files::fd_sync(fd: u32);
        files::fd_tell(fd: u32, position: u32);
        files::fd_write(fd: u32, buffers: u32, count: u32, written: u32);
        paths::fd_readdir(fd: u32, at: u32, len: u32, cookie: u64, used: u32);
        paths::path_create_directory(fd: u32, path: u32, len: u32);
        paths::path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, at: u32);
        paths::path_filestat_set_times(
            fd: u32, lookup: u32, path: u32, len: u32, atime: u64, mtime: u64, flags: u32
        );
        paths::path_link(
            fd: u32, lookup: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32
        );
        paths::path_open(
            fd: u32, lookup: u32, path: u32, len: u32, open: u32, base: u64, inheriting: u64,
            flags: u32, opened: u32
        );
        paths::path_readlink(fd: u32, path: u32, len: u32, at: u32, room: u32, used: u32);
        paths::path_remove_directory(fd: u32, path: u32, len: u32);
        paths::path_rename(
            fd: u32, path: u32, len: u32, new_fd: u32, new_path: u32, new_len: u32
        );
        paths::path_symlink(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
        paths::path_unlink_file(fd: u32, path: u32, len: u32);
        poll::poll_oneoff(subscriptions: u32, events: u32, count: u32, happened: u32);
    }
    linker.func_wrap(MODULE, "proc_exit", |status: u32| {
        Err::<(), _>(Error::from(Exited(status.cast_signed())))
    })?;
    Ok(())
}

/// The memory that the calling program exports.
fn memory(caller: &mut Caller<'_, Wasi>) -> Result<wasmtime::Memory> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => {
            caller.data_mut().memory = Some(memory);
            Ok(memory)
        }
        _ => {
            Err(Error::msg("the module calls WASI but exports no memory with the name \"memory\""))
        }
    }
}

/// What the program gets.
fn number(answer: Answer) -> Result<u32> {
    match answer {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(errno as u32),
        Err(Failure::Trap(error)) => Err(error),
    }
}
