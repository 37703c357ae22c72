//! Which network a container's program has, from its annotations: that of its network namespace, with the
//! names of its own `/etc/resolv.conf` and `/etc/hosts`, unless they say otherwise.

use std::path::PathBuf;

use super::BundleError;
use crate::net::{AllowedDestination, NetworkGrant};

/// `none`: no sockets, no names, no requests.
pub(super) const NETWORK: &str = "io.hyperlight.network";
/// The only destinations, separated by commas, that the program may connect and send to, as `--allow` of
/// `hyperlight run` takes them. Without any it can listen and answer.
pub(super) const ALLOW: &str = "io.hyperlight.network.allow";

/// The network of a program, whose process has the container's root file system as its own.
///
/// # Errors
///
/// [`BundleError::Annotation`], [`BundleError::AllowedDestination`].
pub(super) fn grant<'a>(
    annotation: impl Fn(&'static str) -> Option<&'a String>,
) -> Result<Option<NetworkGrant>, BundleError> {
    let refused = |name, expected, value: &str| {
        Err(BundleError::Annotation { name, expected, value: value.to_owned() })
    };
    let none = match annotation(NETWORK).map(String::as_str) {
        None => false,
        Some("none") => true,
        Some(other) => return refused(NETWORK, "none, the only value", other),
    };
    match annotation(ALLOW) {
        Some(list) if none => refused(ALLOW, "allowed beside io.hyperlight.network: none", list),
        _ if none => Ok(None),
        list => {
            let allow = list.map(|list| allowed(list)).transpose()?;
            Ok(Some(NetworkGrant { allow, root: PathBuf::from("/") }))
        }
    }
}

fn allowed(list: &str) -> Result<Vec<AllowedDestination>, BundleError> {
    let destinations = list.split(',').map(str::trim).filter(|text| !text.is_empty());
    let parse = |text: &str| {
        let parsed = text.parse().map(AllowedDestination);
        parsed.map_err(|source| BundleError::AllowedDestination {
            name: ALLOW,
            value: text.to_owned(),
            source,
        })
    };
    destinations.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn parse(annotations: &[(&str, &str)]) -> Result<Option<NetworkGrant>, BundleError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations: HashMap<String, String> = annotations.iter().map(own).collect();
        grant(|name| annotations.get(name))
    }

    fn allow(list: &str) -> Vec<String> {
        let grant = parse(&[(ALLOW, list)]).unwrap().unwrap();
        grant.allow.unwrap().iter().map(|allowed| allowed.0.to_string()).collect()
    }

    #[test]
    fn a_container_has_its_network_and_the_names_of_its_root_file_system() {
        let grant = parse(&[]).unwrap().unwrap();
        assert_eq!((grant.allow, grant.root.to_str()), (None, Some("/")));
    }

    #[test]
    fn a_container_can_have_no_network() {
        assert_eq!(parse(&[(NETWORK, "none")]).unwrap(), None);
    }

    #[test]
    fn destinations_are_separated_by_commas() {
        assert_eq!(
            allow("10.0.0.0/8, *.example.com:443,[::1]"),
            ["10.0.0.0/8", "*.example.com:443", "[::1]"]
        );
        assert_eq!(allow(""), <[String; 0]>::default());
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_name() {
        for annotations in [
            &[(NETWORK, "host")][..],
            &[(NETWORK, "")],
            &[(ALLOW, "10.0.0.0/8,http://example.com")],
            &[(ALLOW, "::1"), (NETWORK, "none")],
        ] {
            let error = parse(annotations).unwrap_err().to_string();
            let (name, _) = annotations[0];
            assert!(error.contains(name), "{error}");
        }
    }
}
