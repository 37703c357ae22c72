//! A locked process as others see it, and what it reaches of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};

use rustix::io::Errno;
use shim::jail::ResourceLimit;

use super::{Attempt, can_run};

/// `/proc/PID/status` of each thread of a process, but for those that end meanwhile: what was done on one may be
/// over before the thread is.
fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let parse = |text: String| {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|task| match fs::read_to_string(task.unwrap().path().join("status")) {
            Ok(text) => Some(parse(text)),
            Err(error) => {
                let gone = [Errno::NOENT, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
                assert!(gone.contains(&error.raw_os_error()), "{error}");
                None
            }
        })
        .collect()
}

fn namespace(pid: impl std::fmt::Display, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

#[tokio::test]
async fn every_thread_has_ids_of_its_own_and_no_capability() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();
        let id = (0x7000_0000 + vmm.pid).to_string();

        let threads = threads(vmm.pid);

        // The thread that has made the snapshot's micro-VM go is one of them.
        assert!(threads.len() > 1, "{threads:#?}");
        for thread in threads {
            let ids = format!("{id}\t{id}\t{id}\t0");
            assert_eq!((&thread["Uid"], &thread["Gid"]), (&ids, &ids));
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(thread[set], "0000000000000000", "{set}");
            }
            assert_eq!(thread["Groups"], "");
        }
    }
}

#[tokio::test]
async fn every_thread_has_the_list_of_system_calls_and_gets_no_new_privileges() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        for thread in threads(vmm.pid) {
            assert_eq!((thread["Seccomp"].as_str(), thread["NoNewPrivs"].as_str()), ("2", "1"));
        }
    }
}

#[tokio::test]
async fn no_namespace_but_that_of_cgroups_users_and_time_is_the_hosts() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        for kind in ["mnt", "pid", "ipc", "uts", "net"] {
            assert_ne!(namespace(vmm.pid, kind), namespace("self", kind), "{kind}");
        }
        assert_eq!(threads(vmm.pid)[0]["NSpid"].split_whitespace().nth(1), Some("1"));
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_open() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        for entry in fs::read_dir(format!("/proc/{}/fd", vmm.pid)).unwrap() {
            let target = match fs::read_link(entry.unwrap().path()) {
                // Those of the snapshot's micro-VM are being closed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                target => target.unwrap(),
            };
            let target = target.to_str().unwrap();
            // Paths are told from the root of their mount, where that is nowhere to be seen.
            let expected = ["/kvm", "/null", "/dev/kvm", "/dev/null", "/"].contains(&target)
                || target.ends_with("/pagemap")
                || target.ends_with(" (deleted)") // the program's and the snapshot's file
                || target.ends_with("/ca-certificates.crt")
                || ["anon_inode:", "pipe:", "socket:"].iter().any(|kind| target.starts_with(kind));
            assert!(expected, "{target}");
        }
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_mounted() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", vmm.pid)).unwrap();

        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(mounts.split(' ').nth(5).unwrap().split(',').any(|it| it == option));
        }
    }
}

#[tokio::test]
async fn the_hosts_network_is_out_of_reach_of_another() {
    if can_run() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        TcpStream::connect(address).unwrap();

        let ended = Attempt::new().ends(&["connect", &address.to_string()]).await;

        ended.refused("Network is unreachable");
    }
}

#[tokio::test]
async fn its_memory_is_not_dumped() {
    if can_run() {
        let container = Attempt::new();
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        let limits = fs::read_to_string(format!("/proc/{}/limits", vmm.pid)).unwrap();

        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
        // What belongs to a process that may not be dumped is root's (proc(5)).
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(format!("/proc/{}/environ", vmm.pid)).unwrap().uid(), 0);
    }
}

#[tokio::test]
async fn threads_are_limited() {
    if can_run() {
        let said = Attempt::new().ends(&["threads"]).await.said;
        assert!(said.parse::<u32>().unwrap() < 600, "{said}");
    }
}

#[tokio::test]
async fn limits_of_the_specification_hold() {
    if can_run() {
        let mut container = Attempt::new();
        let limit = ResourceLimit { name: "RLIMIT_NOFILE".to_owned(), soft: 5000, hard: 6000 };
        container.confinement.limits = vec![limit];
        let (vmm, _output) = container.ready(&["wait"]).await.unwrap();

        let limits = fs::read_to_string(format!("/proc/{}/limits", vmm.pid)).unwrap();

        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["5000", "6000"]);
    }
}

#[tokio::test]
async fn a_second_process_can_be_sent_to_the_place_of_the_first() {
    if can_run() {
        let mut container = Attempt::new();
        let (first, _output) = container.ready(&["wait"]).await.unwrap();
        fs::write(container.path("later"), "").unwrap();
        container.confinement = container.confinement.shared_with(first.pid);

        let ended = container.ends(&["list", "/"]).await;

        ended.said("later own");
    }
}
