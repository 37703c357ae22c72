use super::*;

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "hello").unwrap();
    for wasi in [Wasi::Ours, Wasi::Theirs] {
        let mut p = P1::start(wasi, dir.path());
        let r = p.call_with(&[(PATH, b"x")], "path_open", &[3, 0, PATH.into(), 1, 0, 0x42, 0, 0, RESULT.into()], (RESULT, 4));
        println!("{wasi:?} {r:?} {:?}", p.0.calls());
        println!("{:?}", p.errno("fd_close", &[9]));
        println!("{:?}", p.call("fd_filestat_get", &[4, 1]));
    }
}
