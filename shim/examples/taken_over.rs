//! A VMM process that a guest has taken over, for the tests of the jail (`tests/jail`).
//!
//! It is the process of a task up to the moment at which the program would start or, if its first argument is
//! `compiler` or `maker`, that of a compiler or of what makes snapshots, up to its work. Then it does what the
//! next argument says, with the further ones, and says on standard output what came of it: `done`, or the error's
//! name. It ends with status 0 if it succeeded, 1 if it was refused.
#![expect(unsafe_code, reason = "arbitrary system calls are made")]
// UNSAFETY: the point is to make system calls that no safe interface has.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc::{self, c_long};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, words)) if first == "compiler" => {
            shim::compile::taken_over_main(|| status(words))
        }
        Some((first, words)) if first == "maker" => {
            shim::snapshots::taken_over_main(|| status(words))
        }
        _ => shim::microvm::taken_over_main(|| status(&words)),
    }
}

/// Does what the words say, and says what came of it.
fn status(words: &[String]) -> u8 {
    let (said, status) = match attempt(words) {
        Ok(said) => (said, 0),
        Err(error) => (format!("{error}"), 1),
    };
    // A reader that is gone has nothing to learn.
    let _ = writeln!(io::stdout(), "{said}");
    status
}

/// Does what the words say.
fn attempt(words: &[String]) -> io::Result<String> {
    let done = || Ok("done".to_owned());
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["nothing"] => done(),
        ["wait"] => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        ["list", path] => {
            let entries: io::Result<Vec<_>> = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect();
            let mut names = entries?;
            names.sort();
            Ok(names.join(" "))
        }
        ["read", path] => fs::read_to_string(path),
        ["write", path] => fs::write(path, "written").and_then(|()| done()),
        ["append", path] => OpenOptions::new().append(true).open(path).and_then(|_| done()),
        // Up and out: by as many `..` as there could be, from the root and from an open directory.
        ["climb", path] => {
            let up = format!("{}{}", "/..".repeat(40), path);
            let from_open = File::open("/").and_then(|dir| {
                let relative = CString::new(format!(".{up}"))?;
                let flags = 0; // O_RDONLY
                let dir = i64::from(dir.as_raw_fd()).cast_unsigned();
                let path = relative.as_ptr().addr() as u64;
                call(libc::SYS_openat, [dir, path, flags, 0, 0, 0])
            });
            from_open.or_else(|_| File::open(up).map(|_| 0)).and_then(|_| done())
        }
        ["connect", address] => {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, Duration::from_secs(10)).and_then(|_| done())
        }
        // As many threads as can be had, up to a bound of this test's.
        ["threads"] => {
            for count in 0..4096 {
                let thread = std::thread::Builder::new().stack_size(64 << 10);
                if thread.spawn(|| std::thread::sleep(Duration::from_secs(60))).is_err() {
                    return Ok(format!("{count}"));
                }
            }
            Ok("4096".to_owned())
        }
        // A system call by its number, with numbers or texts for arguments.
        ["call", number, ref arguments @ ..] => {
            let texts: Vec<CString> =
                arguments.iter().map(|text| CString::new(*text)).collect::<Result<_, _>>()?;
            let mut values = [0; 6];
            for ((value, text), argument) in values.iter_mut().zip(&texts).zip(arguments) {
                *value = match argument.parse::<i64>() {
                    Ok(number) => number.cast_unsigned(),
                    Err(_) => text.as_ptr().addr() as u64,
                };
            }
            call(number.parse().map_err(io::Error::other)?, values).and_then(|_| done())
        }
        _ => Err(io::Error::other(format!("what is {words:?}?"))),
    }
}

/// Makes a system call.
fn call(number: c_long, [a, b, c, d, e, f]: [u64; 6]) -> io::Result<c_long> {
    // SAFETY: pointers among the arguments are to strings that live on, or to nothing, which the kernel
    // refuses; what a call that succeeded did to this process ends with it, and the test has failed.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
