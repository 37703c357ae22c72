//! What containerd writes for an output stream: nothing, the path of a FIFO, or a URI.
//!
//! `fifo://PATH`, `file://PATH`, and `binary://PATH?NAME=VALUE&…` for a logging program, of which
//! each name and its first value become arguments. Percent signs are decoded, in the query also plus signs
//! (RFC 3986; what Go's `net/url` reads).

use std::path::PathBuf;

use super::StdioError;

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Nowhere.
    Null,
    /// Into this FIFO.
    Fifo(PathBuf),
    /// To the end of this file.
    File(PathBuf),
    /// To a logging program.
    Program(LogProgram),
}

/// A logging program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogProgram {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
}

/// What is wrong with a URI.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UriError {
    /// Nothing of the kind is known.
    #[error("{0:?} is not a known scheme: fifo, file and binary are")]
    Scheme(String),
    /// There is no path from the root.
    #[error("it names no absolute path: write three slashes, as in file:///var/log/x")]
    Path,
    /// It cannot be decoded.
    #[error("it has a percent sign that no two hexadecimal digits follow, or is no UTF-8")]
    Escape,
    /// No path or argument can have this.
    #[error("it contains a NUL")]
    Nul,
}

/// Reads what containerd wrote for `stream`.
pub(super) fn target(stream: &'static str, text: &str) -> Result<Target, StdioError> {
    parse(text).map_err(|source| StdioError::Uri { stream, uri: text.to_owned(), source })
}

fn parse(text: &str) -> Result<Target, UriError> {
    if text.is_empty() {
        return Ok(Target::Null);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(Target::Fifo(text.into()));
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = PathBuf::from(decode(path, false)?);
    let target = match scheme {
        "fifo" => Target::Fifo(path.clone()),
        "file" => Target::File(path.clone()),
        "binary" => Target::Program(LogProgram { path: path.clone(), args: arguments(query)? }),
        other => return Err(UriError::Scheme(other.to_owned())),
    };
    if path.is_absolute() { Ok(target) } else { Err(UriError::Path) }
}

/// Each name once, in its first place, with its first value.
fn arguments(query: &str) -> Result<Vec<String>, UriError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name, true)?, decode(value, true)?);
        if pairs.iter().all(|(known, _)| *known != name) {
            pairs.push((name, value));
        }
    }
    Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect())
}

fn decode(text: &str, is_query: bool) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let value = high.zip(low).map(|(high, low)| high * 16 + low);
                value.and_then(|value| u8::try_from(value).ok()).ok_or(UriError::Escape)?
            }
            b'+' if is_query => b' ',
            other => other,
        });
    }
    if bytes.contains(&0) {
        return Err(UriError::Nul);
    }
    String::from_utf8(bytes).map_err(|_| UriError::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str, args: &[&str]) -> Target {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Target::Program(LogProgram { path: path.into(), args })
    }

    #[test]
    fn what_is_no_uri_is_the_path_of_a_fifo() {
        assert_eq!(parse(""), Ok(Target::Null));
        assert_eq!(parse("/run/x/stdout"), Ok(Target::Fifo("/run/x/stdout".into())));
        assert_eq!(parse("fifo:///run/x"), Ok(Target::Fifo("/run/x".into())));
    }

    #[test]
    fn a_file_may_have_any_name() {
        assert_eq!(parse("file:///var/log/a%20b+c"), Ok(Target::File("/var/log/a b+c".into())));
    }

    #[test]
    fn the_query_of_a_program_becomes_its_arguments() {
        assert_eq!(
            parse("binary:///bin/logger?tag=a+b%26c&--quiet&tag=again"),
            Ok(program("/bin/logger", &["tag", "a b&c", "--quiet", ""]))
        );
        assert_eq!(parse("binary:///bin/logger"), Ok(program("/bin/logger", &[])));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, error) in [
            ("npipe:////./pipe/x", UriError::Scheme("npipe".to_owned())),
            ("file://var/log/x", UriError::Path),
            ("file://", UriError::Path),
            ("file:///a%2", UriError::Escape),
            ("file:///a%zz", UriError::Escape),
            ("file:///a%ff", UriError::Escape),
            ("binary:///a?x=%00", UriError::Nul),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
