//! HTTP between real sockets and a guest that is a thread making host calls.

mod guest;
mod raw;
mod server;
