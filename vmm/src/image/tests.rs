use super::*;

/// An ELF file with these segments: flags, address, content, bytes of memory.
fn elf(entry: u64, segments: &[(u32, u64, &[u8], u64)]) -> Vec<u8> {
    let mut file = Vec::from(IDENT);
    file.resize(16, 0);
    file.extend([ET_EXEC.to_le_bytes(), EM_X86_64.to_le_bytes()].concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([entry, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    let count = u16::try_from(segments.len()).unwrap();
    file.extend([64, 56, count, 0, 0, 0].map(u16::to_le_bytes).concat());
    let mut offset = 64 + 56 * segments.len() as u64;
    for (flags, address, content, memory) in segments {
        file.extend([PT_LOAD, *flags].map(u32::to_le_bytes).concat());
        let len = content.len() as u64;
        let words = [offset, *address, *address, len, *memory, 4096];
        file.extend(words.map(u64::to_le_bytes).concat());
        offset += len;
    }
    segments.iter().for_each(|segment| file.extend(segment.2));
    file
}

const TEXT: u64 = layout::IMAGE_TEXT.start;
const RODATA: u64 = layout::IMAGE_RODATA.start;
const DATA: u64 = layout::GUEST_DATA.start;

fn mark() -> Vec<u8> {
    [&MAGIC[..], &abi::ABI_VERSION.to_le_bytes()].concat()
}

fn good() -> Vec<u8> {
    elf(
        TEXT + 1,
        &[(5, TEXT, b"\xf4\xf4", 2), (4, RODATA, &mark(), 12), (6, DATA, b"data", 0x1800)],
    )
}

fn error_of(file: &[u8]) -> ImageError {
    match Image::parse(file) {
        Err(Error::Image(error)) => error,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_good_image_is_loaded() {
    let image = Image::parse(&good()).unwrap();
    assert_eq!(image.entry(), TEXT + 1);
    assert_eq!(image.data(), [(private(DATA), b"data".to_vec())]);
    assert_eq!(image.text(), TEXT..TEXT + layout::LARGE_PAGE);
    assert_eq!(image.rodata(), RODATA..RODATA + layout::LARGE_PAGE);
}

#[test]
fn writable_and_executable_is_refused() {
    for (flags, address) in [(7, TEXT), (7, DATA), (7, RODATA)] {
        let file = elf(TEXT, &[(flags, address, b"\xf4", 1)]);
        assert!(matches!(error_of(&file), ImageError::Misplaced { .. }));
    }
}

#[test]
fn access_that_is_not_the_areas_own_is_refused() {
    for (flags, address) in [(6, TEXT), (4, TEXT), (5, RODATA), (6, RODATA), (5, DATA), (4, DATA)] {
        let file = elf(TEXT, &[(flags, address, b"\xf4", 1)]);
        assert!(matches!(error_of(&file), ImageError::Misplaced { .. }), "{flags} {address:#x}");
    }
}

#[test]
fn a_segment_that_leaves_its_area_is_refused() {
    let end = layout::GUEST_DATA.end;
    for (address, bytes) in [(end - 1, 2), (end, 1), (DATA - 1, 1), (DATA, u64::MAX), (0, 1)] {
        let file = elf(TEXT, &[(6, address, b"", bytes)]);
        assert!(matches!(error_of(&file), ImageError::Misplaced { .. }), "{address:#x} {bytes:#x}");
    }
}

#[test]
fn more_file_than_memory_is_refused() {
    let file = elf(TEXT, &[(5, TEXT, b"\xf4\xf4", 1)]);
    assert!(matches!(error_of(&file), ImageError::Truncated { .. }));
}

#[test]
fn overlapping_segments_are_refused() {
    let file = elf(TEXT, &[(5, TEXT, b"\xf4\xf4", 2), (5, TEXT + 1, b"\xf4", 1)]);
    assert_eq!(error_of(&file), ImageError::Overlap { address: TEXT + 1 });
}

#[test]
fn an_entry_outside_the_text_is_refused() {
    for entry in [0, TEXT + 1, DATA, RODATA] {
        let file = elf(entry, &[(5, TEXT, b"\xf4", 1), (4, RODATA, &mark(), 12)]);
        assert_eq!(error_of(&file), ImageError::Entry { entry });
    }
}

#[test]
fn an_image_without_the_mark_is_refused() {
    let file = elf(TEXT, &[(5, TEXT, b"\xf4", 1), (4, RODATA, b"HLGUEST\0\x01", 12)]);
    assert_eq!(error_of(&file), ImageError::NoMark);
}

#[test]
fn an_image_of_another_version_is_refused() {
    let mark = [&MAGIC[..], &77_u32.to_le_bytes()].concat();
    let file = elf(TEXT, &[(5, TEXT, b"\xf4", 1), (4, RODATA, &mark, 12)]);
    assert_eq!(error_of(&file), ImageError::Version { found: 77 });
}

#[test]
fn dynamic_linking_is_refused() {
    let mut file = good();
    file[64] = 3;
    assert_eq!(error_of(&file), ImageError::Unsupported { kind: PT_INTERP });
}

#[test]
fn every_truncation_is_an_outcome() {
    let file = good();
    for len in 0..file.len() {
        assert!(Image::parse(&file[..len]).is_err(), "first {len} bytes");
    }
}

#[test]
fn every_flipped_bit_is_an_outcome() {
    let file = good();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Either answer is right; the flip may hit a byte that means nothing.
        drop(Image::parse(&flipped));
    }
}

#[test]
fn an_image_from_its_file_is_the_one_that_was_written() {
    let image = Image::parse(&good()).unwrap();
    let file = tempfile::tempfile().unwrap();
    image.write_to(&file).unwrap();
    let again = Image::from_file(&good(), &file).unwrap();
    assert_eq!((again.entry(), again.data()), (image.entry(), image.data()));
    assert_eq!((again.text(), again.rodata()), (image.text(), image.rodata()));
    for range in [image.text(), image.rodata()] {
        let read = |image: &Image| {
            let mut bytes = vec![0; to_usize(range.end - range.start)];
            image.region().read(range.start - layout::IMAGE.start, &mut bytes).unwrap();
            bytes
        };
        assert!(read(&again) == read(&image));
    }
}
