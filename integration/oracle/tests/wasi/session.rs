//! A conversation with a running program: each call that a test wants made is made in there, and what it
//! gave comes back.
//!
//! The program runs on a thread of its own. Commands reach it by its standard input, answers leave by its
//! standard error; standard output, the arguments, the environment and all directories are the test's.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::thread::JoinHandle;

use abi::{FOREVER, Handle, Nr};

use super::interpreter::Interpreter;
use oracle::{Call, CallLog, Grants, Streams, Wasi};

/// A program that waits for commands.
pub(super) struct Session {
    pub(super) interpreter: &'static Interpreter,
    commands: Option<PipeWriter>,
    answers: PipeReader,
    program: Option<JoinHandle<wasmtime::Result<i32>>>,
    log: CallLog,
}

/// The program has ended instead of answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) status: i32,
    /// What it wrote to standard error that is no answer.
    pub(super) report: String,
}

/// What the program is to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command<'a> {
    /// Write to memory at an address.
    Poke(u32, &'a [u8]),
    /// Call a function with core arguments; answers with 8 bytes.
    Call(u32, &'a [u64]),
    /// Answer with memory: address and bytes.
    Peek(u32, u32),
    /// Answer with what was allocated for the last call.
    Heap,
    /// Copy 4 bytes of memory to an address from another.
    Copy(u32, u32),
}

impl Session {
    /// Starts the program; `stdout` is its standard output.
    pub(super) fn start(
        wasi: Wasi,
        interpreter: &'static Interpreter,
        grants: &Grants,
        stdout: impl Into<std::os::fd::OwnedFd>,
    ) -> Self {
        let grants = grants.clone();
        Self::spawn(interpreter, stdout, move |streams, log| {
            oracle::run(wasi, &interpreter.program, &grants, streams, log)
        })
    }

    /// Starts what runs the program with the streams of the conversation.
    pub(super) fn spawn(
        interpreter: &'static Interpreter,
        stdout: impl Into<std::os::fd::OwnedFd>,
        run: impl FnOnce(Streams, &CallLog) -> wasmtime::Result<i32> + Send + 'static,
    ) -> Self {
        let (stdin, commands) = std::io::pipe().expect("a pipe");
        let (answers, stderr) = std::io::pipe().expect("a pipe");
        let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
        let log = CallLog::default();
        let calls = log.clone();
        let program = std::thread::spawn(move || run(streams, &calls));
        Self { interpreter, commands: Some(commands), answers, program: Some(program), log }
    }

    /// Starts the program with nobody to read its standard output, and no complaint.
    pub(super) fn start_silent(
        wasi: Wasi,
        interpreter: &'static Interpreter,
        grants: &Grants,
    ) -> Self {
        let null = File::options().write(true).open("/dev/null").expect("open /dev/null");
        Self::start(wasi, interpreter, grants, null)
    }

    /// Sends commands and what follows them on standard input, and returns the answer.
    pub(super) fn exchange(
        &mut self,
        commands: &[Command<'_>],
        input: &[u8],
    ) -> Result<Vec<u8>, Ended> {
        let mut frame = vec![0; 4];
        for command in commands {
            command.write(&mut frame);
        }
        let length = u32::try_from(frame.len() - 4).expect("a short frame");
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(input);
        let pipe = self.commands.as_mut().expect("the session is not finished");
        // A program that has ended does not read; why, its answer tells.
        let _ = pipe.write_all(&frame);
        let mut length = [0; 4];
        match self.answers.read(&mut length[..1]) {
            Ok(1) if length[0] == 0 => {}
            Ok(read) => return Err(self.ended(length[..read].to_vec())),
            Err(error) => panic!("read an answer: {error}"),
        }
        self.answers.read_exact(&mut length[1..]).expect("the length of an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.answers.read_exact(&mut answer).expect("an answer");
        Ok(answer)
    }

    /// Has the program return from the call that it is in.
    pub(super) fn leave(&mut self) {
        let pipe = self.commands.as_mut().expect("the session is not finished");
        pipe.write_all(&u32::MAX.to_le_bytes()).expect("a program that listens");
    }

    fn ended(&mut self, mut report: Vec<u8>) -> Ended {
        self.commands = None;
        self.answers.read_to_end(&mut report).expect("read what the program reports");
        let program = self.program.take().expect("the program ends once");
        let status = match program.join() {
            Ok(status) => status.expect("run the interpreter"),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ended { status, report: String::from_utf8_lossy(&report).into_owned() }
    }

    /// Ends the program by the end of its commands.
    pub(super) fn finish(mut self) -> Ended {
        self.ended(Vec::new())
    }

    /// The host calls that were made since the last time, without those of the conversation, whose reads
    /// are short.
    pub(super) fn calls(&self) -> Vec<Nr> {
        const FRAME_BYTES_MAX: u64 = 1 << 17;
        let is_own = |call: &Call| match call.nr {
            Nr::Read => {
                call.handles == [Handle::STDIN]
                    && call.amount.is_some_and(|len| len < FRAME_BYTES_MAX)
            }
            Nr::Write => call.handles == [Handle::STDERR],
            Nr::Poll => call.handles == [Handle::STDIN] && call.amount == Some(FOREVER),
            _ => false,
        };
        self.log.take().iter().filter(|call| !is_own(call)).map(|call| call.nr).collect()
    }
}

impl Drop for Session {
    /// The program ends with its test, also if that fails.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(program) = self.program.take() {
            // It may have a long report, which nobody is to read any more.
            let (answers, _) = std::io::pipe().expect("a pipe");
            drop(std::mem::replace(&mut self.answers, answers));
            let _ = program.join();
        }
    }
}

impl Command<'_> {
    /// Bytes of it in a frame, the first 12 of which say what it is.
    pub(super) fn bytes(self) -> usize {
        let mut frame = Vec::new();
        self.write(&mut frame);
        frame.len()
    }

    fn write(self, frame: &mut Vec<u8>) {
        let length = |len: usize| u32::try_from(len).expect("short");
        let (kind, a, b) = match self {
            Command::Poke(at, bytes) => (0, at, length(bytes.len())),
            Command::Call(function, arguments) => (1, function, length(arguments.len() * 8)),
            Command::Peek(at, bytes) => (2, at, bytes),
            Command::Heap => (3, 0, 0),
            Command::Copy(to, from) => (4, to, from),
        };
        for word in [kind, a, b] {
            frame.extend_from_slice(&word.to_le_bytes());
        }
        match self {
            Command::Poke(_, bytes) => frame.extend_from_slice(bytes),
            Command::Call(_, arguments) => {
                arguments.iter().for_each(|word| frame.extend_from_slice(&word.to_le_bytes()));
            }
            Command::Peek(..) | Command::Heap | Command::Copy(..) => {}
        }
    }
}
