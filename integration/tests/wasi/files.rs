//! Files and directories.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use integration::run::Run;

crate::behaviours! {
    files_of_a_granted_directory_can_be_used_and_nothing_else:
        files [c_p1 c_p2 c_adapted rs_p1 rs_p2 go_p1 js_p2 py_p2];
    what_fails_on_files_fails_with_the_error_of_posix: file_errors [c_p1 c_p2 c_adapted];
    links_times_sizes_and_positions_of_files_are_kept:
        file_metadata [c_p1 c_p2 c_adapted rs_p1 rs_p2];
    a_read_only_directory_is_read_and_not_changed: read_only_directory [c_p1 c_p2 c_adapted];
    a_directory_of_100_000_entries_is_listed: large_directory [c_p1 c_p2 rs_p1 rs_p2 go_p1];
    names_that_are_not_utf8_do_no_harm: names_not_utf8 [c_p1 c_p2];
    large_files_are_copied: copy_file [rs_p1 rs_p2 go_p1];
    every_method_of_a_descriptor_does_what_it_says: descriptor_calls [c_p2];
}

fn files_of_a_granted_directory_can_be_used_and_nothing_else(name: &str) {
    let run = Run::of(name).unwrap().directory(|directory| {
        fs::write(directory.join("from-host"), "a line of the host\n")?;
        Ok(())
    });
    let ended = run.compared().unwrap();
    let digest = integration::oci::digest(b"seen: a line of the host\n");
    assert!(ended.files.iter().any(|line| line.contains(&digest)), "{:?}", ended.files);
    assert_eq!(ended.files.len(), 2, "{:?}", ended.files);
    assert_eq!(ended.output(), "ok\n");
}

/// The program says `ok`, and leaves the same files as by the wasmtime command.
fn ok(name: &str, prepare: fn(&Path) -> Result<()>) {
    assert_eq!(Run::of(name).unwrap().directory(prepare).compared().unwrap().output(), "ok\n");
}

fn what_fails_on_files_fails_with_the_error_of_posix(name: &str) {
    ok(name, |directory| {
        fs::write(directory.join("file"), "one")?;
        fs::create_dir(directory.join("directory"))?;
        symlink("/etc", directory.join("outside"))?;
        symlink("loop", directory.join("loop"))?;
        Ok(())
    });
}

fn links_times_sizes_and_positions_of_files_are_kept(name: &str) {
    ok(name, |_| Ok(()));
}

fn a_read_only_directory_is_read_and_not_changed(name: &str) {
    let run = Run::of(name).unwrap().read_only_directory(|directory| {
        fs::write(directory.join("file"), "one")?;
        Ok(())
    });
    assert_eq!(run.compared().unwrap().output(), "ok\n");
}

fn a_directory_of_100_000_entries_is_listed(name: &str) {
    const ENTRIES: u32 = 100_000;
    let run = Run::of(name).unwrap().directory_in_memory(|directory| {
        for number in 0..ENTRIES {
            File::create(directory.join(format!("entry-{number}")))?;
        }
        Ok(())
    });
    // FNV-1a of each name.
    let hash = |name: String| {
        name.bytes()
            .fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
    };
    let sum =
        (0..ENTRIES).fold(0_u32, |sum, number| sum.wrapping_add(hash(format!("entry-{number}"))));
    let text = run.in_micro_vm().unwrap().output();
    assert_eq!(text, format!("{ENTRIES} names, {sum:08x}\n"));
}

fn names_that_are_not_utf8_do_no_harm(name: &str) {
    let run = Run::of(name).unwrap().directory(|directory| {
        for name in [b"caf\xe9".as_slice(), b"\xff\xfe", "plain".as_bytes(), "naïve".as_bytes()] {
            fs::write(directory.join(OsStr::from_bytes(name)), "text")?;
        }
        Ok(())
    });
    let text = run.in_micro_vm().unwrap().output();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    if name.ends_with("_p1") {
        // Names are bytes there.
        let expected =
            ["636166e9 opened", "6e61c3af7665 opened", "706c61696e opened", "fffe opened"];
        assert_eq!(lines, expected);
    } else {
        // They are strings there, so one that is none ends the list.
        assert_eq!(lines.iter().filter(|line| line.ends_with("Illegal byte sequence")).count(), 1);
        assert!(lines.iter().all(|line| !line.contains("e9 ")), "{lines:?}");
    }
}

/// 40 MiB that do not repeat soon.
fn content() -> Vec<u8> {
    (0..40_u32 << 20).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

fn large_files_are_copied(name: &str) {
    let run = Run::of(name).unwrap().directory(|directory| {
        fs::write(directory.join("from"), content())?;
        Ok(())
    });
    let ended = run.compared().unwrap();
    let digest = integration::oci::digest(&content());
    assert!(ended.files.len() > 1, "{:?}", ended.files);
    assert!(ended.files.iter().all(|line| line.contains(&digest)), "{:?}", ended.files);
    assert_eq!(ended.output(), "ok\n");
}

fn every_method_of_a_descriptor_does_what_it_says(name: &str) {
    ok(name, |directory| {
        fs::write(directory.join("from"), "0123456789")?;
        symlink("from", directory.join("soft"))?;
        Ok(())
    });
}
