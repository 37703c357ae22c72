//! What the files say, and how they are read.

use std::os::unix::fs::symlink;

use super::*;

fn servers(text: &str) -> Vec<String> {
    configuration(text.as_bytes()).servers.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_means_a_server_on_this_machine() {
    let empty = configuration(b"");
    assert_eq!(servers(""), ["127.0.0.1", "::1"]);
    assert_eq!((empty.search, empty.dots, empty.attempts), (vec![], 1, 2));
    assert_eq!(empty.timeout, Duration::from_secs(5));
}

#[test]
fn a_file_of_kubernetes_is_understood() {
    let text = "search ns.svc.cluster.local svc.cluster.local cluster.local\n\
                nameserver 10.96.0.10\noptions ndots:5 timeout:2 attempts:3 edns0 rotate use-vc\n";
    let parsed = configuration(text.as_bytes());
    assert_eq!(parsed.search, ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    assert_eq!(servers(text), ["10.96.0.10"]);
    assert_eq!((parsed.dots, parsed.attempts), (5, 3));
    assert_eq!(parsed.timeout, Duration::from_secs(2));
    assert!(parsed.edns && parsed.rotate && parsed.tcp && !parsed.no_ipv6);
}

#[test]
fn what_is_not_understood_is_skipped() {
    let text = "nonsense\nnameserver nowhere\nnameserver 2001:db8::1\noptions ndots:x foo\n";
    assert_eq!(servers(text), ["2001:db8::1"]);
    assert_eq!(configuration(b"\xff\xfe\0\nnameserver 192.0.2.1\n").servers.len(), 1);
}

#[test]
fn the_limits_of_the_c_library_hold() {
    let text = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n\
                nameserver 192.0.2.4\noptions ndots:99 timeout:999 attempts:999\n";
    let parsed = configuration(text.as_bytes());
    assert_eq!(parsed.servers.len(), 3);
    assert_eq!((parsed.dots, parsed.attempts), (15, 5));
    assert_eq!(parsed.timeout, Duration::from_secs(30));
    let none = configuration(b"options timeout:0 attempts:0\n");
    assert_eq!((none.timeout, none.attempts), (Duration::from_secs(1), 1));
}

#[test]
fn hosts_are_found_by_each_of_their_names_and_in_order() {
    let hosts = b"# comment\n192.0.2.1\tDB.example db # 192.0.2.9 other\nnot-an-address db\n\
                  2001:db8::1 db\n192.0.2.1 db\n\xff\n192.0.2.2 web";
    let found =
        |name| -> Vec<String> { addresses(hosts, name).iter().map(ToString::to_string).collect() };
    assert_eq!(found("db"), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(found("db.EXAMPLE"), ["192.0.2.1"]);
    assert_eq!(found("web"), ["192.0.2.2"]);
    assert_eq!(found("other"), <[String; 0]>::default());
    assert_eq!(found("192.0.2.1"), <[String; 0]>::default());
}

#[test]
fn a_file_is_read_and_one_that_is_not_there_is_empty() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/hosts"), "content").unwrap();
    assert_eq!(read(root.path(), "etc/hosts"), b"content");
    assert_eq!(read(root.path(), "etc/resolv.conf"), b"");
    assert_eq!(read(&root.path().join("nowhere"), "etc/hosts"), b"");
}

#[test]
fn a_link_leads_within_the_root_and_never_out() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("inner/etc")).unwrap();
    std::fs::create_dir_all(root.path().join("inner/run")).unwrap();
    std::fs::write(root.path().join("inner/run/conf"), "inside").unwrap();
    std::fs::write(root.path().join("secret"), "outside").unwrap();
    let inner = root.path().join("inner");
    symlink("/run/conf", inner.join("etc/resolv.conf")).unwrap();
    assert_eq!(read(&inner, "etc/resolv.conf"), b"inside");
    symlink(root.path().join("secret"), inner.join("etc/hosts")).unwrap();
    assert_eq!(read(&inner, "etc/hosts"), b"");
    symlink("../../secret", inner.join("etc/up")).unwrap();
    assert_eq!(read(&inner, "etc/up"), b"");
}

#[test]
fn what_is_no_regular_file_is_empty_and_nobody_waits_for_it() {
    let root = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("fifo"), Mode::from_raw_mode(0o600))
        .unwrap();
    std::fs::create_dir(root.path().join("dir")).unwrap();
    assert_eq!(read(root.path(), "fifo"), b"");
    assert_eq!(read(root.path(), "dir"), b"");
}

#[test]
fn no_more_than_the_bound_is_read() {
    let root = tempfile::tempdir().unwrap();
    let big = File::create(root.path().join("big")).unwrap();
    big.set_len(FILE_BYTES_MAX + 1).unwrap();
    assert_eq!(read(root.path(), "big").len() as u64, FILE_BYTES_MAX);
}
