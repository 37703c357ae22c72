//! Lookups against a name server of the test's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tempfile::TempDir;

use super::*;

/// What the server knows: names in lower case with the dot at their end. `None` fails (SERVFAIL), the empty
/// list has no address, and a name that is not there does not exist.
type Zone = BTreeMap<&'static str, Option<Vec<&'static str>>>;

/// A name server on loopback, and the root of a program that asks it.
struct Server {
    resolver: Arc<Resolver>,
    root: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// One that answers from `zone`, or never for names that begin with `silent`.
    fn start(zone: Zone, resolv_conf: &str, hosts: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let resolv_conf = format!("nameserver 127.0.0.1\n{resolv_conf}\n");
        std::fs::write(root.path().join("etc/resolv.conf"), resolv_conf).unwrap();
        std::fs::write(root.path().join("etc/hosts"), hosts).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (asked, over) = (Arc::clone(&asked), Arc::clone(&over));
            move || {
                socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                while !over.load(Ordering::Relaxed) {
                    serve_one(&socket, &zone, &asked);
                }
            }
        });
        let resolver = Arc::new(Resolver::with_port(root.path().to_owned(), port));
        Self { resolver, root, asked, over, thread: Some(thread) }
    }

    fn find(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(self.resolver.lookup(name))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// The names that were asked for, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.dedup();
        asked
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok());
        }
    }
}

fn serve_one(socket: &UdpSocket, zone: &Zone, asked: &Mutex<Vec<String>>) {
    let mut buffer = [0; 4096];
    let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
    let query = Message::from_vec(&buffer[..len]).unwrap();
    let question = query.queries[0].clone();
    let name = question.name().to_lowercase().to_string();
    asked.lock().unwrap().push(name.clone());
    if name.starts_with("silent") {
        return;
    }
    let mut answer = Message::response(query.id, OpCode::Query);
    answer.add_query(question.clone());
    match zone.get(name.as_str()) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(None) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Some(addresses)) => {
            for address in addresses {
                let data = RData::from(address.parse::<IpAddr>().unwrap());
                if data.record_type() == question.query_type() {
                    answer.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                }
            }
        }
    }
    assert!(matches!(question.query_type(), RecordType::A | RecordType::AAAA));
    socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
}

fn zone() -> Zone {
    BTreeMap::from([
        ("both.test.", Some(vec!["::1", "127.0.0.1"])),
        ("four.test.", Some(vec!["127.0.0.4", "127.0.0.5"])),
        ("six.test.", Some(vec!["::1"])),
        ("nothing.test.", Some(vec![])),
        ("broken.test.", None),
        ("db.ns.svc.cluster.local.", Some(vec!["127.0.0.6"])),
        ("db.other.test.", Some(vec!["127.0.0.7"])),
        ("db.", Some(vec!["127.0.0.8"])),
        ("broken.other.test.", Some(vec!["127.0.0.9"])),
    ])
}

#[test]
fn a_name_has_its_addresses_of_both_families() {
    let server = Server::start(zone(), "", "");
    assert_eq!(server.find("both.test").unwrap(), ["127.0.0.1", "::1"]);
    assert_eq!(server.find("four.test.").unwrap(), ["127.0.0.4", "127.0.0.5"]);
    assert_eq!(server.find("SIX.test").unwrap(), ["::1"]);
}

#[test]
fn what_does_not_exist_or_has_no_address_is_not_found() {
    let server = Server::start(zone(), "", "");
    for name in ["missing.test", "nothing.test", "-.test", "a..b", "invalid"] {
        assert_eq!(server.find(name), Err(LookupError::NotFound), "{name}");
    }
}

#[test]
fn a_server_that_fails_is_told_from_a_name_that_is_missing() {
    let server = Server::start(zone(), "", "");
    assert_eq!(server.find("broken.test"), Err(LookupError::ServerFailed));
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_without_end() {
    let server = Server::start(zone(), "search other.test\noptions timeout:1 attempts:1", "");
    assert_eq!(server.find("silent.test"), Err(LookupError::TimedOut));
    assert_eq!(server.asked(), ["silent.test."], "and no other name is tried");
}

#[test]
fn where_there_is_no_server_nobody_answers() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/resolv.conf"), "options timeout:1 attempts:1\n").unwrap();
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let resolver = Arc::new(Resolver::with_port(root.path().to_owned(), unused));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(resolver.lookup("four.test"));
    assert_eq!(found, Err(LookupError::TimedOut));
}

#[test]
fn a_short_name_is_searched_for_in_the_domains_in_order() {
    let search = "search ns.svc.cluster.local other.test\noptions ndots:5";
    let server = Server::start(zone(), search, "");
    assert_eq!(server.find("db").unwrap(), ["127.0.0.6"]);
    assert_eq!(server.asked(), ["db.ns.svc.cluster.local."]);
    assert_eq!(server.find("four.test").unwrap(), ["127.0.0.4", "127.0.0.5"]);
    let asked = server.asked();
    let tried = ["four.test.ns.svc.cluster.local.", "four.test.other.test.", "four.test."];
    assert!(tried.iter().all(|name| asked.iter().any(|asked| asked == name)), "{asked:?}");
}

#[test]
fn a_name_with_enough_dots_is_tried_as_it_is_first() {
    let server = Server::start(zone(), "search other.test", "");
    assert_eq!(server.find("four.test").unwrap(), ["127.0.0.4", "127.0.0.5"]);
    assert_eq!(server.asked(), ["four.test."]);
}

#[test]
fn a_name_with_a_dot_at_its_end_is_not_searched_for() {
    let server = Server::start(zone(), "search other.test\noptions ndots:5", "");
    assert_eq!(server.find("db.").unwrap(), ["127.0.0.8"]);
    assert_eq!(server.asked(), ["db."]);
}

#[test]
fn a_failure_on_the_way_is_told_unless_another_domain_has_the_name() {
    let server = Server::start(zone(), "search test other.test", "");
    assert_eq!(server.find("broken").unwrap(), ["127.0.0.9"]);
    let server = Server::start(zone(), "search test", "");
    assert_eq!(server.find("broken"), Err(LookupError::ServerFailed));
}

#[test]
fn hosts_go_before_the_dns_and_are_read_each_time() {
    let server = Server::start(zone(), "", "127.0.0.20 four.test alias");
    assert_eq!(server.find("four.test").unwrap(), ["127.0.0.20"]);
    assert_eq!(server.find("alias").unwrap(), ["127.0.0.20"]);
    assert_eq!(server.asked(), <[String; 0]>::default());
    std::fs::write(server.root.path().join("etc/hosts"), "127.0.0.21 alias").unwrap();
    assert_eq!(server.find("alias").unwrap(), ["127.0.0.21"]);
    assert_eq!(server.find("four.test").unwrap(), ["127.0.0.4", "127.0.0.5"]);
}

#[test]
fn a_changed_resolv_conf_counts() {
    let server = Server::start(zone(), "", "");
    assert_eq!(server.find("db").unwrap(), ["127.0.0.8"]);
    let changed = "nameserver 127.0.0.1\nsearch other.test\n";
    std::fs::write(server.root.path().join("etc/resolv.conf"), changed).unwrap();
    assert_eq!(server.find("db").unwrap(), ["127.0.0.7"]);
}

#[test]
fn answers_are_kept_for_as_long_as_they_live() {
    let server = Server::start(zone(), "", "");
    assert_eq!(server.find("both.test").unwrap().len(), 2);
    let asked = || server.asked.lock().unwrap().len();
    // Once for each family, or more often where the answer takes its time.
    let once = asked();
    assert!(once >= 2);
    for _ in 0..3 {
        assert_eq!(server.find("both.test").unwrap().len(), 2);
    }
    assert_eq!(asked(), once);
}

#[test]
fn nobody_is_asked_for_localhost_and_addresses() {
    let server = Server::start(zone(), "search test", "127.0.0.99 localhost");
    let mut found = server.find("localhost").unwrap();
    found.sort();
    assert_eq!(found, ["127.0.0.1", "::1"]);
    assert!(server.find("App.LocalHost.").unwrap().contains(&"127.0.0.1".to_owned()));
    assert_eq!(server.find("192.0.2.1").unwrap(), ["192.0.2.1"]);
    assert_eq!(server.find("2001:db8::1").unwrap(), ["2001:db8::1"]);
    assert_eq!(server.asked(), <[String; 0]>::default());
}

#[test]
fn addresses_of_ipv6_can_be_left_out() {
    let server = Server::start(zone(), "options no-aaaa", "");
    assert_eq!(server.find("both.test").unwrap(), ["127.0.0.1"]);
    assert_eq!(server.find("six.test"), Err(LookupError::NotFound));
}

#[test]
fn addresses_without_a_way_come_last() {
    // No socket for datagrams may connect to all hosts at once.
    let found = best_first(vec!["255.255.255.255".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
    assert_eq!(found[0].to_string(), "127.0.0.1");
}

#[test]
fn many_names_are_looked_up_though_few_at_a_time() {
    let server = Server::start(zone(), "", "");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let resolver = Arc::clone(&server.resolver);
            all.spawn(async move { resolver.lookup("four.test").await });
        }
        while let Some(found) = all.join_next().await {
            assert_eq!(found.unwrap().unwrap().len(), 2);
        }
    });
}

#[test]
fn nothing_runs_before_the_first_lookup_and_the_thread_ends_with_the_resolver() {
    let resolver = Arc::new(Resolver::new("/nonexistent".into()));
    assert!(resolver.running.get().is_none());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(resolver.lookup("127.0.0.1")).is_ok());
    let handle = resolver.handle().unwrap().clone();
    drop(resolver);
    // A runtime that is over cancels what it is given.
    let is_over = || {
        let task = handle.spawn(std::future::ready(()));
        runtime.block_on(task).is_err()
    };
    while !is_over() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_guest_that_looks_up_is_answered() {
    use abi::{Handle, Request, SocketAddress};
    use vmm::host::{Host, Policy, Stdio};
    let server = Server::start(zone(), "", "");
    let resolver = Arc::clone(&server.resolver);
    let look_up = Arc::new(move |request| resolver.answer(request));
    let mut host = Host::new(Stdio::inherit().unwrap()).unwrap();
    host.grant_network(vmm::host::Network::new(Arc::new(Policy::everything()), look_up));
    let mut reply = [0; 1024];
    let answer = host.call(Request::Resolve { name: b"four.test" }, &mut reply).unwrap();
    let handle = Handle(answer.value.try_into().unwrap());
    let read = Request::Read { handle, offset: 0, len: 1024, wait: true };
    let answer = host.call(read, &mut reply).unwrap();
    let mut ip = [0; 16];
    ip[..4].copy_from_slice(&[127, 0, 0, 4]);
    let first = SocketAddress::new(abi::Family::V4, ip, 0);
    assert_eq!(answer.data_bytes, 2 * size_of::<SocketAddress>());
    assert_eq!((&reply[..2], &reply[12..28]), (&first.family[..], &first.ip[..]));
}
