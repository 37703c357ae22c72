//! HTTP between real sockets and a guest that is a thread making host calls.

mod client;
mod guest;
mod raw;
mod server;
