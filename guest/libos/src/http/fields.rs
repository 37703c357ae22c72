//! Header and trailer fields, as a program sees and makes them.
//!
//! Invariant: names and values are well-formed, `content-length` is one number, and the fields together
//! fit a head as it crosses. What belongs to a connection and not to a message (RFC 9110, 7.6.1) is
//! in none: a program can neither set nor see it.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::http::HEAD_BYTES_MAX;

use super::syntax;

/// Fields that the host sets, and the program must not.
const FORBIDDEN: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// The one field whose value has a meaning here.
const CONTENT_LENGTH: &str = "content-length";

/// Most bytes of fields as they cross, beside a status and their number.
const FIELDS_BYTES_MAX: usize = HEAD_BYTES_MAX - 8;

/// What a field takes beside its name and value as it crosses: two lengths.
const FIELD_BYTES: usize = 8;

/// Fields in their order.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Shared by those who only look.
    list: Arc<Vec<(String, Vec<u8>)>>,
    /// What they take as they cross.
    bytes: usize,
    is_immutable: bool,
}

/// Why fields were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// A name or value is malformed.
    Syntax,
    /// The name is one of those that the host sets.
    Forbidden,
    /// These fields cannot be changed.
    Immutable,
    /// They would be more than a head can have.
    TooLarge,
}

impl Fields {
    /// Fields of a message that was received. Nobody changes them.
    pub(crate) fn received(fields: &[(&[u8], &[u8])]) -> Self {
        let list = fields
            .iter()
            .filter_map(|(name, value)| Some((core::str::from_utf8(name).ok()?, value)))
            .filter(|(name, _)| !is_forbidden(name))
            .map(|(name, value)| (String::from(name), value.to_vec()))
            .collect();
        Self { list: Arc::new(list), bytes: 0, is_immutable: true }
    }

    /// The same fields, which nobody changes.
    pub(crate) fn into_immutable(self) -> Self {
        Self { is_immutable: true, ..self }
    }

    /// A copy that can be changed.
    pub(crate) fn to_mutable(&self) -> Self {
        let bytes = self.list.iter().map(|(name, value)| field_bytes(name, value)).sum();
        Self { list: Arc::clone(&self.list), bytes, is_immutable: false }
    }

    /// All of them, in the case in which they were given.
    pub(crate) fn entries(&self) -> Vec<(String, Vec<u8>)> {
        self.list.as_ref().clone()
    }

    /// The values of a name.
    pub(crate) fn get(&self, name: &str) -> Vec<Vec<u8>> {
        self.named(name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether there is a field of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &(String, Vec<u8>)> {
        self.list.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// What `content-length` says.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.named(CONTENT_LENGTH).find_map(|(_, value)| syntax::content_length(value))
    }

    /// Gives a name these values in place of those that it has.
    pub(crate) fn set(&mut self, name: &str, values: Vec<Vec<u8>>) -> Result<(), Unchanged> {
        self.check_name(name)?;
        for value in &values {
            check_value(name, value)?;
        }
        if name.eq_ignore_ascii_case(CONTENT_LENGTH) && values.len() > 1 {
            return Err(Unchanged::Syntax);
        }
        let removed: usize = self.named(name).map(|(name, value)| field_bytes(name, value)).sum();
        let added: usize = values.iter().map(|value| field_bytes(name, value)).sum();
        self.resize(removed, added)?;
        let list = Arc::make_mut(&mut self.list);
        list.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        list.extend(values.into_iter().map(|value| (String::from(name), value)));
        Ok(())
    }

    /// Adds a value to those of a name.
    pub(crate) fn append(&mut self, name: &str, value: Vec<u8>) -> Result<(), Unchanged> {
        self.check_name(name)?;
        check_value(name, &value)?;
        if name.eq_ignore_ascii_case(CONTENT_LENGTH) && self.has(name) {
            return Err(Unchanged::Syntax);
        }
        self.resize(0, field_bytes(name, &value))?;
        Arc::make_mut(&mut self.list).push((String::from(name), value));
        Ok(())
    }

    /// Removes the values of a name.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), Unchanged> {
        self.set(name, Vec::new())
    }

    fn check_name(&self, name: &str) -> Result<(), Unchanged> {
        if !syntax::is_token(name.as_bytes()) {
            Err(Unchanged::Syntax)
        } else if is_forbidden(name) {
            Err(Unchanged::Forbidden)
        } else if self.is_immutable {
            Err(Unchanged::Immutable)
        } else {
            Ok(())
        }
    }

    fn resize(&mut self, removed: usize, added: usize) -> Result<(), Unchanged> {
        let bytes = self.bytes.saturating_sub(removed).saturating_add(added);
        if bytes > FIELDS_BYTES_MAX {
            return Err(Unchanged::TooLarge);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives them to `encode` as they cross: names in lower case.
    pub(crate) fn encoded<R>(&self, encode: impl FnOnce(abi::http::Fields<'_>) -> R) -> R {
        let names: Vec<Cow<'_, str>> = self.list.iter().map(|(name, _)| lower(name)).collect();
        let fields = names.iter().zip(self.list.iter());
        encode(fields.map(|(name, (_, value))| (name.as_bytes(), value.as_slice())).collect())
    }
}

fn lower(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    }
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}

fn check_value(name: &str, value: &[u8]) -> Result<(), Unchanged> {
    let is_good = match name.eq_ignore_ascii_case(CONTENT_LENGTH) {
        true => syntax::content_length(value).is_some(),
        false => syntax::is_field_value(value),
    };
    if is_good { Ok(()) } else { Err(Unchanged::Syntax) }
}

const fn field_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_BYTES
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn names(fields: &Fields) -> Vec<String> {
        fields.entries().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn names_are_compared_without_case_and_kept_with_it() {
        let mut fields = Fields::default();
        fields.append("X-A", b"1".to_vec()).unwrap();
        fields.append("x-a", b"2".to_vec()).unwrap();
        assert_eq!(fields.get("x-A"), [b"1", b"2"]);
        assert_eq!(names(&fields), ["X-A", "x-a"]);
        fields.encoded(|fields| assert!(fields.iter().all(|(name, _)| *name == b"x-a")));
        fields.set("X-a", vec![b"3".to_vec()]).unwrap();
        assert_eq!(fields.get("x-a"), [b"3"]);
        fields.delete("X-A").unwrap();
        assert!(!fields.has("x-a"));
    }

    #[test]
    fn what_the_host_sets_is_neither_set_nor_seen() {
        for name in FORBIDDEN {
            let mut fields = Fields::default();
            assert_eq!(fields.append(name, vec![]), Err(Unchanged::Forbidden));
            assert_eq!(fields.set(&name.to_uppercase(), vec![]), Err(Unchanged::Forbidden));
            assert_eq!(fields.delete(name), Err(Unchanged::Forbidden));
            assert_eq!(names(&Fields::received(&[(name.as_bytes(), b"x")])), [""; 0]);
        }
    }

    #[test]
    fn a_message_has_one_length() {
        let mut fields = Fields::default();
        for bad in [&b"x"[..], b"+5", b""] {
            assert_eq!(fields.append("Content-Length", bad.to_vec()), Err(Unchanged::Syntax));
        }
        fields.append("Content-Length", b"5".to_vec()).unwrap();
        assert_eq!(fields.append("content-length", b"5".to_vec()), Err(Unchanged::Syntax));
        let two = vec![b"5".to_vec(), b"5".to_vec()];
        assert_eq!(fields.set("content-length", two), Err(Unchanged::Syntax));
        assert_eq!(fields.content_length(), Some(5));
    }

    #[test]
    fn what_was_received_is_not_changed_but_its_copy_is() {
        let mut fields = Fields::received(&[(b"a", b"1")]);
        assert_eq!(fields.append("b", vec![]), Err(Unchanged::Immutable));
        assert_eq!(fields.set("b", vec![]), Err(Unchanged::Immutable));
        assert_eq!(fields.delete("a"), Err(Unchanged::Immutable));
        let mut copy = fields.to_mutable();
        copy.delete("a").unwrap();
        assert!(fields.has("a") && !copy.has("a"));
    }

    #[test]
    fn more_than_a_head_can_have_is_refused_and_room_is_given_back() {
        let mut fields = Fields::default();
        while fields.append("a", vec![b'x'; 1000]).is_ok() {}
        assert_eq!(fields.append("a", vec![b'x'; 1000]), Err(Unchanged::TooLarge));
        fields.encoded(|headers| {
            let head = abi::http::ResponseHead { status: 200, headers };
            assert!(head.encode().len() <= HEAD_BYTES_MAX);
        });
        fields.delete("A").unwrap();
        assert_eq!(fields.bytes, 0);
        fields.set("a", vec![vec![b'x'; 100_000]]).unwrap();
    }
}
