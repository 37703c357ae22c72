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
fn an_instance_that_is_kept_keeps_what_it_has() {
    require_kvm!();
    let answers = ten_visits("none");
    assert_eq!(answers[0], "0 ");
    assert_eq!(answers[2], "2 secret-0,secret-1,secret-1");
    assert_eq!(answers.len(), 10);
}
