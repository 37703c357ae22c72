//! How a container that handles HTTP requests is served, from its annotations and environment.
//!
//! An annotation goes before the variable `PORT`, which platforms that run services by request set.

use std::net::SocketAddr;
use std::time::Duration;

use super::BundleError;
use crate::http::{Isolation, Serving};
use crate::settings::Settings;
use crate::workload::EnvEntry;

/// Where connections are taken: `:PORT`, `ADDRESS:PORT`, or `[ADDRESS]:PORT`.
pub(super) const ADDR: &str = "io.hyperlight.http.addr";
/// What a request leaves to the next: `request`, `instance`, or `none`.
pub(super) const ISOLATION: &str = "io.hyperlight.http.isolation";
/// Most requests at a time.
pub(super) const MAX_CONCURRENCY: &str = "io.hyperlight.http.max-concurrency";
/// How long a request may take, like `30s`.
pub(super) const REQUEST_TIMEOUT: &str = "io.hyperlight.http.request-timeout";
/// How long requests have when the task is asked to end, like `25s`.
pub(super) const DRAIN_TIMEOUT: &str = "io.hyperlight.http.drain-timeout";

/// How to serve.
///
/// # Errors
///
/// [`BundleError::Annotation`], [`BundleError::Port`].
pub(super) fn serving<'a>(
    annotation: impl Fn(&'static str) -> Option<&'a String>,
    env: &[EnvEntry],
) -> Result<Serving, BundleError> {
    let isolation_of_node = Settings::of_node().http_isolation.unwrap_or_default();
    let mut serving = Serving { isolation: isolation_of_node, ..Serving::default() };
    let port = env.iter().rev().find_map(|entry| entry.as_str().strip_prefix("PORT="));
    if let Some(port) = port {
        serving.addr.set_port(port.parse().map_err(|_| BundleError::Port(port.to_owned()))?);
    }
    let parsed =
        |name, expected| move |value: &String| Parsed { name, expected, value: value.clone() };
    if let Some(it) = annotation(ADDR).map(parsed(ADDR, "an address and a port, like 0.0.0.0:8080"))
    {
        serving.addr = it.by(|value| addr(value, serving.addr))?;
    }
    if let Some(it) = annotation(ISOLATION).map(parsed(ISOLATION, "request, instance or none")) {
        serving.isolation = it.by(isolation)?;
    }
    if let Some(it) = annotation(MAX_CONCURRENCY).map(parsed(MAX_CONCURRENCY, "a number from 1 on"))
    {
        serving.max_concurrency = it.by(|value| value.parse().ok())?;
    }
    if let Some(it) =
        annotation(REQUEST_TIMEOUT).map(parsed(REQUEST_TIMEOUT, "a duration, like 30s"))
    {
        serving.request_timeout = Some(it.by(duration)?);
    }
    if let Some(it) = annotation(DRAIN_TIMEOUT).map(parsed(DRAIN_TIMEOUT, "a duration, like 25s")) {
        serving.drain = it.by(duration)?;
    }
    Ok(serving)
}

/// An annotation's value, on the way to what it means.
struct Parsed {
    name: &'static str,
    expected: &'static str,
    value: String,
}

impl Parsed {
    fn by<T>(self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, BundleError> {
        let Self { name, expected, value } = self;
        parse(&value).ok_or(BundleError::Annotation { name, expected, value })
    }
}

/// `:PORT` is that port of `default`.
fn addr(text: &str, mut default: SocketAddr) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => {
            default.set_port(port.parse().ok()?);
            Some(default)
        }
        None => text.parse().ok(),
    }
}

fn isolation(text: &str) -> Option<Isolation> {
    <Isolation as clap::ValueEnum>::from_str(text, false).ok()
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn parse(annotations: &[(&str, &str)], env: &[&str]) -> Result<Serving, BundleError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations: HashMap<String, String> = annotations.iter().map(own).collect();
        let env: Vec<EnvEntry> =
            env.iter().map(|entry| EnvEntry::try_from((*entry).to_owned()).unwrap()).collect();
        serving(|name| annotations.get(name), &env)
    }

    #[test]
    fn a_container_that_says_nothing_is_served_on_port_8080_of_every_address() {
        let serving = parse(&[], &[]).unwrap();
        assert_eq!(serving.addr.to_string(), "[::]:8080");
        assert_eq!(serving.isolation, Isolation::Request);
    }

    #[test]
    fn the_variable_names_the_port_and_the_annotation_goes_before_it() {
        assert_eq!(parse(&[], &["PORT=9000"]).unwrap().addr.port(), 9000);
        assert_eq!(parse(&[(ADDR, ":81")], &["PORT=9000"]).unwrap().addr.to_string(), "[::]:81");
        let addr = parse(&[(ADDR, "127.0.0.1:82")], &[]).unwrap().addr;
        assert_eq!(addr.to_string(), "127.0.0.1:82");
    }

    #[test]
    fn annotations_say_how_requests_are_kept_apart_and_for_how_long() {
        let all = [
            (ISOLATION, "instance"),
            (MAX_CONCURRENCY, "7"),
            (REQUEST_TIMEOUT, "30s"),
            (DRAIN_TIMEOUT, "5s"),
        ];
        let serving = parse(&all, &[]).unwrap();
        assert_eq!(serving.isolation, Isolation::Instance);
        assert_eq!(serving.max_concurrency.get(), 7);
        assert_eq!(serving.request_timeout, Some(Duration::from_secs(30)));
        assert_eq!(serving.drain, Duration::from_secs(5));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_name() {
        for (name, value) in [
            (ADDR, "localhost"),
            (ADDR, ":65536"),
            (ISOLATION, "full"),
            (MAX_CONCURRENCY, "0"),
            (REQUEST_TIMEOUT, "soon"),
            (DRAIN_TIMEOUT, "0s"),
        ] {
            let error = parse(&[(name, value)], &[]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        assert!(parse(&[], &["PORT=http"]).unwrap_err().to_string().contains("PORT=http"));
    }
}
