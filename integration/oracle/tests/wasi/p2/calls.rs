use super::*;
use super::super::p1::seeing;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), "hello").unwrap();
    for wasi in [Wasi::Ours, Wasi::Theirs] {
        let mut p = P2::start(wasi, &seeing(dir.path()));
        let r = p.call("preopens/get-directories", &[]);
        println!("{wasi:?} {r:?} {:?}", p.session.calls());
        let r = p.call("types/descriptor.stat-at", &[Val::U32(2), Val::Flags(vec![]), Val::String("x".into())]);
        println!("{wasi:?} {r:?} {:?}", p.session.calls());
    }
}
