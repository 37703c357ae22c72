//! wasi:cli: arguments, environment, standard streams, terminals, exit.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Handle;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::Wasi;
use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use crate::process::Exited;
use crate::stream::{InputStream, OutputStream};

/// A terminal that input comes from. WASI 0.2 gives it no methods.
#[derive(Debug)]
pub struct TerminalInput;

/// A terminal that output goes to. WASI 0.2 gives it no methods.
#[derive(Debug)]
pub struct TerminalOutput;

impl environment::Host for Wasi {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        let split = |entry: &String| match entry.split_once('=') {
            Some((key, value)) => (key.into(), value.into()),
            None => (entry.clone(), String::new()),
        };
        Ok(self.process.get()?.env.iter().map(split).collect())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        Ok(self.process.get()?.args.clone())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(self.process.get()?.cwd.clone())
    }
}

impl exit::Host for Wasi {
    fn exit(&mut self, status: Result<(), ()>) -> Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, status: u8) -> Result<()> {
        Err(Exited(status.into()).into())
    }
}

impl stdin::Host for Wasi {
    fn get_stdin(&mut self) -> Result<Resource<InputStream>> {
        let stream = InputStream::of_pipe(Arc::clone(&self.process.get()?.stdin));
        self.hand_out(stream)
    }
}

impl stdout::Host for Wasi {
    fn get_stdout(&mut self) -> Result<Resource<OutputStream>> {
        let stream = OutputStream::of_pipe(Arc::clone(&self.process.get()?.stdout));
        self.hand_out(stream)
    }
}

impl stderr::Host for Wasi {
    fn get_stderr(&mut self) -> Result<Resource<OutputStream>> {
        let stream = OutputStream::of_pipe(Arc::clone(&self.process.get()?.stderr));
        self.hand_out(stream)
    }
}

impl terminal_input::Host for Wasi {}

impl terminal_input::HostTerminalInput for Wasi {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::Host for Wasi {}

impl terminal_output::HostTerminalOutput for Wasi {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for Wasi {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<TerminalInput>>> {
        Ok(match self.process.get()?.is_terminal(Handle::STDIN) {
            true => Some(self.table.push(TerminalInput)?),
            false => None,
        })
    }
}

impl terminal_stdout::Host for Wasi {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<TerminalOutput>>> {
        self.terminal_output(Handle::STDOUT)
    }
}

impl terminal_stderr::Host for Wasi {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<TerminalOutput>>> {
        self.terminal_output(Handle::STDERR)
    }
}

impl Wasi {
    fn terminal_output(&mut self, handle: Handle) -> Result<Option<Resource<TerminalOutput>>> {
        Ok(match self.process.get()?.is_terminal(handle) {
            true => Some(self.table.push(TerminalOutput)?),
            false => None,
        })
    }
}
