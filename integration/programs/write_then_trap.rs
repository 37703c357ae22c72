//! Writes a line to standard output and one to /data/file, and traps without closing either.

use std::fs::File;
use std::io::{Result, Write};

fn main() -> Result<()> {
    println!("to the stream");
    let mut file = File::create("/data/file")?;
    file.write_all(b"to the file\n")?;
    std::arch::wasm32::unreachable()
}
