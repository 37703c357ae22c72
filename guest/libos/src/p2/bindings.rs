//! The traits and types of WASI 0.2.12, generated from its WIT packages by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
