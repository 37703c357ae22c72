//! What a client gets.

use integration::scratch::Scratch;
use integration::{process, programs, require_kvm, tools};
use rustix::process::Signal;

use crate::server::{Server, curl, curl_command};

fn answers(options: &[&str]) -> Server {
    Server::start(&programs::handler("answers").unwrap(), options)
}

#[test]
fn a_handler_in_javascript_answers_and_ends_with_0() {
    require_kvm!();
    let mut server = answers(&[]);
    let url = server.url("/method");
    assert_eq!(curl(&["-X", "PUT", "-H", "x-name: value", &url]), "PUT value");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url("/none")]), "404");
    let status = server.url("/status?code=418");
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &status]), "418");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn bodies_of_any_size_go_both_ways() {
    require_kvm!();
    let server = answers(&[]);
    let dir = Scratch::new().unwrap();
    let (sent, got) = (dir.join("sent"), dir.join("got"));
    for bytes in [0, 1, 65_536, 3 << 20] {
        let body: Vec<u8> = (0..bytes).map(|i: u32| i.to_le_bytes()[0]).collect();
        std::fs::write(&sent, &body).unwrap();
        let data = format!("@{}", sent.display());
        let arguments = ["--data-binary", &data, "-o", got.to_str().unwrap(), &server.url("/echo")];
        curl(&arguments);
        assert!(std::fs::read(&got).unwrap() == body, "{bytes} bytes came back changed");
    }
    let large = curl(&[&server.url("/large?bytes=1000000")]);
    assert!(large.len() == 1_000_000 && large.bytes().all(|byte| byte == b'x'));
}

#[test]
fn http_2_without_tls_is_served_on_the_same_port() {
    require_kvm!();
    let server = answers(&[]);
    let version = ["--http2-prior-knowledge", "-w", " %{http_version}", &server.url("/method")];
    assert_eq!(curl(&version), "GET  2");
}

/// What a browser does: one connection without pushes, and all requests of a page at once, some with bodies, one
/// given up. Tells how many had the response that they should.
const BROWSER: &str = "
import http2 from 'node:http2';
const [url] = process.argv.slice(1);
const session = http2.connect(url, {
    settings: { enablePush: false, initialWindowSize: 6291456, headerTableSize: 65536 },
});
session.on('error', (error) => { throw error; });
const given_up = session.request({ ':path': '/wait?ms=60000' });
given_up.on('error', () => {});
setTimeout(() => given_up.close(http2.constants.NGHTTP2_CANCEL), 50);
const ask = (headers, body) => new Promise((done, failed) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let status, text = '';
    stream.setEncoding('utf8');
    stream.on('response', (fields) => { status = fields[':status']; });
    stream.on('data', (piece) => { text += piece; });
    stream.on('end', () => done(`${status} ${text}`));
    stream.on('error', failed);
    if (body !== undefined) stream.end(body);
});
const wanted = [], asked = [];
for (let n = 0; n < 200; n++) {
    const [headers, body, answer] = [
        [{ ':path': '/method', 'x-name': `page ${n}` }, undefined, `200 GET page ${n}`],
        [{ ':path': '/echo', ':method': 'POST' }, 'x'.repeat(n * 500), `200 ${'x'.repeat(n * 500)}`],
        [{ ':path': '/large?bytes=100000' }, undefined, `200 ${'x'.repeat(100000)}`],
        [{ ':path': '/status?code=404' }, undefined, '404 '],
    ][n % 4];
    wanted.push(answer);
    asked.push(ask(headers, body));
}
const got = await Promise.all(asked);
session.close();
console.log(got.filter((answer, n) => answer === wanted[n]).length);
";

#[test]
fn all_requests_of_a_page_share_a_connection() {
    require_kvm!();
    let server = answers(&["--max-concurrency", "8"]);
    let mut node = tools::tree("wasm-js").unwrap().script("node").unwrap();
    node.args(["--input-type=module", "--eval", BROWSER, "--", &server.url("/")]);
    assert_eq!(process::run(&mut node).unwrap().success().unwrap(), "200\n");
}

#[test]
fn a_handler_that_fails_is_a_500_and_harms_nobody() {
    require_kvm!();
    let server = answers(&[]);
    let code = |path: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url(path)]);
    for _ in 0..3 {
        assert_eq!(code("/fail"), "500");
        assert_eq!(code("/method"), "200");
    }
}

#[test]
fn a_handler_that_takes_too_long_is_ended() {
    require_kvm!();
    let server = answers(&["--request-timeout", "2s", "--max-concurrency", "1"]);
    let code = |path: &str| curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url(path)]);
    assert_eq!(code("/spin"), "504");
    // By the only micro-VM there may be.
    assert_eq!(code("/method"), "200");
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    require_kvm!();
    let mut server = answers(&[]);
    let waiting = process::start(&mut curl_command(&[&server.url("/wait?ms=2000")])).unwrap();
    server.is_asked();
    server.signal(Signal::TERM);
    let outcome = process::finish(waiting).unwrap();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "waited"), "{outcome:?}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn killing_the_server_gives_clients_a_connection_error() {
    require_kvm!();
    let mut server = answers(&[]);
    let waiting = process::start(&mut curl_command(&[&server.url("/spin")])).unwrap();
    server.is_asked();
    server.signal(Signal::KILL);
    server.wait();
    let outcome = process::finish(waiting).unwrap();
    // CURLE_GOT_NOTHING, CURLE_RECV_ERROR
    assert!([52, 56].contains(&outcome.code()), "{outcome:?}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    require_kvm!();
    let server = answers(&[]);
    let mut command = std::process::Command::new(integration::binaries().join("hyperlight"));
    let wasm = programs::handler("answers").unwrap();
    let outcome = process::run(command.args(["serve", "--addr", &server.addr]).arg(wasm)).unwrap();
    assert_eq!(outcome.code(), 125, "{outcome:?}");
    let said = format!("listen on {}", server.addr);
    assert!(outcome.stderr.contains(&said) && outcome.stderr.contains("--addr"), "{outcome:?}");
}

#[test]
fn a_command_is_told_that_it_cannot_be_served() {
    let wasm = programs::program("hello").unwrap();
    let mut command = std::process::Command::new(integration::binaries().join("hyperlight"));
    let outcome = process::run(command.arg("serve").arg(wasm)).unwrap();
    assert_eq!(outcome.code(), 126, "{outcome:?}");
    assert!(outcome.stderr.contains("hyperlight run"), "{outcome:?}");
}
