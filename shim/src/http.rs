//! HTTP: components that handle requests, and requests that programs make.

pub mod client;
mod costs;
mod pool;
pub mod server;
mod service;
mod serving;
#[cfg(test)]
mod tests;

pub use costs::Costs;
pub use service::{Port, Service, ServiceError};
pub use serving::{DRAIN_DEFAULT, Isolation, MAX_CONCURRENCY_DEFAULT, PORT_DEFAULT, Serving};

/// Finds out what a process that is locked later has no way to.
pub(crate) fn open_ahead() {
    pool::processors();
    client::open_ahead();
}
