//! What a small request costs in VM exits: what a micro-VM has and a process has not.

use integration::{programs, require_kvm};
use rustix::process::Signal;

use crate::server::{Server, curl};

const TIMES: u64 = 100;

/// VM exits by host calls of so many requests to `url`, made over one connection, and of starting and ending.
fn total(isolation: &str, arguments: &[&str], times: u64) -> u64 {
    let options = ["--stats", "--isolation", isolation, "--max-concurrency", "1"];
    let mut server = Server::start(&programs::handler("bare").unwrap(), &options);
    let url = server.url("/");
    let mut urls = vec![url.as_str(); usize::try_from(times).unwrap()];
    urls.extend(arguments);
    assert_eq!(curl(&urls), "bare".repeat(urls.len() - arguments.len()));
    server.signal(Signal::TERM);
    let line = server.says("VM exits    ");
    assert!(server.wait().success());
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

/// VM exits of one request, without what starting and ending take.
fn each(isolation: &str, arguments: &[&str]) -> u64 {
    let (once, twice) =
        (total(isolation, arguments, TIMES), total(isolation, arguments, 2 * TIMES));
    let both = twice - once;
    assert_eq!(both % TIMES, 0, "{isolation}: not the same for each: {once}, {twice}");
    both / TIMES
}

#[test]
fn a_small_request_is_an_answer_and_an_end() {
    require_kvm!();
    // The request comes with the boot information, and head, body and end of the response go in one call. The
    // end of the call is where the micro-VM waits for the next one. A new instance has the memory of the last one.
    for isolation in ["request", "instance", "none"] {
        assert_eq!(each(isolation, &[]), 2, "{isolation}");
        // A small body comes with the request.
        assert_eq!(each(isolation, &["--data", "a small body"]), 2, "{isolation}");
    }
}
