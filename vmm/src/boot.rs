//! What a guest is told when it is ready to run.

use abi::boot::{BOOT_BYTES_MAX, BootHeader, BootInfo, boot_flags};

use crate::Error;
use crate::host::Host;

/// What the program is told at start. Directories and terminals are the
/// [`Host`](crate::host::Host)'s to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParams {
    /// What messages call the program: the file's name.
    pub program_name: Vec<u8>,
    /// Where the program should think it is; empty if nobody said.
    pub cwd: Vec<u8>,
    /// What to call instead of the command's entry point, see [`BootInfo::invoke`]; empty for that.
    pub invoke: Vec<u8>,
    /// The HTTP request to be handled, a [`abi::http::IncomingRequest`]; empty for another entry point.
    pub request: Vec<u8>,
    /// A further call wants a new instance in place of the one that is there.
    pub new_instance: bool,
    /// Arguments, argument 0 first.
    pub args: Vec<Vec<u8>>,
    /// Environment, each `KEY=VALUE`.
    pub env: Vec<Vec<u8>>,
}

/// The boot information for one run, with entropy that no other gets.
///
/// # Errors
///
/// [`Error::Entropy`], [`Error::BootInfoSize`].
pub(crate) fn boot_info(params: &BootParams, host: &Host, tsc_khz: u64) -> Result<Vec<u8>, Error> {
    with_seed(params, host, tsc_khz, seed()?)
}

/// The boot information for another call in the same instance.
///
/// # Errors
///
/// [`Error::BootInfoSize`].
pub(crate) fn call_info(params: &BootParams, host: &Host, tsc_khz: u64) -> Result<Vec<u8>, Error> {
    with_seed(params, host, tsc_khz, [0; 32])
}

fn with_seed(
    params: &BootParams,
    host: &Host,
    tsc_khz: u64,
    seed: [u8; 32],
) -> Result<Vec<u8>, Error> {
    let instance = if params.new_instance { boot_flags::NEW_INSTANCE } else { 0 };
    let flags = host.terminal_flags() | instance;
    let header = BootHeader { flags, tsc_khz, seed, ..BootHeader::default() };
    let info = BootInfo {
        header,
        program_name: &params.program_name,
        cwd: &params.cwd,
        invoke: &params.invoke,
        request: &params.request,
        args: params.args.iter().map(Vec::as_slice).collect(),
        env: params.env.iter().map(Vec::as_slice).collect(),
        preopens: host.preopens().collect(),
    };
    let bytes = info.encode();
    let len = bytes.len() as u64;
    if len > BOOT_BYTES_MAX { Err(Error::BootInfoSize { bytes: len }) } else { Ok(bytes) }
}

/// Entropy for one run, from the kernel.
fn seed() -> Result<[u8; 32], Error> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(source) => return Err(Error::Entropy(source.into())),
        }
    }
    Ok(seed)
}
