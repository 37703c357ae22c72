//! Times, sizes and positions of files in its directory /data.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::time::{Duration, SystemTime};

fn main() -> Result<()> {
    const FAR: u64 = 5 << 30;
    let mut file = File::options().read(true).write(true).create(true).open("/data/file")?;
    file.seek(SeekFrom::Start(FAR))?;
    file.write_all(b"far")?;
    assert_eq!(file.stream_position()?, FAR + 3);
    assert_eq!(file.metadata()?.len(), FAR + 3);
    file.seek(SeekFrom::End(-4))?;
    let mut text = [1; 4];
    file.read_exact(&mut text)?;
    assert_eq!(&text, b"\0far");
    assert_eq!(file.read(&mut text)?, 0);
    file.set_len(5)?;
    file.sync_all()?;
    file.sync_data()?;

    let accessed = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 999_999_999);
    file.set_times(FileTimes::new().set_accessed(accessed).set_modified(modified))?;
    let found = fs::metadata("/data/file")?;
    assert_eq!((found.accessed()?, found.modified()?), (accessed, modified));
    assert!(found.is_file() && found.len() == 5);
    fs::hard_link("/data/file", "/data/hard")?;
    fs::rename("/data/hard", "/data/kept")?;
    println!("ok");
    Ok(())
}
