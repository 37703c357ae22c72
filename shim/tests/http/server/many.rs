//! Many connections.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use shim::http::server::{Limits, raise_descriptor_limit};

use super::Server;

/// Both ends of each are in this process, which may often have no more than 20000 descriptors.
const CONNECTIONS: usize = 9_500;

/// Most bytes that a connection which is idle may cost the process. Its buffer is the largest part.
const BYTES_PER_CONNECTION_MAX: usize = 32 << 10;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = statm.split(' ').nth(1).expect("a field").parse().expect("a number");
    pages * rustix::param::page_size()
}

#[test]
fn thousands_of_idle_connections_are_no_burden() {
    raise_descriptor_limit();
    let needed = 2 * CONNECTIONS as u64 + 500;
    if getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < needed) {
        println!("skipped: the limit of open files is below {needed}");
        return;
    }
    // The first is idle while the others are made.
    let limits = Limits { idle_timeout: Duration::from_secs(3600), ..Limits::default() };
    let server = Server::with(limits, |mut given| given.respond(200, &[], "ok"));
    let before = resident_bytes();
    let mut clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = crate::raw::Raw {
                // A small buffer: what is measured is the server's.
                stream: std::io::BufReader::with_capacity(
                    256,
                    std::net::TcpStream::connect(server.addr).expect("connect"),
                ),
            };
            assert_eq!(client.get("/").status, 200);
            client
        })
        .collect();
    let bytes = resident_bytes().saturating_sub(before) / CONNECTIONS;
    println!("{bytes} bytes for each of {CONNECTIONS} idle connections");
    assert!(bytes < BYTES_PER_CONNECTION_MAX, "{bytes} bytes each");
    for client in clients.iter_mut().step_by(1000) {
        assert_eq!(client.get("/").status, 200, "it is still there");
    }
    assert_eq!(server.connect().get("/").status, 200);
}
