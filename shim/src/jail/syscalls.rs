//! The system calls that a locked process may make. Any other ends it.
//!
//! Rule: a call is listed because the process makes it after it is locked, and the reason stands beside
//! it; a call that can do more than that is listed with the arguments that it is made with. There is
//! nothing here that starts a program, a process or a namespace, that mounts, traces, signals another
//! process, changes who the process is, or makes memory executable. What is opened ahead (KVM, the port,
//! the shim's socket) needs no call that opens it.
//!
//! Two filters are installed. The first is the list. The second answers what libraries try and can do
//! without: clone3(2), whose flags no filter can see, so that the C library makes threads by clone(2), whose
//! flags it can see; and in a process that opens nothing, the opening of files.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, Error as FilterError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::Sockets;

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It turns bytes into bytes.
    Compile,
    /// It runs a micro-VM that is granted nothing.
    MakeSnapshot,
    /// It runs micro-VMs.
    Run(Sockets),
}

/// Calls that every locked process makes.
const ALWAYS: &[c_long] = &[
    libc::SYS_read,              // streams, files, bells
    libc::SYS_write,             // streams, files, bells; the last words on standard error
    libc::SYS_pread64,           // files of the guest, snapshots, the pagemap
    libc::SYS_lseek,             // positions of the guest's files and lists; holes of snapshots
    libc::SYS_close,             // descriptors of the guest and of KVM
    libc::SYS_fstat,             // what a descriptor is
    libc::SYS_statx,             // length of a file, by the standard library
    libc::SYS_clock_nanosleep,   // waiting for the time alone
    libc::SYS_clock_gettime,     // clocks that the vDSO does not know
    libc::SYS_munmap,            // memory of micro-VMs and of the heap
    libc::SYS_mremap,            // large pieces of the heap grow
    libc::SYS_madvise,           // large pages, populating, giving memory back
    libc::SYS_brk,               // the heap
    libc::SYS_futex,             // locks and channels
    libc::SYS_set_robust_list,   // the C library, for each thread
    libc::SYS_rseq,              // the same
    libc::SYS_sched_getaffinity, // the stack of a thread; how many processors there are
    libc::SYS_sched_yield,       // locks of libraries
    libc::SYS_sigaltstack,       // the standard library, for each thread
    libc::SYS_rt_sigaction,      // the signals that a run lives through
    libc::SYS_rt_sigprocmask,    // the same; the C library around threads
    libc::SYS_rt_sigreturn,      // the end of a handler
    libc::SYS_restart_syscall,   // a wait goes on after the process was stopped
    libc::SYS_getpid,            // whom a kick is for
    libc::SYS_gettid,            // the same
    libc::SYS_getrusage,         // how many page faults there were
    libc::SYS_getrandom,         // entropy for guests, keys of TLS, hash maps
    libc::SYS_exit,              // the end of a thread
    libc::SYS_exit_group,        // the end
];

/// Calls of a process that runs micro-VMs.
const MICRO_VM: &[c_long] = &[
    libc::SYS_pwrite64,     // a snapshot that is made; files of the guest
    libc::SYS_pwritev2,     // streams and appending, without waiting
    libc::SYS_fstatfs,      // whether a file system has large pages
    libc::SYS_ftruncate,    // a snapshot that is made; the guest sets a file's length
    libc::SYS_memfd_create, // a snapshot that is made
    libc::SYS_poll,         // waiting for a stream
    libc::SYS_ppoll,        // the guest waits
    libc::SYS_eventfd2,     // bells
    libc::SYS_uname,        // the kernel, which a snapshot is made for
];

/// Calls for what guests are granted, and for what the shim says.
const GRANTS: &[c_long] = &[
    libc::SYS_openat2,    // every path of the guest
    libc::SYS_open,       // directories that the guest is granted; etc/resolv.conf, etc/hosts
    libc::SYS_openat,     // the same, by the standard library
    libc::SYS_newfstatat, // what a name is
    libc::SYS_getdents64, // the guest lists a directory
    libc::SYS_readlinkat, // the guest reads a link
    libc::SYS_mkdirat,    // the guest makes a directory
    libc::SYS_unlinkat,   // the guest removes a name
    libc::SYS_renameat,   // the guest renames
    libc::SYS_linkat,     // the guest makes a hard link
    libc::SYS_symlinkat,  // the guest makes a symbolic link
    libc::SYS_utimensat,  // the guest sets times
    libc::SYS_fallocate,  // the guest allocates space in a file
    libc::SYS_fadvise64,  // the guest's advice for a file
    libc::SYS_fsync,      // the guest wants a file on disk
    libc::SYS_fdatasync,  // the same, for its content
    libc::SYS_pipe2,      // the answer to a lookup, a pollable descriptor
    libc::SYS_recvmsg,    // the shim's order to start
    libc::SYS_sendto,     // the report to the shim
    libc::SYS_recvfrom,   // datagrams; the same by the standard library
];

/// Calls of an event loop: of the server, the HTTP client, the resolver; and of sockets that are open.
const EVENT_LOOP: &[c_long] = &[
    libc::SYS_epoll_create1, // the event loop
    libc::SYS_epoll_ctl,     // the same
    libc::SYS_epoll_wait,    // the same
    libc::SYS_epoll_pwait,   // the same, with other C libraries
    libc::SYS_listen,        // the port, which was bound ahead; a guest's own
    libc::SYS_accept4,       // connections
    libc::SYS_readv,         // bodies
    libc::SYS_writev,        // heads and bodies in one
    libc::SYS_sendmsg,       // datagrams of the resolver
    libc::SYS_shutdown,      // the end of one direction
    libc::SYS_getsockname,   // the address of a socket
    libc::SYS_getpeername,   // that of the other side
    libc::SYS_getsockopt,    // whether a connect has succeeded; options of the guest
    libc::SYS_setsockopt,    // options of the guest and of the server
];

/// Calls that make a socket do something of its own accord.
const NETWORK: &[c_long] = &[
    libc::SYS_bind,    // the guest's sockets
    libc::SYS_connect, // the guest's sockets, HTTP, name servers
];

/// What libraries try in a process that opens nothing, and are told that there is no such thing: how many processors a
/// control group allows, how the kernel accounts for memory.
const ANSWERED_TO_WORKERS: &[c_long] = &[libc::SYS_open, libc::SYS_openat, libc::SYS_readlink];

/// Requests of ioctl(2), the most frequent first: the filter is asked at each entry of a guest.
const IOCTLS: &[(u64, &str)] = &[
    (0xae80, "KVM_RUN: runs a guest"),
    (0x4020_ae46, "KVM_SET_USER_MEMORY_REGION: gives a micro-VM memory"),
    (0x8090_ae81, "KVM_GET_REGS: where a guest stopped"),
    (0xae01, "KVM_CREATE_VM: a micro-VM"),
    (0xae04, "KVM_GET_VCPU_MMAP_SIZE: a vCPU"),
    (0xae41, "KVM_CREATE_VCPU: a vCPU"),
    (0x4008_ae90, "KVM_SET_CPUID2: a vCPU"),
    (0x4188_aea7, "KVM_SET_XCRS: a vCPU"),
    (0x8138_ae83, "KVM_GET_SREGS: what a vCPU begins with"),
    (0xaea3, "KVM_GET_TSC_KHZ: the clock of guests"),
    (0xae03, "KVM_CHECK_EXTENSION: what KVM can do"),
    (0xae00, "KVM_GET_API_VERSION: the same"),
    (0xc008_ae05, "KVM_GET_SUPPORTED_CPUID: the same"),
    (0xc060_6610, "PAGEMAP_SCAN: whether memory has large pages"),
    (libc::TIOCGWINSZ, "whether a stream is a terminal, and its size"),
    (libc::TCGETS, "whether a stream is a terminal, in other C libraries"),
    (libc::FIONBIO, "sockets do not wait"),
];

/// Commands of fcntl(2).
const FCNTLS: &[(i32, &str)] = &[
    (libc::F_DUPFD_CLOEXEC, "a micro-VM is granted duplicates"),
    (libc::F_GETFL, "whether a stream waits"),
    (libc::F_SETFL, "the guest appends, or not"),
    (libc::F_GETFD, "the standard library, when it closes what it owns"),
    (libc::F_DUPFD, "the event loop duplicates its descriptor, in other C libraries"),
];

/// prctl(2), from Linux 6.4 on.
const PR_GET_AUXV: u64 = 0x4155_5856;

/// What a thread is made with, and nothing that makes a process or a namespace.
const THREAD: u64 = flag(libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD);
const NO_THREAD: u64 = flag(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_VFORK
        | libc::CLONE_PTRACE
        | libc::CLONE_PARENT,
);

/// Installs the filters on every thread of the process; threads that are made later have them too.
///
/// # Errors
///
/// The kernel has no filters, or refuses these.
pub(super) fn install(duty: Duty) -> Result<(), FilterError> {
    let answers = answers(duty)?;
    let list = list(duty)?;
    apply_filter_all_threads(&answers)?;
    apply_filter_all_threads(&list)
}

/// The list.
fn list(duty: Duty) -> Result<BpfProgram, FilterError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    let lists: &[&[c_long]] = match duty {
        Duty::Compile => &[ALWAYS, ANSWERED_TO_WORKERS],
        Duty::MakeSnapshot => &[ALWAYS, MICRO_VM, ANSWERED_TO_WORKERS],
        Duty::Run(Sockets::None) => &[ALWAYS, MICRO_VM, GRANTS],
        Duty::Run(Sockets::Serve) => &[ALWAYS, MICRO_VM, GRANTS, EVENT_LOOP],
        Duty::Run(Sockets::All) => &[ALWAYS, MICRO_VM, GRANTS, EVENT_LOOP, NETWORK],
    };
    for call in lists.iter().copied().flatten() {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_clone3, Vec::new()); // the other filter answers it
    let commands = FCNTLS.iter().map(|(command, _)| argument(1, flag(*command)));
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    // Nothing that is mapped becomes code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![masked(2, flag(libc::PROT_EXEC), 0)?]);
    }
    rules.insert(libc::SYS_clone, vec![masked(0, THREAD | NO_THREAD, THREAD)?]);
    // Names of threads; what the kernel told the process of itself, once, at its start.
    let operations = [flag(libc::PR_SET_NAME), PR_GET_AUXV].map(|operation| argument(0, operation));
    rules.insert(libc::SYS_prctl, operations.into_iter().collect::<Result<_, _>>()?);
    // Limits are read (by the C library, for the stack), not set.
    let reads = [equal(0, 0)?, whole(2, 0)?];
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(reads.into())?]);
    // The signals by which a run is ended, and the process by itself.
    let itself = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0);
    let signals = [libc::SIGRTMIN(), libc::SIGABRT]
        .map(|signal| SeccompRule::new(vec![equal(0, itself)?, equal(2, flag(signal))?]));
    rules.insert(libc::SYS_tgkill, signals.into_iter().collect::<Result<_, _>>()?);
    if duty != Duty::Compile {
        let requests = IOCTLS.iter().map(|(request, _)| argument(1, *request));
        rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    }
    if let Duty::Run(sockets) = duty {
        if sockets != Sockets::None {
            // By which the event loop hears of signals.
            rules.insert(libc::SYS_socketpair, vec![argument(0, flag(libc::AF_UNIX))?]);
        }
        if sockets == Sockets::All {
            let families = [libc::AF_INET, libc::AF_INET6].map(|it| argument(0, flag(it)));
            rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
        }
    }
    filter(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// The filter that answers.
fn answers(duty: Duty) -> Result<BpfProgram, FilterError> {
    let mut answered = vec![libc::SYS_clone3];
    if matches!(duty, Duty::Compile | Duty::MakeSnapshot) {
        answered.extend(ANSWERED_TO_WORKERS);
    }
    let rules = answered.into_iter().map(|call| (call, Vec::new())).collect();
    let answer = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    filter(rules, SeccompAction::Allow, answer)
}

fn filter(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let filter = SeccompFilter::new(rules, otherwise, listed, TargetArch::x86_64);
    Ok(filter.and_then(SeccompFilter::try_into)?)
}

fn argument(index: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![equal(index, value)?])
}

fn masked(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let compare = SeccompCmpOp::MaskedEq(mask);
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, compare, value)?;
    SeccompRule::new(vec![condition])
}

/// The lower half of an argument, where the kernel takes an `int`.
fn equal(index: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn whole(index: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

/// A number of the C library, none of which is negative here.
const fn flag(number: i32) -> u64 {
    number.unsigned_abs() as u64
}
