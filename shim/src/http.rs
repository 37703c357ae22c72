//! HTTP: components that handle requests, and requests that programs make.

mod serving;

pub use serving::{DRAIN_DEFAULT, Isolation, MAX_CONCURRENCY_DEFAULT, PORT_DEFAULT, Serving};
