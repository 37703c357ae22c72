//! Sequences of calls of WASI 0.2.
