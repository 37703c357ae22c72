//! Makes, appends to, reads, lists, renames and removes files in its directory /data.

use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};

fn main() -> Result<()> {
    fs::create_dir("/data/directory")?;
    let first = "/data/directory/first";
    File::create(first)?.write_all(b"one\n")?;
    OpenOptions::new().append(true).open(first)?.write_all(b"two\n")?;
    assert_eq!(fs::read_to_string(first)?, "one\ntwo\n");
    let mut file = OpenOptions::new().read(true).write(true).open(first)?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"2")?;
    file.seek(SeekFrom::Current(-5))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "one\n2wo\n");
    drop(file);
    let second = "/data/directory/second";
    fs::rename(first, second)?;
    assert_eq!(fs::metadata(first).map_err(|error: Error| error.kind()).err(), Some(ErrorKind::NotFound));
    let names = fs::read_dir("/data/directory")?.map(|entry| Ok(entry?.file_name()));
    assert_eq!(names.collect::<Result<Vec<_>>>()?, ["second"]);
    assert_eq!(fs::copy(second, "/data/directory/third")?, 8);
    File::options().write(true).open(second)?.set_len(3)?;
    assert_eq!(fs::metadata(second)?.len(), 3);
    assert!(fs::remove_dir("/data/directory").is_err());
    fs::remove_dir_all("/data/directory")?;

    // What the host put there is readable, and what is left there stays for the host.
    let line = fs::read_to_string("/data/from-host")?;
    fs::write("/data/from-guest", format!("seen: {line}"))?;
    // Above its directory there is nothing.
    assert!(fs::read("/data/../etc/passwd").is_err());
    assert!(fs::read("/etc/passwd").is_err());
    println!("ok");
    Ok(())
}
