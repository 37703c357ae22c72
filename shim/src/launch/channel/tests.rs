use std::fs::File;
use std::io::{Read, Seek};
use std::net::Shutdown;

use super::*;

fn pair() -> (tokio::net::UnixStream, Orders) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (tokio::net::UnixStream::from_std(ours).unwrap(), Orders::new(theirs))
}

fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn workload(arg: &str) -> Box<Workload> {
    Box::new(
        serde_json::from_value(serde_json::json!({
            "program_name": "app.wasm", "args": [arg], "env": [],
            "preopens": [], "memory": 1 << 20,
        }))
        .unwrap(),
    )
}

fn text(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn orders_arrive_one_by_one_and_descriptors_with_the_one_they_belong_to() {
    let (mut shim, mut vmm) = pair();
    let files = ["program", "snapshot", "image", "account", "in", "out", "err"]
        .map(|text| OwnedFd::from(file_with(text)));
    let [program, snapshot, image, account, stdin, stdout, stderr] = files;
    let handed = Handed { program, snapshot, image, account, stdio: [stdin, stdout, stderr] };

    send(&mut shim, &Order::Confine(Box::default()), &[]).await.unwrap();
    send(&mut shim, &Order::Run(workload("a")), &handed.borrowed()).await.unwrap();
    send(&mut shim, &Order::Start, &[]).await.unwrap();
    drop(shim);

    assert!(matches!(vmm.next().unwrap(), Some(Order::Confine(_))));
    let Some(Order::Run(told)) = vmm.next().unwrap() else { panic!("no work") };
    assert_eq!(told, workload("a"));
    let handed = vmm.descriptors().unwrap();
    assert_eq!(text(handed.program), "program");
    assert_eq!(text(handed.snapshot), "snapshot");
    assert_eq!(text(handed.image), "image");
    assert_eq!(text(handed.account), "account");
    assert_eq!(handed.stdio.map(text), ["in", "out", "err"]);
    assert!(matches!(vmm.next().unwrap(), Some(Order::Start)));
    assert!(vmm.next().unwrap().is_none(), "the shim is gone");
}

#[tokio::test]
async fn an_order_larger_than_the_sockets_buffer_arrives_whole() {
    let (mut shim, mut vmm) = pair();
    let large = "x".repeat(3 << 20);
    let expected = workload(&large);
    let reader = std::thread::spawn(move || vmm.next().unwrap());

    send(&mut shim, &Order::Run(workload(&large)), &[]).await.unwrap();

    let Some(Order::Run(told)) = reader.join().unwrap() else { panic!("no work") };
    assert!(told == expected, "the workload differs");
}

#[tokio::test]
async fn work_without_its_descriptors_is_refused() {
    let (mut shim, mut vmm) = pair();
    send(&mut shim, &Order::Run(workload("a")), &[]).await.unwrap();

    vmm.next().unwrap();

    assert!(vmm.descriptors().is_err());
}

#[tokio::test]
async fn a_report_is_read_back() {
    for sent in [
        Report::Ready(Cost { confine: 1, join: 2, lock: 5, boot: 3, cpu: 4 }),
        Report::Error("two\nlines".to_owned()),
    ] {
        let (mut shim, mut vmm) = pair();
        vmm.report(&sent).unwrap();

        assert_eq!(report(&mut shim).await.unwrap(), Some(sent));
    }
}

#[tokio::test]
async fn what_is_no_report_is_an_error_and_silence_is_none() {
    for line in ["ready\n", "{}", "\"set\"\n", "{\"error\":1}\n", "{\"error\":"] {
        let (mut shim, vmm) = pair();
        (&vmm.socket).write_all(line.as_bytes()).unwrap();
        vmm.socket.shutdown(Shutdown::Write).unwrap();

        let error = report(&mut shim).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{line:?}: {error}");
    }
    let (mut shim, vmm) = pair();
    drop(vmm);
    assert_eq!(report(&mut shim).await.unwrap(), None);
}
