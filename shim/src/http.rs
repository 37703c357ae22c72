//! HTTP: components that handle requests, and requests that programs make.

mod pool;
mod serving;

pub use pool::{Pool, QUEUE_WAIT_MAX};
pub use serving::{DRAIN_DEFAULT, Isolation, MAX_CONCURRENCY_DEFAULT, PORT_DEFAULT, Serving};
