//! Handlers that do what they must not: what the client gets, what whoever runs them is told, and that the
//! next request finds nothing of it.

use std::path::Path;
use std::process::Command;

use integration::process::{self, Outcome};
use integration::{programs, require_kvm};

use crate::server::{Server, curl, curl_command};

/// What curl exits with when a response breaks off: `CURLE_PARTIAL_FILE`, and where that came before what was
/// written had left the server, `CURLE_GOT_NOTHING` and `CURLE_RECV_ERROR`; for HTTP/2, `CURLE_HTTP2_STREAM`.
const BROKEN_OFF: [i32; 4] = [18, 52, 56, 92];

/// The handler in C, in one micro-VM that handles all requests.
fn bare(options: &[&str]) -> Server {
    let options = [&["--max-concurrency", "1"], options].concat();
    Server::start(&programs::handler("bare").unwrap(), &options)
}

/// curl, which prints status and length after the body.
fn asked(server: &Server, options: &[&str], path: &str) -> Outcome {
    let mut command: Command = curl_command(options);
    process::run(command.args(["-w", " %{http_code}", &server.url(path)])).unwrap()
}

/// What a client prints that asks for `path`, and how it ends; the next request is answered as ever.
fn get(server: &Server, path: &str) -> (String, i32) {
    let outcome = asked(server, &[], path);
    assert_eq!(curl(&[&server.url("/")]), "bare", "after {path}");
    (outcome.stdout.clone(), outcome.code())
}

fn an_error(outcome: (String, i32)) {
    assert_eq!(outcome, (" 500".to_owned(), 0));
}

/// A response of which the client has had a part, perhaps none, and knows that it is not whole.
fn is_broken_off((said, code): (String, i32), body: &str) {
    let (part, _) = said.rsplit_once(' ').unwrap();
    assert!(BROKEN_OFF.contains(&code) && body.starts_with(part), "{said:?}, {code}");
}

#[test]
fn a_handler_that_never_answers_is_a_500() {
    require_kvm!();
    for isolation in ["request", "instance", "none"] {
        let server = bare(&["--isolation", isolation]);
        for path in ["/never", "/drop", "/never"] {
            an_error(get(&server, path));
        }
    }
}

#[test]
fn a_handler_that_traps_is_an_empty_500_and_says_why_on_standard_error() {
    require_kvm!();
    for isolation in ["request", "instance", "none"] {
        let server = bare(&["--isolation", isolation]);
        for _ in 0..2 {
            an_error(get(&server, "/trap"));
            server.says("wasm `unreachable` instruction executed");
            server.says("exports_wasi_http_incoming_handler_handle");
        }
    }
}

#[test]
fn a_handler_that_answers_twice_traps() {
    require_kvm!();
    let server = bare(&[]);
    an_error(get(&server, "/twice"));
    server.says("handle index");
}

#[test]
fn a_handler_may_answer_with_an_error() {
    require_kvm!();
    let server = bare(&[]);
    let (said, code) = get(&server, "/error");
    assert_eq!((said.as_str(), code), ("who is behind the program failed\n 502", 0));
}

#[test]
fn a_response_whose_handler_traps_midway_is_never_whole() {
    require_kvm!();
    for isolation in ["request", "none"] {
        let server = bare(&["--isolation", isolation]);
        is_broken_off(get(&server, "/trap-midway"), "begun");
        server.says("wasm `unreachable` instruction executed");
        let http_2 = asked(&server, &["--http2-prior-knowledge"], "/trap-midway");
        let code = http_2.code();
        is_broken_off((http_2.stdout, code), "begun");
    }
}

#[test]
fn a_response_whose_handler_takes_too_long_midway_is_never_whole() {
    require_kvm!();
    let server = bare(&["--request-timeout", "2s"]);
    is_broken_off(get(&server, "/spin-midway"), "begun");
}

#[test]
fn a_body_that_is_dropped_is_never_whole() {
    require_kvm!();
    let server = bare(&[]);
    is_broken_off(get(&server, "/dropped-body"), "begun");
}

#[test]
fn a_body_that_is_left_ends_with_its_handler() {
    require_kvm!();
    let server = bare(&[]);
    assert_eq!(get(&server, "/unfinished"), ("begun 200".to_owned(), 0));
}

#[test]
fn a_trap_after_the_end_of_a_response_is_no_matter_to_the_client() {
    require_kvm!();
    let server = bare(&[]);
    for (path, why) in [
        ("/trap-at-end", "wasm `unreachable` instruction executed"),
        ("/write-after-finish", "unknown handle index"),
    ] {
        assert_eq!(get(&server, path), ("whole 200".to_owned(), 0));
        server.says(why);
    }
}

#[test]
fn a_body_is_not_finished_while_it_is_written() {
    require_kvm!();
    let server = bare(&[]);
    is_broken_off(get(&server, "/finish-with-stream"), "begun");
    server.says("resource has children");
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    require_kvm!();
    let server = bare(&[]);
    for (path, said) in [
        ("/too-short", "written 1, finished HTTP-response-body-size"),
        ("/too-long", "written 0, finished HTTP-response-body-size"),
    ] {
        let (printed, _) = get(&server, path);
        assert_eq!(printed, "the program failed\n 500", "{path}");
        server.says(said);
    }
}

#[test]
fn malformed_fields_reach_no_message() {
    require_kvm!();
    let server = bare(&[]);
    let all = curl(&["-i", &server.url("/malformed-fields")]);
    let (head, said) = all.split_once("\r\n\r\n").unwrap();
    let wanted = [["invalid-syntax"; 12].as_slice(), &["forbidden"; 4], &["ok"]].concat();
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    // Beside the server's own, there is only the last one.
    let names = head.lines().skip(1).map(|line| line.split_once(':').unwrap().0);
    let own = ["content-length", "date", "transfer-encoding"];
    let given: Vec<_> = names.filter(|name| !own.contains(name)).collect();
    assert_eq!(given, ["x-bytes"], "{head}");
}

#[test]
fn more_fields_than_a_head_holds_end_the_handler() {
    require_kvm!();
    let server = bare(&[]);
    for path in ["/large-field", "/many-fields"] {
        an_error(get(&server, path));
        server.says("fields larger than a head can be");
    }
    let (printed, _) = get(&server, "/large-trailers");
    assert_eq!(printed, " 500");
    server.says("fields larger than a head can be");
}

#[test]
fn trailers_cannot_say_what_only_a_head_says() {
    require_kvm!();
    let server = bare(&[]);
    is_broken_off(get(&server, "/length-in-trailers"), "body");
    server.says("finished internal-error");
}

#[test]
fn a_handler_without_the_function_of_its_interface_is_a_500() {
    require_kvm!();
    let wasm = programs::handler("no_parameters").unwrap();
    let server = Server::start(Path::new(&wasm), &[]);
    for _ in 0..2 {
        an_error({
            let outcome = asked(&server, &[], "/");
            (outcome.stdout.clone(), outcome.code())
        });
        server.says("program cannot run: ");
    }
}
