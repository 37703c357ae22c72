//! HTTP: components that handle requests, and requests that programs make.

pub mod client;
mod pool;
pub mod server;
mod service;
mod serving;

pub use service::{Service, ServiceError};
pub use serving::{DRAIN_DEFAULT, Isolation, MAX_CONCURRENCY_DEFAULT, PORT_DEFAULT, Serving};
