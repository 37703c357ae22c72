//! What a guest that was taken over can leave to the next request: served as any component is, but by a guest
//! of machine code that knows no wasm and no linear memory, and writes wherever ring 3 can.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;

use abi::http::ResponseHead;
use abi::layout::{self, PAGE};
use abi::{Access, Handle, Request};

use super::pool::Pool;
use super::server::{self, Limits};
use super::serving::{Isolation, Serving};
use crate::microvm::Source;
use crate::require_kvm;
use crate::workload::Workload;

#[path = "../../../vmm/tests/guest/mod.rs"]
mod guest;

use guest::{Guest, MAP};

/// Bytes of what a request tells, behind [`MARK`] in its path.
const SECRET_BYTES: usize = 8;

/// What the guest looks for.
const MARK: &[u8; 4] = b"key=";

/// Places of every kind that ring 3 can write: stacks, data, heap, call window, mapped pages.
const PLACES: [u64; 8] = [
    layout::STACK.start,
    layout::EXCEPTION_STACK.start,
    layout::GUEST_DATA.start + 8,
    layout::RUN_HEAP.start,
    layout::EXCEPTION_RECORD + 128,
    layout::CALL_FRAME + 128,
    layout::CALL_DATA + layout::CALL_DATA_BYTES as u64 - PAGE,
    MAP,
];

/// A guest that answers each request with what it finds in all [`PLACES`], and leaves the request's secret there.
fn thief(workload: &Workload) -> Guest {
    let address = |address: u64| u32::try_from(address).unwrap().to_le_bytes();
    // Behind the header and the records of the name, the directory and the function is the request's record, which
    // begins with the exchange (`abi::boot`, `abi::http`).
    let exchange = 64 + 4 + workload.program_name.as_str().len() as u64 + 4 + 4 + 4;
    let guest = Guest::new().map_ok(MAP, PAGE, Access::ReadWrite).ready();
    let again = guest.here();
    // mov r12d, [exchange]
    let guest = guest.code(&[0x44, 0x8b, 0x24, 0x25]).code(&address(layout::CALL_DATA + exchange));
    // mov edi, CALL_DATA; look: inc edi; cmp dword [rdi], MARK; jne look; mov r13, [rdi + 4]
    let guest = guest.code(&[0xbf]).code(&address(layout::CALL_DATA));
    let guest = guest.code(&[0xff, 0xc7, 0x81, 0x3f]).code(MARK).code(&[0x75, 0xf6]);
    let guest = guest.code(&[0x4c, 0x8b, 0x6f, 0x04]);
    let head = ResponseHead { status: 200, headers: Vec::new() }.encode();
    let body = [0; PLACES.len() * SECRET_BYTES];
    let answer = Request::Respond { exchange: Handle(0), finished: true, head: &head, body: &body };
    let mut area = vec![0; layout::CALL_DATA_BYTES];
    let frame = answer.encode(&mut area).unwrap();
    let mut guest = guest.data(&area[..head.len() + body.len()]);
    for (place, offset) in PLACES.into_iter().zip((head.len()..).step_by(SECRET_BYTES)) {
        // mov rax, [place]; mov [body], rax; mov [rbx = place], r13
        guest = guest.load(place).code(&[0x48, 0x89, 0x04, 0x25]);
        guest = guest.code(&address(layout::CALL_DATA + offset as u64)).code(&[0x4c, 0x89, 0x2b]);
    }
    // mov [args[0]], r12
    let guest = guest.frame(frame).code(&[0x4c, 0x89, 0x24, 0x25]);
    guest.code(&address(layout::CALL_FRAME + 8)).doorbell().exit(0).jump(again)
}

/// The bodies of the answers to `secrets`, one after the other, by one micro-VM.
fn answers(isolation: Isolation, secrets: &[[u8; SECRET_BYTES]]) -> Vec<Vec<u8>> {
    let workload: Workload = serde_json::from_value(serde_json::json!({
        "program_name": "thief.wasm", "args": [], "env": [], "preopens": [], "memory": 64 << 20,
    }))
    .unwrap();
    let source = Source::of_guest(&thief(&workload).elf(), &workload);
    let serving = Serving { isolation, max_concurrency: NonZeroU32::MIN, ..Serving::default() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let ask = move |secret: &[u8; SECRET_BYTES]| {
        let mut connection = TcpStream::connect(addr).unwrap();
        let secret = str::from_utf8(secret).unwrap();
        let request =
            format!("GET /?key={secret} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
        let head = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        answer.split_off(head + 4)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::new(source, workload, &serving, Arc::default());
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        #[expect(clippy::result_large_err, reason = "the request goes back to where it was")]
        let submit = move |incoming| pool.submit(incoming);
        let secrets = secrets.to_vec();
        let asked = tokio::task::spawn_blocking(move || secrets.iter().map(ask).collect());
        tokio::select! {
            () = server::serve(listener, Limits::default(), submit, std::future::pending()) => {
                panic!("nobody told the server to end")
            }
            answers = asked => answers.unwrap(),
        }
    })
}

const SECRETS: [[u8; SECRET_BYTES]; 4] = [*b"secret-1", *b"secret-2", *b"secret-3", *b"secret-4"];

#[test]
fn a_guest_that_was_taken_over_leaves_nothing_to_the_next_request() {
    require_kvm!();
    for answer in answers(Isolation::Request, &SECRETS) {
        assert_eq!(answer, [0; PLACES.len() * SECRET_BYTES], "{}", answer.escape_ascii());
    }
}

#[test]
fn a_guest_that_was_taken_over_leaves_what_it_likes_in_a_micro_vm_that_is_kept() {
    require_kvm!();
    let found = answers(Isolation::None, &SECRETS);
    assert_eq!(found[0], [0; PLACES.len() * SECRET_BYTES]);
    for (answer, secret) in found[1..].iter().zip(SECRETS) {
        assert_eq!(*answer, secret.repeat(PLACES.len()));
    }
}
