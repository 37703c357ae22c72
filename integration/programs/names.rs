//! Looks up its arguments and prints the addresses of each in order.
//!
//! builds: rs_p2

use std::net::ToSocketAddrs;

fn main() {
    for name in std::env::args().skip(1) {
        match (name.as_str(), 80).to_socket_addrs() {
            Ok(addresses) => {
                let mut addresses: Vec<_> = addresses.map(|it| it.to_string()).collect();
                addresses.sort();
                println!("{name}: {}", addresses.join(" "));
            }
            Err(error) => println!("{name}: {error}"),
        }
    }
}
