//! The shim: containerd on one side, the micro-VM on the other; and the `hyperlight` command.
//!
//! A task is created by [`sandbox`] out of its [`bundle`], its [`artifact`] and the compiled
//! program of the [`aot`] cache, and lives as a VMM process of its own ([`launch`], [`microvm`])
//! that a [`container`] stands for. [`serve`] and [`task`] are what containerd talks to; [`cli`] is
//! what people talk to.

mod address;
pub mod aot;
pub mod artifact;
pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod compile;
pub mod container;
pub mod containerd;
pub mod counts;
pub mod digest;
pub mod error;
pub mod events;
mod guest_image;
pub mod holder;
pub mod hooks;
pub mod http;
pub mod image;
mod inherited;
pub mod jail;
pub mod launch;
pub mod leftovers;
pub mod linux;
pub mod microvm;
pub mod net;
pub mod node;
mod page_cache;
pub mod pod_files;
pub mod rootfs;
pub mod sandbox;
pub mod sandbox_api;
pub mod serve;
mod server_log;
pub mod settings;
pub mod signal;
pub mod snapshots;
pub mod state;
pub mod stdio;
pub mod task;
pub mod workload;
