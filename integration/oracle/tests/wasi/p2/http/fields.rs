//! The fields of messages, as the interface has them.

use super::requests::entries;
use super::*;

fn list(values: &[&str]) -> Val {
    Val::List(values.iter().map(|value| bytes(value.as_bytes())).collect())
}

#[test]
fn fields_are_found_without_regard_to_case_and_told_in_theirs() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let fields = handler.call("types/fields", &[]);
    handler.done("types/fields.append", &[&fields, &text("X-A"), &bytes(b"1")]);
    handler.done("types/fields.append", &[&fields, &text("x-a"), &bytes(b"2")]);
    let get = handler.call("types/fields.get", &[&fields, &text("X-a")]);
    assert_eq!(get, list(&["1", "2"]));
    assert_eq!(handler.call("types/fields.has", &[&fields, &text("x-A")]), Val::Bool(true));
    assert_eq!(handler.call("types/fields.has", &[&fields, &text("a b")]), Val::Bool(false));
    assert_eq!(handler.call("types/fields.get", &[&fields, &text("a b")]), list(&[]));
    let copy = handler.call("types/fields.clone", &[&fields]);
    handler.done("types/fields.set", &[&copy, &text("X-A"), &list(&["3"])]);
    handler.done("types/fields.delete", &[&fields, &text("X-a")]);
    assert_eq!(entries(&mut handler, &fields), []);
    assert_eq!(entries(&mut handler, &copy), [("X-A".to_owned(), b"3".to_vec())]);
}

#[test]
fn what_is_malformed_or_forbidden_is_refused_by_its_name() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let fields = handler.call("types/fields", &[]);
    let refused = |case| err(code(case, None));
    for (name, value, case) in [
        ("a b", "1", "invalid-syntax"),
        ("", "1", "invalid-syntax"),
        ("a", "1\r\nb: 2", "invalid-syntax"),
        ("content-length", "+1", "invalid-syntax"),
        ("Host", "example.org", "forbidden"),
        ("connection", "close", "forbidden"),
        ("Transfer-Encoding", "chunked", "forbidden"),
    ] {
        let append = [&fields, &text(name), &bytes(value.as_bytes())];
        assert_eq!(handler.call("types/fields.append", &append), refused(case), "{name}");
        let set = [&fields, &text(name), &list(&[value])];
        assert_eq!(handler.call("types/fields.set", &set), refused(case), "{name}");
        let entry = Val::Tuple(vec![text(name), bytes(value.as_bytes())]);
        let from_list = handler.call("types/fields.from-list", &[&Val::List(vec![entry])]);
        assert_eq!(from_list, refused(case), "{name}");
    }
    let delete = handler.call("types/fields.delete", &[&fields, &text("host")]);
    assert_eq!(delete, refused("forbidden"));
}

#[test]
fn the_fields_of_a_message_that_is_made_are_not_changed() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    for message in ["outgoing-response", "outgoing-request"] {
        let fields = handler.fields(&[("a", "b")]);
        let made = handler.call(&format!("types/{message}"), &[&fields]);
        let fields = handler.call(&format!("types/{message}.headers"), &[&made]);
        let given = handler.call("types/fields.delete", &[&fields, &text("a")]);
        assert_eq!(given, err(code("immutable", None)));
    }
}

#[test]
fn fields_larger_than_a_head_can_be_trap() {
    let (incoming, _server) = get();
    let mut handler = Handler::given(incoming);
    let fields = handler.call("types/fields", &[]);
    let half = bytes(&[b'x'; 100_000]);
    handler.done("types/fields.append", &[&fields, &text("a"), &half]);
    let ended = handler.ends("types/fields.append", &[fields, text("b"), half]);
    assert_eq!(ended.status, 134);
    assert!(ended.report.contains("larger than a head can be"), "{}", ended.report);
}
