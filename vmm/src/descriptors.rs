//! Ring 0 of a guest: descriptor tables, task state and exception stubs, as bytes.
//!
//! This is all the code and data that ring 0 has. An exception at CPL3 reaches its gate, the stub fills in
//! the [`ExceptionRecord`] and either returns to the ring-3 handler or reports to the host. Stubs are
//! short and use only plain `mov`, `push`, `pop`, `cmp`, jumps, `out` and `iretq`, because a KVM
//! may emulate ring 0 instruction by instruction. Gates have DPL 0: `int n` at CPL3 is a #GP. The I/O
//! permission bitmap opens the doorbell port and nothing else.

use std::mem::offset_of;

use abi::layout::{self, ExceptionRecord};

use crate::Error;
use crate::memory::{GuestMemory, private, to_usize};

/// Selectors, indices into the [`gdt`] with the requested privilege level in the low bits.
pub(crate) mod selector {
    /// Ring-0 code.
    pub(crate) const RING0_CODE: u16 = 1 << 3;
    /// Ring-3 data and stack.
    pub(crate) const RING3_DATA: u16 = 4 << 3 | 3;
    /// Ring-3 code.
    pub(crate) const RING3_CODE: u16 = 5 << 3 | 3;
    /// Task state.
    pub(crate) const TASK: u16 = 6 << 3;
}

/// Last byte of the GDT.
pub(crate) const GDT_LIMIT: u16 = 8 * 8 - 1;
/// Last byte of the IDT.
pub(crate) const IDT_LIMIT: u16 = 32 * 16 - 1;
/// Last byte of the TSS.
pub(crate) const TSS_LIMIT: u16 = 0xff;

const STUB_BYTES: usize = to_usize(layout::STUB_BYTES);

/// Offset of the I/O permission bitmap in the TSS: right behind the fixed part (SDM vol. 3, 9.7).
const IO_BITMAP: u64 = 0x68;

/// Writes the descriptor tables, the TSS and the stubs into the private pages.
///
/// # Errors
///
/// [`Error::OutsideMemory`] if the pages are not there.
pub(crate) fn write(memory: &mut GuestMemory, task_type: u8) -> Result<(), Error> {
    memory.write_obj(private(layout::GDT), &gdt(task_type))?;
    memory.write_obj(private(layout::TSS), &tss())?;
    memory.write_obj(private(layout::IDT), &idt())?;
    for vector in 0..32 {
        memory.write(private(stub_address(vector)), &stub(vector))?;
    }
    Ok(())
}

/// Segment descriptors with the accessed bit set, so that the CPU never writes to them
/// (SDM vol. 3, 3.4.5). Entry 3 stays free, so that ring-3 data and code keep the order that `sysret` wants.
fn gdt(task_type: u8) -> [u64; 8] {
    const CODE0: u64 = 0x00af_9b00_0000_ffff;
    const DATA0: u64 = 0x00cf_9300_0000_ffff;
    const DATA3: u64 = 0x00cf_f300_0000_ffff;
    const CODE3: u64 = 0x00af_fb00_0000_ffff;
    const PRESENT: u64 = 1 << 47;
    let base = layout::TSS;
    let task = u64::from(TSS_LIMIT)
        | (base & 0xff_ffff) << 16
        | u64::from(task_type) << 40
        | PRESENT
        | (base >> 24 & 0xff) << 56;
    [0, CODE0, DATA0, 0, DATA3, CODE3, task, base >> 32]
}

/// RSP0, and a bitmap with all ports but the doorbell closed; its last byte is the 0xff that must end it
/// (SDM vol. 1, 19.5.2).
fn tss() -> [u8; TSS_LIMIT as usize + 1] {
    const { assert!(IO_BITMAP + (abi::DOORBELL_PORT as u64) / 8 < TSS_LIMIT as u64) };
    let mut tss = [0; TSS_LIMIT as usize + 1];
    tss[4..12].copy_from_slice(&layout::RING0_STACK.end.to_le_bytes());
    tss[0x66..0x68].copy_from_slice(&IO_BITMAP.to_le_bytes()[..2]);
    let bitmap = &mut tss[0x68..];
    bitmap.fill(0xff);
    bitmap[usize::from(abi::DOORBELL_PORT / 8)] &= !(1 << (abi::DOORBELL_PORT % 8));
    tss
}

/// Interrupt gates, DPL 0 (SDM vol. 3, 6.14.1).
fn idt() -> [u64; 2 * 32] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    let mut gates = [0; 2 * 32];
    for (vector, gate) in (0..).zip(gates.chunks_exact_mut(2)) {
        let stub = stub_address(vector);
        gate[0] = stub & 0xffff
            | u64::from(selector::RING0_CODE) << 16
            | PRESENT_INTERRUPT_GATE
            | (stub >> 16 & 0xffff) << 48;
        gate[1] = stub >> 32;
    }
    gates
}

const fn stub_address(vector: u8) -> u64 {
    layout::STUBS + vector as u64 * layout::STUB_BYTES
}

/// Exceptions that push an error code (SDM vol. 3, table 6-1; APM vol. 2, 8.2 for 28 to 30).
const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

/// The stub of one vector, padded with `int3`.
///
/// On entry the stack holds, from its top: the error code if there is one, RIP, CS, RFLAGS, RSP, SS.
fn stub(vector: u8) -> [u8; STUB_BYTES] {
    const PAGE_FAULT: u8 = 14;
    // Offsets in the record and in the frame fit the one signed byte of a displacement: the record is
    // 80 bytes, the frame with two saved registers 64.
    const { assert!(size_of::<ExceptionRecord>() <= 0x80 && layout::EXCEPTION_RECORD < 1 << 31) };
    let record = |offset: usize| u8::try_from(offset).unwrap_or(u8::MAX);
    let error_code = has_error_code(vector);
    // Two saved registers, and the error code.
    let frame = if error_code { 24 } else { 16 };
    let [rip, rflags, rsp] = [frame, frame + 16, frame + 24];

    let mut code = Code(Vec::new());
    code.emit(&[0x50, 0x53]); // push rax; push rbx
    code.emit(&[0xbb]); // mov ebx, EXCEPTION_RECORD
    code.emit(&layout::EXCEPTION_RECORD.to_le_bytes()[..4]);
    if vector == PAGE_FAULT {
        code.emit(&[0x0f, 0x20, 0xd0]); // mov rax, cr2
        code.rax_to_record(record(offset_of!(ExceptionRecord, fault_address)));
    }
    if error_code {
        code.frame_to_rax(16);
        code.rax_to_record(record(offset_of!(ExceptionRecord, error_code)));
    } else {
        code.value_to_record(record(offset_of!(ExceptionRecord, error_code)), 0);
    }
    code.frame_to_rax(rip);
    code.rax_to_record(record(offset_of!(ExceptionRecord, rip)));
    code.frame_to_rax(rsp);
    code.rax_to_record(record(offset_of!(ExceptionRecord, rsp)));
    code.frame_to_rax(rflags);
    code.rax_to_record(record(offset_of!(ExceptionRecord, rflags)));
    code.emit(&[0x48, 0x89, 0x6b, record(offset_of!(ExceptionRecord, rbp))]); // mov [rbx+n], rbp
    code.value_to_record(record(offset_of!(ExceptionRecord, vector)), vector);
    code.emit(&[0x48, 0x83, 0x7b, record(offset_of!(ExceptionRecord, active)), 0]); // cmp [rbx+n], 0
    let recursion = code.jump_if(0x75); // jne
    code.record_to_rax(record(offset_of!(ExceptionRecord, handler_rip)));
    code.emit(&[0x48, 0x83, 0xf8, 0]); // cmp rax, 0
    let no_handler = code.jump_if(0x74); // je
    code.rax_to_frame(rip);
    code.record_to_rax(record(offset_of!(ExceptionRecord, handler_rsp)));
    code.rax_to_frame(rsp);
    // mov qword [rsp+n], 2: of the flags only the bit that is always 1, so no trap, direction or
    // alignment flag reaches the handler.
    code.emit(&[0x48, 0xc7, 0x44, 0x24, rflags, 2, 0, 0, 0]);
    code.value_to_record(record(offset_of!(ExceptionRecord, active)), 1);
    code.emit(&[0x5b, 0x58]); // pop rbx; pop rax
    if error_code {
        code.emit(&[0x48, 0x83, 0xc4, 8]); // add rsp, 8
    }
    code.emit(&[0x48, 0xcf]); // iretq
    code.land(recursion);
    code.land(no_handler);
    code.emit(&[0xe6, abi::EXCEPTION_PORT]); // out EXCEPTION_PORT, al
    code.emit(&[0xeb, 0xfc]); // jmp to the out

    let mut stub = [0xcc; STUB_BYTES];
    for (target, byte) in stub.iter_mut().zip(code.0) {
        *target = byte;
    }
    stub
}

/// Machine code under construction. RBX holds the record's address, RSP the frame.
struct Code(Vec<u8>);

impl Code {
    fn emit(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `mov rax, [rsp + offset]`
    fn frame_to_rax(&mut self, offset: u8) {
        self.emit(&[0x48, 0x8b, 0x44, 0x24, offset]);
    }

    /// `mov [rsp + offset], rax`
    fn rax_to_frame(&mut self, offset: u8) {
        self.emit(&[0x48, 0x89, 0x44, 0x24, offset]);
    }

    /// `mov rax, [rbx + offset]`
    fn record_to_rax(&mut self, offset: u8) {
        self.emit(&[0x48, 0x8b, 0x43, offset]);
    }

    /// `mov [rbx + offset], rax`
    fn rax_to_record(&mut self, offset: u8) {
        self.emit(&[0x48, 0x89, 0x43, offset]);
    }

    /// `mov qword [rbx + offset], value`
    fn value_to_record(&mut self, offset: u8, value: u8) {
        self.emit(&[0x48, 0xc7, 0x43, offset, value, 0, 0, 0]);
    }

    /// A short conditional jump to a place that [`land`](Self::land) sets.
    fn jump_if(&mut self, opcode: u8) -> usize {
        self.emit(&[opcode, 0]);
        self.0.len()
    }

    /// Makes the jump that ended at `from` go here.
    fn land(&mut self, from: usize) {
        let distance = u8::try_from(self.0.len() - from).unwrap_or(u8::MAX);
        if let Some(target) = self.0.get_mut(from - 1) {
            *target = distance;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stub_fits_its_place() {
        for vector in 0..32 {
            let stub = stub(vector);
            let end = stub.windows(2).position(|pair| pair == [0xeb, 0xfc]);
            assert!(end.is_some_and(|end| end + 2 <= stub.len()), "vector {vector}");
        }
    }

    #[test]
    fn jumps_of_stubs_are_forward_and_short() {
        for vector in 0..32 {
            let code = stub(vector);
            for opcode in [0x75, 0x74] {
                let report = code.windows(2).position(|pair| pair == [0xe6, abi::EXCEPTION_PORT]);
                let lands = |at: usize| at + 2 + usize::from(code[at + 1]) == report.unwrap();
                let jump = code.windows(2).position(|pair| pair[0] == opcode && pair[1] < 0x80);
                assert!(jump.is_some_and(lands), "vector {vector}, opcode {opcode:#x}");
            }
        }
    }

    #[test]
    fn the_bitmap_opens_the_doorbell_and_nothing_else() {
        let tss = tss();
        let is_open = |port: usize| tss[0x68 + port / 8] & 1 << (port % 8) == 0;
        let open: Vec<usize> = (0..(tss.len() - 0x68) * 8).filter(|port| is_open(*port)).collect();
        assert_eq!(open, [usize::from(abi::DOORBELL_PORT)]);
        assert_eq!(tss.last(), Some(&0xff));
    }

    #[test]
    fn gates_are_present_interrupt_gates_of_ring_0() {
        for (vector, gate) in idt().chunks(2).enumerate() {
            assert_eq!(gate[0] >> 40 & 0xff, 0x8e, "vector {vector}");
            let stub = gate[0] & 0xffff | (gate[0] >> 48) << 16 | gate[1] << 32;
            assert_eq!(stub, layout::STUBS + vector as u64 * layout::STUB_BYTES);
        }
    }

    #[test]
    fn segments_are_flat_and_marked_accessed() {
        let gdt = gdt(11);
        for (index, kind) in [(1, 0x9b), (2, 0x93), (4, 0xf3), (5, 0xfb), (6, 0x8b)] {
            assert_eq!(gdt[index] >> 40 & 0xff, kind, "entry {index}");
        }
        assert_eq!(gdt[6] >> 16 & 0xff_ffff, layout::TSS);
    }
}
