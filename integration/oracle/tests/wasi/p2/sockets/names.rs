//! Names that are looked up.

use oracle::Wasi;
use wasmtime::component::Val;

use super::{BOTH, P2, compare, error, from_ref, granted, program, text};
use crate::p2::functions::Script;

const RESOLVE: &str = "ip-name-lookup/resolve-addresses";
const NEXT: &str = "ip-name-lookup/resolve-address-stream.resolve-next-address";
const SUBSCRIBE: &str = "ip-name-lookup/resolve-address-stream.subscribe";

/// Names that are addresses, and names that are none.
pub(super) fn literals(script: &mut Script) {
    let network = script.some("instance-network/instance-network", &[]);
    for name in ["127.0.0.1", "192.0.2.7", "::1", "[::1]", "2001:db8::7", "::ffff:192.0.2.7"] {
        let stream = script.some(RESOLVE, &[&network, &text(name)]);
        let pollable = script.some(SUBSCRIBE, &[&stream]);
        script.call("poll/pollable.block", &[&pollable]);
        script.call(NEXT, &[&stream]);
        script.call(NEXT, &[&stream]);
        script.call(NEXT, &[&stream]);
        script.call("poll/pollable.ready", &[&pollable]);
        script.call("poll/drop-pollable", &[&pollable]);
        script.call("ip-name-lookup/drop-resolve-address-stream", &[&stream]);
    }
    for name in ["", " ", "a b", "a.b<&>", "host:80", "[localhost]", "a\0", "[", "::1%lo"] {
        script.call(RESOLVE, &[&network, &text(name)]);
    }
}

/// What differs as it is meant to: function, ours, theirs, and why.
const MEANT: [(&str, &str, &str, &str); 1] = [(
    NEXT,
    r#"Ok(Some(Result(Ok(Some(Option(Some(Variant("ipv4", Some(Tuple([U8(192), U8(0), U8(2), U8(7)]))))))))))"#,
    r#"Ok(Some(Result(Ok(Some(Option(Some(Variant("ipv6", Some(Tuple([U16(0), U16(0), U16(0), U16(0), U16(0), U16(65535), U16(49152), U16(519)]))))))))))"#,
    "the interface never returns IPv4-mapped addresses",
)];

#[test]
fn addresses_and_what_is_no_name_are_as_in_wasmtime() {
    compare(&MEANT, literals);
}

/// The addresses of a name, or the error that it gives.
fn look_up(program: &mut P2, name: &str) -> Result<Vec<Val>, Val> {
    let network = program.network();
    let stream = match program.gives(RESOLVE, &[network, text(name)]) {
        Val::Result(Ok(Some(stream))) => *stream,
        other => return Err(other),
    };
    let mut addresses = Vec::new();
    loop {
        match program.gives(NEXT, from_ref(&stream)) {
            Val::Result(Ok(Some(address))) => match *address {
                Val::Option(Some(address)) => addresses.push(*address),
                _ => return Ok(addresses),
            },
            again if again == error("would-block") => program.wait_for(SUBSCRIBE, &stream),
            other => return Err(other),
        }
    }
}

#[test]
fn a_name_has_the_addresses_that_the_system_knows() {
    let [ours, theirs] = BOTH.map(|wasi| look_up(&mut program(wasi), "localhost").unwrap());
    assert!(!ours.is_empty());
    assert_eq!(ours, theirs);
}

#[test]
fn a_name_that_does_not_exist_is_unresolvable() {
    for wasi in BOTH {
        // A name that no name server answers for (RFC 6761, section 6.4).
        let found = look_up(&mut program(wasi), "nobody.invalid");
        assert_eq!(found, Err(error("name-unresolvable")), "{wasi:?}");
    }
}

#[test]
fn a_lookup_that_was_dropped_leaves_nothing_behind() {
    let mut program = P2::start_with_sockets(Wasi::Ours, &granted());
    for _ in 0..100 {
        let network = program.network();
        let stream = program.done(RESOLVE, &[network, text("127.0.0.1")]);
        program.gives_nothing("ip-name-lookup/drop-resolve-address-stream", &[stream]);
    }
    assert_eq!(look_up(&mut program, "127.0.0.1").map(|found| found.len()), Ok(1));
}
