//! Landlock alone, on a thread without the list of system calls, which covers the same.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::*;

/// What `attempt` gives on a thread that is restricted to `opened`; `None` where the kernel has not all of it.
fn restricted<T: Send>(
    opened: &[Opened],
    has_network: bool,
    attempt: impl FnOnce() -> T + Send,
) -> Option<T> {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let apart = move || match restrict(opened, has_network) {
        Ok(RulesetStatus::FullyEnforced) => Some(attempt()),
        other => {
            println!("skipped: {test}: Landlock of Linux 6.12 is needed, there is {other:?}");
            None
        }
    };
    thread::scope(|scope| scope.spawn(apart).join().unwrap())
}

fn all_of(path: impl Into<PathBuf>, read_only: bool) -> [Opened; 1] {
    [Opened { path: path.into(), read_only }]
}

/// A directory with a file.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "content").unwrap();
    directory
}

fn denied<T: std::fmt::Debug>(outcome: io::Result<T>) {
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_not_listed_cannot_be_opened() {
    let (listed, other) = (directory(), directory());
    restricted(&all_of(listed.path(), false), true, || {
        assert_eq!(fs::read_to_string(listed.path().join("file")).unwrap(), "content");
        denied(File::open(other.path().join("file")));
        denied(fs::read_dir(other.path()).map(drop));
        denied(File::open("/etc/passwd"));
        denied(fs::write(other.path().join("made"), ""));
    });
}

#[test]
fn what_is_listed_for_reading_cannot_be_changed() {
    let listed = directory();
    restricted(&all_of(listed.path(), true), true, || {
        let file = listed.path().join("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        denied(File::options().append(true).open(&file));
        denied(fs::remove_file(&file));
        denied(fs::create_dir(listed.path().join("made")));
    });
}

#[test]
fn files_and_directories_are_made_renamed_and_removed_where_that_is_allowed() {
    let listed = directory();
    restricted(&all_of(listed.path(), false), true, || {
        let place = |name: &str| listed.path().join(name);
        fs::create_dir(place("directory")).unwrap();
        fs::rename(place("file"), place("directory/renamed")).unwrap();
        std::os::unix::fs::symlink("renamed", place("directory/link")).unwrap();
        fs::write(place("directory/link"), "changed").unwrap();
        fs::remove_file(place("directory/renamed")).unwrap();
    });
}

#[test]
fn nothing_can_be_executed() {
    restricted(&all_of("/", false), true, || {
        let mut command = Command::new("/bin/true");
        denied(command.stdin(Stdio::null()).status());
    });
}

#[test]
fn no_special_file_can_be_made() {
    let listed = directory();
    restricted(&all_of("/", false), true, || {
        let place = |name: &str| listed.path().join(name);
        let mode = Mode::from_raw_mode(0o600);
        let made = mknodat(CWD, place("fifo"), FileType::Fifo, mode, 0);
        denied(made.map_err(io::Error::from));
        denied(UnixListener::bind(place("socket")));
    });
}

#[test]
fn no_port_is_bound_or_reached_without_a_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    restricted(&all_of("/", false), false, || {
        denied(TcpStream::connect(address));
        denied(TcpListener::bind("127.0.0.1:0"));
    });
    restricted(&all_of("/", false), true, || drop(TcpStream::connect(address).unwrap()));
}

#[test]
fn no_process_outside_can_be_signalled() {
    let mut sleep = Command::new("sleep");
    // Should this fail, nobody waits for the end of what it holds open.
    sleep.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
    let mut outside = sleep.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(outside.id()).unwrap()).unwrap();
    restricted(&all_of("/", false), true, || {
        denied(kill_process(pid, Signal::TERM).map_err(io::Error::from));
    });
    outside.kill().unwrap();
    outside.wait().unwrap();
}
