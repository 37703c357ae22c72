//! Which network a program is given.

use clap::Args;
use vmm::host::Destination;

use crate::net::{AllowedDestination, NetworkGrant};

/// The options.
#[derive(Debug, Args)]
pub(super) struct NetworkArgs {
    /// Give the program no network: no sockets, no names, no requests
    #[arg(long, conflicts_with = "allow")]
    no_network: bool,
    /// Let the program connect and send to this destination only, and to others that are allowed so
    ///
    /// An address (`192.0.2.1`, `[2001:db8::1]`), a range of addresses (`10.0.0.0/8`), a name
    /// (`api.example.com`), or the names below one (`*.example.com`); each with `:PORT` for one port alone.
    /// A name allows the addresses that it has when the program looks it up. Listening is not restricted.
    #[arg(long, value_name = "DESTINATION")]
    allow: Vec<Destination>,
}

impl NetworkArgs {
    /// The network of this process, as far as the options allow.
    pub(super) fn grant(self) -> Option<NetworkGrant> {
        if self.no_network {
            return None;
        }
        let allow: Vec<_> = self.allow.into_iter().map(AllowedDestination).collect();
        let allow = if allow.is_empty() { None } else { Some(allow) };
        Some(NetworkGrant { allow, root: "/".into() })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        network: NetworkArgs,
    }

    fn grant(options: &[&str]) -> Result<Option<NetworkGrant>, String> {
        let parsed = Options::try_parse_from([&["hyperlight"], options].concat());
        parsed.map(|options| options.network.grant()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_has_the_network_of_the_process_unless_told_otherwise() {
        let grant = grant(&[]).unwrap().unwrap();
        assert_eq!((grant.allow, grant.root.to_str()), (None, Some("/")));
    }

    #[test]
    fn a_program_can_be_given_no_network() {
        assert_eq!(grant(&["--no-network"]), Ok(None));
    }

    #[test]
    fn several_destinations_can_be_allowed() {
        let grant = grant(&["--allow", "[::1]:80", "--allow", "*.example.com"]).unwrap().unwrap();
        let allowed: Vec<_> =
            grant.allow.unwrap().iter().map(|allowed| allowed.0.to_string()).collect();
        assert_eq!(allowed, ["[::1]:80", "*.example.com"]);
    }

    #[test]
    fn no_network_and_a_destination_are_refused_together() {
        let error = grant(&["--no-network", "--allow", "::1"]).unwrap_err();
        assert!(error.contains("--no-network") && error.contains("--allow"), "{error}");
    }

    #[test]
    fn what_is_no_destination_is_refused_with_the_reason() {
        let error = grant(&["--allow", "http://example.com"]).unwrap_err();
        assert!(error.contains("--allow") && error.contains("is no number from 1"), "{error}");
    }
}
