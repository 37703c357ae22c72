//! Host calls: writes the frame, rings the doorbell, reads the answer.
//!
//! Invariant: a borrow of the data area never outlives the closure it was given to, and no host call
//! that uses the data area is made inside such a closure. Growing the heap there is fine: a
//! [`Request::Map`] has no data.
#![expect(unsafe_code, reason = "the call window and the doorbell")]
// UNSAFETY: the call window is memory at a fixed address, and the doorbell is an instruction.

use core::arch::asm;
use core::fmt::{self, Write};

use abi::layout::{CALL_DATA, CALL_DATA_BYTES, CALL_FRAME};
use abi::{AbortKind, Access, Errno, Frame, Readiness, Request};
use libos::HostCall;

use crate::resume;
use crate::single::Single;

/// The way of the library OS to the host.
pub(crate) struct Doorbell;

impl HostCall for Doorbell {
    fn call(&self, request: &Request<'_>, read: &mut dyn FnMut(u64, &[u8])) -> Result<(), Errno> {
        // SAFETY: the borrow ends with this function, and no other is alive (module invariant).
        let area = unsafe { area() };
        let frame = request.encode(area)?;
        let value = ring(&frame)?;
        read(value, area);
        Ok(())
    }

    fn data(&self, read: &mut dyn FnMut(&[u8])) {
        // SAFETY: as above.
        read(unsafe { area() });
    }
}

/// The data area.
///
/// # Safety
///
/// No other borrow of it is alive.
unsafe fn area() -> &'static mut [u8] {
    // SAFETY: the host has mapped CALL_DATA_BYTES of writable memory at CALL_DATA for this use alone;
    // the caller sees to it that there is one borrow at a time.
    unsafe { core::slice::from_raw_parts_mut(CALL_DATA as *mut u8, CALL_DATA_BYTES) }
}

/// Makes a host call that has neither payload nor data in its answer.
///
/// # Errors
///
/// What the host declined it with.
pub(crate) fn call_without_data(request: &Request<'_>) -> Result<u64, Errno> {
    ring(&request.encode(&mut [])?)
}

/// Changes the access to a range of the map area.
///
/// # Errors
///
/// What the host declined it with; [`memory_declined`] remembers [`Errno::NoMemory`].
pub(crate) fn map(gva: u64, len: u64, access: Access) -> Result<(), Errno> {
    let result = call_without_data(&Request::Map { gva, len, access });
    if result == Err(Errno::NoMemory)
        && let Some(mut declined) = DECLINED_BYTES.borrow()
    {
        *declined = Some(len);
    }
    result.map(drop)
}

/// Bytes that the host last declined for want of memory.
pub(crate) fn memory_declined() -> Option<u64> {
    DECLINED_BYTES.borrow().and_then(|declined| *declined)
}

static DECLINED_BYTES: Single<Option<u64>> = Single::new(None);

/// Forgets it, because the guest goes on without.
pub(crate) fn forget_declined_memory() {
    if let Some(mut declined) = DECLINED_BYTES.borrow() {
        *declined = None;
    }
}

/// Says that the program is loaded. Returns the bytes of the boot information; 0 asks for an instance.
pub(crate) fn ready(readiness: Readiness) -> u64 {
    let frame = Request::Ready { readiness }.encode(&mut []);
    match frame.and_then(|frame| resume::ring(&frame)) {
        Ok(boot_bytes) => boot_bytes,
        Err(errno) => abort(
            AbortKind::Panic,
            format_args!("the host answered {errno:?} to a guest that is ready"),
        ),
    }
}

/// Ends the call with `status`. Returns the bytes of the next one's boot information, if there is one; 0 where it
/// is the same call again.
pub(crate) fn exit(status: i32) -> u64 {
    loop {
        let frame = Request::Exit { status }.encode(&mut []);
        // The host never declines it. Should it, there is nothing to do but to repeat it.
        if let Ok(boot_bytes) = frame.and_then(|frame| resume::ring(&frame)) {
            return boot_bytes;
        }
    }
}

/// Ends the micro-VM because the guest cannot go on.
pub(crate) fn abort(kind: AbortKind, message: fmt::Arguments<'_>) -> ! {
    let mut text = Line { bytes: [0; LINE_BYTES], len: 0 };
    // A message that does not fit is cut; that is the only way to fail.
    let _ = text.write_fmt(message);
    let message = text.bytes.get(..text.len).unwrap_or_default();
    loop {
        // The host never answers it. Should it, there is nothing to do but to repeat it.
        let _ = Doorbell.call(&Request::Abort { kind, message }, &mut |_, _| ());
    }
}

/// Writes the frame, leaves the guest, reads the result.
fn ring(frame: &Frame) -> Result<u64, Errno> {
    write_frame(frame);
    // SAFETY: the port is open to ring 3; the host changes memory of the call window and, for
    // Request::Map, of pages that no reference points to. Registers survive.
    unsafe {
        asm!("out {port}, al", port = const abi::DOORBELL_PORT, in("al") 0u8, options(nostack, preserves_flags))
    };
    answer()
}

/// Writes the frame of a call.
pub(crate) fn write_frame(frame: &Frame) {
    // SAFETY: the host has mapped a page at CALL_FRAME for the frame; it is aligned and plain data.
    unsafe { (CALL_FRAME as *mut Frame).write_volatile(*frame) };
}

/// Reads the answer of a call that was made.
pub(crate) fn answer() -> Result<u64, Errno> {
    // SAFETY: as in `write_frame`.
    Errno::result_of(unsafe { (CALL_FRAME as *const Frame).read_volatile() }.ret)
}

/// Longest message of [`abort`]: it is for one line of a terminal or log, with room for a backtrace.
const LINE_BYTES: usize = 4096;

/// A message built without the heap, which may be what failed.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).ok_or(fmt::Error)?;
        let n = text.len().min(room.len());
        let (to, from) =
            (room.get_mut(..n).ok_or(fmt::Error)?, text.as_bytes().get(..n).ok_or(fmt::Error)?);
        to.copy_from_slice(from);
        self.len += n;
        if n == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
