//! The guest image: the ELF that runs inside every micro-VM, embedded in this binary.
//!
//! Rule: whoever runs a guest has its image in the same file, so that host and guest cannot be of different
//! versions. The build script finds the image; nothing reads it from a disk at run time.

/// The ELF file that `make guest` built.
pub(crate) static GUEST_IMAGE: &[u8] = include_bytes!(env!("HYPERLIGHT_GUEST_IMAGE_FILE"));

/// Its digest, in hexadecimal: what is derived from another image is not for this one.
pub(crate) const GUEST_IMAGE_SHA256: &str = env!("HYPERLIGHT_GUEST_IMAGE_SHA256");
