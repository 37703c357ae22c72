//! The tests of pods where containerd leaves their making to the shim (`sandboxer = "shim"`), by the Sandbox API: all
//! of them, as nothing may be different to whoever uses pods.

#[path = "pods/main.rs"]
mod pods;
