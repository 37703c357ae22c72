//! What is well-formed in HTTP: tokens, field values, and the parts of a target.
//!
//! Rule: what passes here can be put into a message as it is. A host may be stricter still.

/// A token: a method or the name of a field (RFC 9110, 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The value of a field: no control character but tab (RFC 9110, 5.5).
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// A number of bytes as `content-length` gives it: digits, and no more of them than a `u64` has (RFC 9110,
/// 8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(value).ok()?.parse().ok()
}

/// A scheme (RFC 3986, 3.1).
pub(crate) fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// An authority with a host: `[userinfo@]host[:port]` (RFC 3986, 3.2).
pub(crate) fn is_authority(text: &str) -> bool {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (user, rest),
        None => ("", text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, port)) if is_ip_literal(literal) => (literal, port),
            _ => return false,
        },
        None => {
            let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            if !is_percent_encoded(host, |_| false) {
                return false;
            }
            (host, port)
        }
    };
    let is_port = match port.strip_prefix(':') {
        Some("") => true,
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => port.is_empty(),
    };
    !host.is_empty() && is_port && is_percent_encoded(user, |byte| byte == b':')
}

/// What may stand in brackets: an IPv6 address, or an address of a kind to come.
fn is_ip_literal(text: &str) -> bool {
    text.parse::<core::net::Ipv6Addr>().is_ok()
        || text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')).is_some_and(
            |(version, address)| {
                !version.is_empty()
                    && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && !address.is_empty()
                    && address.bytes().all(|byte| is_plain(byte) || byte == b':')
            },
        )
}

/// A path that is empty or absolute, and a query. `"`, `{`, `}`, `|`, `^` and bytes beyond ASCII are no
/// part of RFC 3986, but common, and harmless in a request line.
pub(crate) fn is_path_with_query(text: &str) -> bool {
    let begins = text.is_empty() || text.starts_with(['/', '?']);
    begins
        && text.bytes().all(|byte| match byte {
            b'#' | b'<' | b'>' | b'\\' | b'`' => false,
            byte => matches!(byte, b'!'..=b'~' | 0x80..),
        })
}

/// Unreserved characters and sub-delimiters (RFC 3986, 2.2 and 2.3).
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'')
        || matches!(byte, b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// Plain characters, percent-encoded bytes, and what is `also` allowed.
fn is_percent_encoded(text: &str, also: impl Fn(u8) -> bool) -> bool {
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return true,
            [b'%', a, b, tail @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            [byte, tail @ ..] if is_plain(*byte) || also(*byte) => tail,
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_with_user_and_port() {
        for good in [
            "example.org",
            "example.org:8080",
            "localhost:",
            "u:p@h:1",
            "[::1]:80",
            "[v1.a:b]",
            "a_b%20",
            "127.0.0.1",
        ] {
            assert!(is_authority(good), "{good}");
        }
        for bad in
            ["", ":80", "a b", "a:b", "a:99999", "a/b", "[::1", "[x]", "a@b@c", "a?b", "é", "a%2"]
        {
            assert!(!is_authority(bad), "{bad}");
        }
    }

    #[test]
    fn a_path_is_empty_or_absolute() {
        for good in ["", "/", "/a/b?c=d&e", "?q", "/%20", "/{x}|\"", "/é"] {
            assert!(is_path_with_query(good), "{good}");
        }
        for bad in ["a", "*", "http://h/", "/a b", "/a#b", "/a\r\nHost: b", "/\u{7f}"] {
            assert!(!is_path_with_query(bad), "{bad}");
        }
    }

    #[test]
    fn a_scheme_begins_with_a_letter() {
        assert!(is_scheme("http") && is_scheme("a1+-."));
        assert!(!is_scheme("") && !is_scheme("1a") && !is_scheme("a:b"));
    }

    #[test]
    fn a_length_is_digits() {
        assert_eq!(content_length(b"007"), Some(7));
        for bad in [&b""[..], b"+5", b"-5", b" 5", b"5 ", b"0x5", b"18446744073709551616"] {
            assert_eq!(content_length(bad), None);
        }
    }

    #[test]
    fn names_are_tokens_and_values_have_no_control_characters() {
        assert!(is_token(b"X-a_b~1") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(is_field_value(b"") && is_field_value(b" a\tb\xff"));
        assert!(!is_field_value(b"a\r\nb") && !is_field_value(b"\0") && !is_field_value(b"\x7f"));
    }
}
