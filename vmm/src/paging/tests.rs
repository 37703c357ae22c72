//! Random requests against a model, with the guest's tables walked as a CPU does.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{
    ACCESSED_DIRTY, ADDRESS, ENTRIES, NO_EXECUTE, PRESENT, TABLE, USER, WRITABLE, flags_of,
};
use super::*;
use crate::memory::Region;

const MIB: u64 = 1 << 20;
const MAP: u64 = layout::MAP_AREA.start;

/// A machine without a CPU.
struct Fixture {
    memory: GuestMemory,
    space: AddressSpace,
    root: Gpa,
    /// Entries that a CPU may have seen in tables since the memory slots last changed, by address.
    seen: BTreeMap<u64, u64>,
    slot_changes: usize,
    ram_bytes: u64,
}

/// A state to go back to.
struct Frozen {
    space: AddressSpace,
    pages: Vec<(Gpa, [u8; 4096])>,
}

impl Fixture {
    fn new(ram_bytes: u64) -> Self {
        let own = Region::new(GuestMemory::own_bytes(ram_bytes)).unwrap();
        let mut memory = GuestMemory::new(own, ram_bytes);
        let mut space = AddressSpace::new(&mut memory, ram_bytes).unwrap();
        let root = space.take_new_root().unwrap();
        Self { memory, space, root, seen: BTreeMap::new(), slot_changes: 0, ram_bytes }
    }

    /// Bytes that can be made present in a few calls: free frames less their tables.
    fn available_bytes(&self) -> u64 {
        // A pointer table, a directory and a page table at least; one page table per 512 pages.
        const UPPER_TABLES: usize = 3;
        let free = self.space.pool.frames.free().saturating_sub(UNMAP_RESERVE + UPPER_TABLES);
        (free - free / (ENTRIES + 1)) as u64 * layout::PAGE
    }

    /// What the machine does with a request.
    fn map(&mut self, gva: u64, len: u64, access: Access) -> Mapped {
        if self.space.wants_slot_change(gva, len, access) {
            self.space.slots_changed();
            self.seen.clear();
            self.slot_changes += 1;
        }
        let mapped = self.space.map(&mut self.memory, gva, len, access).unwrap();
        if let Some(root) = self.space.take_new_root() {
            self.root = root;
        }
        self.see_tables(self.root, Level::Root);
        mapped
    }

    /// What a snapshot of this state is restored to.
    fn freeze(&self) -> Frozen {
        let table = |gpa: Gpa| self.memory.read_obj(gpa).ok().map(Box::new);
        let space = AddressSpace::load(self.root, self.space.used_bytes(), table).unwrap();
        let space = space.resized(self.ram_bytes).unwrap();
        let page = |gpa: Gpa| (gpa, self.memory.read_obj::<[u8; 4096]>(gpa).unwrap());
        Frozen { pages: space.frames_in_use().map(page).collect(), space }
    }

    /// What the machine does when it goes back.
    fn rewind(&mut self, to: &Frozen) {
        for (gpa, page) in &to.pages {
            if self.memory.read_obj::<[u8; 4096]>(*gpa).unwrap() != *page {
                self.memory.write_obj(*gpa, page).unwrap();
            }
        }
        let (root, must_change_slots) = self.space.rewind(&to.space);
        if must_change_slots {
            self.space.slots_changed();
            self.seen.clear();
            self.slot_changes += 1;
        }
        self.root = root.unwrap_or(self.root);
        self.see_tables(self.root, Level::Root);
    }

    /// Reads every reachable table and checks that no entry differs from what a CPU may have cached.
    fn see_tables(&mut self, table: Gpa, level: Level) {
        let entries: [u64; ENTRIES] = self.memory.read_obj(table).unwrap();
        for (index, entry) in (0..).zip(entries).filter(|(_, entry)| *entry != 0) {
            let address = table.0 + index * 8;
            let seen = self.seen.insert(address, entry);
            assert!(seen.is_none_or(|seen| seen == entry), "stale entry {address:#x}, {level:?}");
        }
        // What is not present now must not have been present in this table.
        for (index, _) in (0..).zip(entries).filter(|(_, entry)| *entry == 0) {
            assert_eq!(self.seen.get(&(table.0 + index * 8)), None, "stale entry, {level:?}");
        }
        let is_table = |entry: &u64| *entry != 0 && level != Level::Table && entry & LARGE == 0;
        for entry in entries.into_iter().filter(is_table) {
            self.see_tables(Gpa(entry & ADDRESS), level.below());
        }
    }

    /// Walks the tables for one address: the page's frame and flags, as 4 KiB.
    fn walk(&self, gva: u64) -> Option<(Gpa, u64)> {
        let (mut table, mut level) = (self.root, Level::Root);
        loop {
            let index = gva / level.span() % 512;
            let entry: u64 = self.memory.read_obj(Gpa(table.0 + index * 8)).unwrap();
            if entry & PRESENT == 0 {
                assert_eq!(entry, 0);
                return None;
            }
            assert_eq!(entry & ACCESSED_DIRTY, ACCESSED_DIRTY);
            let is_large = entry & LARGE != 0;
            if level == Level::Table || is_large {
                let offset = if is_large { gva % layout::LARGE_PAGE } else { 0 };
                return Some((Gpa((entry & ADDRESS) + offset), entry & !ADDRESS & !LARGE));
            }
            (table, level) = (Gpa(entry & ADDRESS), level.below());
        }
    }

    /// Whether a large page maps `gva`.
    fn is_large(&self, gva: u64) -> bool {
        let mut table = self.root;
        for level in [Level::Root, Level::Pointers] {
            let index = gva / level.span() % 512;
            let entry: u64 = self.memory.read_obj(Gpa(table.0 + index * 8)).unwrap();
            if entry == 0 {
                return false;
            }
            table = Gpa(entry & ADDRESS);
        }
        let index = gva / layout::LARGE_PAGE % 512;
        self.memory.read_obj::<u64>(Gpa(table.0 + index * 8)).unwrap() & LARGE != 0
    }
}

/// The same numbers in every run (xorshift64).
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// Page to what was asked for and to what its first bytes must say.
type Model = BTreeMap<u64, (Access, u64)>;

/// Carries out `steps` random requests in `ram_bytes` of RAM, comparing with a model after each.
fn compare_with_model(ram_bytes: u64, seed: u64, steps: usize) -> Fixture {
    let mut fixture = Fixture::new(ram_bytes);
    compare(&mut fixture, &mut Model::new(), random(seed), steps);
    fixture
}

/// Carries out `steps` random requests, comparing with `model` after each.
fn compare(
    fixture: &mut Fixture,
    model: &mut Model,
    mut random: impl FnMut(u64) -> u64,
    steps: usize,
) {
    // Two places 2 MiB pieces apart, and one under another entry of the root.
    let places = [MAP, MAP + 3 * layout::LARGE_PAGE, MAP + (5 << 39)];
    for step in 0..steps {
        let place = places[usize::try_from(random(3)).unwrap()];
        let (gva, len) = match random(4) {
            0 => (place, layout::LARGE_PAGE),
            1 => (place + random(700) * layout::PAGE, (1 + random(4)) * layout::PAGE),
            2 => (place + random(44) * 16 * layout::PAGE, 16 * layout::PAGE),
            _ => (place + random(300) * layout::PAGE, (1 + random(900)) * layout::PAGE),
        };
        let access = [Access::None, Access::Read, Access::ReadWrite, Access::ReadWrite]
            [usize::try_from(random(4)).unwrap()];
        let mapped = fixture.map(gva, len, access);
        let pages = (gva..gva + len).step_by(4096);
        match (mapped, access) {
            (Mapped::NoMemory, Access::None) => panic!("giving memory back failed"),
            (Mapped::NoMemory, _) => {}
            (Mapped::Done, Access::None) => pages.for_each(|page| {
                model.remove(&page);
            }),
            (Mapped::Done, _) => {
                pages.for_each(|page| model.entry(page).or_insert((access, 0)).0 = access);
            }
        }
        let mut frames = BTreeSet::new();
        for place in places {
            for page in (place..place + 1300 * layout::PAGE).step_by(4096) {
                let expected = model.get(&page);
                let found = fixture.walk(page);
                let flags = expected.and_then(|(access, _)| flags_of(*access));
                assert_eq!(found.map(|(_, flags)| flags), flags, "step {step}, {page:#x}");
                if let (Some((_, content)), Some((gpa, _))) = (expected, found) {
                    assert!(frames.insert(gpa), "step {step}, frame {gpa:x?} twice");
                    let is = fixture.memory.read_obj::<u64>(gpa).unwrap();
                    assert_eq!(is, *content, "step {step}, content of {page:#x}");
                }
            }
        }
        // What a guest would write, so that lost or leaked content is noticed.
        for (page, (_, content)) in model.iter_mut().filter(|(_, (_, content))| *content == 0) {
            *content = page | 1;
            let (gpa, _) = fixture.walk(*page).unwrap();
            fixture.memory.write_obj(gpa, content).unwrap();
            fixture.memory.write_obj(Gpa(gpa.0 + 4088), content).unwrap();
        }
    }
}

#[test]
fn random_requests_agree_with_a_model() {
    let fixture = compare_with_model(64 * MIB, 0x1234_5678_9abc_def1, 200);
    assert!(fixture.slot_changes > 0);
}

#[test]
fn random_requests_in_scarce_memory_agree_with_a_model() {
    for (seed, ram) in (1..).zip([MIB, 2 * MIB, 3 * MIB + 0x5000, 6 * MIB]) {
        compare_with_model(ram, seed << 40 | 0x9e37_79b9, 60);
    }
}

#[test]
fn a_piece_mapped_at_once_is_a_large_page_without_a_root_change() {
    let mut fixture = Fixture::new(16 * MIB);
    fixture.map(MAP, layout::PAGE, Access::ReadWrite);
    let root = fixture.root;
    fixture.map(MAP + layout::LARGE_PAGE, layout::LARGE_PAGE, Access::ReadWrite);
    assert!(fixture.is_large(MAP + layout::LARGE_PAGE));
    assert_eq!(fixture.root, root);
}

#[test]
fn a_piece_grown_in_steps_becomes_a_large_page() {
    let mut fixture = Fixture::new(16 * MIB);
    for gva in (MAP..MAP + layout::LARGE_PAGE).step_by(0x1_0000) {
        assert!(!fixture.is_large(MAP));
        fixture.map(gva, 0x1_0000, Access::ReadWrite);
    }
    assert!(fixture.is_large(MAP));
}

#[test]
fn a_piece_of_two_accesses_is_no_large_page() {
    let mut fixture = Fixture::new(16 * MIB);
    fixture.map(MAP, layout::PAGE, Access::Read);
    fixture.map(MAP + layout::PAGE, layout::LARGE_PAGE - layout::PAGE, Access::ReadWrite);
    assert!(!fixture.is_large(MAP));
}

#[test]
fn growth_is_seen_without_another_root() {
    let mut fixture = Fixture::new(16 * MIB);
    fixture.map(MAP, layout::PAGE, Access::ReadWrite);
    let root = fixture.root;
    for page in 1..100 {
        fixture.map(MAP + page * layout::PAGE, layout::PAGE, Access::ReadWrite);
    }
    assert_eq!(fixture.root, root);
}

#[test]
fn memory_is_usable_to_what_was_announced() {
    for ram in [MIB, 3 * MIB, 64 * MIB, 64 * MIB + 0x3000] {
        let mut fixture = Fixture::new(ram);
        let available = fixture.available_bytes();
        assert!(ram - available < ram / 256 + 0x1_0000, "{ram:#x}: {available:#x}");
        let mapped = fixture.map(MAP, available, Access::ReadWrite);
        assert_eq!(mapped, Mapped::Done, "{ram:#x}: {available:#x}");
    }
}

#[test]
fn pieces_hardly_used_do_not_hold_memory_back() {
    let mut fixture = Fixture::new(16 * MIB);
    for piece in 0..7 {
        let gva = MAP + piece * layout::LARGE_PAGE;
        assert_eq!(fixture.map(gva, layout::PAGE, Access::ReadWrite), Mapped::Done);
    }
    let rest = fixture.available_bytes();
    assert!(rest > 15 * MIB, "{rest:#x}");
    let gva = MAP + 64 * layout::LARGE_PAGE;
    assert_eq!(fixture.map(gva, rest, Access::ReadWrite), Mapped::Done);
}

#[test]
fn a_refused_request_takes_no_frame() {
    let mut fixture = Fixture::new(4 * MIB);
    let free = fixture.space.pool.frames.free();
    assert_eq!(fixture.map(MAP, 5 * MIB, Access::ReadWrite), Mapped::NoMemory);
    assert_eq!(fixture.space.pool.frames.free(), free);
    assert_eq!(fixture.walk(MAP), None);
}

#[test]
fn unmapping_everything_gives_every_frame_back() {
    let mut fixture = Fixture::new(32 * MIB);
    let free = fixture.space.pool.frames.free();
    fixture.map(MAP, 9 * MIB, Access::ReadWrite);
    fixture.map(MAP + (7 << 39), 3 * layout::PAGE, Access::Read);
    fixture.map(MAP, layout::MAP_AREA.end - MAP, Access::None);
    fixture.space.slots_changed();
    assert_eq!(fixture.space.pool.frames.free(), free);
}

#[test]
fn fixed_pages_are_mapped_as_they_are_protected() {
    let mut fixture = Fixture::new(4 * MIB);
    let Fixture { memory, space, .. } = &mut fixture;
    let (small, large) = (layout::STUBS, layout::IMAGE_TEXT.start);
    let page = small..small + layout::PAGE;
    space.map_fixed(memory, page, Gpa(small), Protection::SystemExecute, false).unwrap();
    let piece = large..large + layout::LARGE_PAGE;
    space.map_fixed(memory, piece, Gpa(large), Protection::Execute, true).unwrap();
    let executable = PRESENT | ACCESSED_DIRTY;
    assert_eq!(fixture.walk(small), Some((Gpa(small), executable)));
    let last = large + layout::LARGE_PAGE - layout::PAGE;
    assert_eq!(fixture.walk(last), Some((Gpa(last), executable | USER)));
    assert_eq!(fixture.walk(small + layout::PAGE), None);
}

#[test]
fn nothing_is_writable_and_executable() {
    use Protection::{Execute, Read, SystemExecute, SystemRead, SystemWrite, Write};
    for protection in [Execute, Read, SystemExecute, SystemRead, SystemWrite, Write] {
        let flags = protection.flags();
        assert!(flags & WRITABLE == 0 || flags & NO_EXECUTE != 0, "{protection:?}");
    }
}

#[test]
fn runs_from_a_snapshot_agree_with_a_model_and_go_back_to_it() {
    for (seed, ram_bytes) in [(1, 64 * MIB), (2, 8 * MIB), (3, 5 * MIB + 0x3000)] {
        let mut fixture = Fixture::new(ram_bytes);
        let mut model = Model::new();
        compare(&mut fixture, &mut model, random(seed << 40 | 0x9e37_79b9), 12);
        // A machine that is restored has seen nothing of how the snapshot was made: no table, no frame.
        let frozen = fixture.freeze();
        fixture = Fixture::new(ram_bytes);
        fixture.space = frozen.space.clone();
        fixture.root = frozen.space.root();
        for (gpa, page) in &frozen.pages {
            fixture.memory.write_obj(*gpa, page).unwrap();
        }
        let free = fixture.space.pool.frames.free() + fixture.space.pool.frames.retired();
        for run in 0..12 {
            let steps = usize::try_from(run % 5).unwrap();
            let seed = (seed + run) << 32 | 0x1234_5677;
            compare(&mut fixture, &mut model.clone(), random(seed), steps);
            fixture.rewind(&frozen);
            compare(&mut fixture, &mut model.clone(), random(1), 0);
            let frames = &fixture.space.pool.frames;
            assert_eq!(frames.free() + frames.retired(), free, "run {run}");
        }
    }
}

#[test]
fn tables_that_no_host_writes_are_refused() {
    let mut fixture = Fixture::new(16 * MIB);
    fixture.map(MAP, 3 * layout::PAGE, Access::ReadWrite);
    fixture.map(MAP + layout::LARGE_PAGE, layout::LARGE_PAGE, Access::Read);
    let root = fixture.root;
    let load = |fixture: &Fixture, change: &dyn Fn(&mut TableEntries)| {
        let table = |gpa: Gpa| {
            let mut entries = fixture.memory.read_obj(gpa).ok().map(Box::new)?;
            change(&mut entries);
            Some(entries)
        };
        AddressSpace::load(root, 16 * MIB, table).map(drop)
    };
    assert_eq!(load(&fixture, &|_| ()), Ok(()));
    let writable_code = Protection::Execute.flags() | WRITABLE;
    let refused: [&dyn Fn(&mut TableEntries); 5] = [
        // Each table refers to itself, to nowhere, to the image, or is code that can be written.
        &|entries| entries[0] = root.0 | TABLE,
        &|entries| entries[511] = (layout::RAM_START + 16 * MIB) | TABLE,
        &|entries| entries[511] = layout::IMAGE.start | TABLE,
        &|entries| entries[9] = (layout::RAM_START + 8 * MIB) | writable_code,
        &|entries| entries[9] = 1 << 62 | PRESENT,
    ];
    for (number, change) in refused.iter().enumerate() {
        assert!(load(&fixture, change).is_err(), "{number}");
    }
}
