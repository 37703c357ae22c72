//! Terminals: `ctr run -t` and `ctr task exec -t` on a terminal of the test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use integration::process::{HANG_LIMIT, wait_until};
use integration::{Code, require_kvm};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use super::Fixture;

/// A program on a terminal, at which a person sits.
struct Session {
    terminal: File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Session {
    fn start(command: &mut Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let theirs: OwnedFd = ioctl_tiocgptpeer(&terminal, flags).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let stream = || Stdio::from(theirs.try_clone().unwrap());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        // The command line holds descriptors too.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let terminal = File::from(terminal);
        let (mut reader, screen) = (terminal.try_clone().unwrap(), Arc::new(Mutex::default()));
        let into: Arc<Mutex<Vec<u8>>> = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                into.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self { terminal, screen, child }
    }

    /// What was shown. Where a line begins is the business of two terminals, one behind the other.
    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace('\r', "")
    }

    fn sees(&self, text: &str) {
        let seen = wait_until(text, HANG_LIMIT, || self.screen().contains(text));
        seen.unwrap_or_else(|error| panic!("{error}: {:?}", self.screen()));
    }

    fn type_in(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) -> (i32, String) {
        wait_until("the end", HANG_LIMIT, || self.child.try_wait().unwrap().is_some()).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.screen())
    }
}

fn window(pid: u32) -> (u16, u16) {
    let size = tcgetwinsize(File::open(format!("/proc/{pid}/fd/0")).unwrap()).unwrap();
    (size.ws_row, size.ws_col)
}

#[test]
fn a_program_on_a_terminal_sees_one() {
    require_kvm!();
    let it = Fixture::new("terminals.rs_p2", &[]);

    let mut command = it.node.run_command(&it.reference, "t", &["--tty"], &[]);
    let (status, screen) = Session::start(&mut command, 24, 80).end();

    assert_eq!((status, screen.matches(": terminal\n").count()), (0, 3), "{screen:?}");
    it.events.expect("t", &["create", "start", "exit", "delete"]).unwrap();
}

#[test]
fn what_is_typed_reaches_the_program_and_control_c_ends_it() {
    require_kvm!();
    let it = Fixture::new("cat.rs_p1", &[]);
    let mut command = it.node.run_command(&it.reference, "t", &["--tty"], &[]);
    let mut session = Session::start(&mut command, 24, 80);
    it.wait_for_task("t", "RUNNING");

    session.type_in("hello\r");
    // Once as it is typed, once as it is written.
    session.sees("hello\nhello\n");
    session.type_in("\u{3}");

    let (status, screen) = session.end();
    assert_eq!(status, 130, "{screen:?}");
}

#[test]
fn a_terminal_has_the_size_of_the_clients_and_follows_it() {
    require_kvm!();
    let it = Fixture::new("cat.rs_p1", &[]);
    let mut command = it.node.run_command(&it.reference, "t", &["--tty"], &[]);
    let session = Session::start(&mut command, 31, 97);
    it.wait_for_task("t", "RUNNING");
    let (_, pid, _) = it.tasks.get("t", "").unwrap();
    wait_until("the size", HANG_LIMIT, || window(pid) == (31, 97)).unwrap();

    it.tasks.resize("t", "", 50, 132).unwrap();

    assert_eq!(window(pid), (50, 132));
    it.tasks.kill("t", "", 9, false).unwrap();
    assert_eq!(session.end().0, 137);
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    require_kvm!();
    let it = Fixture::new("spin", &[("bin/terminals.wasm", "terminals.rs_p2")]);
    it.run("t", &["--null-io"]);
    let mut command = it.node.ctr_command(["task", "exec", "--tty", "--exec-id", "e"]);
    command.arg("--fifo-dir").arg(it.node.directory().join("fifo"));

    let session = Session::start(command.args(["t", "/bin/terminals.wasm"]), 24, 80);
    let (status, screen) = session.end();

    assert_eq!((status, screen.matches(": terminal\n").count()), (0, 3), "{screen:?}");
    assert_eq!(it.tasks.resize("t", "", 1, 1).unwrap_err().0, Code::FailedPrecondition);
    it.remove("t");
}

#[test]
fn a_task_on_a_terminal_whose_client_and_shim_were_killed_is_cleaned_up() {
    require_kvm!();
    let it = Fixture::new("cat.rs_p1", &[]);
    let mut command = it.node.run_command(&it.reference, "t", &["--tty"], &[]);
    let mut session = Session::start(&mut command, 24, 80);
    it.wait_for_task("t", "RUNNING");
    session.child.kill().unwrap();
    let shims = it.node.shims();
    let [shim] = shims.as_slice() else { panic!("not one shim: {shims:?}") };

    let kill = Command::new("kill").args(["-9", &shim.to_string()]).status();
    assert!(kill.unwrap().success());

    let gone = || it.tasks.get("t", "").is_err_and(|(code, _)| code == Code::NotFound);
    wait_until("the task to be gone", HANG_LIMIT, gone).unwrap();
    drop(session.end());
    it.ctr(&["container", "rm", "t"]);
    let fifos = it.node.directory().join("fifo");
    std::fs::remove_dir_all(&fifos).unwrap();
    std::fs::create_dir(fifos).unwrap();
}
