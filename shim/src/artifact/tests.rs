//! Wasm files in a root file system, among them those that try to lead out of it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const WASM: &[u8] = b"\0asm\x0d\0\x01\0";

fn look(root: &TempDir, path: &str) -> Result<Vec<u8>, &'static str> {
    let found = wasm_in_rootfs(root.path(), Path::new(path)).unwrap();
    found.map(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

#[test]
fn a_wasm_file_is_read() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("app")).unwrap();
    fs::write(root.path().join("app/a.wasm"), WASM).unwrap();

    assert_eq!(look(&root, "/app/a.wasm").unwrap(), WASM);
}

#[test]
fn a_link_is_followed_inside_the_root() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("real"), WASM).unwrap();
    symlink("/real", root.path().join("app.wasm")).unwrap();

    assert_eq!(look(&root, "/app.wasm").unwrap(), WASM);
}

#[test]
fn a_link_out_of_the_root_stays_inside() {
    let (root, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(outside.path().join("secret.wasm"), WASM).unwrap();
    symlink(outside.path().join("secret.wasm"), root.path().join("app.wasm")).unwrap();

    assert_eq!(look(&root, "/app.wasm"), Err("not in the root file system"));
}

#[test]
fn dots_stay_inside_the_root() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("inner")).unwrap();
    fs::write(root.path().join("a.wasm"), WASM).unwrap();
    let inner = wasm_in_rootfs(&root.path().join("inner"), Path::new("/../../a.wasm")).unwrap();

    assert_eq!(inner.unwrap_err(), "not in the root file system");
}

#[test]
fn a_file_that_is_not_wasm_is_named_so() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("sh"), "#!/bin/sh").unwrap();
    fs::write(root.path().join("short"), "\0a").unwrap();

    assert_eq!(look(&root, "/sh"), Err("not a wasm binary"));
    assert_eq!(look(&root, "/short"), Err("not a wasm binary"));
}

#[test]
fn a_directory_or_fifo_is_not_a_file() {
    let root = TempDir::new().unwrap();
    let fifo = root.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();

    assert_eq!(look(&root, "/fifo"), Err("not a file"));
    assert_eq!(look(&root, "/"), Err("not a file"));
}

#[test]
fn a_root_that_is_not_there_is_an_error() {
    let error = wasm_in_rootfs(Path::new("/nonexistent"), Path::new("/a.wasm")).unwrap_err();

    assert!(matches!(error, ArtifactError::Root { .. }), "{error}");
}
