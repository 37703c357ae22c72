//! Which addresses are reached on behalf of a program.

use super::*;

fn network(allow: Option<&[&str]>) -> Network {
    let parse = |text: &&str| AllowedDestination(text.parse().unwrap());
    let allow = allow.map(|allow| allow.iter().map(parse).collect());
    Network::new(&NetworkGrant { allow, root: "/nonexistent".into() })
}

fn addresses(network: &Network, host: &str) -> Result<Vec<String>, UnreachableError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(network.reach.addresses(host, 80))?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[test]
fn everything_is_reached_unless_destinations_are_listed() {
    assert_eq!(addresses(&network(None), "127.0.0.1").unwrap(), ["127.0.0.1:80"]);
    assert_eq!(addresses(&network(None), "::1").unwrap(), ["[::1]:80"]);
}

#[test]
fn an_allowed_name_is_reached_wherever_it_is() {
    let found = addresses(&network(Some(&["localhost:80"])), "localhost").unwrap();
    assert!(found.contains(&"127.0.0.1:80".to_owned()), "{found:?}");
}

#[test]
fn a_name_is_reached_at_those_of_its_addresses_that_are_allowed() {
    let found = addresses(&network(Some(&["127.0.0.0/8"])), "localhost").unwrap();
    assert_eq!(found, ["127.0.0.1:80"]);
}

#[test]
fn what_is_not_allowed_is_denied() {
    for allow in [&[][..], &["localhost:81"], &["192.0.2.1"], &["example.com"]] {
        let denied = addresses(&network(Some(allow)), "localhost");
        assert_eq!(denied, Err(UnreachableError::Denied), "{allow:?}");
    }
}
