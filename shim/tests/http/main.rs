//! HTTP between real sockets and a guest that is a thread making host calls.
#![expect(clippy::result_large_err, reason = "a refused request goes back to where it was")]
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod client;
mod guest;
mod raw;
mod server;
