//! What a guest may not touch or execute, and what its exceptions look like.

mod guest;

use abi::{Access, Request, layout};
use guest::{
    FETCH, GENERAL_PROTECTION, Guest, INVALID_OPCODE, MAP, PAGE_FAULT, PRESENT, RODATA, TEXT, USER,
    WRITE,
};
use vmm::{Exit, Fault};

/// Runs `guest` and wants a page fault at `address` with this error code.
fn assert_page_fault(guest: &Guest, address: u64, error_code: u64) {
    let record = guest.run_to_exception();
    assert_eq!(
        (record.vector, record.fault_address, record.error_code),
        (PAGE_FAULT, address, error_code),
        "{record:x?}"
    );
}

#[test]
fn a_write_to_the_text_faults() {
    require_kvm!();
    assert_page_fault(&Guest::new().poke(TEXT + 0x1000, 1), TEXT + 0x1000, PRESENT | WRITE | USER);
}

#[test]
fn a_write_to_the_read_only_data_faults() {
    require_kvm!();
    assert_page_fault(&Guest::new().poke(RODATA, 1), RODATA, PRESENT | WRITE | USER);
}

#[test]
fn a_write_to_the_program_faults() {
    require_kvm!();
    let program = layout::PROGRAM.start;
    assert_page_fault(&Guest::new().poke(program, 1), program, PRESENT | WRITE | USER);
}

#[test]
fn executing_anything_writable_faults() {
    require_kvm!();
    let areas = [
        layout::EXCEPTION_RECORD,
        layout::CALL_FRAME,
        layout::CALL_DATA,
        layout::EXCEPTION_STACK.start,
        layout::GUEST_DATA.start,
        layout::RUN_HEAP.start,
        layout::STACK.start,
    ];
    for address in areas {
        let guest = Guest::new().jump(address);
        assert_page_fault(&guest, address, PRESENT | USER | FETCH);
    }
}

#[test]
fn executing_read_only_data_faults() {
    require_kvm!();
    assert_page_fault(&Guest::new().jump(RODATA), RODATA, PRESENT | USER | FETCH);
}

#[test]
fn executing_mapped_memory_faults() {
    require_kvm!();
    for access in [Access::Read, Access::ReadWrite] {
        let guest = Guest::new().map_ok(MAP, 0x1000, access).jump(MAP);
        assert_page_fault(&guest, MAP, PRESENT | USER | FETCH);
    }
}

#[test]
fn supervisor_pages_can_neither_be_read_nor_written() {
    require_kvm!();
    for address in [layout::GDT, layout::IDT, layout::STUBS, layout::RING0_STACK.start] {
        assert_page_fault(&Guest::new().load(address), address, PRESENT | USER);
        assert_page_fault(&Guest::new().poke(address, 1), address, PRESENT | WRITE | USER);
    }
}

#[test]
fn the_stubs_cannot_be_jumped_to() {
    require_kvm!();
    let record = Guest::new().jump(layout::STUBS).run_to_exception();
    assert_eq!((record.vector, record.rip), (PAGE_FAULT, layout::STUBS));
}

#[test]
fn page_tables_are_out_of_reach() {
    require_kvm!();
    assert_page_fault(&Guest::new().load(layout::RAM_START), layout::RAM_START, USER);
}

#[test]
fn guard_pages_fault() {
    require_kvm!();
    let data_end = layout::CALL_DATA + layout::CALL_DATA_BYTES as u64;
    let exceptions = layout::EXCEPTION_STACK;
    let guards = [exceptions.start - 8, exceptions.end, layout::STACK.start - 8, data_end];
    for address in guards.into_iter().chain([layout::IMAGE.end]) {
        assert_page_fault(&Guest::new().poke(address, 1), address, WRITE | USER);
    }
}

#[test]
fn a_stack_overflow_faults_in_the_guard() {
    require_kvm!();
    // push rax; jmp to the push
    let record = Guest::new().code(&[0x50, 0xeb, 0xfd]).run_to_exception();
    assert_eq!((record.vector, record.fault_address), (PAGE_FAULT, layout::STACK.start - 8));
}

#[test]
fn a_null_pointer_faults() {
    require_kvm!();
    assert_page_fault(&Guest::new().load(0), 0, USER);
}

#[test]
fn a_non_canonical_address_faults() {
    require_kvm!();
    let record = Guest::new().load(0x8000_0000_0000_0000).run_to_exception();
    assert_eq!(record.vector, GENERAL_PROTECTION);
}

#[test]
fn privileged_instructions_fault() {
    require_kvm!();
    let instructions: [(&str, &[u8]); 7] = [
        ("hlt", &[0xf4]),
        ("cli", &[0xfa]),
        ("mov rax, cr3", &[0x0f, 0x20, 0xd8]),
        ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
        ("wrmsr", &[0x0f, 0x30]),
        ("rdmsr", &[0x0f, 0x32]),
        ("lidt [rsp]", &[0x0f, 0x01, 0x1c, 0x24]),
    ];
    for (name, code) in instructions {
        let record = Guest::new().code(code).run_to_exception();
        assert_eq!((record.vector, record.rip), (GENERAL_PROTECTION, TEXT), "{name}");
    }
}

#[test]
fn ports_but_the_doorbell_are_closed() {
    require_kvm!();
    let doorbell = abi::DOORBELL_PORT;
    for port in [0, doorbell - 1, doorbell + 1, abi::EXCEPTION_PORT, 0x80, 0xff] {
        let record = Guest::new().code(&[0xe6, port]).run_to_exception();
        assert_eq!((record.vector, record.rip), (GENERAL_PROTECTION, TEXT), "out {port:#x}");
    }
    // mov dx, 0xffff; out dx, al
    let record = Guest::new().code(&[0x66, 0xba, 0xff, 0xff, 0xee]).run_to_exception();
    assert_eq!(record.vector, GENERAL_PROTECTION);
}

#[test]
fn the_doorbell_is_one_byte_wide() {
    require_kvm!();
    // out DOORBELL_PORT, eax
    let record = Guest::new().code(&[0xe7, abi::DOORBELL_PORT]).run_to_exception();
    assert_eq!(record.vector, GENERAL_PROTECTION);
}

#[test]
fn reading_a_port_ends_the_machine() {
    require_kvm!();
    for port in [abi::DOORBELL_PORT, 0x60] {
        let exit = Guest::new().code(&[0xe4, port]).exit(0).run();
        assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
    }
}

#[test]
fn a_string_written_to_the_doorbell_does_no_harm() {
    require_kvm!();
    // mov edx, DOORBELL_PORT; mov esi, RODATA; mov ecx, 16; rep outsb
    let mut code = vec![0xba, abi::DOORBELL_PORT, 0, 0, 0, 0xbe];
    code.extend(u32::try_from(RODATA).unwrap().to_le_bytes());
    code.extend([0xb9, 16, 0, 0, 0, 0xf3, 0x6e]);
    // Each byte may ring on its own: the frame is a call that changes nothing.
    let exit = Guest::new().call(Request::Clock).code(&code).exit(3).run();
    assert!(matches!(exit, Exit::Status(3) | Exit::Fault(_)), "{exit:?}");
}

#[test]
fn system_calls_and_software_interrupts_lead_nowhere() {
    require_kvm!();
    for code in [&[0x0f, 0x05][..], &[0xcd, 0x80], &[0xcd, 0x0e], &[0x0f, 0x34]] {
        let exit = Guest::new().code(code).run();
        assert!(matches!(exit, Exit::Fault(_)), "{exit:?}");
    }
}

#[test]
fn a_hypercall_instruction_does_no_harm() {
    require_kvm!();
    for code in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
        let exit = Guest::new().code(&code).exit(3).run();
        assert!(matches!(exit, Exit::Status(3) | Exit::Fault(_)), "{exit:?}");
    }
}

#[test]
fn an_exception_without_handler_is_a_fault_with_its_record() {
    require_kvm!();
    // mov ebp, 0x1234; ud2
    let record = Guest::new().code(&[0xbd, 0x34, 0x12, 0, 0, 0x0f, 0x0b]).run_to_exception();
    assert_eq!((record.vector, record.rip), (INVALID_OPCODE, TEXT + 5));
    assert_eq!((record.rsp, record.rbp), (layout::STACK.end, 0x1234));
}

#[test]
fn a_handler_gets_the_record_and_all_registers() {
    require_kvm!();
    // The handler checks RAX, RBX and RFLAGS, and exits with the vector and 0x40 per mismatch.
    let vector = u32::try_from(layout::EXCEPTION_RECORD + 24).unwrap().to_le_bytes();
    let guest = Guest::new()
        .code(&[0x31, 0xc9]) // xor ecx, ecx
        .code(&[0x48, 0x3d, 0x11, 0x11, 0, 0, 0x74, 0x03, 0x83, 0xc1, 0x40]) // cmp rax, 0x1111; je +3; add ecx, 0x40
        .code(&[0x48, 0x81, 0xfb, 0x22, 0x22, 0, 0, 0x74, 0x03, 0x83, 0xc1, 0x40]) // cmp rbx, 0x2222
        .code(&[0x9c, 0x58]) // pushf; pop rax
        .code(&[0xa9, 0x00, 0x05, 0x04, 0x00, 0x74, 0x03, 0x83, 0xc1, 0x40]) // test eax, AC|DF|TF; jz
        .code(&[0x03, 0x0c, 0x25])
        .code(&vector) // add ecx, [record.vector]
        .code(&[0x89, 0xc8]) // mov eax, ecx
        .exit_with_rax()
        .entry_here()
        .handler(TEXT)
        .code(&[0xfd]) // std
        .code(&[0xb8, 0x11, 0x11, 0, 0, 0xbb, 0x22, 0x22, 0, 0]) // mov eax, 0x1111; mov ebx, 0x2222
        .code(&[0x0f, 0x0b]); // ud2
    assert_eq!(guest.run(), Exit::Status(6));
}

#[test]
fn a_handler_is_told_address_and_error_code_of_a_page_fault() {
    require_kvm!();
    // The handler exits with fault_address + error_code.
    let record = u32::try_from(layout::EXCEPTION_RECORD).unwrap();
    let guest = Guest::new()
        .code(&[0x48, 0x8b, 0x04, 0x25])
        .code(&(record + 72).to_le_bytes()) // mov rax, [fault_address]
        .code(&[0x48, 0x03, 0x04, 0x25])
        .code(&(record + 32).to_le_bytes()) // add rax, [error_code]
        .exit_with_rax()
        .entry_here()
        .handler(TEXT)
        .poke(0x1000, 1);
    assert_eq!(guest.run(), Exit::Status(0x1000 + 6));
}

#[test]
fn a_handler_may_resume_where_it_wants() {
    require_kvm!();
    // The handler sets `active` to 0 and jumps to the end; two exceptions must work, one after the other.
    let active = layout::EXCEPTION_RECORD + 16;
    let guest = Guest::new().store(active, 0).code(&[0xff, 0xe7]); // jmp rdi
    let entry = guest.here();
    let first = guest.clone().handler(TEXT).code(&[0xbf, 0, 0, 0, 0, 0x0f, 0x0b]).here();
    let second = first + 7;
    let mov_edi =
        |target: u64| [&[0xbf][..], &u32::try_from(target).unwrap().to_le_bytes()].concat();
    let guest = guest
        .entry_here()
        .handler(TEXT)
        .code(&mov_edi(first))
        .code(&[0x0f, 0x0b])
        .code(&mov_edi(second))
        .code(&[0x0f, 0x0b])
        .exit(7);
    assert!(entry < first);
    assert_eq!(guest.run(), Exit::Status(7));
}

#[test]
fn an_exception_in_the_handler_is_a_fault() {
    require_kvm!();
    let guest = Guest::new().code(&[0x0f, 0x0b]).entry_here().handler(TEXT).load(0);
    let record = guest.run_to_exception();
    assert_eq!((record.vector, record.rip, record.active), (INVALID_OPCODE, TEXT, 1));
}

#[test]
fn a_handler_at_an_impossible_address_is_a_fault() {
    require_kvm!();
    for address in [u64::MAX, 1 << 63, 0x8000_0000_0000, 8, layout::STUBS] {
        let exit = Guest::new().handler(address).code(&[0x0f, 0x0b]).run();
        assert!(matches!(exit, Exit::Fault(Fault::Exception(_))), "{address:#x}: {exit:?}");
    }
}

#[test]
fn a_handler_stack_at_an_impossible_address_is_a_fault() {
    require_kvm!();
    for stack in [u64::MAX, 1 << 63, 0, layout::STUBS] {
        let record = layout::EXCEPTION_RECORD;
        let guest = Guest::new().code(&[0x50]).entry_here();
        let exit = guest.store(record, TEXT).store(record + 8, stack).code(&[0x0f, 0x0b]).run();
        assert!(matches!(exit, Exit::Fault(Fault::Exception(_))), "{stack:#x}: {exit:?}");
    }
}

#[test]
fn single_stepping_itself_is_a_fault() {
    require_kvm!();
    // pushf; or dword [rsp], TF; popf; nop
    let code = [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90];
    let record = Guest::new().code(&code).run_to_exception();
    assert_eq!(record.vector, 1);
}

#[test]
fn division_by_zero_is_a_fault() {
    require_kvm!();
    // xor ecx, ecx; div ecx
    let record = Guest::new().code(&[0x31, 0xc9, 0xf7, 0xf1]).run_to_exception();
    assert_eq!((record.vector, record.rip), (0, TEXT + 2));
}

#[test]
fn everything_that_is_to_be_readable_is() {
    require_kvm!();
    let mut guest = Guest::new();
    for address in [TEXT, RODATA, layout::PROGRAM.start] {
        guest = guest.load(address);
    }
    assert_eq!(guest.call(Request::Exit { status: 0 }).run(), Exit::Status(0));
}

#[test]
fn vector_registers_and_segment_bases_are_the_guests_to_use() {
    require_kvm!();
    let mut guest = Guest::new().code(&[0x0f, 0x57, 0xc0, 0x0f, 0x31]); // xorps xmm0, xmm0; rdtsc
    if std::is_x86_feature_detected!("avx") {
        guest = guest.code(&[0xc5, 0xfc, 0x57, 0xc0]); // vxorps ymm0, ymm0, ymm0
    }
    if std::is_x86_feature_detected!("avx512f") {
        guest = guest.code(&[0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0]); // vpxord zmm0, zmm0, zmm0
    }
    if std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" fsgsbase ") {
        guest = guest.code(&[0xf3, 0x48, 0x0f, 0xae, 0xd0]); // wrfsbase rax
    }
    assert_eq!(guest.exit(0).run(), Exit::Status(0));
}
