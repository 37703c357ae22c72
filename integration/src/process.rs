//! Running programs with a limit: nothing that a test starts can hang the run.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Far beyond what anything here takes, even on a busy machine: what reaches it hangs.
pub const HANG_LIMIT: Duration = Duration::from_secs(300);

/// What a program printed and how it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All of its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// All of its standard error, likewise.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Exit status as a shell gives it: 128 + number for a program that a signal ended.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output of a program that succeeded.
    ///
    /// # Errors
    ///
    /// It did not succeed; the error holds what it said.
    pub fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        bail!("{}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs `command` to its end with its output captured and its input as set (nothing, if unset).
///
/// # Errors
///
/// It cannot be started, or is still running after [`HANG_LIMIT`] (then it is killed).
pub fn run(command: &mut Command) -> Result<Outcome> {
    command.stdin(Stdio::null());
    finish(start(command)?)
}

/// Runs `command` with `input` on its standard input.
///
/// # Errors
///
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Outcome> {
    use std::io::Write as _;
    command.stdin(Stdio::piped());
    let mut running = start(command)?;
    let mut stdin = running.child.stdin.take().context("no standard input")?;
    let input = input.to_vec();
    // Its end may come before it has read everything: that is its business.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let outcome = finish(running);
    drop(writer.join());
    outcome
}

/// A program that runs while its output is collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    since: Instant,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Running {
    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    ///
    /// Its state cannot be read.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("wait")?.is_some())
    }
}

/// Starts `command` with its output captured.
///
/// # Errors
///
/// It cannot be started.
pub fn start(command: &mut Command) -> Result<Running> {
    fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing, and nobody may want it any more.
            drop(pipe.read_to_end(&mut bytes));
            drop(sender.send(bytes));
        });
        receiver
    }
    let line = format!("{command:?}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {line}"))?;
    let stdout = collect(child.stdout.take().context("no standard output")?);
    let stderr = collect(child.stderr.take().context("no standard error")?);
    Ok(Running { child, line, since: Instant::now(), stdout, stderr })
}

/// Waits for the end of a started program.
///
/// # Errors
///
/// It is still running after [`HANG_LIMIT`] (then it is killed).
pub fn finish(running: Running) -> Result<Outcome> {
    finish_within(running, HANG_LIMIT)
}

/// As [`finish`], with another limit.
///
/// # Errors
///
/// It is still running after `limit` (then it is killed).
pub fn finish_within(mut running: Running, limit: Duration) -> Result<Outcome> {
    let status = loop {
        if let Some(status) = running.child.try_wait().context("wait")? {
            break status;
        }
        if running.since.elapsed() > limit {
            running.child.kill().context("kill")?;
            running.child.wait().context("wait")?;
            bail!("still running after {} s: {}", limit.as_secs(), running.line);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let elapsed = running.since.elapsed();
    let text = |output: Receiver<Vec<u8>>| match output.recv_timeout(Duration::from_secs(10)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(_) => {
            bail!("ended ({status}), but something it left holds its output open: {}", running.line)
        }
    };
    Ok(Outcome { stdout: text(running.stdout)?, stderr: text(running.stderr)?, status, elapsed })
}

/// Asks `ready` every few milliseconds until it says yes.
///
/// # Errors
///
/// It still says no after `limit`; the error names `what` was awaited.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let since = Instant::now();
    while !ready() {
        if since.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
