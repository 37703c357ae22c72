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
use super::stream::{InputStream, OutputStream};

/// A terminal that input comes from. WASI 0.2 gives it no methods.
#[derive(Debug)]
pub struct TerminalInput;

/// A terminal that output goes to. WASI 0.2 gives it no methods.
#[derive(Debug)]
pub struct TerminalOutput;

impl environment::Host for Wasi {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        Ok(self.env.clone())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        Ok(self.args.clone())
    }

    /// None: paths are relative to the preopened directories.
    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
}

impl exit::Host for Wasi {
    fn exit(&mut self, status: Result<(), ()>) -> Result<()> {
        self.exit_with_code(u8::from(status.is_err()))
    }

    fn exit_with_code(&mut self, status: u8) -> Result<()> {
        self.flush();
        crate::exit(status.into())
    }
}

impl stdin::Host for Wasi {
    fn get_stdin(&mut self) -> Result<Resource<InputStream>> {
        Ok(self.table.push(InputStream::Pipe(Arc::clone(&self.stdin)))?)
    }
}

impl stdout::Host for Wasi {
    fn get_stdout(&mut self) -> Result<Resource<OutputStream>> {
        Ok(self.table.push(OutputStream::Pipe(Arc::clone(&self.stdout)))?)
    }
}

impl stderr::Host for Wasi {
    fn get_stderr(&mut self) -> Result<Resource<OutputStream>> {
        Ok(self.table.push(OutputStream::Pipe(Arc::clone(&self.stderr)))?)
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
        Ok(match self.is_terminal(Handle::STDIN) {
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
        Ok(match self.is_terminal(handle) {
            true => Some(self.table.push(TerminalOutput)?),
            false => None,
        })
    }
}
