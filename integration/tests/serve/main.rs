//! Components that handle HTTP requests, served by `hyperlight serve` and in containers, and asked by real
//! clients.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod broken;
mod clients;
mod containers;
mod exits;
mod isolation;
mod languages;
mod load;
mod outgoing;
mod requests;
mod server;
