//! System calls that end the process, each for its own reason.

use nix::libc::{self, c_long};

use super::{Attempt, can_run};

/// `call` ends the process, with and without a network.
async fn kills(call: c_long, arguments: &[&str]) {
    let number = call.to_string();
    let words: Vec<&str> = ["call", &number].into_iter().chain(arguments.iter().copied()).collect();
    Attempt::new().ends(&words).await.killed();
}

fn number(value: i32) -> String {
    value.to_string()
}

#[tokio::test]
async fn a_process_that_does_nothing_forbidden_ends_well() {
    if can_run() {
        Attempt::new().ends(&["nothing"]).await.said("done");
    }
}

#[tokio::test]
async fn nothing_can_be_executed() {
    if can_run() {
        kills(libc::SYS_execve, &["/own", "0", "0"]).await;
        kills(libc::SYS_execveat, &["-1", "/own", "0", "0", "0"]).await;
    }
}

#[tokio::test]
async fn no_process_can_be_made() {
    if can_run() {
        kills(libc::SYS_fork, &[]).await;
        kills(libc::SYS_vfork, &[]).await;
        kills(libc::SYS_clone, &[&number(libc::SIGCHLD)]).await;
        let made = Attempt::new().ends(&["call", &libc::SYS_clone3.to_string(), "0", "0"]).await;
        made.refused("Function not implemented");
    }
}

#[tokio::test]
async fn no_namespace_can_be_made_or_entered() {
    if can_run() {
        kills(libc::SYS_unshare, &[&number(libc::CLONE_NEWUSER)]).await;
        kills(libc::SYS_unshare, &[&number(libc::CLONE_NEWNS)]).await;
        kills(libc::SYS_clone, &[&number(libc::CLONE_NEWUSER | libc::SIGCHLD)]).await;
        kills(libc::SYS_setns, &["0", "0"]).await;
    }
}

#[tokio::test]
async fn nothing_can_be_traced_or_read_of_other_processes() {
    if can_run() {
        kills(libc::SYS_ptrace, &[&number(16), "1"]).await; // PTRACE_ATTACH
        kills(libc::SYS_process_vm_readv, &["1"]).await;
        kills(libc::SYS_process_vm_writev, &["1"]).await;
        kills(libc::SYS_pidfd_getfd, &["0"]).await;
    }
}

#[tokio::test]
async fn nothing_can_be_mounted() {
    if can_run() {
        kills(libc::SYS_mount, &["none", "/", "tmpfs", "0", "0"]).await;
        kills(libc::SYS_umount2, &["/", "0"]).await;
        kills(libc::SYS_pivot_root, &[".", "."]).await;
        kills(libc::SYS_chroot, &["/"]).await;
        kills(libc::SYS_open_tree, &["-1", "/", "1"]).await;
        kills(libc::SYS_fsopen, &["tmpfs", "0"]).await;
        kills(libc::SYS_move_mount, &["0"]).await;
    }
}

#[tokio::test]
async fn no_device_can_be_made() {
    if can_run() {
        kills(libc::SYS_mknod, &["/kvm", "8192", "2792"]).await;
        kills(libc::SYS_mknodat, &["-100", "/kvm", "8192", "2792"]).await;
    }
}

#[tokio::test]
async fn no_other_process_can_be_signalled() {
    if can_run() {
        let shim = std::process::id().to_string();
        kills(libc::SYS_kill, &[&shim, "9"]).await;
        kills(libc::SYS_kill, &["-1", "9"]).await;
        kills(libc::SYS_tkill, &[&shim, "9"]).await;
        kills(libc::SYS_tgkill, &[&shim, &shim, &number(libc::SIGRTMIN())]).await;
        kills(libc::SYS_rt_sigqueueinfo, &[&shim, "9"]).await;
        kills(libc::SYS_pidfd_open, &[&shim]).await;
        kills(libc::SYS_pidfd_send_signal, &["0", "9"]).await;
    }
}

#[tokio::test]
async fn ids_and_capabilities_cannot_be_had_back() {
    if can_run() {
        kills(libc::SYS_setuid, &["0"]).await;
        kills(libc::SYS_setresuid, &["0", "0", "0"]).await;
        kills(libc::SYS_setfsuid, &["1000"]).await;
        kills(libc::SYS_setgroups, &["0", "0"]).await;
        kills(libc::SYS_capset, &["0", "0"]).await;
    }
}

#[tokio::test]
async fn limits_cannot_be_changed() {
    if can_run() {
        kills(libc::SYS_prlimit64, &["0", "7", "1", "0"]).await;
        kills(libc::SYS_prlimit64, &["1", "7", "0", "0"]).await;
        kills(libc::SYS_setrlimit, &["7", "0"]).await;
        kills(libc::SYS_prctl, &[&number(libc::PR_SET_DUMPABLE), "1"]).await;
    }
}

#[tokio::test]
async fn memory_does_not_become_code() {
    if can_run() {
        let exec = number(libc::PROT_READ | libc::PROT_EXEC);
        let flags = number(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        kills(libc::SYS_mmap, &["0", "4096", &exec, &flags, "-1", "0"]).await;
        kills(libc::SYS_mprotect, &["0", "4096", &exec]).await;
        kills(libc::SYS_pkey_mprotect, &["0", "4096", &exec, "0"]).await;
    }
}

#[tokio::test]
async fn ioctl_is_for_kvm_and_little_else() {
    if can_run() {
        kills(libc::SYS_ioctl, &["0", "21522"]).await; // TIOCSTI
        kills(libc::SYS_ioctl, &["0", "1075883591"]).await; // KVM_SET_USER_MEMORY_REGION, one off
        kills(libc::SYS_ioctl, &["0", "44640"]).await; // KVM_CREATE_IRQCHIP
    }
}

#[tokio::test]
async fn without_a_network_no_socket_can_be_made() {
    if can_run() {
        let container = Attempt::new().without_network();
        let socket = libc::SYS_socket.to_string();
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK] {
            let words = ["call", &socket, &number(family), &number(libc::SOCK_STREAM), "0"];
            container.ends(&words).await.killed();
        }
    }
}

#[tokio::test]
async fn with_a_network_sockets_are_of_ip_alone() {
    if can_run() {
        let families = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK];
        for family in families {
            let of_type = number(libc::SOCK_STREAM);
            kills(libc::SYS_socket, &[&number(family), &of_type, "0"]).await;
        }
    }
}

#[tokio::test]
async fn parts_of_the_kernel_that_nobody_needs_are_out_of_reach() {
    if can_run() {
        let calls = [
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_sethostname,
            libc::SYS_syslog,
            libc::SYS_quotactl,
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_personality,
            libc::SYS_shmget,
            libc::SYS_mq_open,
            libc::SYS_modify_ldt,
            libc::SYS_fanotify_init,
            libc::SYS_memfd_secret,
        ];
        for call in calls {
            kills(call, &[]).await;
        }
    }
}

/// The 32-bit x32 calls have other numbers for the same things.
#[tokio::test]
async fn no_other_abi_leads_around_the_list() {
    if can_run() {
        const X32: c_long = 0x4000_0000;
        kills(X32 | libc::SYS_getpid, &[]).await;
        kills(X32 | libc::SYS_read, &[]).await;
    }
}
