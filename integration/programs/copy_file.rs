//! Copies /data/from to /data/to through a buffer of 64 KiB, and through one that fits nothing.

use std::fs::File;
use std::io::{Read, Result, Write};

fn copy(to: &str, size: usize) -> Result<()> {
    let (mut from, mut to) = (File::open("/data/from")?, File::create(to)?);
    let mut buffer = vec![0; size];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return to.sync_all();
        }
        to.write_all(&buffer[..length])?;
    }
}

fn main() -> Result<()> {
    copy("/data/to", 64 << 10)?;
    copy("/data/to-odd", 1_000_003)?;
    println!("ok");
    Ok(())
}
