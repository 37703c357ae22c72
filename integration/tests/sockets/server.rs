//! A program that listens, and says where on the first line of its standard output.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;

use integration::process::{HANG_LIMIT, wait_until};

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `command` and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (said, hear) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            // Nobody hears it if the test has failed.
            drop(said.send(line));
        });
        let line = hear.recv_timeout(HANG_LIMIT).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            panic!("{command:?} says {line:?}: {:?}", child.wait());
        };
        Self { child, address }
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> ExitStatus {
        wait_until("the server to end", HANG_LIMIT, || !matches!(self.child.try_wait(), Ok(None)))
            .unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    /// Where its test has failed, the server does not go on.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
