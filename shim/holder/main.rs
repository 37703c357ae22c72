//! The process that holds a pod's namespaces: what containerd knows as the pod's pause container.
//!
//! Rule: it opens nothing, allocates nothing, keeps no descriptor but its standard streams and has no rights.
//! It waits, as process 1 of the pod's process namespace for the children that nobody waits for, and for the
//! signal that ends it: SIGTERM or SIGINT, with status 0. A program of its own without a runtime, because a
//! holder is there for every pod, and should cost a few pages.
//!
//! Built by `build.rs`. System calls: Linux, x86-64.
#![no_std]
#![no_main]
// UNSAFETY: there is no library between this program and the kernel.

use core::arch::{asm, global_asm};

/// Numbers of system calls (Linux, `arch/x86/entry/syscalls/syscall_64.tbl`).
const RT_SIGPROCMASK: usize = 14;
const WAIT4: usize = 61;
const SETGROUPS: usize = 116;
const SETRESUID: usize = 117;
const SETRESGID: usize = 119;
const RT_SIGTIMEDWAIT: usize = 128;
const PRCTL: usize = 157;
const EXIT_GROUP: usize = 231;
const CLOSE_RANGE: usize = 436;

const SIG_BLOCK: usize = 0;
const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
/// Bytes of a set of signals in the kernel.
const SIGNAL_SET_BYTES: usize = 8;
const ALL_SIGNALS: u64 = u64::MAX;
const WNOHANG: usize = 1;
const PR_SET_NAME: usize = 15;
const PR_SET_NO_NEW_PRIVS: usize = 38;

/// The user and group `nobody`.
const NOBODY: usize = 65534;
/// Any child.
const ANY: usize = usize::MAX;
const FAILURE: usize = 1;
/// The first descriptor behind the standard streams, and the last that there can be.
const FIRST: usize = 3;
const LAST: usize = u32::MAX as usize;

/// What `ps` shows.
const NAME: &core::ffi::CStr = c"hyperlight-pod";

// The kernel aligns the stack for a program, not for a function.
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", "ud2", main = sym main);

extern "C" fn main() -> ! {
    let signals = ALL_SIGNALS;
    let set = (&raw const signals).expose_provenance();
    // Blocked signals stay until they are asked for; process 1 loses those that it has no handler for.
    let prepared = call(RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGNAL_SET_BYTES]) == 0
        && call(CLOSE_RANGE, [FIRST, LAST, 0, 0]) == 0
        && call(PRCTL, [PR_SET_NAME, NAME.as_ptr().expose_provenance(), 0, 0]) == 0
        && call(PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0]) == 0
        && call(SETGROUPS, [0; 4]) == 0
        && call(SETRESGID, [NOBODY, NOBODY, NOBODY, 0]) == 0
        // Capabilities go with the user.
        && call(SETRESUID, [NOBODY, NOBODY, NOBODY, 0]) == 0;
    if !prepared {
        exit(FAILURE);
    }
    loop {
        match call(RT_SIGTIMEDWAIT, [set, 0, 0, SIGNAL_SET_BYTES]) {
            SIGINT | SIGTERM => exit(0),
            SIGCHLD => while call(WAIT4, [ANY, 0, WNOHANG, 0]) > 0 {},
            _ => {}
        }
    }
}

fn exit(status: usize) -> ! {
    loop {
        call(EXIT_GROUP, [status, 0, 0, 0]);
    }
}

fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [a, b, c, d] = arguments;
    let result;
    // SAFETY: of the calls above only those with the address of `signals` or of `NAME` touch memory, and they
    // read it.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(FAILURE)
}
