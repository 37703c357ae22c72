//! A `hyperlight serve` of a test's own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use integration::leaks::NOT_WATCHED;
use integration::{process, tools};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take for what it is asked.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A server on a port that was free.
pub(crate) struct Server {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) addr: String,
    /// Lines of its standard error.
    said: Receiver<String>,
}

impl Server {
    /// Serves `wasm` until it is dropped.
    pub(crate) fn start(wasm: &Path, options: &[&str]) -> Self {
        Self::start_in(wasm, options, &[])
    }

    /// As [`start`](Self::start), with variables in its environment.
    pub(crate) fn start_in(wasm: &Path, options: &[&str], variables: &[(&str, &Path)]) -> Self {
        // One for all: compiling a handler in JavaScript takes long.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve");
        let mut command = Command::new(integration::binaries().join("hyperlight"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--cache-dir"]).arg(cache);
        command.envs(variables.iter().copied()).env(NOT_WATCHED, "1");
        let mut child = command.args(options).arg(wasm).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, said) = channel();
        let mut server = Self { child, addr: String::new(), said };
        // What it says later is read, too: it must not wait for a reader.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let line = server.says(" on http://");
        let (_, addr) = line.split_once(" on http://").unwrap();
        addr.clone_into(&mut server.addr);
        server
    }

    /// Waits until it says a line with `text` in it on standard error, after what it was waited for before.
    pub(crate) fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut others = Vec::new();
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(rest) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => others.push(line),
                Err(error) => panic!("no {text:?}, {error}: {others:#?}"),
            }
        }
    }

    /// The URL of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Waits until somebody is connected to it and has asked, which curl does at once.
    pub(crate) fn is_asked(&self) {
        let port: u16 = self.addr.rsplit(':').next().unwrap().parse().unwrap();
        let (end, established) = (format!(":{port:04X}"), "01");
        let is_connected = || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            // proc_net_tcp: number, local address, remote address, state.
            table.lines().any(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                fields.len() > 3 && fields[1].ends_with(&end) && fields[3] == established
            })
        };
        process::wait_until("a connection", LIMIT, is_connected).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A number of kB from `/proc/PID/status`.
    pub(crate) fn status_kb(&self, field: &str) -> u64 {
        let mut text = String::new();
        let path = format!("/proc/{}/status", self.child.id());
        std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks by curl, with `arguments`: what it prints.
pub(crate) fn curl(arguments: &[&str]) -> String {
    let outcome = process::run(&mut curl_command(arguments)).unwrap();
    assert_eq!(outcome.code(), 0, "curl {arguments:?}: {outcome:?}");
    outcome.stdout
}

/// curl, which says nothing of its own and waits no longer than [`LIMIT`].
pub(crate) fn curl_command(arguments: &[&str]) -> Command {
    let mut command = tools::tree("clients").unwrap().command("curl").unwrap();
    command.args(["--silent", "--show-error", "--max-time", &LIMIT.as_secs().to_string()]);
    command.args(arguments).env(NOT_WATCHED, "1");
    command
}
