//! The guest image: an ELF file, parsed and checked, its text and read-only data in shared memory.
//!
//! Rule: a segment is read-execute inside [`layout::IMAGE_TEXT`], read-only inside
//! [`layout::IMAGE_RODATA`], or read-write inside [`layout::GUEST_DATA`]; any other is refused, so no
//! page of a guest is both writable and executable. Read-only data start with [`MAGIC`] and the version
//! of the contract, little-endian, so that an image of another build is refused by name.
//!
//! Source: System V ABI, chapters 4 and 5; its AMD64 supplement.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use abi::layout;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::Error;
use crate::memory::{Gpa, Region, SharedRegion, private, to_usize};

/// First bytes of the read-only data; [`abi::ABI_VERSION`] follows.
const MAGIC: &[u8; 8] = b"HLGUEST\0";

/// Most program headers of an image: one per area, and what linkers add beside them.
const PROGRAM_HEADERS_MAX: u16 = 32;

/// Bytes of the memory of text and read-only data.
const REGION_BYTES: u64 = layout::IMAGE.end - layout::IMAGE.start;

/// A guest image. Clones share the memory.
#[derive(Clone, Debug)]
pub struct Image {
    region: SharedRegion,
    entry: u64,
    text_end: u64,
    rodata_end: u64,
    data: Arc<[(Gpa, Vec<u8>)]>,
}

/// Why a guest image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Not an ELF file.
    #[error("not an ELF file of {0} bytes or more", size_of::<FileHeader>())]
    NotElf,
    /// An ELF file for something else.
    #[error("not a statically linked 64-bit x86-64 executable")]
    NotExecutable,
    /// The program headers are not inside the file, or too many.
    #[error(
        "{count} program headers at {offset:#x}: outside the file, or more than {PROGRAM_HEADERS_MAX}"
    )]
    ProgramHeaders {
        /// How many.
        count: u16,
        /// Where.
        offset: u64,
    },
    /// The file asks for a dynamic linker, or has thread-local storage.
    #[error(
        "program header of type {kind}: dynamic linking and thread-local storage are not supported"
    )]
    Unsupported {
        /// `p_type`.
        kind: u32,
    },
    /// A segment's bytes are not inside the file, or more than its memory.
    #[error("segment at {address:#x}: {file_bytes} bytes of the file for {memory_bytes} of memory")]
    Truncated {
        /// Virtual address.
        address: u64,
        /// `p_filesz`.
        file_bytes: u64,
        /// `p_memsz`.
        memory_bytes: u64,
    },
    /// A segment lies where none of its access may be.
    #[error(
        "segment at {address:#x}, {bytes:#x} bytes, flags {flags:#x}: no area of that access holds it"
    )]
    Misplaced {
        /// Virtual address.
        address: u64,
        /// Bytes of memory.
        bytes: u64,
        /// `p_flags`.
        flags: u32,
    },
    /// Two segments overlap.
    #[error("segments overlap at {address:#x}")]
    Overlap {
        /// Start of the second.
        address: u64,
    },
    /// The entry is not in the text.
    #[error("entry {entry:#x} is not in the text")]
    Entry {
        /// Where it is.
        entry: u64,
    },
    /// The read-only data do not start with the mark of a guest.
    #[error("no guest image: the read-only data do not start with its mark")]
    NoMark,
    /// The guest was built against another version of the contract.
    #[error(
        "guest built for contract version {found}, this host has {}: build both from one tree",
        abi::ABI_VERSION
    )]
    Version {
        /// The guest's.
        found: u32,
    },
}

impl Image {
    /// Parses an ELF file and loads it.
    ///
    /// # Errors
    ///
    /// [`Error::Image`] if the file breaks a rule of this module; [`Error::MapMemory`] and
    /// [`Error::ProtectMemory`] if the host has no memory for it.
    pub fn parse(elf: &[u8]) -> Result<Self, Error> {
        let (entry, segments) = parse_segments(elf)?;
        let mut region = Region::new(REGION_BYTES)?;
        for segment in segments.iter().filter(|segment| segment.area != Area::Data) {
            let (start, len) = (segment.memory.start, segment.content.len() as u64);
            region
                .write(start - layout::IMAGE.start, segment.content)
                .ok_or(Error::OutsideMemory { gpa: start, len })?;
        }
        Ok(Self::new(entry, &segments, region.into_shared()?))
    }

    /// Parses an ELF file whose text and read-only data [`write_to`](Self::write_to) has written to `file`,
    /// and maps them from there if the page cache holds them in large folios: then all processes share them.
    /// What is in `file` is not looked at; nobody may change it any more.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and [`Error::MapFile`].
    pub fn from_file(elf: &[u8], file: &File) -> Result<Self, Error> {
        let region = SharedRegion::of_file(file, 0, REGION_BYTES)?;
        let (entry, segments) = parse_segments(elf)?;
        let image = Self::new(entry, &segments, region);
        let is_large = [image.text(), image.rodata()].into_iter().all(|range| {
            image.region.is_large(range.start - layout::IMAGE.start, range.end - range.start)
        });
        if is_large { Ok(image) } else { Self::parse(elf) }
    }

    /// Writes text and read-only data to a file, which is empty: in whole large pages, between them holes.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(REGION_BYTES)?;
        let mut page = vec![0; to_usize(layout::LARGE_PAGE)];
        let step = to_usize(layout::LARGE_PAGE);
        for gpa in self.text().step_by(step).chain(self.rodata().step_by(step)) {
            let offset = gpa - layout::IMAGE.start;
            let read = self.region.read(offset, &mut page);
            read.ok_or_else(|| io::Error::other("a part of the image outside its memory"))?;
            file.write_all_at(&page, offset)?;
        }
        Ok(())
    }

    fn new(entry: u64, segments: &[Segment<'_>], region: SharedRegion) -> Self {
        let end_of = |area: Area, start: u64| {
            let ends = segments.iter().filter(|s| s.area == area).map(|s| s.memory.end);
            ends.fold(start, u64::max).next_multiple_of(layout::LARGE_PAGE)
        };
        let data = segments.iter().filter(|segment| segment.area == Area::Data);
        Self {
            region,
            entry,
            text_end: end_of(Area::Text, layout::IMAGE_TEXT.start),
            rodata_end: end_of(Area::Rodata, layout::IMAGE_RODATA.start),
            data: data.map(|it| (private(it.memory.start), it.content.to_vec())).collect(),
        }
    }

    /// An image of a few bytes of machine code, without data and mark: for guests of the host's own.
    ///
    /// # Errors
    ///
    /// [`Error::MapMemory`] and [`Error::ProtectMemory`].
    pub(crate) fn of_code(code: &[u8]) -> Result<Self, Error> {
        let (start, len) = (layout::IMAGE_TEXT.start, code.len() as u64);
        let mut region = Region::new(layout::LARGE_PAGE)?;
        region.write(0, code).ok_or(Error::OutsideMemory { gpa: start, len })?;
        Ok(Self {
            region: region.into_shared()?,
            entry: start,
            text_end: start + layout::LARGE_PAGE,
            rodata_end: layout::IMAGE_RODATA.start,
            data: Arc::default(),
        })
    }

    /// Text and read-only data, for the slot at [`layout::IMAGE`].
    pub(crate) const fn region(&self) -> &SharedRegion {
        &self.region
    }

    /// Whether both share their memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.region.is_same(&other.region)
    }

    /// First instruction of the guest.
    pub(crate) const fn entry(&self) -> u64 {
        self.entry
    }

    /// The part of [`layout::IMAGE_TEXT`] that is used, in whole large pages.
    pub(crate) const fn text(&self) -> Range<u64> {
        layout::IMAGE_TEXT.start..self.text_end
    }

    /// The part of [`layout::IMAGE_RODATA`] that is used, in whole large pages.
    pub(crate) const fn rodata(&self) -> Range<u64> {
        layout::IMAGE_RODATA.start..self.rodata_end
    }

    /// What [`layout::GUEST_DATA`] holds at start; the rest of it is zero.
    pub(crate) fn data(&self) -> &[(Gpa, Vec<u8>)] {
        &self.data
    }
}

/// Head of an ELF64 file.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    header_bytes: u16,
    program_header_bytes: u16,
    program_header_count: u16,
    section_header_bytes: u16,
    section_header_count: u16,
    section_names: u16,
}

/// One ELF64 program header.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical_address: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

/// `\x7fELF`, 64-bit, little-endian, version 1.
const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// The area a segment lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Text,
    Rodata,
    Data,
}

/// A segment that passed every check.
#[derive(Debug)]
struct Segment<'a> {
    area: Area,
    memory: Range<u64>,
    content: &'a [u8],
}

/// Checks all of a file. Returns the entry and the segments by address.
fn parse_segments(elf: &[u8]) -> Result<(u64, Vec<Segment<'_>>), ImageError> {
    let (header, _) = FileHeader::read_from_prefix(elf).map_err(|_| ImageError::NotElf)?;
    if !header.ident.starts_with(&IDENT) {
        return Err(ImageError::NotElf);
    }
    if header.kind != ET_EXEC || header.machine != EM_X86_64 {
        return Err(ImageError::NotExecutable);
    }
    let mut segments = Vec::new();
    for program_header in program_headers(elf, &header)? {
        segments.extend(parse_segment(elf, &program_header)?);
    }
    segments.sort_by_key(|segment| segment.memory.start);
    for (first, second) in segments.iter().zip(segments.iter().skip(1)) {
        if first.memory.end > second.memory.start {
            return Err(ImageError::Overlap { address: second.memory.start });
        }
    }
    let is_text = |s: &Segment<'_>| s.area == Area::Text && s.memory.contains(&header.entry);
    if !segments.iter().any(is_text) {
        return Err(ImageError::Entry { entry: header.entry });
    }
    check_mark(&segments)?;
    Ok((header.entry, segments))
}

fn program_headers(elf: &[u8], header: &FileHeader) -> Result<Vec<ProgramHeader>, ImageError> {
    let (count, offset) = (header.program_header_count, header.program_headers);
    let error = ImageError::ProgramHeaders { count, offset };
    let table = usize::try_from(offset).ok().and_then(|offset| elf.get(offset..)).ok_or(error)?;
    let size_is_ours = usize::from(header.program_header_bytes) == size_of::<ProgramHeader>();
    if !size_is_ours || count > PROGRAM_HEADERS_MAX {
        return Err(error);
    }
    let headers: Vec<_> = table
        .chunks_exact(size_of::<ProgramHeader>())
        .take(usize::from(count))
        .filter_map(|bytes| ProgramHeader::read_from_bytes(bytes).ok())
        .collect();
    if headers.len() == usize::from(count) { Ok(headers) } else { Err(error) }
}

/// Checks one program header; `None` if it loads nothing.
fn parse_segment<'a>(
    elf: &'a [u8],
    header: &ProgramHeader,
) -> Result<Option<Segment<'a>>, ImageError> {
    let &ProgramHeader { kind, flags, address, file_bytes, memory_bytes, .. } = header;
    match kind {
        PT_INTERP | PT_DYNAMIC | PT_TLS => return Err(ImageError::Unsupported { kind }),
        PT_LOAD if memory_bytes > 0 => {}
        _ => return Ok(None),
    }
    let content = usize::try_from(header.offset)
        .ok()
        .and_then(|offset| elf.get(offset..)?.get(..usize::try_from(file_bytes).ok()?))
        .filter(|_| file_bytes <= memory_bytes)
        .ok_or(ImageError::Truncated { address, file_bytes, memory_bytes })?;
    let misplaced = ImageError::Misplaced { address, bytes: memory_bytes, flags };
    let (area, range) = match flags {
        f if f == PF_R | PF_X => (Area::Text, layout::IMAGE_TEXT),
        PF_R => (Area::Rodata, layout::IMAGE_RODATA),
        f if f == PF_R | PF_W => (Area::Data, layout::GUEST_DATA),
        _ => return Err(misplaced),
    };
    let end = address.checked_add(memory_bytes).ok_or(misplaced)?;
    if address < range.start || end > range.end {
        return Err(misplaced);
    }
    Ok(Some(Segment { area, memory: address..end, content }))
}

/// Checks the mark and the version at the start of the read-only data.
fn check_mark(segments: &[Segment<'_>]) -> Result<(), ImageError> {
    let version = segments
        .iter()
        .find(|segment| segment.memory.start == layout::IMAGE_RODATA.start)
        .and_then(|segment| segment.content.strip_prefix(MAGIC))
        .and_then(|rest| rest.first_chunk())
        .ok_or(ImageError::NoMark)?;
    let found = u32::from_le_bytes(*version);
    if found == abi::ABI_VERSION { Ok(()) } else { Err(ImageError::Version { found }) }
}

#[cfg(test)]
mod tests;
