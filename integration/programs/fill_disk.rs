//! Writes to /data/file until that fails, and tells how much was written and why it ended.

use std::fs::File;
use std::io::{Result, Write};

fn main() -> Result<()> {
    let mut file = File::create("/data/file")?;
    let pattern: Vec<u8> = (0..251 * 40).map(|at| (at % 251) as u8).collect();
    let mut written = 0;
    loop {
        match file.write(&pattern[written % 251..]) {
            Ok(count) => written += count,
            Err(error) => {
                println!("{written}: {}", error.kind());
                return Ok(());
            }
        }
    }
}
