use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::store::{About, write};
use super::*;
use crate::compile::EntryPoints;

const PROGRAM: &[u8] = b"a program that is long enough to be damaged in the middle";
const ABOUT: About<'_> = About {
    origin: [5; 32],
    entry_points: EntryPoints { command: true, handler: true },
    name: "app.wasm",
};

/// A cache directory with one program in it.
struct Cache {
    path: tempfile::TempDir,
    dir: File,
    key: Key,
}

impl Cache {
    fn new() -> Self {
        let path = tempfile::tempdir().unwrap();
        let dir = File::open(path.path()).unwrap();
        let cache = Self { path, dir, key: Key::from_bytes([7; 32]) };
        // Eleven zeros, and room for the trailer.
        let fill = |file: &File| {
            file.write_all_at(PROGRAM, 0)?;
            file.set_len((PROGRAM.len() + 11 + TRAILER_BYTES) as u64)?;
            Ok(PROGRAM.len() as u64)
        };
        write(&cache.dir, &cache.key, Kind::Program, ABOUT, fill).unwrap();
        cache
    }

    fn file(&self) -> PathBuf {
        self.path.path().join(self.key.name(Kind::Program))
    }

    fn read(&self) -> Option<Stored> {
        read(&self.dir, &self.key, Kind::Program).ok().flatten()
    }

    fn why_not(&self) -> String {
        read(&self.dir, &self.key, Kind::Program).unwrap_err().to_string()
    }

    /// Says that the entry as it is was verified.
    fn remember(&self) {
        let name = self.key.name(Kind::Program);
        let stat = fstat(File::open(self.file()).unwrap()).unwrap();
        seen::remember(&self.dir, &name, &Identity::of(&stat, name.as_bytes()).unwrap());
    }

    /// Changes a byte of the content without going by the file's name.
    fn damage(&self) {
        std::fs::set_permissions(self.file(), PermissionsExt::from_mode(0o600)).unwrap();
        File::options().write(true).open(self.file()).unwrap().write_all_at(b"x", 3).unwrap();
    }
}

#[test]
fn what_was_written_is_read_back() {
    let cache = Cache::new();
    let Stored { file, trailer } = cache.read().unwrap();
    assert_eq!((trailer.entry_points, trailer.name.as_str()), (ABOUT.entry_points, "app.wasm"));
    let mut program = vec![0; usize::try_from(trailer.bytes).unwrap()];
    file.read_exact_at(&mut program, 0).unwrap();
    assert_eq!(program, PROGRAM);
}

#[test]
fn only_the_program_is_left_behind_by_writing() {
    let cache = Cache::new();
    let names: Vec<_> = std::fs::read_dir(cache.path.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [cache.key.name(Kind::Program)]);
}

#[test]
fn a_file_cut_off_anywhere_is_not_read() {
    let cache = Cache::new();
    let whole = std::fs::read(cache.file()).unwrap();
    std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(0o600)).unwrap();
    for len in 0..whole.len() {
        std::fs::write(cache.file(), &whole[..len]).unwrap();
        assert!(cache.read().is_none(), "first {len} bytes");
    }
    std::fs::write(cache.file(), &whole).unwrap();
    assert!(cache.read().is_some());
}

#[test]
fn a_file_with_any_bit_changed_is_not_read() {
    let cache = Cache::new();
    let whole = std::fs::read(cache.file()).unwrap();
    std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(0o600)).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(cache.file(), &damaged).unwrap();
        assert!(cache.read().is_none(), "bit {bit}");
    }
}

#[test]
fn the_program_of_another_key_is_not_read() {
    let cache = Cache::new();
    let other = Key::from_bytes([8; 32]);
    std::fs::rename(cache.file(), cache.path.path().join(other.name(Kind::Program))).unwrap();
    assert!(read(&cache.dir, &other, Kind::Program).is_err());
}

#[test]
fn a_file_that_others_can_write_is_not_read() {
    let cache = Cache::new();
    cache.remember();
    for mode in [0o620, 0o602, 0o777] {
        std::fs::set_permissions(cache.file(), PermissionsExt::from_mode(mode)).unwrap();
        assert!(cache.why_not().contains("another user"), "{mode:o}");
    }
}

#[test]
fn a_file_of_another_user_is_not_read() {
    if !geteuid().is_root() {
        eprintln!("skipped: giving a file away needs root");
        return;
    }
    let cache = Cache::new();
    std::os::unix::fs::chown(cache.file(), Some(65534), None).unwrap();
    assert!(cache.why_not().contains("another user"));
}

#[test]
fn a_link_to_a_sound_program_is_not_followed() {
    let cache = Cache::new();
    let elsewhere = cache.path.path().join("elsewhere");
    std::fs::rename(cache.file(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, cache.file()).unwrap();
    assert!(cache.read().is_none());
}

#[test]
fn a_fifo_by_the_name_does_not_block() {
    let cache = Cache::new();
    std::fs::remove_file(cache.file()).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(&cache.dir, cache.key.name(Kind::Program), mode).unwrap();
    assert!(cache.why_not().contains("no regular file"));
}

#[test]
fn a_file_that_cannot_be_filled_leaves_nothing_behind() {
    let cache = Cache::new();
    let key = Key::from_bytes([9; 32]);
    let fill = |_: &File| Err(io::Error::other("no content"));
    let error = write(&cache.dir, &key, Kind::Program, ABOUT, fill).unwrap_err();
    assert!(crate::error::line(&error).ends_with("no content"), "{error}");
    assert!(!cache.path.path().join(temporary_name(&key.stem())).exists());
}

#[test]
fn a_program_just_written_is_verified_but_not_remembered() {
    let cache = Cache::new();
    assert!(cache.read().is_some());
    assert!(!cache.path.path().join(seen::name_of(&cache.key.name(Kind::Program))).exists());
}

#[test]
fn a_program_that_has_settled_is_remembered_when_it_is_read() {
    let cache = Cache::new();
    // The rule about the kernel's clock is a matter of seconds.
    std::thread::sleep(std::time::Duration::from_millis(3500));
    assert!(cache.read().is_some());
    let seen = cache.path.path().join(seen::name_of(&cache.key.name(Kind::Program)));
    let stat = fstat(File::open(cache.file()).unwrap()).unwrap();
    let identity = Identity::of(&stat, cache.key.name(Kind::Program).as_bytes()).unwrap();
    assert_eq!(std::fs::read(seen).unwrap(), identity.bytes());
}

#[test]
fn what_was_verified_is_not_read_again() {
    let cache = Cache::new();
    cache.damage();
    assert!(cache.why_not().contains("damaged"));
    // Only who claims to have verified the damaged file gets it: its content is not looked at.
    cache.remember();
    assert!(cache.read().is_some());
}

#[test]
fn a_change_after_verifying_is_found() {
    let cache = Cache::new();
    cache.remember();
    cache.damage();
    assert!(cache.why_not().contains("damaged"));
}

#[test]
fn a_file_of_holes_larger_than_any_program_is_not_stored() {
    let cache = Cache::new();
    let key = Key::from_bytes([9; 32]);
    let fill = |file: &File| file.set_len(1 << 40).map(|()| 1 << 40);
    let error = write(&cache.dir, &key, Kind::Program, ABOUT, fill).unwrap_err();
    assert!(crate::error::line(&error).contains("larger"), "{error}");
    assert!(read(&cache.dir, &key, Kind::Program).unwrap().is_none());
}

#[test]
fn a_damaged_note_costs_only_the_verifying() {
    let cache = Cache::new();
    cache.remember();
    let seen = cache.path.path().join(seen::name_of(&cache.key.name(Kind::Program)));
    for content in [&b""[..], b"short", &[0; 32], &[0; 64]] {
        std::fs::write(&seen, content).unwrap();
        assert!(cache.read().is_some(), "{content:?}");
    }
    cache.damage();
    assert!(cache.read().is_none());
}

#[test]
fn an_old_time_of_use_is_renewed_by_a_hit() {
    let cache = Cache::new();
    cache.remember();
    let seen = cache.path.path().join(seen::name_of(&cache.key.name(Kind::Program)));
    let modified = || std::fs::metadata(&seen).unwrap().modified().unwrap();
    let recent = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let old = recent - std::time::Duration::from_secs(3600);
    for (time, is_renewed) in [(recent, false), (old, true)] {
        File::options().write(true).open(&seen).unwrap().set_modified(time).unwrap();
        assert!(cache.read().is_some());
        assert_eq!(modified() != time, is_renewed);
    }
}
