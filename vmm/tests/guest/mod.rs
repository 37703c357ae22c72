//! Guests of a few dozen bytes: a builder for their machine code and ELF file, and a way to run them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic; the lint knows that in a library")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::File;
use std::os::fd::OwnedFd;

use abi::layout::{self, ExceptionRecord};
use abi::{Access, Frame, Readiness, Request};
use vmm::host::{Host, Stdio};
use vmm::{BootParams, Config, Exit, Fault, Image, MicroVm, Program, RunStats};

/// Returns from the test if there is no KVM, unless REQUIRE_KVM=1 wants it to fail.
#[macro_export]
macro_rules! require_kvm {
    () => {
        if !std::path::Path::new("/dev/kvm").exists() {
            assert!(std::env::var_os("REQUIRE_KVM").is_none_or(|v| v != "1"), "no /dev/kvm");
            println!("skipped: no /dev/kvm");
            return;
        }
    };
}

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const TEXT: u64 = layout::IMAGE_TEXT.start;
pub(crate) const RODATA: u64 = layout::IMAGE_RODATA.start;
pub(crate) const MAP: u64 = layout::MAP_AREA.start;
const FRAME_RET: u64 = layout::CALL_FRAME + std::mem::offset_of!(Frame, ret) as u64;

/// A guest under construction.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    text: Vec<u8>,
    rodata: Vec<u8>,
    entry: u64,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let mut rodata = b"HLGUEST\0".to_vec();
        rodata.extend(abi::ABI_VERSION.to_le_bytes());
        Self { text: Vec::new(), rodata, entry: TEXT }
    }

    /// Appends machine code.
    pub(crate) fn code(mut self, bytes: &[u8]) -> Self {
        self.text.extend(bytes);
        self
    }

    /// Address of what is appended next.
    pub(crate) fn here(&self) -> u64 {
        TEXT + self.text.len() as u64
    }

    /// Makes what is appended next the entry.
    pub(crate) fn entry_here(mut self) -> Self {
        self.entry = self.here();
        self
    }

    /// `mov rax, value; mov [address], rax`
    pub(crate) fn store(self, address: u64, value: u64) -> Self {
        let disp = u32::try_from(address).unwrap().to_le_bytes();
        self.code(&[0x48, 0xb8])
            .code(&value.to_le_bytes())
            .code(&[0x48, 0x89, 0x04, 0x25])
            .code(&disp)
    }

    /// `mov rbx, address; mov rax, [rbx]`
    pub(crate) fn load(self, address: u64) -> Self {
        self.pointer(address).code(&[0x48, 0x8b, 0x03])
    }

    /// `mov rbx, address; mov byte [rbx], value`
    pub(crate) fn poke(self, address: u64, value: u8) -> Self {
        self.pointer(address).code(&[0xc6, 0x03, value])
    }

    /// `mov rbx, address; jmp rbx`
    pub(crate) fn jump(self, address: u64) -> Self {
        self.pointer(address).code(&[0xff, 0xe3])
    }

    fn pointer(self, address: u64) -> Self {
        self.code(&[0x48, 0xbb]).code(&address.to_le_bytes())
    }

    /// Rings with this frame; data come from the read-only data.
    pub(crate) fn ring(self, frame: Frame, data: &[u8]) -> Self {
        self.data(data).frame(frame).doorbell()
    }

    /// Copies data from the read-only data into the data area.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        if !data.is_empty() {
            let source = u32::try_from(RODATA).unwrap() + u32::try_from(self.rodata.len()).unwrap();
            self.rodata.extend(data);
            let len = u32::try_from(data.len()).unwrap();
            let target = u32::try_from(layout::CALL_DATA).unwrap();
            // mov esi, source; mov edi, target; mov ecx, len; rep movsb
            self = self.code(&[0xbe]).code(&source.to_le_bytes());
            self = self.code(&[0xbf]).code(&target.to_le_bytes());
            self = self.code(&[0xb9]).code(&len.to_le_bytes()).code(&[0xf3, 0xa4]);
        }
        self
    }

    /// Writes the frame.
    pub(crate) fn frame(mut self, frame: Frame) -> Self {
        let first = u64::from(frame.nr) | u64::from(frame.data_len) << 32;
        self = self.store(layout::CALL_FRAME, first);
        for (index, arg) in (0..).zip(frame.args) {
            self = self.store(layout::CALL_FRAME + 8 + index * 8, arg);
        }
        self
    }

    /// `out DOORBELL_PORT, al`
    pub(crate) fn doorbell(self) -> Self {
        self.code(&[0xe6, abi::DOORBELL_PORT])
    }

    /// Makes a host call.
    pub(crate) fn call(self, request: Request<'_>) -> Self {
        let mut area = vec![0; layout::CALL_DATA_BYTES];
        let frame = request.encode(&mut area).unwrap();
        let data = area[..frame.data_len as usize].to_vec();
        self.ring(frame, &data)
    }

    pub(crate) fn map(self, gva: u64, len: u64, access: Access) -> Self {
        self.call(Request::Map { gva, len, access })
    }

    /// Makes a host call; if it is declined, exits with the negated errno as status.
    pub(crate) fn call_ok(self, request: Request<'_>) -> Self {
        self.call(request).exit_if_declined()
    }

    pub(crate) fn map_ok(self, gva: u64, len: u64, access: Access) -> Self {
        self.call_ok(Request::Map { gva, len, access })
    }

    fn exit_if_declined(self) -> Self {
        let declined = Self::new().exit_with_ret().text;
        // mov rax, [ret]; test rax, rax; jns over
        self.load_ret()
            .code(&[0x48, 0x85, 0xc0, 0x79, u8::try_from(declined.len()).unwrap()])
            .code(&declined)
    }

    /// `mov rax, [ret]`
    fn load_ret(self) -> Self {
        let disp = u32::try_from(FRAME_RET).unwrap().to_le_bytes();
        self.code(&[0x48, 0x8b, 0x04, 0x25]).code(&disp)
    }

    /// Says that it is ready, as one that has instantiated its program if it may.
    pub(crate) fn ready(self) -> Self {
        let ready = |readiness| Request::Ready { readiness };
        let (linked, instantiated) = (ready(Readiness::Linked), ready(Readiness::Instantiated));
        let next = Self { text: Vec::new(), ..self.clone() }.call(instantiated);
        // mov rax, [ret]; test rax, rax; jnz over
        let guest = self.call(linked).load_ret().code(&[0x48, 0x85, 0xc0, 0x0f, 0x85]);
        let over = u32::try_from(next.text.len()).unwrap();
        guest.code(&over.to_le_bytes()).code(&next.text)
    }

    pub(crate) fn exit(self, status: i32) -> Self {
        self.call(Request::Exit { status })
    }

    /// Exits with the low half of RAX.
    pub(crate) fn exit_with_rax(self) -> Self {
        let arg = u32::try_from(layout::CALL_FRAME + 8).unwrap().to_le_bytes();
        // mov ecx, eax; (frame of Exit); mov [args[0]], rcx
        self.code(&[0x89, 0xc1])
            .store(layout::CALL_FRAME, 0)
            .code(&[0x48, 0x89, 0x0c, 0x25])
            .code(&arg)
            .doorbell()
    }

    /// Exits with the low half of the last call's answer.
    pub(crate) fn exit_with_ret(self) -> Self {
        self.load_ret().exit_with_rax()
    }

    /// Sets the ring-3 exception handler.
    pub(crate) fn handler(self, rip: u64) -> Self {
        let record = layout::EXCEPTION_RECORD;
        let handler_rsp = record + std::mem::offset_of!(ExceptionRecord, handler_rsp) as u64;
        self.store(record, rip).store(handler_rsp, layout::EXCEPTION_STACK.end)
    }

    /// The ELF file.
    pub(crate) fn elf(&self) -> Vec<u8> {
        let text = [&self.text[..], &[0x0f, 0x0b]].concat();
        let segments = [
            (5, TEXT, &text, text.len()),
            (4, RODATA, &self.rodata, self.rodata.len()),
            (6, layout::GUEST_DATA.start, &b"data".to_vec(), 4096),
        ];
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        file.resize(16, 0);
        file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
        file.extend(1_u32.to_le_bytes());
        file.extend([self.entry, 64, 0].map(u64::to_le_bytes).concat());
        file.extend(0_u32.to_le_bytes());
        file.extend([64_u16, 56, 3, 0, 0, 0].map(u16::to_le_bytes).concat());
        let mut offset = 64 + 56 * 3;
        for (flags, address, content, memory) in segments {
            file.extend([1_u32, flags].map(u32::to_le_bytes).concat());
            let words = [offset, address, address, content.len() as u64, memory as u64, 4096];
            file.extend(words.map(u64::to_le_bytes).concat());
            offset += content.len() as u64;
        }
        segments.iter().for_each(|segment| file.extend(segment.2));
        file
    }

    /// Boots it.
    pub(crate) fn boot(&self, memory_bytes: u64, host: Host) -> MicroVm {
        let image = Image::parse(&self.elf()).unwrap();
        let program = Program::from_bytes(b"program").unwrap();
        let config = Config::new(memory_bytes).unwrap();
        MicroVm::boot(&config, &image, &program, &BootParams::default(), host).unwrap()
    }

    /// Runs it with no streams and this much memory.
    pub(crate) fn run_in(&self, memory_bytes: u64) -> (Exit, RunStats) {
        self.boot(memory_bytes, silent_host()).run().unwrap()
    }

    /// Runs it with no streams.
    pub(crate) fn run(&self) -> Exit {
        self.run_in(16 * MIB).0
    }

    /// Runs it and wants an exception that nobody handled.
    pub(crate) fn run_to_exception(&self) -> ExceptionRecord {
        match self.run() {
            Exit::Fault(Fault::Exception(record)) => record,
            other => panic!("expected an exception, got {other:?}"),
        }
    }
}

/// A host whose streams are empty.
pub(crate) fn silent_host() -> Host {
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    Host::new(Stdio { stdin: null(), stdout: null(), stderr: null() }).unwrap()
}

pub(crate) const PAGE_FAULT: u64 = 14;
pub(crate) const GENERAL_PROTECTION: u64 = 13;
pub(crate) const INVALID_OPCODE: u64 = 6;
/// Error code of a page fault: present, write, user, fetch (SDM vol. 3, 4.7).
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITE: u64 = 2;
pub(crate) const USER: u64 = 4;
pub(crate) const FETCH: u64 = 16;
