//! Which destinations a policy means.

use super::*;

fn only(destinations: &[&str]) -> Policy {
    Policy::only(destinations.iter().map(|text| text.parse().expect("destination")).collect())
}

#[test]
fn addresses_and_ranges_allow_what_lies_in_them() {
    let table = [
        ("192.0.2.1", "192.0.2.1:1", true),
        ("192.0.2.1", "192.0.2.2:1", false),
        ("192.0.2.1:80", "192.0.2.1:80", true),
        ("192.0.2.1:80", "192.0.2.1:81", false),
        ("10.0.0.0/8", "10.255.255.255:1", true),
        ("10.0.0.0/8", "11.0.0.0:1", false),
        ("10.0.0.0/8:443", "10.1.2.3:443", true),
        ("10.0.0.0/8:443", "10.1.2.3:444", false),
        ("0.0.0.0/0", "255.255.255.255:1", true),
        ("0.0.0.0/0", "[::1]:1", false),
        ("::/0", "[2001:db8::1]:1", true),
        ("::/0", "127.0.0.1:1", false),
        ("::1", "[::1]:9", true),
        ("[::1]", "[::1]:9", true),
        ("[::1]:9", "[::1]:9", true),
        ("[::1]:9", "[::1]:8", false),
        ("[fd00::]/8", "[fdff::1]:1", true),
        ("[fd00::]/8", "[fe00::1]:1", false),
        ("[fd00::]/8:53", "[fd00::1]:53", true),
        ("fd00::/8", "[fd00::1]:53", true),
        ("127.0.0.1", "0.0.0.0:1", true),
        ("0.0.0.0", "127.0.0.1:1", false),
        ("::1", "[::]:1", true),
        ("192.0.2.1", "[::ffff:192.0.2.1]:1", true),
        ("example.com", "192.0.2.1:1", false),
    ];
    for (destination, address, allowed) in table {
        let policy = only(&[destination]);
        let address = address.parse().expect("address");
        assert_eq!(policy.allows(address), allowed, "{destination} {address}");
    }
}

#[test]
fn names_allow_themselves_and_a_star_what_is_below() {
    let table = [
        ("example.com", "example.com", true),
        ("example.com", "EXAMPLE.com.", true),
        ("Example.COM.", "example.com", true),
        ("example.com", "www.example.com", false),
        ("example.com", "badexample.com", false),
        ("*.example.com", "www.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "badexample.com", false),
        ("db", "db", true),
        ("192.0.2.1", "192.0.2.1", false),
    ];
    for (destination, name, allowed) in table {
        assert_eq!(only(&[destination]).allows_name(name, 80), allowed, "{destination} {name}");
    }
    assert!(only(&["example.com:80"]).allows_name("example.com", 80));
    assert!(!only(&["example.com:80"]).allows_name("example.com", 81));
}

#[test]
fn everything_and_nothing_are_policies() {
    let address = "192.0.2.1:80".parse().expect("address");
    assert!(Policy::everything().allows(address));
    assert!(Policy::everything().allows_name("example.com", 80));
    assert!(!only(&[]).allows(address));
    assert!(!only(&[]).allows_name("example.com", 80));
}

#[test]
fn one_of_several_destinations_suffices() {
    let policy = only(&["192.0.2.1", "example.com", "198.51.100.0/24:53"]);
    assert!(policy.allows("192.0.2.1:80".parse().expect("address")));
    assert!(policy.allows("198.51.100.9:53".parse().expect("address")));
    assert!(!policy.allows("198.51.100.9:54".parse().expect("address")));
    assert!(policy.allows_name("example.com", 80));
}

#[test]
fn a_destination_is_written_as_it_is_read() {
    for text in [
        "192.0.2.1",
        "192.0.2.1:80",
        "10.0.0.0/8",
        "10.0.0.0/8:80",
        "[::1]",
        "[::1]:80",
        "[fd00::]/8",
        "[fd00::]/8:80",
        "example.com",
        "*.example.com:443",
        "_dns.example",
    ] {
        let destination: Destination = text.parse().expect("destination");
        assert_eq!(destination.to_string(), text);
    }
    let plain: Destination = "fd00::/8".parse().expect("destination");
    assert_eq!(plain.to_string(), "[fd00::]/8");
}

#[test]
fn what_is_no_destination_is_refused_with_its_reason() {
    let table = [
        ("", "\"\" is neither an address nor a host name"),
        ("*", "\"*\" is neither an address nor a host name"),
        ("*.", "\"*.\" is neither an address nor a host name"),
        ("a..b", "\"a..b\" is neither an address nor a host name"),
        ("a b", "\"a b\" is neither an address nor a host name"),
        ("http://example.com", "port \"//example.com\" is no number from 1 to 65535"),
        ("example.com/path", "\"example.com/path\" is neither an address nor a host name"),
        ("192.0.2.256", "\"192.0.2.256\" is neither an address nor a host name"),
        ("192.0.2", "\"192.0.2\" is neither an address nor a host name"),
        ("[192.0.2.1]", "\"[192.0.2.1]\" is neither an address nor a host name"),
        ("[::1", "\"[::1\" is neither an address nor a host name"),
        ("example.com:", "port \"\" is no number from 1 to 65535"),
        ("example.com:0", "port \"0\" is no number from 1 to 65535"),
        ("example.com:65536", "port \"65536\" is no number from 1 to 65535"),
        ("192.0.2.0/33", "/33 is no length of a prefix of 192.0.2.0, which has 32 bits"),
        ("192.0.2.0/", "/ is no length of a prefix of 192.0.2.0, which has 32 bits"),
        ("[::]/129", "/129 is no length of a prefix of ::, which has 128 bits"),
        ("10.1.0.0/8", "10.1.0.0/8 is no range of addresses: bits beyond the first 8 are set"),
    ];
    for (text, message) in table {
        let error = text.parse::<Destination>().expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}
