//! What the process does with what a shim says; the streams that it is handed are those of the test.

use rustix::io::dup;
use rustix::stdio::{stderr, stdin, stdout};

use super::*;
use crate::launch::Confinement;
use crate::launch::channel::{Handed, report, send};

fn workload() -> Box<Workload> {
    Box::new(
        serde_json::from_value(serde_json::json!({
            "program_name": "app.wasm", "args": ["app.wasm"], "env": [],
            "preopens": [], "memory": 64 << 20,
        }))
        .unwrap(),
    )
}

/// What the process returns and reports for `orders`; work comes with `program` and streams.
async fn served(orders: Vec<Order>, program: &[u8]) -> (Result<u8, ChildError>, Option<Report>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut shim = tokio::net::UnixStream::from_std(ours).unwrap();
    let process = std::thread::spawn(move || serve(Orders::new(theirs), None, Standing::run));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(program).unwrap();
    let stdio = [dup(stdin()).unwrap(), dup(stdout()).unwrap(), dup(stderr()).unwrap()];
    let handed = Handed {
        program: file.into(),
        snapshot: File::open("/dev/null").unwrap().into(),
        image: File::open("/dev/null").unwrap().into(),
        account: File::options().write(true).open("/dev/null").unwrap().into(),
        stdio,
    };
    for order in orders {
        let descriptors = handed.borrowed();
        let descriptors = if matches!(order, Order::Run(_)) { &descriptors[..] } else { &[] };
        send(&mut shim, &order, descriptors).await.unwrap();
    }
    rustix::net::shutdown(&shim, rustix::net::Shutdown::Write).unwrap();
    let report = report(&mut shim).await.unwrap();
    (process.join().unwrap(), report)
}

fn error(report: Option<Report>) -> String {
    let Some(Report::Error(message)) = report else { panic!("{report:?}") };
    message
}

#[tokio::test]
async fn a_shim_that_goes_away_ends_the_process() {
    let (ended, report) = served(Vec::new(), b"").await;
    assert_eq!((ended.unwrap(), report), (STATUS_ERROR, None));
}

/// Whether the address of a shim that is gone is still there when the process ends that was told `orders`.
fn stays(orders: &[Order]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (mut shim, theirs) = UnixStream::pair().unwrap();
    for order in orders {
        serde_json::to_writer(&shim, order).unwrap();
        shim.write_all(b"\n").unwrap();
    }
    drop(shim);
    let ended = serve(Orders::new(theirs), Some(&socket), Standing::run);
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    socket.exists()
}

#[test]
fn the_address_of_a_shim_that_has_said_nothing_is_removed() {
    assert!(!stays(&[]));
    assert!(stays(&[Order::Join(Vec::new())]));
}

#[tokio::test]
async fn a_start_without_work_is_reported() {
    let (ended, report) = served(vec![Order::Start], b"").await;
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    assert!(error(report).contains("out of turn"));
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_reported_by_its_path() {
    use crate::bundle::{Namespace, Namespaces};
    let network = Some(Namespace::Join("/nonexistent/netns".into()));
    let namespaces = Namespaces { network, ..Namespaces::default() };
    let confinement = Confinement { namespaces, ..Confinement::default() };
    let (ended, report) = served(vec![Order::Confine(Box::new(confinement))], b"").await;
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    assert!(error(report).starts_with("enter network namespace /nonexistent/netns: "));
}

#[tokio::test]
async fn work_for_a_process_that_is_not_confined_is_refused() {
    let (ended, report) = served(vec![Order::Run(workload())], b"").await;
    assert_eq!(ended.unwrap(), STATUS_ERROR);
    assert!(error(report).contains("out of turn"));
}
