//! How many frames an edit takes, counted before it is begun, so that none stops half-way.

use std::ops::Range;

use abi::{Access, layout};

use super::Table;
use super::entry::{ADDRESS, LARGE, Level, flags_of};

/// Frames that an edit takes, counted before it is begun. Walks as the edit does.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// Never less than the edit takes; more where a whole piece gets a large page.
    pub(super) frames: usize,
}

impl Need {
    /// Counts for one table, `None` where there is none yet. Returns whether a present entry changes.
    pub(super) fn add_table(
        &mut self,
        table: Option<&Table>,
        level: Level,
        base: u64,
        range: &Range<u64>,
        access: Access,
    ) -> bool {
        let is_frozen = table.is_some_and(|table| table.is_frozen);
        let (mut copies, mut adds) = (false, false);
        for (index, part) in level.entries(base, range) {
            let entry = table.map_or(0, |table| table.entries[index]);
            let child = table.and_then(|table| table.children.get(&index));
            let start = base + index as u64 * level.span();
            copies |= match (level, flags_of(access)) {
                (_, None) if entry == 0 => false,
                (Level::Table, Some(_)) if entry == 0 => {
                    self.frames += 1;
                    adds = true;
                    false
                }
                (Level::Table, flags) => flags != Some(entry & !ADDRESS),
                (_, None) if level.is_whole(&part) => true,
                (Level::Directory, flags) if entry & LARGE != 0 => {
                    let changes = flags.map(|flags| flags | LARGE) != Some(entry & !ADDRESS);
                    self.frames += usize::from(changes && !level.is_whole(&part));
                    changes
                }
                (Level::Directory, Some(_)) if child.is_none() => {
                    let pages = (part.end - part.start) / layout::PAGE;
                    self.frames += 1 + usize::try_from(pages).unwrap_or(usize::MAX);
                    adds = true;
                    false
                }
                _ => {
                    self.frames += usize::from(child.is_none());
                    adds |= child.is_none();
                    let child = child.map(|child| &**child);
                    self.add_table(child, level.below(), start, &part, access)
                }
            };
        }
        // A table of a snapshot is copied for any change.
        let copies = copies || is_frozen && adds;
        // A copy takes a frame; one that does not exist yet was counted by its parent.
        self.frames += usize::from(copies);
        copies
    }
}
