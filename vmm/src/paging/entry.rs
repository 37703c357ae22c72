//! Entries and levels of page tables, as the CPU defines them.
//!
//! Source: SDM vol. 3, 4.5.4; APM vol. 2, 5.3 and 5.4.

use std::ops::Range;

use abi::{Access, layout};

/// The entry is in use.
pub(super) const PRESENT: u64 = 1;
/// Writes are allowed.
pub(super) const WRITABLE: u64 = 1 << 1;
/// Ring 3 is allowed.
pub(super) const USER: u64 = 1 << 2;
/// Set from the start, so that no CPU has to.
pub(super) const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
/// A leaf of a directory: 2 MiB.
pub(super) const LARGE: u64 = 1 << 7;
/// Fetches fault.
pub(super) const NO_EXECUTE: u64 = 1 << 63;
/// Where the page or table is.
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// An entry that refers to a table grants all; the leaves decide.
pub(super) const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED_DIRTY;

/// What ring 3 or ring 0 may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Ring 0 reads.
    SystemRead,
    /// Ring 0 reads and writes.
    SystemWrite,
    /// Ring 0 executes.
    SystemExecute,
    /// Ring 3 reads.
    Read,
    /// Ring 3 reads and writes.
    Write,
    /// Ring 3 reads and executes.
    Execute,
}

impl Protection {
    const ALL: [Self; 6] = [
        Self::SystemRead,
        Self::SystemWrite,
        Self::SystemExecute,
        Self::Read,
        Self::Write,
        Self::Execute,
    ];

    /// The protection that these flags of an entry mean, if they mean one.
    pub(super) fn of_flags(flags: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|protection| protection.flags() == flags)
    }

    pub(super) const fn flags(self) -> u64 {
        PRESENT
            | ACCESSED_DIRTY
            | match self {
                Self::SystemRead => NO_EXECUTE,
                Self::SystemWrite => WRITABLE | NO_EXECUTE,
                Self::SystemExecute => 0,
                Self::Read => USER | NO_EXECUTE,
                Self::Write => USER | WRITABLE | NO_EXECUTE,
                Self::Execute => USER,
            }
    }
}

/// Flags that an access of [`abi::Request::Map`] gives a page; `None` where it becomes not present.
pub(super) const fn flags_of(access: Access) -> Option<u64> {
    match access {
        Access::None => None,
        Access::Read => Some(Protection::Read.flags()),
        Access::ReadWrite => Some(Protection::Write.flags()),
    }
}

/// Entries of a table.
pub(super) const ENTRIES: usize = 512;

/// Level of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Table,
    Directory,
    Pointers,
    Root,
}

impl Level {
    /// Bytes that one entry covers.
    pub(super) const fn span(self) -> u64 {
        match self {
            Self::Table => layout::PAGE,
            Self::Directory => layout::LARGE_PAGE,
            Self::Pointers => 1 << 30,
            Self::Root => 1 << 39,
        }
    }

    pub(super) const fn below(self) -> Self {
        match self {
            Self::Root => Self::Pointers,
            Self::Pointers => Self::Directory,
            Self::Directory | Self::Table => Self::Table,
        }
    }

    /// The entries of a table at `base` that `range` touches, each with the part of the range in it.
    pub(super) fn entries(
        self,
        base: u64,
        range: &Range<u64>,
    ) -> impl Iterator<Item = (usize, Range<u64>)> + use<> {
        let span = self.span();
        let (start, end) = (range.start.max(base), range.end);
        let number = |offset: u64| usize::try_from(offset / span).unwrap_or(ENTRIES).min(ENTRIES);
        // Growth maps a few pages at a time, so what is not meant is not looked at.
        let touched =
            number(start - base)..number(end.saturating_sub(base).saturating_add(span - 1));
        touched.map(move |index| {
            let first = base + index as u64 * span;
            (index, start.max(first)..end.min(first + span))
        })
    }

    /// Whether `part` is all that one entry covers.
    pub(super) const fn is_whole(self, part: &Range<u64>) -> bool {
        part.end - part.start == self.span()
    }
}
