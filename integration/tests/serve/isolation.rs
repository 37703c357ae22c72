//! What one request leaves to the next.

use integration::{programs, require_kvm};

use crate::server::{Server, curl};

/// What ten requests with a secret each are answered: how many came before, and what was kept of them.
fn ten_visits(isolation: &str) -> Vec<String> {
    let options = ["--isolation", isolation, "--max-concurrency", "1"];
    let server = Server::start(&programs::handler("answers").unwrap(), &options);
    let visit = |n: u32| curl(&["-d", &format!("secret-{n}"), &server.url("/secret")]);
    (0..10).map(visit).collect()
}

#[test]
fn no_request_finds_anything_of_another() {
    require_kvm!();
    assert_eq!(ten_visits("request"), ["0 "; 10]);
}

#[test]
fn a_new_instance_has_nothing_of_the_one_before() {
    require_kvm!();
    assert_eq!(ten_visits("instance"), ["0 "; 10]);
}

#[test]
fn an_instance_is_kept_only_where_that_is_wanted() {
    require_kvm!();
    for (isolation, visits) in [("request", "1 1 1 "), ("instance", "1 1 1 "), ("none", "1 2 3 ")] {
        let options = ["--isolation", isolation, "--max-concurrency", "1"];
        let server = Server::start(&programs::handler("sums").unwrap(), &options);
        let told = ["-o", "/dev/null", "-w", "%header{x-visits} ", &server.url("/")];
        let all: String = (0..3).map(|_| curl(&told)).collect();
        assert_eq!(all, visits, "{isolation}");
    }
}
