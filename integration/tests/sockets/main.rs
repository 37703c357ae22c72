//! Sockets of programs in micro-VMs, against real peers: programs of several languages that speak with
//! themselves, servers and clients by hand, and containers in network namespaces of their own.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod by_hand;
mod containers;
mod server;
