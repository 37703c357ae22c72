//! Decoding: total, and the inverse of encoding.

use abi::boot::{BootHeader, BootInfo};
use abi::layout::CALL_DATA_BYTES;
use abi::{DirEntry, DirEntryHeader, Errno, Frame, Request};
use zerocopy::FromBytes as _;

/// A frame, and what follows it as the data area: decoded by the host, encoded again, decoded again.
///
/// # Panics
///
/// If the second is not what the first was.
pub fn call(bytes: &[u8]) {
    let Ok((frame, area)) = Frame::read_from_prefix(bytes) else { return };
    let area = &area[..area.len().min(CALL_DATA_BYTES)];
    let result = Errno::result_of(frame.ret);
    let negative_errno = result.is_err_and(|errno| errno == Errno::Io);
    assert!(negative_errno || Errno::to_ret(result) == frame.ret, "{frame:?}");
    let Ok(request) = Request::decode(&frame, area) else { return };

    let mut again = vec![0; CALL_DATA_BYTES];
    let encoded = request.encode(&mut again).expect("what came in a window goes into one");
    assert_eq!(Request::decode(&encoded, &again), Ok(request));
    // Nothing but what has no meaning for the call may differ.
    assert_eq!(encoded.nr, frame.nr, "{request:?}");
    for (encoded, given) in encoded.args.into_iter().zip(frame.args) {
        assert!(encoded == given || encoded == 0, "{request:?}: {given:#x} became {encoded:#x}");
    }
    let len = encoded.data_len as usize;
    assert!(encoded.data_len == frame.data_len || len == 0, "{request:?}");
    assert_eq!(again[..len], area[..len], "{request:?}");
}

/// Boot information: decoded by the guest, encoded again, decoded again.
///
/// # Panics
///
/// If the second is not what the first was.
pub fn boot_info(bytes: &[u8]) {
    let Some(info) = BootInfo::decode(bytes) else { return };
    let encoded = info.encode();
    let boot_bytes = u32::try_from(encoded.len()).expect("as long as the input");
    let header = BootHeader { boot_bytes, ..info.header };
    assert_eq!(BootInfo::decode(&encoded), Some(BootInfo { header, ..info }));
}

/// Directory entries: split off one by one by the guest, written again.
///
/// # Panics
///
/// If what is written is not what was read.
pub fn entries(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((entry, tail)) = DirEntry::split_first(rest) {
        assert!(tail.len() + size_of::<DirEntryHeader>() <= rest.len(), "it comes to an end");
        let mut area = vec![0xff; DirEntry::wire_bytes(entry.name.len())];
        let len = area.len();
        assert_eq!(entry.write(&mut area, 0), Some(len));
        assert_eq!(DirEntry::split_first(&area), Some((entry, &[][..])));
        assert_eq!(entry.write(&mut area[..len - 1], 0), None);
        rest = tail;
    }
}
