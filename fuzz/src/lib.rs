//! What the fuzz targets try, and what must hold: generators of input, and oracles.
//!
//! Rule: a target is a line of glue; everything that can be wrong about an outcome is asserted here. The
//! same input always gives the same run, so that a finding repeats.
//!
//! [`decode`]: decoding is total, and what decodes encodes to the same. [`dispatch`]: whatever sequence of
//! [`requests`] a guest makes, the host answers each, stays inside the directories of
//! [`scratch`] that it granted, and leaks no descriptor.

pub mod decode;
pub mod dispatch;
pub mod requests;
pub mod scratch;
