//! Opens a file of its directory /data, and tells what it can do there after a line of input.

use std::fs::{self, File};
use std::io::{Read, Result};

fn main() -> Result<()> {
    let mut file = File::open("/data/file")?;
    println!("opened");
    std::io::stdin().read_line(&mut String::new())?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    println!("read: {text}");
    for (what, result) in [("open", File::open("/data/file")), ("create", File::create("/data/new"))] {
        match result {
            Ok(_) => println!("{what}: done"),
            Err(error) => println!("{what}: {}", error.kind()),
        }
    }
    // Linux says that there is no such directory, and others that it is empty.
    let names = fs::read_dir("/data").and_then(|names| names.collect::<Result<Vec<_>>>());
    println!("list: {}", names.map_or(0, |names| names.len()));
    Ok(())
}
